//! JSON Lines: reading with file and line in every complaint, writing all or nothing.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Failure, OrFail};
use crate::files::{self, FileError};

/// A line longer than this is reported as bad, so that a hostile file cannot eat the memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The file.
    pub path: PathBuf,
    /// Its number, from 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.why)
    }
}

/// What a file held.
#[derive(Debug)]
pub struct Lines<T> {
    /// The rows, each with its line number.
    pub rows: Vec<(usize, T)>,
    /// The lines that could not be used.
    pub bad: Vec<BadLine>,
}

/// Calls `each` for every non-blank line that parses, and returns the others.
pub fn for_each<T: DeserializeOwned>(
    path: &Path,
    each: impl FnMut(usize, T) -> Result<(), Failure>,
) -> Result<Vec<BadLine>, Failure> {
    for_each_in(BufReader::with_capacity(1 << 16, files::open(path)?), path, each)
}

/// As [`for_each`], for lines that come from somewhere else (a decompressor); `path` names them.
pub fn for_each_in<T: DeserializeOwned>(
    mut reader: impl BufRead,
    path: &Path,
    mut each: impl FnMut(usize, T) -> Result<(), Failure>,
) -> Result<Vec<BadLine>, Failure> {
    let mut bad = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE_BYTES as u64 + 1);
        let count =
            limited.read_until(b'\n', &mut bytes).or_fail(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            break;
        }
        if count > MAX_LINE_BYTES {
            reader.skip_until(b'\n').or_fail(|| format!("cannot read {}", path.display()))?;
            bad.push(BadLine {
                path: path.to_owned(),
                line,
                why: format!("longer than {MAX_LINE_BYTES} bytes"),
            });
            continue;
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
        if text.is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(row) => each(line, row)?,
            Err(error) => bad.push(BadLine { path: path.to_owned(), line, why: error.to_string() }),
        }
    }
    Ok(bad)
}

/// Reads a whole file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Lines<T>, Failure> {
    let mut rows = Vec::new();
    let bad = for_each(path, |line, row| {
        rows.push((line, row));
        Ok(())
    })?;
    Ok(Lines { rows, bad })
}

/// Writes a whole file, one row a line, all or nothing.
pub fn write<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<(), FileError> {
    files::write_atomic_with(path, |file| {
        for row in rows {
            serde_json::to_writer(&mut *file, &row)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}
