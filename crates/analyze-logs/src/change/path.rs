//! The place of a value in a config: keys (or positions of list items) from the top, joined by dots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `tasks.timeouts.web_search`; keys with dots, quotes or blanks are written in double quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(pub Vec<String>);

impl KeyPath {
    /// The keys, outermost first.
    pub fn keys(&self) -> &[String] {
        &self.0
    }
}

/// Whether a key can stand without quotes.
fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '{' | '}' | ':' | '/' | '$'))
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, key) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(".")?;
            }
            if is_plain(key) {
                f.write_str(key)?;
            } else {
                f.write_str(&serde_json::Value::from(key.as_str()).to_string())?;
            }
        }
        Ok(())
    }
}

impl FromStr for KeyPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a key path: write keys joined by dots, odd ones in double quotes");
        let mut keys = Vec::new();
        let mut rest = text;
        loop {
            let (key, after) = if rest.starts_with('"') {
                let mut words = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let key = words.next().and_then(Result::ok).ok_or_else(wrong)?;
                (key, &rest[words.byte_offset()..])
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            };
            if key.is_empty() {
                return Err(wrong());
            }
            keys.push(key);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(Self(keys)),
                None => return Err(wrong()),
            }
        }
    }
}

impl Serialize for KeyPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_are_quoted_and_read_again() {
        let path = KeyPath(["tasks", "a.b", "say \"hi\"", "x:y"].map(String::from).to_vec());
        assert_eq!(path.to_string(), r#"tasks."a.b"."say \"hi\"".x:y"#);
        assert_eq!(path.to_string().parse(), Ok(path));
        for wrong in ["", "a..b", "a.", "\"a", "\"a\"b"] {
            assert!(wrong.parse::<KeyPath>().is_err(), "{wrong}");
        }
    }
}
