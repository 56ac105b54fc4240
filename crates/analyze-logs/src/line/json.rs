//! JSON by position: finds where a value ends, and refuses what RFC 8259 refuses, without decoding.
//!
//! Every method leaves the cursor behind what it read, or gives `None` for anything that is not
//! plain, valid JSON; the caller then asks serde_json about the whole line.

use super::digits;
use super::stops::BLOCK;

/// Nesting beyond this is left to serde_json.
const MAX_DEPTH: u32 = 120;

/// A place in the bytes of one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a, 's> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// An escape of a surrogate was seen.
    pub(super) surrogate: bool,
    stops: &'s [u64],
}

impl<'a, 's> Cursor<'a, 's> {
    /// At the beginning of `bytes`, whose [`Stops`](super::stops::Stops) are `stops`.
    pub(super) const fn new(bytes: &'a [u8], stops: &'s [u64]) -> Self {
        Self { bytes, at: 0, surrogate: false, stops }
    }

    /// The next byte; 0, which is never valid here, at the end.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn space(&mut self) {
        // Most writers put one blank or none.
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    /// Takes `byte` or nothing.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> Option<()> {
        if self.peek() == byte {
            self.at += 1;
            Some(())
        } else {
            None
        }
    }

    /// Goes to the next key of an object, from its `{` if it is the first one, else from behind the value before
    /// it; true when the object ends instead.
    pub(super) fn object_ends(&mut self, first: bool) -> Option<bool> {
        if first {
            self.take(b'{')?;
        }
        self.space();
        if self.take(b'}').is_some() {
            return Some(true);
        }
        if !first {
            self.take(b',')?;
            self.space();
        }
        Some(false)
    }

    /// A string, from its opening quote; its raw bytes with both quotes.
    #[inline]
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            let left = self.stops.get(self.at / BLOCK)? >> (self.at % BLOCK);
            if left == 0 {
                self.at = (self.at / BLOCK + 1) * BLOCK;
                continue;
            }
            let stop = self.at + left.trailing_zeros() as usize;
            self.at = stop + 1;
            match self.bytes.get(stop)? {
                b'"' => return Some(&self.bytes[start..self.at]),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    #[inline]
    fn escape(&mut self) -> Option<()> {
        let kind = self.peek();
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => self.unicode(),
            _ => None,
        }
    }

    #[inline(never)]
    fn unicode(&mut self) -> Option<()> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        self.surrogate |= matches!(digits, [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
        digits.iter().all(u8::is_ascii_hexdigit).then_some(())
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    #[inline]
    fn digits(&mut self) {
        self.at += digits::count(self.bytes.get(self.at..).unwrap_or_default());
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// Anything but an object or a list.
    #[inline]
    fn scalar(&mut self) -> Option<()> {
        match self.peek() {
            b'"' => self.string().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    /// Any value; its raw bytes.
    #[inline]
    pub(super) fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        match self.peek() {
            b'{' | b'[' => self.container()?,
            _ => self.scalar()?,
        }
        Some(&self.bytes[start..self.at])
    }

    /// An object or a list with everything in it: one bit a level says which of the two it is.
    fn container(&mut self) -> Option<()> {
        let (mut objects, mut depth) = (0_u128, 0_u32);
        loop {
            match self.peek() {
                open @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return None;
                    }
                    self.at += 1;
                    self.space();
                    let object = open == b'{';
                    objects = objects << 1 | u128::from(object);
                    // `}` is `{` + 2 and `]` is `[` + 2.
                    if self.peek() == open + 2 {
                        // Closed below, as after a value.
                    } else {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                self.space();
                let object = objects & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    close if close == if object { b'}' } else { b']' } => {
                        self.at += 1;
                        objects >>= 1;
                        depth -= 1;
                        if depth == 0 {
                            return Some(());
                        }
                    }
                    _ => return None,
                }
            }
        }
    }

    /// A key with its colon and the blanks around that.
    #[inline]
    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.take(b':')?;
        self.space();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stops::Stops;
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &[u8]) -> bool {
        let mut stops = Stops::default();
        let mut cursor = Cursor::new(text, stops.of(text));
        cursor.value().is_some() && cursor.at == text.len()
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        for good in [
            "{}",
            "[]",
            "[[],{}]",
            r#"{"a":[1,-0.5e+3,true,null,"x\"\\\u00e9"]}"#,
            r#"{ "a" : [ 1 , 2 ] , "b" : { } }"#,
            r#""0123456789abcdef\"0123456789abcdef""#,
            "0",
            "-1.5E3",
        ] {
            assert!(whole(good.as_bytes()), "{good}");
        }
        for bad in [
            "{",
            "}",
            "[1,]",
            "[,1]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "{]",
            "[}",
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "NaN",
            "tru",
            "\"\t\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""open"#,
            "[1 2]",
            r#"{"a" 1}"#,
            "\"0123456789abcde\u{1}\"",
            "\"0123456789abcdef0123456789abcdef0123456789abcdef\u{1}\"",
        ] {
            assert!(!whole(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"([ \[\]{},:"\\a0-2.eEu-]|true|null|"a":|\\u00e9|0123456789abcdefg){0,24}"#) {
            let serde = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            let trimmed = text.trim_matches([' ']);
            prop_assert_eq!(whole(trimmed.as_bytes()), serde, "{}", text);
        }
    }
}
