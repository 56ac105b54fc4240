//! Bytes in chunks that end with a line, whatever they come from: plain, gzip or Zstandard files
//! (told by their first bytes, not their names), pipes, standard input.
//!
//! One source hands chunks to all workers, so their cuts never depend on how many there are. A
//! file that ends in the middle of reading (vanished, truncated archive) is named and the rest is
//! used.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Deref;

use super::inputs::{Input, Problem};

/// Plain bytes in a chunk, short of the line that crosses its end.
pub(super) const CHUNK: usize = 1 << 20;
/// Bytes of a compressed file that are read at once.
const PACKED: usize = 1 << 17;
/// Bytes before the end of what was read that identify a file's content.
pub(crate) const TAIL: usize = 64;

/// Some whole lines of one file.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Position among all chunks.
    pub(super) seq: u64,
    /// Index of the input.
    pub(super) input: usize,
    /// Offset of the first byte in the (decompressed) file.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
    /// The last line of its file, without its newline.
    pub(super) unterminated: bool,
    /// Offsets of lines that were too long and skipped.
    pub(super) too_long: Vec<u64>,
}

/// Bytes in room that is cleared once and used again and again.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    room: Vec<u8>,
    length: usize,
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

impl Bytes {
    fn clear(&mut self) {
        self.length = 0;
        if self.room.len() > 4 * CHUNK {
            self.room = Vec::new();
        }
    }

    fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Room for `more` bytes behind those that are there.
    fn reserve(&mut self, more: usize) -> &mut [u8] {
        if self.room.len() < self.length + more {
            self.room.resize(self.length + more, 0);
        }
        &mut self.room[self.length..][..more]
    }

    /// Drops the first bytes.
    fn drop_first(&mut self, count: usize) {
        self.room.copy_within(count..self.length, 0);
        self.length -= count;
    }

