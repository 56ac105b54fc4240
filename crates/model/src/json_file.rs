//! Reading one JSON object from disk with errors that name file and key.
//!
//! Owns nothing but the parsed object. A key that is absent and a key that is `null` are the
//! same thing here, as they are in the files transformers and PEFT write.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{ModelError, Result};

/// No configuration file of a model is anywhere near this size (64 MiB).
const MAX_JSON_BYTES: u64 = 64 << 20;

/// A JSON object and the file it came from.
#[derive(Debug, Clone)]
pub(crate) struct JsonFile {
    path: PathBuf,
    map: Map<String, Value>,
}

impl JsonFile {
    /// Reads `path`; a missing file is `ModelError::MissingFile` with `hint`.
    pub(crate) fn read(path: &Path, hint: &str) -> Result<Self> {
        Self::read_optional(path)?
            .ok_or_else(|| ModelError::MissingFile { path: path.to_owned(), hint: hint.to_owned() })
    }

    /// Reads `path`; `None` when it does not exist.
    pub(crate) fn read_optional(path: &Path) -> Result<Option<Self>> {
        read_text(path)?.map(|text| Self::parse(path, &text)).transpose()
    }

    /// Parses `text` as the content of `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { path: path.to_owned(), map }),
            Ok(_) => Err(ModelError::malformed(path, "a JSON object was expected")),
            Err(error) => Err(ModelError::malformed(path, format!("not JSON: {error}"))),
        }
    }

    /// The value under `key` unless absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is written in the file, null included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The object under `key`, its own keys reported as `key.sub` in errors.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Nested<'_>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Nested { file: self, key: key.to_owned(), map })),
            Some(other) => Err(self.wrong(key, "an object", other)),
        }
    }

    /// A non-negative integer.
    pub(crate) fn usize(&self, key: &str) -> Result<Option<usize>> {
        as_usize(self.get(key)).map_err(|found| self.wrong(key, "a whole number", found))
    }

    /// A non-negative integer that must be there.
    pub(crate) fn required_usize(&self, key: &str) -> Result<usize> {
        self.usize(key)?.ok_or_else(|| self.missing(key))
    }

    /// A finite number.
    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>> {
        as_f64(self.get(key)).map_err(|found| self.wrong(key, "a number", found))
    }

    /// `true` or `false`.
    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A string.
    pub(crate) fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    /// An error about the value under `key`.
    pub(crate) fn error(&self, key: impl Into<String>, problem: impl Into<String>) -> ModelError {
        ModelError::key(&self.path, key, problem)
    }

    /// The error for a key that is needed and absent.
    pub(crate) fn missing(&self, key: &str) -> ModelError {
        self.error(key, "missing")
    }

    /// The error for a value of the wrong type.
    pub(crate) fn wrong(&self, key: impl Into<String>, wanted: &str, found: &Value) -> ModelError {
        self.error(key, format!("{wanted} was expected, found {}", excerpt(found)))
    }
}

/// An object one level down.
#[derive(Debug)]
pub(crate) struct Nested<'a> {
    file: &'a JsonFile,
    key: String,
    map: &'a Map<String, Value>,
}

impl Nested<'_> {
    /// The value under `key` unless absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether any value is itself an object.
    pub(crate) fn has_objects(&self) -> bool {
        self.map.values().any(Value::is_object)
    }

    /// A finite number.
    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>> {
        as_f64(self.get(key)).map_err(|found| self.file.wrong(self.full(key), "a number", found))
    }

    /// A finite number that must be there.
    pub(crate) fn required_f64(&self, key: &str) -> Result<f64> {
        self.f64(key)?.ok_or_else(|| self.error(key, "missing"))
    }

    /// A non-negative integer.
    pub(crate) fn usize(&self, key: &str) -> Result<Option<usize>> {
        as_usize(self.get(key)).map_err(|found| self.file.wrong(self.full(key), "a whole number", found))
    }

    /// A string.
    pub(crate) fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.file.wrong(self.full(key), "a string", other)),
        }
    }

    /// An error about the value under `key` of this object.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> ModelError {
        self.file.error(self.full(key), problem)
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }
}

/// The text of a small file; `None` when it does not exist.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    let length = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(ModelError::malformed(path, "is a folder, not a file")),
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ModelError::io(path, error)),
    };
    if length > MAX_JSON_BYTES {
        return Err(ModelError::malformed(path, format!("{length} bytes are too many for this file")));
    }
    let bytes = std::fs::read(path).map_err(|error| ModelError::io(path, error))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(ModelError::malformed(path, format!("not UTF-8: {error}"))),
    }
}

fn as_usize(value: Option<&Value>) -> std::result::Result<Option<usize>, &Value> {
    let Some(value) = value else { return Ok(None) };
    // Some writers print whole numbers as 4096.0.
    let whole = value.as_u64().or_else(|| {
        value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..=9e15).contains(x)).map(|x| x as u64)
    });
    whole.and_then(|whole| usize::try_from(whole).ok()).map(Some).ok_or(value)
}

fn as_f64(value: Option<&Value>) -> std::result::Result<Option<f64>, &Value> {
    let Some(value) = value else { return Ok(None) };
    value.as_f64().filter(|x| x.is_finite()).map(Some).ok_or(value)
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
