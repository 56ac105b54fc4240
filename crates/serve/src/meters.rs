//! The counters of this process, read by `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Upper bounds of the duration histograms, seconds; chosen for models between a millisecond and
/// two minutes per answer.
pub(crate) const BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Durations by bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Histogram {
    /// How many were at most the bound of the same index in [`BUCKETS`] and above the one before.
    pub(crate) counts: [u64; BUCKETS.len()],
    /// How many there were.
    pub(crate) count: u64,
    /// Their sum, seconds.
    pub(crate) sum_s: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum_s += seconds;
    }
}

/// One finished exchange, as the meters see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    /// Whether it counts as a success of the server.
    pub(crate) ok: bool,
    /// Whether the client went away first.
    pub(crate) cancelled: bool,
    /// Arrival to end, seconds.
    pub(crate) seconds: f64,
    /// Arrival to first token, seconds.
    pub(crate) first_token_s: Option<f64>,
    /// Tokens read.
    pub(crate) prompt_tokens: usize,
    /// Tokens written.
    pub(crate) completion_tokens: usize,
}

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// Answered with success.
    pub(crate) ok: AtomicU64,
    /// Failed: 5xx, timeout, empty, invalid JSON.
    pub(crate) failed: AtomicU64,
    /// The client went away.
    pub(crate) cancelled: AtomicU64,
    /// Refused because the queue was full.
    pub(crate) refused: AtomicU64,
    /// Refused because the request was wrong.
    pub(crate) invalid: AtomicU64,
    /// Tokens read.
    pub(crate) prompt_tokens: AtomicU64,
    /// Tokens written.
    pub(crate) completion_tokens: AtomicU64,
    durations: Mutex<(Histogram, Histogram)>,
}

impl Meters {
    /// Counts a finished exchange.
    pub(crate) fn finished(&self, exchange: Finished) {
        let counter = match (exchange.cancelled, exchange.ok) {
            (true, _) => &self.cancelled,
            (false, true) => &self.ok,
            (false, false) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.prompt_tokens.fetch_add(exchange.prompt_tokens as u64, Ordering::Relaxed);
        self.completion_tokens.fetch_add(exchange.completion_tokens as u64, Ordering::Relaxed);
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        if !exchange.cancelled {
            durations.0.observe(exchange.seconds);
        }
        if let Some(seconds) = exchange.first_token_s {
            durations.1.observe(seconds);
        }
    }

    /// Durations of exchanges that ended by themselves, and times to the first token.
    pub(crate) fn durations(&self) -> (Histogram, Histogram) {
        *self.durations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mean duration of an exchange, seconds; 0 before the first.
    pub(crate) fn mean_seconds(&self) -> f64 {
        let (durations, _) = self.durations();
        if durations.count == 0 { 0.0 } else { durations.sum_s / durations.count as f64 }
    }
}
