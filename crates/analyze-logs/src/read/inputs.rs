//! Which files are meant: files as named, folders with their logs, patterns, and `-` for stdin.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nightshift_core::Failure;

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, compressed or not.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Input {
    /// How it is named in messages.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".into(),
        }
    }
}

/// Something that could not be read, or not to its end; the rest was used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// The file or folder.
    pub file: String,
    /// Why.
    pub reason: String,
}

const SUFFIXES: &[&str] = &["json", "jsonl", "ndjson", "log"];
/// Folders deeper than this are not looked into.
const MAX_DEPTH: usize = 16;

/// The inputs that the arguments mean, each once, older rotations before newer ones.
pub fn expand(arguments: &[String]) -> Result<(Vec<Input>, Vec<Problem>), Failure> {
    let (mut inputs, mut problems) = (Vec::new(), Vec::new());
    for argument in arguments {
        let path = Path::new(argument);
        if argument == "-" {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            let mut found = Vec::new();
            folder(path, 0, &mut found, &mut problems);
            found.sort_by_cached_key(|path| age_key(path));
            inputs.extend(found.into_iter().map(Input::File));
        } else if !path.exists() && argument.contains(['*', '?', '[']) {
            let matches = glob::glob(argument)
                .map_err(|error| Failure::usage(format!("`{argument}` is no pattern")).because(error))?;
            let mut found: Vec<PathBuf> =
                matches.filter_map(Result::ok).filter(|path| !path.is_dir()).collect();
            if found.is_empty() {
                problems.push(Problem { file: argument.clone(), reason: "no file matches".into() });
            }
            found.sort_by_cached_key(|path| age_key(path));
            inputs.extend(found.into_iter().map(Input::File));
        } else {
            inputs.push(Input::File(path.to_owned()));
        }
    }
    let mut seen = HashSet::new();
    inputs.retain(|input| match input {
        Input::Stdin => seen.insert(PathBuf::from("-")),
        Input::File(path) => seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())),
    });
    Ok((inputs, problems))
}

fn folder(path: &Path, depth: usize, found: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(Problem { file: path.display().to_string(), reason: error.to_string() });
            return;
        }
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            // Links to folders are left alone: they may lead in circles.
            Ok(kind) if kind.is_dir() && !hidden && depth < MAX_DEPTH => {
                folder(&path, depth + 1, found, problems);
            }
            Ok(kind) if !kind.is_dir() && !hidden && is_log(&path) && !path.is_dir() => found.push(path),
            _ => {}
        }
    }
}

/// `app.log`, `app.jsonl.1`, `app.log-20260301.gz`, `app.json.2.zst`, ...
fn is_log(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (stem, _) = rotation(&name);
    SUFFIXES.iter().any(|suffix| stem.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')))
}

/// The name without compression and rotation, and the rotation's number or date.
fn rotation(name: &str) -> (&str, Option<u64>) {
    let name = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem.strip_suffix(['.', '-']) {
        Some(base) if stem.len() < name.len() => (base, name[stem.len()..].parse().ok()),
        _ => (name, None),
    }
}

/// Sorts by name; within one log older rotations first: dates ascending, numbers descending, the live file last.
fn age_key(path: &Path) -> (PathBuf, u8, u64, PathBuf) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, rotated) = rotation(&name);
    let (class, order) = match rotated {
        Some(date) if date >= 10_000_000 => (0, date),
        Some(number) => (1, u64::MAX - number),
        None => (2, 0),
    };
    (path.with_file_name(stem), class, order, path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_told_by_their_names() {
        for name in [
            "a.json",
            "a.LOG",
            "a.jsonl.1",
            "a.log-20260301.gz",
            "a.ndjson.zst",
            "a.log.2.zst",
            "execution_log_20260203_001500.json",
        ] {
            assert!(is_log(Path::new(name)), "{name}");
        }
        for name in ["a.txt", "json", "a.json.bak", "a.gz", "a.csv.1", "notes.md"] {
            assert!(!is_log(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn older_rotations_come_first() {
        let mut names = [
            "a.log",
            "a.log.1",
            "a.log.10.gz",
            "a.log.2.gz",
            "b.log",
            "a.log-20260301.gz",
            "a.log-20260201.gz",
        ];
        names.sort_by_cached_key(|name| age_key(Path::new(name)));
        assert_eq!(
            names,
            [
                "a.log-20260201.gz",
                "a.log-20260301.gz",
                "a.log.10.gz",
                "a.log.2.gz",
                "a.log.1",
                "a.log",
                "b.log"
            ]
        );
    }

    #[test]
    fn folders_patterns_and_doubles() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["sub/b.log", "a.json", "a.json.1", ".hidden.log", "notes.txt"] {
            nightshift_core::files::create_dir(at(name).parent().unwrap()).unwrap();
            nightshift_core::files::write_atomic(&at(name), b"{}\n").unwrap();
        }
        let text = |path: PathBuf| path.display().to_string();
        let (inputs, problems) = expand(&[
            text(dir.path().into()),
            text(at("a.json")),
            text(at("*.txt")),
            text(at("x*.log")),
            "gone.log".into(),
        ])
        .unwrap();
        let want = [at("a.json.1"), at("a.json"), at("sub/b.log"), at("notes.txt"), "gone.log".into()];
        assert_eq!(inputs, want.map(Input::File));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].file.ends_with("x*.log"));
    }
}
