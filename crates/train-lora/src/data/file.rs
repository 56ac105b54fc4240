//! Reads data files: JSON Lines, a JSON array, either of them compressed with gzip.
//!
//! The content decides, not the name: a gzip file begins with 1f 8b, an array with `[`. Every row comes
//! with its line; a line that is no JSON is reported and the rest is read. An array that breaks off or holds
//! something else than JSON ends the reading there, because no later row could be told apart.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use nightshift_core::jsonl::{self, BadLine, Lines};
use nightshift_core::{Failure, OrFail, files};
use serde_json::Value;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Bytes of an array, which is read as a whole.
const MAX_ARRAY_BYTES: u64 = 4 << 30;

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Lines<Value>, Failure> {
    let mut reader = BufReader::with_capacity(1 << 16, files::open(path)?);
    let start = reader.fill_buf().or_fail(|| format!("cannot read {}", path.display()))?;
    if start.starts_with(&GZIP) {
        return rows(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader)), path);
    }
    rows(reader, path)
}

fn rows(mut reader: impl BufRead, path: &Path) -> Result<Lines<Value>, Failure> {
    let start = reader.fill_buf().or_fail(|| format!("cannot read {}", path.display()))?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    if start.trim_ascii_start().first() == Some(&b'[') {
        return array(reader, path);
    }
    let mut rows = Vec::new();
    let bad = jsonl::for_each_in(reader, path, |line, row| {
        rows.push((line, row));
        Ok(())
    })?;
    Ok(Lines { rows, bad })
}

/// The elements of an array, each with the line on which it begins.
fn array(reader: impl BufRead, path: &Path) -> Result<Lines<Value>, Failure> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_ARRAY_BYTES).read_to_end(&mut bytes);
    read.or_fail(|| format!("cannot read {}", path.display()))?;
    let mut lines = Lines { rows: Vec::new(), bad: Vec::new() };
    let mut place = Place { bytes: &bytes, at: 0, line: 1 };
    place.skip(b"\xef\xbb\xbf");
    place.skip_byte(b'[');
    if place.skip_byte(b']') {
        return Ok(lines);
    }
    loop {
        place.blank();
        let line = place.line;
        let mut values = serde_json::Deserializer::from_slice(&bytes[place.at..]).into_iter::<Value>();
        let bad = |line, why: &str| BadLine { path: path.to_owned(), line, why: why.to_owned() };
        match values.next() {
            Some(Ok(row)) => {
                place.forward(values.byte_offset());
                lines.rows.push((line, row));
            }
            Some(Err(error)) if !error.is_eof() => {
                lines.bad.push(bad(line, &format!("the array is no JSON from here on: {error}")));
                return Ok(lines);
            }
            _ => {
                lines.bad.push(bad(line, "the array breaks off here"));
                return Ok(lines);
            }
        }
        if place.skip_byte(b']') {
            return Ok(lines);
        }
        if !place.skip_byte(b',') {
            lines.bad.push(bad(place.line, "the array breaks off here"));
            return Ok(lines);
        }
    }
}

/// A place in a text, with its line.
struct Place<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl Place<'_> {
    fn forward(&mut self, bytes: usize) {
        let passed = &self.bytes[self.at..self.at + bytes];
        self.line += passed.split(|byte| *byte == b'\n').count() - 1;
        self.at += bytes;
    }

    fn blank(&mut self) {
        let blank = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.forward(blank);
    }

    fn skip(&mut self, prefix: &[u8]) {
        if self.bytes[self.at..].starts_with(prefix) {
            self.forward(prefix.len());
        }
    }

    /// Skips white space and this byte, if it is the next one.
    fn skip_byte(&mut self, byte: u8) -> bool {
        self.blank();
        let found = self.bytes.get(self.at) == Some(&byte);
        self.forward(usize::from(found));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_bytes(name: &str, bytes: &[u8]) -> Lines<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        files::write_atomic(&path, bytes).unwrap();
        read(&path).unwrap()
    }

    fn lines(read: &Lines<Value>) -> Vec<usize> {
        read.rows.iter().map(|(line, _)| *line).collect()
    }

    #[test]
    fn an_array_knows_its_lines() {
        let read = read_bytes(
            "rows.json",
            b"\xef\xbb\xbf [\n  {\"a\": 1},\n  {\n    \"a\": 2\n  }\n, {\"a\": 3}]\n",
        );
        assert_eq!((lines(&read), read.bad.len()), (vec![2, 3, 6], 0));
        assert_eq!(read.rows[2].1["a"], 3);
        assert_eq!(lines(&read_bytes("rows.json", b"[]")), [0_usize; 0]);
    }

    #[test]
    fn a_broken_array_says_where() {
        for text in
            ["[{\"a\": 1},\n{\"a\": ", "[{\"a\": 1}\n{\"a\": 2}]", "[{\"a\": 1},\n", "[{\"a\": 1},\nnope]"]
        {
            let read = read_bytes("rows.json", text.as_bytes());
            assert_eq!((lines(&read), read.bad.len()), (vec![1], 1), "{text}");
            assert_eq!(read.bad[0].line, 2, "{text}");
        }
    }

    #[test]
    fn gzip_is_read_whatever_its_name() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"{\"a\": 1}\nnot json\n{\"a\": 2}\n").unwrap();
        let bytes = packer.finish().unwrap();
        let read = read_bytes("rows.jsonl.gz", &bytes);
        assert_eq!((lines(&read), read.bad[0].line), (vec![1, 3], 2));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.gz");
        files::write_atomic(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(super::read(&path).unwrap_err().chain().contains("cut.gz"));
    }
}
