//! `Secret`: a key or token that cannot be printed by accident.

use std::fmt;

use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq;

/// What stands in place of a secret in any text.
const REDACTED: &str = "[redacted]";
/// Shorter values are placeholders; replacing them would spoil every message.
const SHORTEST_KEY: usize = 6;

/// A key, token or secret URL. `Debug` shows `[redacted]`; there is no `Display` and no
/// `Serialize`. Comparison takes the same time wherever two values of one length differ.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value, without the white space around it (files and shells add newlines).
    pub fn new(value: impl AsRef<str>) -> Self {
        Self(value.as_ref().trim().to_owned())
    }

    /// The value itself; the caller keeps it out of messages and logs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is nothing in it; an empty key never matches anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `candidate` is this secret; takes the same time wherever the two differ.
    pub fn matches(&self, candidate: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(candidate.as_bytes()))
    }

    /// `text` with every occurrence of this secret replaced: upstream servers echo keys back.
    /// Values of fewer than 6 characters (`none`, `x`) are placeholders and are left alone.
    pub fn scrub(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_KEY { text.to_owned() } else { text.replace(&self.0, REDACTED) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({REDACTED})")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl<T: AsRef<str>> From<T> for Secret {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new(" sk-12345\n");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("12345").count(), 0);
        assert_eq!(secret.scrub("bad key sk-12345!"), "bad key [redacted]!");
    }

    #[test]
    fn an_empty_secret_matches_nothing() {
        assert!(!Secret::new("").matches(""));
        assert!(Secret::new("a").matches("a"));
        assert!(!Secret::new("a").matches("ab"));
        assert_eq!(Secret::new("").scrub("text"), "text");
    }
}
