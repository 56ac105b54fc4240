//! Does a message say that something took too long?
//!
//! Timeouts come in many wordings: "timed out", "deadline exceeded", `ETIMEDOUT`, status 408 or 504. The word
//! itself is no proof: "timeout set to 30" is a setting, "no timeout occurred" the opposite. A message is a
//! timeout when a clause of it reports one and neither denies it nor only talks of a limit.

use std::sync::LazyLock;

use regex::Regex;
use regex::bytes;

/// What no message lacks that reports a timeout: most are done with here.
const HINT: &str = r"(?i-u)tim(e|ing)|deadline|too[\s_]+(long|slow)|within|after|expired|408|504";
/// Reports with a number, or with words between theirs.
const WORDINGS: &str = concat!(
    r"\b(no|without|not)\s+(a\s+)?(response|respond|reply|answer)\s+(within|after|in)\s+\d|",
    r"\b(gave\s+up|aborted|cancell?ed|killed)\s+after\s+[0-9.]+\s*(ms|s|m|h|sec\w*|min\w*|hours?|milli\w*)\b|",
    r"\bexecution\s+expired|\bdeadline\s+(was|has)\s+(been\s+)?(exceeded|expired|passed|elapsed)|",
    r"\bexceeded\s+(the\s+|its\s+)?(deadline|time[\s-]?limit)|\btime[\s-]?limit\s+was\s+(exceeded|reached)",
);
/// Phrases that report a timeout wherever they stand; underlines are blanks.
const EVENTS: [&str; 29] = [
    "timed out",
    "timed-out",
    "timing out",
    "times out",
    "connection time out",
    "request time out",
    "operation time out",
    "time limit exceeded",
    "time limit reached",
    "deadline exceeded",
    "deadline expired",
    "deadline passed",
    "missed its deadline",
    "took too long",
    "taking too long",
    "takes too long",
    "too long to respond",
    "too slow to respond",
    "etimedout",
    "esockettimedout",
    "wait time exceeded",
    "ran out of time",
    "no response within",
    "no reply within",
    "did not respond within",
    "not respond in time",
    "did not complete within",
    "did not finish within",
    "not completed in time",
];
/// Phrases that take an event back.
const DENIALS: [&str; 12] = [
    "not timed out",
    "never timed out",
    "not timing out",
    "without timing out",
    "before timing out",
    "if timed out",
    "if it timed out",
    "if it times out",
    "would have timed out",
    "nothing timed out",
    "none timed out",
    "no deadline exceeded",
];
/// Words that name a timeout and may as well name a setting.
const NOUNS: [&str; 4] = ["timeout", "timeouts", "time-out", "timedout"];
/// In the same clause, at most this many words behind a noun: the limit was met.
const MET: [&str; 5] = ["exceeded", "reached", "expired", "elapsed", "occurred"];
const NEAR: usize = 5;
/// Behind a noun: it is a setting.
const SETTING: [&str; 42] = [
    "set",
    "is",
    "was",
    "must",
    "should",
    "needs",
    "argument",
    "flag",
    "field",
    "key",
    "of",
    "to",
    "value",
    "values",
    "setting",
    "settings",
    "config",
    "configured",
    "configuration",
    "option",
    "parameter",
    "default",
    "defaults",
    "increased",
    "raised",
    "changed",
    "updated",
    "reduced",
    "lowered",
    "extended",
    "disabled",
    "remaining",
    "handler",
    "policy",
    "limit",
    "interval",
    "period",
    "seconds",
    "s",
    "sec",
    "secs",
    "ms",
];
/// Before a noun: it did not happen, or it is a setting.
const DENIED: [&str; 25] = [
    "invalid",
    "bad",
    "negative",
    "unknown",
    "missing",
    "unsupported",
    "no",
    "not",
    "without",
    "never",
    "if",
    "set",
    "setting",
    "using",
    "use",
    "with",
    "default",
    "increase",
    "increasing",
    "configured",
    "new",
    "negotiated",
    "avoid",
    "prevent",
    "disable",
];

/// True when `message` reports a timeout.
pub fn is_timeout(message: &[u8]) -> bool {
    static HINTS: LazyLock<bytes::Regex> =
        LazyLock::new(|| bytes::Regex::new(HINT).expect("invariant: the hints are a valid pattern"));
    if !HINTS.is_match(message) {
        return false;
    }
    let text = String::from_utf8_lossy(message).to_lowercase().replace('_', " ");
    let denied = |clause: &str| DENIALS.iter().any(|denial| clause.contains(denial));
    clauses(&text).any(|clause| reports(clause) && !denied(clause)) || has_status(&text)
}

/// Parts of a message that speak for themselves.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', '\n', '|']).flat_map(|part| part.split(", ")).flat_map(|part| part.split(". "))
}

fn reports(clause: &str) -> bool {
    static REPORTS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(WORDINGS).expect("invariant: the wordings are a valid pattern"));
    EVENTS.iter().any(|event| contains_word(clause, event))
        || names_it(clause)
        || type_name(clause)
        || REPORTS.is_match(clause)
}

/// `word` with no letter or digit at either side.
fn contains_word(clause: &str, word: &str) -> bool {
    clause.match_indices(word).any(|(at, _)| {
        let outside = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
        let bytes = clause.as_bytes();
        outside(at.checked_sub(1).and_then(|before| bytes.get(before))) && outside(bytes.get(at + word.len()))
    })
}

