//! Forms of a setting that serde does not read by itself.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map whose order counts: of several patterns the first that matches decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered<V>(pub Vec<(String, V)>);

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Serialize> Serialize for Ordered<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

struct Pairs<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
    type Value = Ordered<V>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map from pattern to number")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Ordered(pairs))
    }
}

/// Reads a list of texts, or one text alone as a list of one.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(OneOrMany)
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<String>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Train, parse};

    #[test]
    fn targets_are_a_text_or_a_list_and_patterns_keep_their_order() {
        let train = |text: &str| -> Train { parse("nightshift.yaml".as_ref(), text).unwrap().train };
        assert_eq!(train("train:\n  targets: all-linear\n").targets, ["all-linear"]);
        assert_eq!(train("train:\n  targets: [q_proj, v_proj]\n").targets, ["q_proj", "v_proj"]);
        let patterns = train("train:\n  rank_pattern:\n    z_proj: 8\n    a_proj: 2\n").rank_pattern;
        assert_eq!(patterns.0, [("z_proj".to_owned(), 8), ("a_proj".to_owned(), 2)]);
        let bad = parse("nightshift.yaml".as_ref(), "train:\n  targets: 7\n").unwrap_err().chain();
        assert!(bad.contains("a text or a list of texts"), "{bad}");
    }
}
