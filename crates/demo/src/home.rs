//! One home folder of the demo: its settings, its programs, and copies of it.
//!
//! Programs are the real ones that lie beside this one. They run with the wall clock pinned, without any Nightshift
//! variable of the user's environment, and die with the demo.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nightshift_core::process::{self, Ended};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail, env, files};
use serde_json::Value;

/// The longest that any program of the demo may run.
const DEADLINE: Duration = Duration::from_secs(600);

/// A home folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// A finished program.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its JSON object.
    pub json: Value,
    /// How long it took.
    pub seconds: f64,
}

impl Home {
    /// Makes the folder.
    pub fn create(dir: &Path) -> Result<Self, Failure> {
        files::create_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The recorded exchanges.
    pub fn capture(&self) -> PathBuf {
        self.dir.join("sandbox_data/capture.db")
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.dir.join(name);
        files::write_atomic(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The store.
    pub fn store(&self) -> Result<Store, Failure> {
        Store::open(&self.dir.join("sandbox_data/learning.db"))
    }

    /// A command of a program in this home, with the wall clock at `now`.
    pub fn command(&self, program: &str, arguments: &[&str], now: &str) -> Result<Command, Failure> {
        let mut command = Command::new(process::sibling(program)?);
        let settings = env::VARIABLES.iter().map(|variable| variable.name);
        for name in settings.filter(|name| ![env::HOME, env::NIGHTSHIFT_LOG].contains(name)) {
            command.env_remove(name);
        }
        command
            .arg("--home")
            .arg(&self.dir)
            .args(arguments)
            .current_dir(&self.dir)
            .env(env::NIGHTSHIFT_NOW, now)
            .env(env::CI, "true");
        Ok(command)
    }

    /// Runs a program with `--json` to its end. Exit codes in `fine` are results, any other is an error.
    pub fn run(
        &self,
        ctx: &Ctx,
        program: &str,
        arguments: &[&str],
        now: &str,
        fine: &[i32],
    ) -> Result<Ran, Failure> {
        let mut command = self.command(program, arguments, now)?;
        command.arg("--json");
        let ended = process::run(command, DEADLINE, &ctx.clock, &ctx.stop)?;
        ctx.stop.check()?;
        let words = format!("{program} {}", arguments.join(" "));
        if ended.timed_out {
            return Err(Failure::failed(format!("`{words}` did not end within {} s", DEADLINE.as_secs())));
        }
        finished(&words, ended, fine)
    }

    /// A copy of this home as it is on the disk. No program may be writing in it.
    pub fn copy_to(&self, dir: &Path) -> Result<Self, Failure> {
        copy_tree(&self.dir, dir)?;
        Ok(Self { dir: dir.to_owned() })
    }
}

fn finished(words: &str, ended: Ended, fine: &[i32]) -> Result<Ran, Failure> {
    let json = ended.json().unwrap_or_default();
    if fine.contains(&ended.code) {
        return Ok(Ran { code: ended.code, json, seconds: ended.seconds });
    }
    let tail: Vec<&str> = ended.stderr.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(Failure::failed(format!("`{words}` ended with exit code {}:\n{}", ended.code, tail.join("\n"))))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    files::create_dir(to)?;
    for path in files::list(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        let meta =
            std::fs::symlink_metadata(&path).or_fail(|| format!("cannot look at {}", path.display()))?;
        if meta.is_symlink() {
            let link = files::read_link(&path).unwrap_or_default();
            files::create_symlink(&link, &target)?;
        } else if meta.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            files::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_file_and_keeps_links_relative() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(&dir.path().join("a")).unwrap();
        files::create_dir(&home.dir().join("loras/x")).unwrap();
        home.write("loras/x/file", "1").unwrap();
        files::create_symlink(Path::new("x"), &home.dir().join("loras/latest")).unwrap();
        let copy = home.copy_to(&dir.path().join("b")).unwrap();
        home.write("loras/x/file", "2").unwrap();
        assert_eq!(files::read_text(&copy.dir().join("loras/latest/file")).unwrap(), "1");
    }
}
