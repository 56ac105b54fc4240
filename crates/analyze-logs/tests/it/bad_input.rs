//! Files as broken as they come: what is bad is counted and named, the rest is used, the exit is 0.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use nightshift_core::files;
use nightshift_testkit::Home;
use serde_json::{Value, json};

use crate::contract::operation;

fn good(name: &str) -> Vec<u8> {
    format!("{{\"event\":\"tool_execution\",\"tool_name\":\"{name}\",\"success\":true,\"duration\":1}}\n")
        .into_bytes()
}

fn analyze(home: &Home, arguments: &[&str]) -> Value {
    let mut all = vec!["analyze", "--json"];
    all.extend(arguments);
    home.run("analyze-logs", &all).expect(0).json()
}

fn write(home: &Home, name: &str, parts: &[&[u8]]) {
    let path = home.path().join(name);
    files::create_dir(path.parent().unwrap()).unwrap();
    files::write_atomic(&path, &parts.concat()).unwrap();
}

#[test]
fn every_class_of_bad_line_with_its_place() {
    let home = Home::new();
    let good = good("a");
    let parts: [&[u8]; 14] = [
        b"\xef\xbb\xbf",
        &good,
        b"{\"a\":\"\xff\"}\n",
        b"\r\n",
        b"{\"a\":\"\0\"}\n",
        b"{\"a\":1} {\"b\":2}\n",
        b"[1]\n",
        b"{\"a\":\n",
        &good,
        b"{\"a\":NaN}\n",
        b"plain words\n",
        b"{\"tool_name\":\"b\\ud800\",\"success\":true}\r\n",
        &good,
        b"{\"event\":\"tool_ex",
    ];
    write(&home, "a.log", &parts);
    let report = analyze(&home, &["a.log"]);
    assert_eq!(
        report["bad_lines"],
        json!({"invalid_utf8": 1, "nul": 1, "truncated": 1, "torn": 1, "two_objects": 1, "not_an_object": 1,
               "not_a_number": 1, "not_json": 1})
    );
    assert_eq!(report["repaired_lines"], json!({"bom": 1, "lone_surrogate": 1}));
    assert_eq!(report["entries"], 4);
    assert_eq!(operation(&report, "tool:a")["calls"], 3);
    assert_eq!(operation(&report, "tool:b\u{fffd}")["calls"], 1);
    for example in report["bad_examples"].as_array().unwrap() {
        let offset = example["offset"].as_u64().unwrap() as usize;
        let bytes = parts.concat();
        assert!(offset == 0 || bytes[offset - 1] == b'\n', "{example}: a line begins there");
        assert_eq!(example["file"], "a.log");
    }
}

#[test]
fn a_last_line_without_a_newline_counts_when_it_is_whole() {
    let home = Home::new();
    let line = good("a");
    write(&home, "a.log", &[&line, &line[..line.len() - 1]]);
    let report = analyze(&home, &["a.log"]);
    assert_eq!((&report["entries"], &report["bad_lines"]), (&json!(2), &json!({})));
}

#[test]
fn a_line_of_100_mb_is_skipped_without_being_held() {
    let home = Home::new();
    let line = good("a");
    let huge = vec![b'x'; 100 << 20];
    write(&home, "a.log", &[&line, b"{\"x\":\"", &huge, b"\"}\n", &line, &huge[..20 << 20]]);
    for threads in ["1", "3"] {
        let report = analyze(&home, &["a.log", "--threads", threads]);
        assert_eq!((&report["entries"], &report["bad_lines"]), (&json!(2), &json!({"too_long": 2})));
        assert_eq!(report["bad_examples"][0]["offset"], line.len());
    }
    let report = analyze(&home, &["a.log", "--max-line", "200"]);
    assert_eq!((&report["entries"], &report["bad_lines"]), (&json!(3), &json!({"torn": 1})));
}

#[test]
fn a_file_is_unreadable_gone_cut_or_no_archive() {
    let home = Home::new();
    let line = good("a");
    write(&home, "logs/z.log", &[&line]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for index in 0..20_000 {
        packed.write_all(&good(&format!("t{}", index * 7919 % 50))).unwrap();
    }
    let packed = packed.finish().unwrap();
    write(&home, "logs/cut.jsonl.1.gz", &[&packed[..packed.len() / 2]]);
    write(&home, "logs/fake.log.zst", &[b"\x28\xb5\x2f\xfd no frame"]);
    files::create_symlink(Path::new("nowhere"), &home.path().join("logs/gone.log")).unwrap();
    let report = analyze(&home, &["logs", "named.log"]);
    assert!(report["entries"].as_u64().unwrap() > 5_000, "the first half of the archive is used");
    assert_eq!(operation(&report, "tool:a")["calls"], 1);
    let mut named: Vec<&str> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["file"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["logs/cut.jsonl.1.gz", "logs/fake.log.zst", "logs/gone.log", "named.log"]);
    let ran = home.run("analyze-logs", &["analyze", "named.log", "--json"]).expect(1);
    assert!(ran.stderr.contains("named.log"), "{}", ran.stderr);
    let locked = home.path().join("logs/z.log");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    let report = analyze(&home, &["logs"]);
    // Root reads it all the same.
    let named = report["problems"].as_array().unwrap().iter().any(|problem| problem["file"] == "logs/z.log");
    assert_eq!(named, files::open(&locked).is_err());
}

#[test]
fn nothing_there_is_3() {
    let home = Home::new();
    write(&home, "empty.log", &[b""]);
    for arguments in [&["analyze", "--json", "empty.log"][..], &["analyze", "--json", "."]] {
        let report = home.run("analyze-logs", arguments).expect(3).json();
        assert_eq!((&report["entries"], &report["operations"]), (&json!(0), &json!([])));
    }
}

#[test]
fn stdin_and_archives_give_what_the_plain_file_gives() {
    let home = Home::new();
    let text: Vec<u8> = (0..5_000).flat_map(|index| good(&format!("t{}", index % 7))).collect();
    write(&home, "plain.log", &[&text]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&text[..100_000]).unwrap();
    let mut two_members = gz.finish().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&text[100_000..]).unwrap();
    two_members.extend(gz.finish().unwrap());
    write(&home, "packed.gz", &[&two_members]);
    write(&home, "packed.zst", &[&zstd::encode_all(&text[..], 3).unwrap()]);
    let want = analyze(&home, &["plain.log"]);
    assert_eq!(want["entries"], 5_000);
    for name in ["packed.gz", "packed.zst"] {
        let got = analyze(&home, &[name]);
        assert_eq!((&got["operations"], &got["bytes"]), (&want["operations"], &want["bytes"]), "{name}");
        let mut child = home
            .command("analyze-logs", &["analyze", "--json", "-"])
            .stdin(Stdio::from(files::open(&home.path().join(name)).unwrap()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        let got: Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
        assert_eq!(got["operations"], want["operations"], "{name} through stdin");
    }
}
