//! Starting: what is said when it cannot be, and what it promises when it can.

use std::io::Write;

use nightshift_core::files;
use nightshift_testkit::{Home, wait_until};
use serde_json::Value;

use crate::house::{PATIENCE, Server, copy_adapter, home, signal};
use crate::wire;

fn fails(home: &Home, flags: &[&str], code: i32) -> String {
    let mut arguments = flags.to_vec();
    if !flags.contains(&"--listen") {
        // Never the default port: it may be in use here.
        arguments.extend(["--listen", "127.0.0.1:0"]);
    }
    home.run("serve", &arguments).expect(code).stderr
}

#[test]
fn a_port_in_use_is_said_with_the_address() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let ran = home.run("serve", &["--base", "base", "--listen", &server.address, "--json"]).expect(1);
    assert!(
        ran.stderr.contains(&server.address) && ran.stderr.contains("hint: give --listen"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.json()["status"], "failed");
    server.chat("nightshift", "Hello", 2).expect(200);
}

#[test]
fn a_base_that_cannot_be_served_is_named() {
    let home = home(512);
    assert!(fails(&home, &[], 9).contains("hint: set `base:`"));
    assert!(fails(&home, &["--base", "nowhere"], 9).contains("nowhere"));
    let base = home.path().join("base");
    let hide = |name: &str| {
        let moved = home.path().join("moved");
        files::rename(&base.join(name), &moved).unwrap();
        let said = fails(&home, &["--base", "base"], 9);
        files::rename(&moved, &base.join(name)).unwrap();
        said
    };
    for name in ["tokenizer.json", "config.json", "model.safetensors"] {
        let said = hide(name);
        assert!(said.contains(name) || said.contains("safetensors"), "{name}: {said}");
    }
    let weights = files::read(&base.join("model.safetensors")).unwrap();
    files::write_atomic(&base.join("model.safetensors"), &weights[..weights.len() - 100]).unwrap();
    assert!(fails(&home, &["--base", "base"], 4).contains("model.safetensors"));
    files::write_atomic(&base.join("model.safetensors"), &weights).unwrap();
    files::write_atomic(&base.join("tokenizer.json"), b"{}").unwrap();
    assert!(fails(&home, &["--base", "base"], 4).contains("tokenizer.json"));
}

#[test]
fn wrong_settings_are_said() {
    let home = home(512);
    home.write("nightshift.yaml", "serve: {wrokers: 2}\n");
    assert!(fails(&home, &["--base", "base"], 9).contains("did you mean `workers`?"));
    home.write("nightshift.yaml", "base: base\n");
    assert!(fails(&home, &["--listen", "nonsense"], 1).contains("nonsense"));
    assert!(fails(&home, &["--adapter", "nothing"], 4).contains("nothing"));
}

#[test]
fn a_data_folder_that_cannot_be_used_is_said() {
    let home = home(512);
    home.write("sandbox_data", "a file");
    assert!(fails(&home, &["--base", "base"], 1).contains("sandbox_data"));
    files::remove_file(&home.path().join("sandbox_data")).unwrap();
    home.write("sandbox_data/capture.db", &"no database ".repeat(100));
    let said = fails(&home, &["--base", "base"], 1);
    assert!(said.contains("capture.db cannot be used") && said.contains("--no-record"), "{said}");
}

/// The model's tokenizer is a pipe here: the server waits for it, its address taken already.
#[test]
fn a_server_that_loads_says_so() {
    let home = home(512);
    let tokenizer = home.path().join("base/tokenizer.json");
    let bytes = files::read(&tokenizer).unwrap();
    files::remove_file(&tokenizer).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&tokenizer).status().unwrap().success());
    let address = format!("127.0.0.1:{}", nightshift_testkit::free_port());
    let mut child = home.spawn("serve", &["--base", "base", "--listen", &address]);
    wait_until("the address to be taken", PATIENCE, || std::net::TcpStream::connect(&address).ok());
    let health = wire::request(&address, "GET", "/health", &[], b"").expect(503);
    assert_eq!(health.json()["status"], "starting");
    let early = wire::request(&address, "POST", "/v1/chat/completions", &[], b"{}").expect(503);
    assert_eq!(early.headers["retry-after"], "1");
    // The first reader waits for this writer; whoever opens it later finds the file itself.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&tokenizer).unwrap();
    files::remove_file(&tokenizer).unwrap();
    files::write_atomic(&tokenizer, &bytes).unwrap();
    pipe.write_all(&bytes).unwrap();
    drop(pipe);
    wait_until("the model to be loaded", PATIENCE, || {
        (wire::request(&address, "GET", "/health", &[], b"").status == 200).then_some(())
    });
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_fixed_adapter_is_served_without_a_pointer() {
    let home = home(512);
    copy_adapter("adapter", &home.path().join("mine"));
    let server = Server::start(&home, &["--adapter", "mine"]);
    let reply = server.chat("nightshift", "Hello", 4).expect(200);
    assert_eq!(
        (reply.headers["x-nightshift-adapter"].as_str(), reply.headers["x-nightshift-generation"].as_str()),
        ("mine", "0")
    );
}

#[test]
fn a_dry_run_loads_and_changes_nothing() {
    let home = home(512);
    let ran = home.run("serve", &["--base", "base", "--dry-run", "--json"]).expect(0);
    let plan: Value = ran.json();
    assert_eq!((&plan["status"], &plan["context"]), (&"planned".into(), &512.into()));
    assert!(!home.path().join("sandbox_data").exists());
}

#[test]
fn the_page_and_the_help_name_the_same_flags() {
    let home = Home::new();
    let help = home.run("serve", &["--help"]).expect(0).stdout;
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/serve.md");
    let page = files::read_text(&page).unwrap();
    let own = help.split("Global options").next().unwrap();
    let flags: Vec<&str> = own
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--")?.split_whitespace().next())
        .collect();
    assert!(flags.len() >= 7, "{help}");
    for flag in flags {
        let flag = format!("--{flag}");
        assert!(page.contains(&format!("`{flag}")), "docs/serve.md does not explain {flag}");
    }
}
