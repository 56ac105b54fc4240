//! Error texts: a message of each, and the expression that all its messages match and no others do.

use nightshift_core::random::Rng;
use rand::RngExt;

/// An error.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    /// A regular expression of all messages of its template; absent for a text that no other error has.
    pub(crate) template: Option<String>,
    pub(crate) timeout: bool,
}

/// Texts by their names here: `#` is a number, `@` an id, `/` a path, `~` one of many words, `%` the operation.
pub(crate) const QUOTA: &str = "% backend refused request #: quota is used up";
pub(crate) const LIMIT: &str = "request # timed out after 31 s";
/// Time-outs in many wordings.
pub(crate) const LATE: [&str; 8] = [
    "context deadline exceeded for job @",
    "Read timed out. (session @)",
    "upstream request timeout (attempt # of 3)",
    "ETIMEDOUT while waiting for shard @",
    "504 Gateway Time-out from edge #",
    "operation took too long: gave up after #s",
    "asyncio.exceptions.TimeoutError: worker #",
    "lock of @ could not be had: wait timeout",
];
/// No time-outs, whatever words they have.
pub(crate) const ODD: [&str; 2] =
    ["timeout must be a positive number, got -#", "cannot parse option --timeout in /"];
/// Errors that come again; neighbours are near-twins and come both.
pub(crate) const TWINS: [&str; 8] = [
    "cannot lock volume @ for writing",
    "cannot unlock volume @ for writing",
    "upload of / was refused by the store",
    "download of / was refused by the store",
    "agent # connected with the wrong version",
    "agent # disconnected with the wrong version",
    "disk @ could not be attached to host-#",
    "disk @ could not be detached from host-#",
];
pub(crate) const AGAIN: [&str; 10] = [
    "HTTP 429 too many requests, retry in # seconds",
    "file not found: /",
    "invalid JSON in answer at line # column #",
    "unexpected token ~ in expression",
    "key ~ is missing in row #",
    "value # is out of range for column ~",
    "schema version # does not match #",
    "Traceback (most recent call last):\n  File \"/\", line #, in step\nValueError: stride of ~ is negative",
    "row was refused, missing fields: [~, ~, ~]",
    "connection refused by #.#.#.#:#",
];
/// Without free words: a handful of messages is enough to see the template.
pub(crate) const RARE: [&str; 4] = [
    "worker # was killed by signal 9",
    "no space left on device while writing /",
    "checksum of / differs: @ instead of @",
    "certificate @ has been expired for # days",
];
const WORDS: [&str; 24] = [
    "alpha", "binary", "cargo", "delta", "engine", "filter", "gamma", "header", "index", "journal", "kernel",
    "ledger", "matrix", "needle", "offset", "packet", "quorum", "record", "signal", "tensor", "update",
    "vector", "window", "yield",
];

impl Wrong {
    /// A message of this text.
    pub(crate) fn of(text: &str, operation: &str, timeout: bool, rng: &mut Rng) -> Self {
        let mut message = String::new();
        for c in text.chars() {
            match c {
                '#' => message.push_str(&rng.random_range(1..9_999).to_string()),
                '@' => message.push_str(&format!("{:012x}", rng.random::<u64>() >> 16)),
                '/' => {
                    let number = rng.random_range(1..9_999);
                    message.push_str(&format!("/srv/data/{}/{number}.csv", word(rng)));
                }
                '~' => message.push_str(word(rng)),
                '%' => message.push_str(operation),
                c => message.push(c),
            }
        }
        Self { message, template: Some(expression(text, operation)), timeout }
    }

    /// A text that no other error has.
    pub(crate) fn noise(rng: &mut Rng) -> Self {
        let mut message = String::new();
        for _ in 0..rng.random_range(4..9) {
            let letters = rng.random_range(4..10);
            message.extend((0..letters).map(|_| char::from(rng.random_range(b'a'..=b'z'))));
            message.push(' ');
        }
        Self { message: message.trim_end().to_owned(), template: None, timeout: false }
    }
}

/// The regular expression of a text's messages.
pub(crate) fn expression(text: &str, operation: &str) -> String {
    let mut template = String::new();
    for c in text.chars() {
        match c {
            '#' => template.push_str(r"\d+"),
            '@' => template.push_str("[0-9a-f]{12}"),
            '/' => template.push_str(r"/srv/data/[a-z]+/\d+\.csv"),
            '~' => template.push_str("[a-z]+"),
            '%' => template.push_str(operation),
            c => {
                if c.is_ascii_punctuation() {
                    template.push('\\');
                }
                template.push(c);
            }
        }
    }
    template
}

fn word(rng: &mut Rng) -> &'static str {
    WORDS[rng.random_range(0..WORDS.len())]
}
