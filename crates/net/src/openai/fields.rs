//! Fields with more than one legal JSON form, read with messages that say what is allowed.
//!
//! `#[serde(untagged)]` would answer "data did not match any variant"; these visitors name the
//! field, what was found and what is expected, and keep the path of the error.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// `null` means the same as a field that is not there.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Message content: a string, a list of text parts (joined by newlines), or null (empty).
pub(crate) fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Content;

    impl<'de> Visitor<'de> for Content {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of parts {\"type\": \"text\", \"text\": ...}")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_unit<E: de::Error>(self) -> Result<String, E> {
            Ok(String::new())
        }

        fn visit_none<E: de::Error>(self) -> Result<String, E> {
            Ok(String::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<String, A::Error> {
            let mut texts = Vec::new();
            while let Some(Part(text)) = parts.next_element()? {
                texts.push(text);
            }
            Ok(texts.join("\n"))
        }
    }

    deserializer.deserialize_any(Content)
}

/// The text of one content part; every other type is refused by name.
struct Part(String);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part {\"type\": \"text\", \"text\": ...}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let (mut kind, mut text) = (None::<String>, None::<String>);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "type" => kind = Some(map.next_value()?),
                        "text" => text = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                match (kind.as_deref(), text) {
                    (Some("text"), Some(text)) => Ok(Part(text)),
                    (Some("text"), None) => Err(de::Error::missing_field("text")),
                    (Some(other), _) => Err(de::Error::custom(format!(
                        "content part of type `{other}` is not supported; send `text` parts only"
                    ))),
                    (None, _) => Err(de::Error::missing_field("type")),
                }
            }
        }

        deserializer.deserialize_map(Parts)
    }
}

/// One string or a list of strings; null is an empty list.
pub(crate) fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Strings;

    impl<'de> Visitor<'de> for Strings {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(item) = items.next_element()? {
                found.push(item);
            }
            Ok(found)
        }
    }

    deserializer.deserialize_any(Strings)
}

/// The prompt of a plain completion: one string, or a list that holds one string.
pub(crate) fn prompt<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut prompts = strings(deserializer)?;
    match (prompts.pop(), prompts.len()) {
        (Some(prompt), 0) => Ok(prompt),
        _ => Err(de::Error::custom("exactly one prompt per request is supported")),
    }
}
