//! A temporary home, and running the real programs in it with a clean environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nightshift_core::files;
use nightshift_core::store::Store;
use serde_json::Value;

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Ran {
    /// The last JSON object on stdout.
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().rev().find(|line| line.starts_with('{'));
        let line = line.unwrap_or_else(|| panic!("no JSON on stdout: {self:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Asserts the exit code, showing everything when it differs.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// A home folder that disappears with the value.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty home with the clock pinned to 2026-03-02T02:00:00Z.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let env = BTreeMap::from([("NIGHTSHIFT_NOW".to_owned(), "2026-03-02T02:00:00Z".to_owned())]);
        Self { dir, env }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Pins the clock of later runs; `None` gives the real one.
    pub fn now(&mut self, at: Option<&str>) {
        match at {
            Some(at) => self.set("NIGHTSHIFT_NOW", at),
            None => {
                self.env.remove("NIGHTSHIFT_NOW");
            }
        }
    }

    /// Sets an environment variable of later runs.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.into(), value.into());
    }

    /// Removes an environment variable of later runs.
    pub fn unset(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// Writes a file below the home.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            files::create_dir(parent).expect("folder");
        }
        files::write_atomic(&path, text.as_bytes()).expect("file");
        path
    }

    /// Reads a file below the home.
    pub fn read(&self, name: &str) -> String {
        files::read_text(&self.path().join(name)).expect("file")
    }

    /// The store of this home.
    pub fn store(&self) -> Store {
        Store::open(&self.path().join("sandbox_data/learning.db")).expect("store")
    }

    /// A command of a real program in this home: clean environment, home as working directory.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(program));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path())
            .env("TZ", "UTC")
            .envs(&self.env)
            .stdin(Stdio::null());
        command
    }

    /// Runs a real program to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let output =
            self.command(program, arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status).unwrap_or(0);
        Ran {
            code: output.status.code().unwrap_or(128 + signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a real program; its output goes to `<home>/<program>.out` and `.err`.
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        let open = |name: String| files::open_append(&self.path().join(name)).expect("output file");
        self.command(program, arguments)
            .stdout(open(format!("{program}.out")))
            .stderr(open(format!("{program}.err")))
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }
}

/// The built program `name` of the profile that the running test belongs to.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own file");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is not built: run cargo build --workspace first", path.display());
    path
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Waits until `check` gives a value; panics with `what` after `patience`.
#[track_caller]
pub fn wait_until<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(started.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
