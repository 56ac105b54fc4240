//! Which part of a file is new. A file is recognised by device and inode or, once it was renamed,
//! copied or compressed, by its content; whatever is not what it was is read from its beginning.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nightshift_core::random::sha256_hex;

use crate::read::{End, Input, Job, Problem, TAIL, open};

/// Bytes at the beginning that identify a content.
const HEAD: u64 = 1024;

/// A file as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: i64,
    pub(super) path: String,
    pub(super) stat: Stat,
    pub(super) head_length: u64,
    pub(super) head: String,
    pub(super) offset: u64,
    pub(super) tail: Vec<u8>,
    pub(super) torn: bool,
}

/// What the file system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
}

impl Stat {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        let mtime_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Ok(Self { device: meta.dev(), inode: meta.ino(), size: meta.len(), mtime_ns })
    }

    fn same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// An input, what was known of it, and the reading that it needs.
pub(super) struct Plan {
    pub(super) input: Input,
    pub(super) stat: Stat,
    /// Index of what was known of it.
    pub(super) known: Option<usize>,
    /// Nothing happened to it: it need not be opened.
    pub(super) unchanged: bool,
    stream: Option<Box<dyn Read + Send>>,
}

/// Finds for each input what is known of it. A known file belongs to one input at most.
pub(super) fn plan(inputs: Vec<Input>, known: &[Known], problems: &mut Vec<Problem>) -> Vec<Plan> {
    let mut plans = Vec::new();
    for input in inputs {
        let Input::File(path) = &input else { continue };
        match Stat::of(path) {
            Ok(stat) => plans.push(Plan { input, stat, known: None, unchanged: false, stream: None }),
            Err(error) => problems.push(Problem { file: input.name(), reason: error.to_string() }),
        }
    }
    let mut claimed = vec![false; known.len()];
    // First the files that are where they were, then those whose content has moved.
    for by_content in [false, true] {
        for plan in plans.iter_mut().filter(|plan| plan.known.is_none()) {
            let mut heads: Option<Head> = None;
            let found = known.iter().enumerate().position(|(index, known)| {
                if claimed[index] || known.stat.same_file(plan.stat) == by_content {
                    return false;
                }
                if known.stat == plan.stat && !known.torn {
                    plan.unchanged = true;
                    return true;
                }
                let heads = heads.get_or_insert_with(|| Head::of(&plan.input));
                plan.stream = heads.is_of(known).then(|| resume(&plan.input, known)).flatten();
                plan.stream.is_some()
            });
            if let Some(index) = found {
                claimed[index] = true;
                plan.known = Some(index);
            }
        }
    }
    plans
}

/// The first bytes of an input; empty when it cannot be read.
struct Head(Vec<u8>);

impl Head {
    fn of(input: &Input) -> Self {
        let mut bytes = Vec::new();
        // What cannot be read here is named when it is read as a whole.
        let _ = open(input, 0).and_then(|stream| stream.take(HEAD).read_to_end(&mut bytes));
        Self(bytes)
    }

    fn is_of(&self, known: &Known) -> bool {
        self.0.get(..known.head_length as usize).is_some_and(|head| sha256_hex(head) == known.head)
    }
}

/// The plain bytes behind what was read of this content; `None` when it is another one by now.
fn resume(input: &Input, known: &Known) -> Option<Box<dyn Read + Send>> {
    let mut stream = open(input, known.offset.checked_sub(known.tail.len() as u64)?).ok()?;
    let mut tail = vec![0; known.tail.len()];
    stream.read_exact(&mut tail).ok()?;
    (tail == known.tail).then_some(stream)
}

impl Plan {
    /// Where reading begins.
    pub(super) fn job(&mut self, known: &[Known]) -> Job {
        let offset = self.known.map_or(0, |index| known[index].offset);
        Job { input: self.input.clone(), offset, stream: self.stream.take() }
    }

    /// The file as it is left after reading to `end`.
    pub(super) fn after(&self, known: &[Known], end: &End) -> Known {
        let before = self.known.map(|index| &known[index]);
        let mut tail = before.map_or(Vec::new(), |known| known.tail.clone());
        tail.extend_from_slice(&end.tail);
        tail.drain(..tail.len().saturating_sub(TAIL));
        let head_length = end.offset.min(HEAD);
        let head = match before {
            Some(known) if known.head_length == head_length => known.head.clone(),
            _ => sha256_hex(Head::of(&self.input).0.get(..head_length as usize).unwrap_or_default()),
        };
        Known {
            id: before.map_or(0, |known| known.id),
            path: self.input.name(),
            stat: self.stat,
            head_length,
            head,
            offset: end.offset,
            tail,
            torn: end.torn,
        }
    }
}
