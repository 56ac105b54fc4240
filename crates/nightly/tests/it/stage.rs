//! A home, a copy of `nightly`, and stand-ins for the other programs beside it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nightshift_testkit::{Answer, FakeServer, Home, Ran, binary};
use serde_json::{Value, json};

/// Notes its call, waits as long as `<name>.wait` says, prints `<name>.json`, exits with `<name>.code`.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
echo "$name $*" >> "$here/calls"
[ -f "$here/$name.wait" ] && sleep "$(cat "$here/$name.wait")"
[ -f "$here/$name.json" ] && cat "$here/$name.json"
exit "$(cat "$here/$name.code" 2>/dev/null || echo 0)"
"#;

pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) server: FakeServer,
    bin: PathBuf,
}

impl Stage {
    /// A night in which everything works.
    pub(crate) fn new() -> Self {
        let home = Home::new();
        let bin = home.path().join("bin");
        nightshift_core::files::create_dir(&bin).unwrap();
        nightshift_core::files::copy(&binary("nightly"), &bin.join("nightly")).unwrap();
        let server = FakeServer::start(|request| match request.path.as_str() {
            "/health" => Answer::Json(
                json!({"status": "healthy", "target": "nightshift", "generation": 0, "adapter": null}),
            ),
            "/v1/chat/completions" => Answer::chat("yes"),
            _ => Answer::Json(json!({})),
        });
        let stage = Self { home, server, bin };
        stage.executable("nightly", None);
        for name in ["memory", "harvest", "train-lora", "deploy"] {
            stage.executable(name, Some(STAND_IN));
        }
        stage.says(
            "harvest",
            0,
            &json!({"accepted": 7, "asked": 9, "agreed": 7, "until": "2026-03-02T00:00:00Z"}),
        );
        stage.says("train-lora", 0, &json!({"adapter_id": "20260302-abc"}));
        let gate = json!({"verdict": "PASS", "n": 400, "won": 47, "lost": 3, "p_value": 0.0002});
        stage.says("deploy", 0, &json!({"status": "deployed", "gate": gate}));
        stage.config("");
        stage
    }

    pub(crate) fn executable(&self, name: &str, text: Option<&str>) {
        let path = self.bin.join(name);
        if let Some(text) = text {
            self.home.write(&format!("bin/{name}"), text);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn config(&self, nightly: &str) {
        self.home.write(
            "nightshift.yaml",
            &format!(
                "deploy: {{server_url: '{}'}}\nnightly: {{min_disk_gb: 0.001{nightly}}}\n",
                self.server.url()
            ),
        );
    }

    /// What a stand-in prints and exits with from now on.
    pub(crate) fn says(&self, name: &str, code: i32, json: &Value) {
        self.home.write(&format!("bin/{name}.json"), &format!("{json}\n"));
        self.home.write(&format!("bin/{name}.code"), &code.to_string());
    }

    /// Makes a stand-in hang, or not any more.
    pub(crate) fn hangs(&self, name: &str, seconds: u32) {
        self.home.write(&format!("bin/{name}.wait"), &seconds.to_string());
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let template = self.home.command("nightly", arguments);
        let mut command = Command::new(self.bin.join("nightly"));
        command.args(arguments).current_dir(self.home.path()).env_clear();
        for (name, value) in template.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status).unwrap_or(0);
        Ran {
            code: output.status.code().unwrap_or(128 + signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// How often a stand-in was called with this argument among the others.
    pub(crate) fn calls(&self, name: &str, argument: &str) -> usize {
        let calls = std::fs::read_to_string(self.bin.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.starts_with(&format!("{name} ")) && line.contains(argument)).count()
    }
}