/// A noun that is used as an event: not denied, and not followed by a value unless that value was met.
fn names_it(clause: &str) -> bool {
    let words: Vec<&str> = clause
        .split(|c: char| c.is_whitespace() || "()[]{}\"'`:=".contains(c))
        .map(|word| word.trim_matches([',', '.', '!', '?']))
        .filter(|word| !word.is_empty())
        .collect();
    // `LockTimeout`, `socket.timeout`; an option `--timeout` is a setting.
    let noun = |word: &str| NOUNS.contains(&word) || word.ends_with("timeout") && !word.starts_with('-');
    words.iter().enumerate().filter(|(_, word)| noun(word)).any(|(at, _)| {
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        let after = &words[at + 1..];
        let next = after.first().copied().unwrap_or_default();
        let limit = SETTING.contains(&next) || next.starts_with(|c: char| c.is_ascii_digit() || c == '<');
        let met = after.iter().take(NEAR).any(|word| MET.contains(word));
        !DENIED.contains(&before) && (met || !limit)
    })
}

/// A type or code whose name ends in a timeout: `asyncio.TimeoutError`, `ETIMEDOUT`.
fn type_name(clause: &str) -> bool {
    let names = ["timeouterror", "timeoutexception", "timeoutexpired", "timedout", "deadlineexceeded"];
    clause
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| names.iter().any(|name| word.ends_with(name)))
}

/// Status 408 or 504, named as a status.
fn has_status(text: &str) -> bool {
    ["408", "504"].iter().any(|code| {
        text.match_indices(code).any(|(at, _)| {
            let (before, after) =
                (text[..at].trim_end_matches([' ', ':', '=', '(', '"', '\'', '#']), &text[at + 3..]);
            let ended = !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_');
            let named = [
                "status",
                "status code",
                "code",
                "http",
                "http/1.1",
                "http/1.0",
                "http/2",
                "error",
                "returned",
            ]
            .iter()
            .any(|name| before.ends_with(name));
            let titled = after.starts_with(" gateway") || after.starts_with(" request time");
            ended && (named || titled) && !text[..at].ends_with(|c: char| c.is_ascii_digit() || c == '.')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wording_counts() {
        for message in [
            "Connection timeout",
            "connection timed out after 30s",
            "Timeout",
            "timeout: no answer from 10.0.0.7",
            "Request timed out.",
            "ReadTimeout: HTTPSConnectionPool(host='api', port=443): Read timed out. (read timeout=30)",
            "requests.exceptions.ConnectTimeout: cannot reach host",
            "asyncio.TimeoutError",
            "TimeoutError: page.goto: Timeout 30000ms exceeded.",
            "java.util.concurrent.TimeoutException",
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            "DEADLINE_EXCEEDED: Deadline exceeded after 4.99s",
            "connect ETIMEDOUT 140.82.112.3:443",
            "Error: ESOCKETTIMEDOUT",
            "The operation took too long and was cancelled",
            "query is taking too long, giving up",
            "HTTP 504 Gateway Timeout",
            "upstream returned status 408",
            "server answered with status_code=504",
            "504 Gateway Time-out",
            "Lock wait timeout exceeded; try restarting transaction",
            "canceling statement due to statement timeout",
            "net::ERR_TIMED_OUT",
            "deadline has elapsed",
            "worker did not respond within 20 s",
            "tool call exceeded its deadline of 60 s",
            "time limit exceeded",
            "subprocess.TimeoutExpired: Command 'make' timed out after 600 seconds",
            "socket.timeout: The read operation timed out",
            "timeout set to 30, but the request timed out",
            "timeout while reading from socket",
            "operation failed due to timeout of upstream, timeout reached",
            "timeout of 5000ms exceeded",
            "Timeout (30 s) expired",
            "a timeout occurred (524)",
            "Timeout after 30s",
            "Gateway Timeout",
            "TimeoutError",
            "Read timed-out",
            "asyncio.TimeoutError()",
            "DEADLINE_EXCEEDED",
            "DeadlineExceeded: 504",
            "exceeded the deadline",
            "504 Gateway Time-out",
            "HTTP 408 Request",
            "no response within 30 seconds",
            "server did not respond within 10 s",
            "gave up after 30 s",
            "TIMED_OUT",
            "ReadTimeout",
            "LockTimeout: row is held by another one",
            "upstream request timeout",
            "killed after 60s",
            "timeout: the server",
            "execution expired",
            "timeout_error",
        ] {
            assert!(is_timeout(message.as_bytes()), "{message}");
        }
    }

    #[test]
    fn settings_and_denials_do_not() {
        for message in [
            "timeout set to 30",
            "timeout is 30 seconds",
            "timeout=30 retrying ok",
            "using timeout 30s for tool web_search",
            "default timeout of 10 s applies",
            "timeout increased to 60",
            "increasing timeout to 60 s after success",
            "no timeout",
            "finished without timeout",
            "no timeout occurred",
            "request has not timed out yet",
            "session established with negotiated timeout 10000 for client 7",
            "read_timeout=30 connect_timeout=5 ok",
            "timeout: 30",
            "timeoutMs: 5000, retries: 3",
            "set timeout 30",
            "out of time zone data",
            "row 504 is not valid",
            "port 50408 is closed",
            "error in line 4080",
            "10.0.5.504 is not an address",
            "deadline: 2026-03-01",
            "timeout policy loaded",
            "timeout limit 30 for all tools",
            "timeouts: 0",
            "if timeout, retry",
            "timeout must be a positive number, got -5",
            "invalid timeout: -1",
            "connection refused (timeout=30)",
            "refused, timeout_s: 30",
            "killed after 3 retries",
            "connection reset by peer",
            "HTTP 500",
            "error 1504",
            "after 30 rows",
            "worker 9 was killed by signal 9 at runtime",
            "cannot parse option --timeout in agent.yaml",
            "answer came before timing out",
            "sometimes outside of the range",
            "",
        ] {
            assert!(!is_timeout(message.as_bytes()), "{message}");
        }
    }
}
