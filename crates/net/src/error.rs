//! `NetError`: everything that can go wrong between this process and another one.
//!
//! A tool maps it to an exit code: after [`retry`](crate::retry) has given up, exit 8
//! (upstream unavailable); [`NetError::Unusable`] is a mistake in the configuration (exit 9);
//! [`NetError::Cancelled`] follows a signal and [`NetError::Deadline`] a budget (exit 10).

use std::time::Duration;

use jiff::Timestamp;

/// When a server asked to be tried again (header `Retry-After`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this time, counted from the answer.
    In(Duration),
    /// Not before this instant.
    At(Timestamp),
}

impl RetryAfter {
    /// Reads the header: seconds, or an HTTP date. A date is turned into a duration by means of
    /// the answer's own `Date` header where there is one, so that a wrong (or pinned) clock on
    /// this side does no harm. Anything else is `None`.
    pub fn parse(value: &str, date: Option<&str>) -> Option<Self> {
        let value = value.trim();
        if let Ok(seconds) = value.parse::<u64>() {
            return Some(Self::In(Duration::from_secs(seconds)));
        }
        let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        let sent = date.and_then(|date| jiff::fmt::rfc2822::parse(date.trim()).ok());
        Some(sent.map_or(Self::At(at), |sent| Self::In(until(sent.timestamp(), at))))
    }

    /// How long to wait when it is now `now`; zero when that instant is past.
    pub fn wait(self, now: Timestamp) -> Duration {
        match self {
            Self::In(duration) => duration,
            Self::At(at) => until(now, at),
        }
    }
}

fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// Why a request did not give a usable answer. `peer` names the other side without anything
/// secret: scheme, host, port and path for API calls, the host alone for webhooks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetError {
    /// No connection could be made; nothing was sent.
    #[error("cannot connect to {peer}: {reason}")]
    Connect {
        /// The other side.
        peer: String,
        /// What the system said.
        reason: String,
    },
    /// The connection broke after it was made: reset, closed early, body shorter than announced.
    #[error("the connection to {peer} broke: {reason}")]
    Broken {
        /// The other side.
        peer: String,
        /// What happened.
        reason: String,
    },
    /// A time limit passed.
    #[error("{peer} did not answer in time ({phase} limit)")]
    Timeout {
        /// The other side.
        peer: String,
        /// Which limit: `connect`, `total` or `idle`.
        phase: &'static str,
    },
    /// An answer with a status other than 2xx.
    #[error("{peer} answered {code}: {body_excerpt}")]
    Status {
        /// The other side.
        peer: String,
        /// HTTP status.
        code: u16,
        /// When to try again, if the server said so.
        retry_after: Option<RetryAfter>,
        /// The error message, or the first 300 characters of the body; keys removed.
        body_excerpt: String,
    },
    /// A 2xx answer that is not what was asked for: HTML, broken JSON, missing fields.
    #[error("{peer} answered something unusable: {reason}; it began with: {body_excerpt}")]
    BadBody {
        /// The other side.
        peer: String,
        /// What is wrong, with line and column for JSON.
        reason: String,
        /// The first 300 characters of the body; keys removed.
        body_excerpt: String,
    },
    /// The answer was larger than allowed; reading stopped there.
    #[error("the answer of {peer} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The other side.
        peer: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// An error that arrived inside a stream that began with status 200.
    #[error("{peer} failed in the middle of its answer: {message}")]
    Upstream {
        /// The other side.
        peer: String,
        /// Its message; keys removed.
        message: String,
    },
    /// A stop was asked for before or between attempts.
    #[error("cancelled before an answer arrived")]
    Cancelled,
    /// No time was left to begin.
    #[error("no time left before the deadline")]
    Deadline,
    /// The request could not be built: bad base URL, bad header.
    #[error("{0}")]
    Unusable(String),
}

impl NetError {
    /// A short stable name for columns and JSON reports.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "status",
            Self::BadBody { .. } => "bad_body",
            Self::TooLarge { .. } => "too_large",
            Self::Upstream { .. } => "upstream",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Unusable(_) => "unusable",
        }
    }

    /// The HTTP status, where one arrived as an error.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// True when the same request may succeed later: connection trouble, timeouts, 408, 429, 5xx.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. } => true,
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// When the server asked to be tried again.
    pub const fn retry_after(&self) -> Option<RetryAfter> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_http_dates() {
        assert_eq!(RetryAfter::parse(" 7 ", None), Some(RetryAfter::In(Duration::from_secs(7))));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(RetryAfter::parse(date, None), Some(RetryAfter::At(at)));
        assert_eq!(
            RetryAfter::parse(date, Some("Sun, 06 Nov 1994 08:49:30 GMT")),
            Some(RetryAfter::In(Duration::from_secs(7)))
        );
        assert_eq!(RetryAfter::At(at).wait("2026-01-01T00:00:00Z".parse().unwrap()), Duration::ZERO);
        for nonsense in ["", "soon", "-1", "1e3", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(RetryAfter::parse(nonsense, None), None, "{nonsense}");
        }
    }

    #[test]
    fn only_the_listed_statuses_are_transient() {
        let status = |code| NetError::Status {
            peer: "p".into(),
            code,
            retry_after: None,
            body_excerpt: String::new(),
        };
        for code in [408, 429, 500, 502, 503, 504, 599] {
            assert!(status(code).is_transient(), "{code}");
        }
        for code in [301, 400, 401, 403, 404, 409, 413, 422] {
            assert!(!status(code).is_transient(), "{code}");
        }
    }
}
