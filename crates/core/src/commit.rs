//! Several files replaced and lines appended to a log as one durable step.
//!
//! New contents are staged beside their files (`<file>.next`), then an intent file is written: from that
//! instant on the step counts as done, and [`finish`] completes it after a crash. Everything that follows may
//! be done twice. The caller holds one lock over [`finish`], its own reading and [`Commit::run`].

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::crash::CrashPoint;
use crate::error::{Failure, OrFail};
use crate::files;

/// A step that is being put together.
#[derive(Debug)]
pub struct Commit {
    intent: PathBuf,
    contents: Vec<(PathBuf, Vec<u8>)>,
    append: Option<(PathBuf, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    replace: Vec<PathBuf>,
    append: Option<Append>,
}

/// Text that belongs behind the first `from` bytes of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Append {
    path: PathBuf,
    from: u64,
    text: String,
}

impl Commit {
    /// A step whose intent file is `intent`.
    pub fn new(intent: PathBuf) -> Self {
        Self { intent, contents: Vec::new(), append: None }
    }

    /// Replaces (or makes) a file.
    #[must_use]
    pub fn replace(mut self, path: &Path, bytes: Vec<u8>) -> Self {
        // A link is followed, as `files::write_atomic` does.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.contents.push((std::path::absolute(&path).unwrap_or(path), bytes));
        self
    }

    /// Appends lines to a log.
    #[must_use]
    pub fn append(mut self, path: &Path, lines: &[String]) -> Self {
        let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
        self.append = Some((std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), text));
        self
    }

    /// Makes it happen, all or nothing. `crash` is armed at `commit.write` with the number of the write.
    pub fn run(self, crash: &CrashPoint) -> Result<(), Failure> {
        let mut writes = Writes { crash, count: 0 };
        for (path, bytes) in &self.contents {
            make_folder(path)?;
            let staged = staged(path);
            files::write_atomic(&staged, bytes)?;
            files::copy_mode(path, &staged)?;
            writes.done();
        }
        let append = match self.append {
            None => None,
            Some((path, text)) => {
                make_folder(&path)?;
                let from = std::fs::metadata(&path).map_or(0, |meta| meta.len());
                Some(Append { path, from, text })
            }
        };
        let intent = Intent { replace: self.contents.into_iter().map(|(path, _)| path).collect(), append };
        let text = serde_json::to_vec(&intent).or_fail(|| "the intent file".into())?;
        files::write_atomic(&self.intent, &text)?;
        writes.done();
        apply(&self.intent, &intent, &mut writes)
    }
}

/// Completes a step that a crash interrupted; true when there was one.
pub fn finish(intent: &Path) -> Result<bool, Failure> {
    let Some(text) = files::read_text_if_any(intent)? else { return Ok(false) };
    let step: Intent = serde_json::from_str(&text).or_fail(|| {
        format!(
            "{} is not the intent file of a step; remove it after a look at the files beside it",
            intent.display()
        )
    })?;
    apply(intent, &step, &mut Writes { crash: &CrashPoint::default(), count: 0 })?;
    Ok(true)
}

/// Numbers the writes for crash tests.
struct Writes<'a> {
    crash: &'a CrashPoint,
    count: usize,
}

impl Writes<'_> {
    fn done(&mut self) {
        self.count += 1;
        self.crash.reach("commit.write", &self.count.to_string());
    }
}

fn apply(path: &Path, intent: &Intent, writes: &mut Writes<'_>) -> Result<(), Failure> {
    for target in &intent.replace {
        let staged = staged(target);
        // Gone when an interrupted run had renamed it already.
        if staged.exists() {
            files::rename(&staged, target)?;
        }
        writes.done();
    }
    if let Some(append) = &intent.append {
        complete(append).or_fail(|| format!("cannot append to {}", append.path.display()))?;
        writes.done();
    }
    files::remove_file(path)?;
    writes.done();
    Ok(())
}

/// Appends what is missing of the text: nothing after a crash behind the write, the rest of a torn one.
fn complete(append: &Append) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).open(&append.path)?;
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(append.from.min(length)))?;
    file.read_to_end(&mut tail)?;
    let text = append.text.as_bytes();
    if !tail.windows(text.len()).any(|part| part == text) {
        let mut missing = text.strip_prefix(tail.as_slice()).unwrap_or(text).to_vec();
        let unfinished = tail.last().is_some_and(|byte| *byte != b'\n') && missing.len() == text.len();
        if unfinished || (tail.is_empty() && ends_inside_a_line(&mut file)?) {
            missing.insert(0, b'\n');
        }
        file.write_all(&missing)?;
    }
    file.sync_data()
}

fn ends_inside_a_line(file: &mut std::fs::File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn staged(path: &Path) -> PathBuf {
    with_suffix(path, ".next")
}

/// The path with more at the end of its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => Ok(files::create_dir(folder)?),
        _ => Ok(()),
    }
}
