//! A home with a base model and adapters, and a running server in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nightshift_core::release::{self, Manifest, NewRelease};
use nightshift_core::{Ctx, files};
use nightshift_model::base_fingerprint;
use nightshift_testkit::{Home, wait_until};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::wire::{self, Reply};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The folder of the model fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model")
}

/// A copy of the fixture `llama3` as `<home>/base`, its context as long as a test needs.
pub(crate) fn home(context: usize) -> Home {
    let home = Home::new();
    copy_model("llama3", &home.path().join("base"));
    let path = home.path().join("base/config.json");
    let mut config: Value = serde_json::from_str(&files::read_text(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = context.into();
    files::write_atomic(&path, config.to_string().as_bytes()).unwrap();
    home
}

/// A [`home`] whose model has no end token, so that only a limit, a client or a signal ends an answer.
pub(crate) fn endless_home() -> Home {
    let home = home(1 << 17);
    for (name, key) in [("config.json", "eos_token_id"), ("tokenizer_config.json", "eos_token")] {
        let path = home.path().join("base").join(name);
        let mut settings: Value = serde_json::from_str(&files::read_text(&path).unwrap()).unwrap();
        settings.as_object_mut().unwrap().remove(key);
        files::write_atomic(&path, settings.to_string().as_bytes()).unwrap();
    }
    files::remove_file(&home.path().join("base/generation_config.json")).unwrap();
    home
}

fn copy_model(name: &str, to: &Path) {
    files::create_dir(to).unwrap();
    for file in files::list(&fixtures().join(name)).unwrap() {
        if file.is_file() {
            files::copy(&file, &to.join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// Copies an adapter fixture of `llama3` to a folder.
pub(crate) fn copy_adapter(name: &str, to: &Path) {
    files::create_dir(to).unwrap();
    for file in files::list(&fixtures().join("llama3").join(name)).unwrap() {
        files::copy(&file, &to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Publishes an adapter fixture as a release of the home.
pub(crate) fn publish(home: &Home, adapter: &str) -> Manifest {
    let fingerprint = base_fingerprint(&home.path().join("base")).unwrap();
    publish_for(home, adapter, &fingerprint)
}

/// As [`publish`], for a base with this fingerprint.
pub(crate) fn publish_for(home: &Home, adapter: &str, fingerprint: &str) -> Manifest {
    let ctx = Ctx::for_test(home.path());
    let staged = ctx.paths.loras().join(".tmp-staged");
    copy_adapter(adapter, &staged);
    let new = NewRelease {
        base_fingerprint: fingerprint.to_owned(),
        dataset_sha256: None,
        parents: Vec::new(),
        rank: 4,
        facts: json!({}),
    };
    release::publish(&ctx, &mut ctx.store().unwrap(), &staged, &new).unwrap()
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts `serve` on a free port and waits until it is ready.
    pub(crate) fn start(home: &Home, flags: &[&str]) -> Self {
        let ready = home.path().join(format!("ready-{}.json", nightshift_testkit::free_port()));
        let ready_text = ready.display().to_string();
        let mut arguments =
            vec!["--json", "--base", "base", "--listen", "127.0.0.1:0", "--ready-file", ready_text.as_str()];
        arguments.extend(flags);
        let error = files::open_append(&home.path().join("serve.err")).unwrap();
        let mut child =
            home.command("serve", &arguments).stdout(Stdio::piped()).stderr(error).spawn().unwrap();
        let line = wait_until("serve to be ready", PATIENCE, || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("serve ended with {status}: {}", home.read("serve.err"));
            }
            files::read_text_if_any(&ready).unwrap()
        });
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["status"], "ready");
        Self { child, address: ready["address"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, body, &[])
    }

    pub(crate) fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        wire::request(&self.address, "POST", path, headers, body.to_string().as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        wire::request(&self.address, "GET", path, &[], b"")
    }

    /// A greedy chat answer of at most `max_tokens` tokens.
    pub(crate) fn chat(&self, model: &str, text: &str, max_tokens: usize) -> Reply {
        self.post("/v1/chat/completions", &ask(model, text, max_tokens))
    }

    /// Sends SIGTERM and waits; the exit code and stdout.
    pub(crate) fn stop(mut self) -> (i32, Vec<Value>) {
        signal(self.child.id(), "TERM");
        let status = wait_until("serve to stop", PATIENCE, || self.child.try_wait().unwrap());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut text).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (status.code().unwrap_or(-1), lines)
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// A greedy chat request.
pub(crate) fn ask(model: &str, text: &str, max_tokens: usize) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0,
        "max_tokens": max_tokens})
}

/// The text of a chat answer.
#[track_caller]
pub(crate) fn text(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// `capture.db` of a home, opened as a reader.
pub(crate) fn capture(home: &Home) -> Connection {
    let path = home.path().join("sandbox_data/capture.db");
    Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// One row of the table `exchange`.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) generation: i64,
    pub(crate) adapter_id: Option<String>,
    pub(crate) kind: String,
    pub(crate) ok: bool,
    pub(crate) failure_class: Option<String>,
    pub(crate) body: Value,
}

/// Every recorded exchange, in order.
pub(crate) fn rows(home: &Home) -> Vec<Row> {
    let connection = capture(home);
    let sql = "SELECT id, generation, adapter_id, kind, ok, failure_class, body FROM exchange ORDER BY seq";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let body: String = row.get(6)?;
        Ok(Row {
            id: row.get(0)?,
            generation: row.get(1)?,
            adapter_id: row.get(2)?,
            kind: row.get(3)?,
            ok: row.get(4)?,
            failure_class: row.get(5)?,
            body: serde_json::from_str(&body).unwrap(),
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}
