//! Named advisory locks held by the kernel: a dead holder holds nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Failure, OrFail};
use crate::files;
use crate::signal::Stop;

/// A held lock; dropping it (or dying) releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at `path` now, or fails with exit 7 naming the holder.
    pub fn take(path: &Path, purpose: &str) -> Result<Self, Failure> {
        Self::attempt(path, purpose)?.ok_or_else(|| {
            let holder = files::read_text(path).unwrap_or_default();
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            Failure::busy(format!("{} is locked by {holder}", path.display()))
                .hint("wait for it to end; a lock of a dead process is free by itself")
        })
    }

    /// Takes the lock, waiting up to `patience`.
    pub fn wait(
        path: &Path,
        purpose: &str,
        patience: Duration,
        clock: &Clock,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let end = clock.elapsed() + patience;
        loop {
            if let Some(lock) = Self::attempt(path, purpose)? {
                return Ok(lock);
            }
            if clock.elapsed() >= end || !clock.sleep(Duration::from_millis(20), stop) {
                return Self::take(path, purpose);
            }
        }
    }

    fn attempt(path: &Path, purpose: &str) -> Result<Option<Self>, Failure> {
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .or_fail(|| format!("cannot open the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                let holder = format!("{purpose} (pid {})\n", std::process::id());
                file.set_len(0)
                    .and_then(|()| file.write_all(holder.as_bytes()))
                    .or_fail(|| format!("cannot write the lock file {}", path.display()))?;
                Ok(Some(Self { file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(Failure::failed(format!("cannot lock {}", path.display())).because(error))
            }
        }
    }

    /// What the lock file says of its holder.
    pub fn holder(&mut self) -> String {
        let mut text = String::new();
        if self.file.seek(SeekFrom::Start(0)).is_ok() {
            let _ = self.file.read_to_string(&mut text);
        }
        text.trim().to_owned()
    }
}
