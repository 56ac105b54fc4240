//! From the bytes of a line to an entry. Dialects may change from line to line.
//!
//! Units: times and durations are integer microseconds (UTC), costs integer nano-dollars
//! (10^-9 USD), so that sums are exact in any order. A line that the fast path does not like is
//! read again by serde_json; both give the same entry.

mod bad;
mod canonical;
mod digits;
mod entry;
mod json;
mod names;
mod roles;
mod scan;
mod stops;
mod time;
mod values;
mod whole;
mod words;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use nightshift_core::Failure;
use nightshift_core::config::AnalyzeLogs;
use nightshift_core::jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use bad::Bad;
pub(crate) use canonical::canonical_hash;
pub(crate) use stops::Stops;

/// For maps that are asked once or more for every line.
pub(crate) type Hashing = foldhash::fast::FixedState;

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tool or skill.
    Tool,
    /// A model's answer.
    Llm,
    /// A task, job or agent run.
    Task,
}

impl Kind {
    /// The first part of an operation's name.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Tool => "tool:",
            Self::Llm => "llm:",
            Self::Task => "task:",
        }
    }

    /// The kind and the rest of an operation's name.
    pub fn split(name: &str) -> Option<(Self, &str)> {
        let strip = |kind: Self| name.strip_prefix(kind.prefix()).map(|rest| (kind, rest));
        [Self::Tool, Self::Llm, Self::Task].into_iter().find_map(strip)
    }
}

/// One entry of a log, borrowed from its line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry<'a> {
    /// Microseconds since 1970, UTC.
    pub at: Option<i64>,
    /// What ran; `None` for everything that is no call.
    pub kind: Option<Kind>,
    /// Tool, model or task name.
    pub name: Cow<'a, str>,
    /// It only began: its end is a line of its own.
    pub starts: bool,
    /// Microseconds.
    pub duration_us: Option<u64>,
    /// It did not go well.
    pub failed: bool,
    /// It failed because time ran out.
    pub timed_out: bool,
    /// Text of the error.
    pub error: Option<Cow<'a, str>>,
    /// Class of the error.
    pub error_type: Option<Cow<'a, str>>,
    /// Nano-dollars.
    pub cost_nano: Option<i64>,
    /// Raw id of the task, session or trace it belongs to.
    pub group: Option<&'a [u8]>,
    /// Name of the task that a tool or model worked for.
    pub task: Option<Cow<'a, str>>,
    /// Raw arguments of a tool.
    pub params: Option<&'a [u8]>,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
}

/// What was wrong with a line that was used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// A byte order mark before it.
    Bom,
    /// NUL bytes before it, as a truncated file leaves them.
    NulPadding,
    /// Half of a surrogate pair, replaced.
    LoneSurrogate,
    /// A time stamp that could not be read.
    BadTime,
}

impl Repair {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bom => "bom",
            Self::NulPadding => "nul_padding",
            Self::LoneSurrogate => "lone_surrogate",
            Self::BadTime => "bad_time",
        }
    }
}

/// Reads lines. Keeps what it learns of the dialects; its answers never depend on that.
#[derive(Debug)]
pub struct Reader {
    roles: roles::Roles,
    scanner: scan::Scanner,
    stops: Stops,
    interpreter: entry::Interpreter,
}

impl Reader {
    /// A reader with the names and words of the config; naive stamps are of `zone`.
    pub fn new(settings: &AnalyzeLogs, zone: &TimeZone) -> Result<Self, Failure> {
        let own = |words: &[String], kind| {
            words.iter().map(move |word| (word.to_lowercase(), kind)).collect::<Vec<_>>()
        };
        let words = &settings.words;
        let own =
            [own(&words.tool, Kind::Tool), own(&words.llm, Kind::Llm), own(&words.task, Kind::Task)].concat();
        Ok(Self {
            roles: roles::Roles::new(&settings.roles)?,
            scanner: scan::Scanner::new(),
            stops: Stops::default(),
            interpreter: entry::Interpreter::new(time::Stamps::new(zone), own),
        })
    }

    /// Hands every entry of a line to `each` (an OTLP batch holds many), what had to be repaired to
    /// `repaired`. The line has no newline; `valid` says that it is known to be UTF-8. Blank lines
    /// give nothing.
    pub fn line<'a>(
        &mut self,
        line: &'a [u8],
        valid: bool,
        mut each: impl FnMut(&Entry<'a>),
        mut repaired: impl FnMut(Repair),
    ) -> Result<(), Bad> {
        let mut line = line.trim_ascii();
        if !line.starts_with(b"{") {
            line = Self::undress(line, &mut repaired)?;
            if line.is_empty() {
                return Ok(());
            }
        }
        if !valid && simdutf8::basic::from_utf8(line).is_err() {
            return Err(Bad::InvalidUtf8);
        }
        let mut fields = roles::Fields::default();
        let surrogate =
            if let Some(surrogate) = self.scanner.scan(&self.roles, line, self.stops.of(line), &mut fields) {
                self.hand_over(&fields, &mut each, &mut repaired);
                surrogate
            } else {
                let text = std::str::from_utf8(line).map_err(|_| Bad::InvalidUtf8)?;
                let entries = whole::scan(&self.roles, text).map_err(|error| Bad::of(text, &error))?;
                for fields in &entries {
                    self.hand_over(fields, &mut each, &mut repaired);
                }
                true
            };
        if surrogate && values::has_lone_surrogate(line) {
            repaired(Repair::LoneSurrogate);
        }
        Ok(())
    }

    fn hand_over<'a>(
        &mut self,
        fields: &roles::Fields<'a>,
        each: &mut impl FnMut(&Entry<'a>),
        repaired: &mut impl FnMut(Repair),
    ) {
        let (entry, bad_time) = self.interpreter.entry(fields);
        if bad_time {
            repaired(Repair::BadTime);
        }
        each(&entry);
    }

    /// Takes byte order marks and NUL padding off a line.
    fn undress<'a>(mut line: &'a [u8], repaired: &mut impl FnMut(Repair)) -> Result<&'a [u8], Bad> {
        if let Some(rest) = line.strip_prefix(b"\xef\xbb\xbf") {
            repaired(Repair::Bom);
            line = rest.trim_ascii();
        }
        if line.first() == Some(&0) {
            let nuls = line.iter().take_while(|byte| **byte == 0).count();
            line = line[nuls..].trim_ascii();
            if !line.starts_with(b"{") {
                return Err(Bad::Nul);
            }
            repaired(Repair::NulPadding);
        }
        Ok(line)
    }
}
