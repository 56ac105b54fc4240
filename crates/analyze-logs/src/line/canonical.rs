//! One number for equal arguments, however they are written: blanks and the order of keys do not count.

use super::json::Cursor;
use super::stops::Stops;
use crate::read::hash;

/// Deeper arguments are compared as they stand.
const MAX_DEPTH: u32 = 32;

/// The hash of a raw JSON value.
pub(crate) fn canonical_hash(raw: &[u8], stops: &mut Stops) -> u64 {
    let mut cursor = Cursor::new(raw, stops.of(raw));
    value(&mut cursor, 0).filter(|_| cursor.at == raw.len()).unwrap_or_else(|| hash(raw))
}

fn pair(left: u64, right: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&left.to_le_bytes());
    bytes[8..].copy_from_slice(&right.to_le_bytes());
    hash(&bytes)
}

fn value(cursor: &mut Cursor<'_, '_>, depth: u32) -> Option<u64> {
    let open = cursor.peek();
    if !matches!(open, b'{' | b'[') || depth == MAX_DEPTH {
        return cursor.value().map(hash);
    }
    cursor.at += 1;
    cursor.space();
    let mut state = u64::from(open);
    // `}` is `{` + 2 and `]` is `[` + 2.
    while cursor.take(open + 2).is_none() {
        if open == b'{' {
            let key = hash(cursor.string()?);
            cursor.space();
            cursor.take(b':')?;
            cursor.space();
            // A sum does not know the order.
            state = state.wrapping_add(pair(key, value(cursor, depth + 1)?));
        } else {
            state = pair(state, value(cursor, depth + 1)?);
        }
        cursor.space();
        if cursor.take(b',').is_some() {
            cursor.space();
        }
    }
    Some(pair(state, u64::from(open)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_arguments_have_one_hash() {
        let of = |text: &str| canonical_hash(text.as_bytes(), &mut Stops::default());
        assert_eq!(
            of(r#"{"a": 1, "b": [1, {"c": "x", "d": null}]}"#),
            of(r#"{"b":[1,{"d":null,"c":"x"}],"a":1}"#)
        );
        let others = [
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            "[1,2]",
            "[2,1]",
            "{}",
            "[]",
            "\"a\"",
            r#"{"a":{"b":1}}"#,
            "1",
        ];
        let mut hashes: Vec<u64> = others.iter().map(|text| of(text)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), others.len());
    }
}
