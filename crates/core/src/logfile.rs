//! Log files named as in the documents: `logs/<program>_YYYYMMDD_HHMMSS.log`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::clock::{compact_stamp, rfc3339};
use crate::ctx::Ctx;
use crate::error::Failure;
use crate::files;

/// An open log file; every line carries its time.
#[derive(Debug)]
pub struct LogFile {
    file: Mutex<File>,
    path: PathBuf,
}

impl LogFile {
    /// Opens `logs/<prefix>_YYYYMMDD_HHMMSS.log`.
    pub fn open(ctx: &Ctx, prefix: &str) -> Result<Self, Failure> {
        let path = ctx.paths.logs().join(format!("{prefix}_{}.log", compact_stamp(ctx.clock.now())));
        Ok(Self { file: Mutex::new(files::open_append(&path)?), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line to the file and shows it to a person. A full disk does not stop the work.
    pub fn say(&self, ctx: &Ctx, line: &str) {
        ctx.printer.note(line);
        self.write(ctx, line);
    }

    /// Writes a line to the file only.
    pub fn write(&self, ctx: &Ctx, line: &str) {
        if let Ok(mut file) = self.file.lock()
            && let Err(error) = writeln!(file, "{} {line}", rfc3339(ctx.clock.now()))
        {
            tracing::warn!(path = %self.path.display(), %error, "the log file cannot be written");
        }
    }
}
