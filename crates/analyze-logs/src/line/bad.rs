//! Why a line could not be used.

use serde::{Deserialize, Serialize};

/// The class of a bad line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bad {
    /// Not UTF-8: its texts cannot be trusted.
    InvalidUtf8,
    /// NUL bytes in it.
    Nul,
    /// Begins as an object and breaks off.
    Truncated,
    /// The last line of a file, broken off and without its newline.
    Torn,
    /// A second object behind the first.
    TwoObjects,
    /// Something else behind the object.
    TrailingText,
    /// JSON, and no object.
    NotAnObject,
    /// `NaN` or `Infinity`, which are not JSON.
    NotANumber,
    /// Not JSON at all.
    NotJson,
    /// Longer than `--max-line`.
    TooLong,
}

impl Bad {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::Nul => "nul",
            Self::Truncated => "truncated",
            Self::Torn => "torn",
            Self::TwoObjects => "two_objects",
            Self::TrailingText => "trailing_text",
            Self::NotAnObject => "not_an_object",
            Self::NotANumber => "not_a_number",
            Self::NotJson => "not_json",
            Self::TooLong => "too_long",
        }
    }

    /// The class of a line that serde_json refused with `error`.
    pub(super) fn of(line: &str, error: &serde_json::Error) -> Self {
        if line.contains('\0') {
            return Self::Nul;
        }
        if !line.starts_with('{') {
            let json = serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok();
            return if json { Self::NotAnObject } else { Self::NotJson };
        }
        if error.is_eof() {
            return Self::Truncated;
        }
        let at = error.column().saturating_sub(1);
        if error.to_string().starts_with("trailing characters") {
            let rest = line.as_bytes().get(at..).unwrap_or_default().trim_ascii_start();
            return if rest.starts_with(b"{") { Self::TwoObjects } else { Self::TrailingText };
        }
        let near = &line.as_bytes()[at.saturating_sub(10).min(line.len())..];
        if [&b"NaN"[..], b"Infinity"]
            .iter()
            .any(|word| memchr::memmem::find(&near[..near.len().min(20)], word).is_some())
        {
            return Self::NotANumber;
        }
        Self::NotJson
    }
}