    /// Appends `want` bytes of a stream, fewer at its end only. They are asked for at once: an inflater keeps
    /// its window between calls, which costs a copy each.
    fn read_more(&mut self, stream: &mut dyn Read, want: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < want {
            match stream.read(self.reserve(want - count)) {
                Ok(0) => break,
                Ok(more) => {
                    count += more;
                    self.length += more;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

/// An input with the place where reading begins.
pub(crate) struct Job {
    pub(crate) input: Input,
    /// Bytes of plain text that were read before.
    pub(crate) offset: u64,
    /// The plain bytes from there on, when they are open already.
    pub(crate) stream: Option<Box<dyn Read + Send>>,
}

impl Job {
    /// The whole of an input.
    pub(crate) const fn whole(input: Input) -> Self {
        Self { input, offset: 0, stream: None }
    }
}

/// How far an input was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// Index of the input.
    pub(crate) input: usize,
    /// Offset behind the last whole line.
    pub(crate) offset: u64,
    /// The last bytes before `offset`, at most [`TAIL`]; without those that were read before.
    pub(crate) tail: Vec<u8>,
    /// A line without its newline follows.
    pub(crate) torn: bool,
}

pub(super) struct Source {
    jobs: Vec<Job>,
    next_job: usize,
    open: Option<Open>,
    seq: u64,
    max_line: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) ends: Vec<End>,
}

struct Open {
    stream: Box<dyn Read + Send>,
    /// Begun line, carried over to the next chunk.
    carry: Vec<u8>,
    /// Offset of the first byte of `carry`.
    offset: u64,
    tail: Vec<u8>,
    ended: bool,
}

impl Source {
    pub(super) fn new(jobs: Vec<Job>, max_line: usize) -> Self {
        Self { jobs, next_job: 0, open: None, seq: 0, max_line, problems: Vec::new(), ends: Vec::new() }
    }

    /// The next chunk; false when there is none.
    pub(super) fn next(&mut self, chunk: &mut Chunk) -> bool {
        loop {
            if self.open.is_none() && !self.open_next() {
                return false;
            }
            let input = self.next_job - 1;
            let Some(open) = &mut self.open else { return false };
            chunk.input = input;
            if let Err(error) = open.fill(chunk, self.max_line) {
                let reason = format!("unreadable after {} bytes of text: {error}", open.offset);
                self.problems.push(Problem { file: self.jobs[input].input.name(), reason });
                open.ended = true;
            }
            if open.ended && open.carry.is_empty() {
                let tail = std::mem::take(&mut open.tail);
                // An unterminated line is read again when its newline has come.
                let offset = if chunk.unterminated { chunk.offset } else { open.offset };
                self.ends.push(End { input, offset, tail, torn: chunk.unterminated });
                self.open = None;
            }
            if !chunk.bytes.is_empty() || !chunk.too_long.is_empty() {
                chunk.seq = self.seq;
                self.seq += 1;
                return true;
            }
        }
    }

    /// Opens the next input that can be opened.
    fn open_next(&mut self) -> bool {
        while let Some(job) = self.jobs.get_mut(self.next_job) {
            self.next_job += 1;
            match job.stream.take().map_or_else(|| open(&job.input, job.offset), Ok) {
                Ok(stream) => {
                    self.open = Some(Open {
                        stream,
                        carry: Vec::new(),
                        offset: job.offset,
                        tail: Vec::new(),
                        ended: false,
                    });
                    return true;
                }
                Err(error) => {
                    self.problems.push(Problem { file: job.input.name(), reason: error.to_string() });
                }
            }
        }
        false
    }
}

impl Open {
    /// Fills the chunk with whole lines; at the end of the file, with the unterminated one.
    fn fill(&mut self, chunk: &mut Chunk, max_line: usize) -> io::Result<()> {
        let bytes = &mut chunk.bytes;
        chunk.too_long.clear();
        chunk.unterminated = false;
        chunk.offset = self.offset;
        bytes.clear();
        bytes.append(&self.carry);
        self.carry.clear();
        let mut outcome = Ok(());
        // Everything before `searched` has no newline.
        let mut searched = 0;
        let end = loop {
            if self.ended {
                break None;
            }
            let want = (CHUNK.max(bytes.len() + CHUNK / 4) - bytes.len()).min(CHUNK);
            match bytes.read_more(&mut *self.stream, want) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    outcome = Err(error);
                }
            }
            if bytes.len() >= CHUNK || self.ended {
                if let Some(newline) = memchr::memrchr(b'\n', &bytes[searched..]) {
                    break Some(searched + newline + 1);
                }
                searched = bytes.len();
                if bytes.len() > max_line {
                    chunk.too_long.push(self.offset);
                    self.skip_line(bytes);
                    chunk.offset = self.offset;
                    searched = 0;
                }
            }
        };
        if let Some(end) = end {
            self.carry.extend_from_slice(&bytes[end..]);
            bytes.truncate(end);
            self.remember(bytes);
        } else {
            // The last line of the file.
            if bytes.len() > max_line {
                chunk.too_long.push(self.offset);
                bytes.clear();
            }
            chunk.unterminated = !bytes.is_empty();
        }
        self.offset += bytes.len() as u64;
        outcome
    }

    /// Drops the begun line in `bytes` and streams to behind its newline.
    fn skip_line(&mut self, bytes: &mut Bytes) {
        self.offset += bytes.len() as u64;
        bytes.clear();
        while !self.ended {
            match bytes.read_more(&mut *self.stream, CHUNK / 4) {
                Ok(0) | Err(_) => self.ended = true,
                Ok(_) => {}
            }
            if let Some(newline) = memchr::memchr(b'\n', bytes) {
                self.offset += newline as u64 + 1;
                self.remember(&bytes[..=newline]);
                bytes.drop_first(newline + 1);
                return;
            }
            self.offset += bytes.len() as u64;
            bytes.clear();
        }
    }

    /// Keeps the last bytes of what was handed out.
    fn remember(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
    }
}

/// The plain bytes of an input from `offset` on. A growing file is read to the end it has now.
pub(crate) fn open(input: &Input, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let Input::File(path) = input else {
        return decompress(BufReader::with_capacity(1 << 16, io::stdin()), offset);
    };
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
    }
    if !meta.is_file() {
        return decompress(BufReader::with_capacity(1 << 16, file), offset);
    }
    let mut magic = [0; 4];
    let length = read_whole(&mut file, &mut magic)?;
    if compression(&magic[..length]).is_none() {
        file.seek(SeekFrom::Start(offset))?;
        // Files under /proc have no length.
        if meta.len() == 0 {
            return Ok(Box::new(file));
        }
        return Ok(Box::new(Promised { stream: file, left: meta.len().saturating_sub(offset) }));
    }
    file.rewind()?;
    decompress(BufReader::with_capacity(PACKED, file), offset)
}

/// So many bytes, which were there when the file was opened: fewer are an error, for a file that is truncated
/// while it is read is not read whole.
struct Promised<R> {
    stream: R,
    left: u64,
}

impl<R: Read> Read for Promised<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.stream.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn read_whole(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match stream.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

fn compression(magic: &[u8]) -> Option<Compression> {
    match magic {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
        _ => None,
    }
}

/// A stream, decompressed when it is compressed; its first `offset` plain bytes are skipped.
fn decompress<R: Read + Send + 'static>(
    mut stream: BufReader<R>,
    offset: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = [0; 4];
    let length = read_whole(&mut stream, &mut magic)?;
    let whole = io::Cursor::new(magic[..length].to_vec()).chain(stream);
    let mut plain: Box<dyn Read + Send> = match compression(&magic[..length]) {
        None => Box::new(whole),
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Some(Compression::Zstd) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    };
    io::copy(&mut plain.by_ref().take(offset), &mut io::sink())?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_named_and_its_beginning_used() {
        let stream = Promised { stream: &b"{\"a\":1}\n{\"a\""[..], left: 100 };
        let job = Job { input: Input::File("a.log".into()), offset: 0, stream: Some(Box::new(stream)) };
        let mut source = Source::new(vec![job], 1 << 20);
        let mut chunk = Chunk::default();
        assert!(source.next(&mut chunk));
        assert_eq!(&*chunk.bytes, b"{\"a\":1}\n");
        assert!(source.next(&mut chunk) && chunk.unterminated);
        assert!(!source.next(&mut chunk));
        assert!(source.problems[0].reason.contains("became shorter"), "{}", source.problems[0].reason);
        let mut grown = Promised { stream: &b"abcdef"[..], left: 3 };
        let mut text = String::new();
        grown.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc", "what comes later is of the next run");
    }
}
