//! When to try again, and when to leave a server alone.
//!
//! [`Policy::judge`] is a pure function; [`Policy::run`] drives it. Elapsed time, wall time,
//! sleeping and randomness come in through [`Pace`], so that tests take no time and the caller's
//! stop signal wakes a sleep. Full jitter after AWS, "Exponential Backoff And Jitter" (2015).

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::NetError;

/// How often and how patiently a request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Most attempts, the first one included.
    pub attempts: u32,
    /// The first wait is uniform between zero and this; each next bound is double.
    pub base: Duration,
    /// The largest bound.
    pub cap: Duration,
    /// A server that asks for a longer wait than this is given up.
    pub patience: Duration,
}

impl Default for Policy {
    /// 4 attempts, 1 s base, 30 s cap, 120 s patience.
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            patience: Duration::from_secs(120),
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after this wait.
    Wait(Duration),
    /// Give up, for this reason.
    Stop(Reason),
}

/// Why no further attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Repeating cannot help (400, 401, 404, a broken body).
    Permanent,
    /// All attempts are used.
    Exhausted,
    /// The wait would reach the deadline.
    Deadline,
    /// The server asked for a longer wait than the policy allows.
    TooPatient,
    /// A stop was asked for.
    Stopped,
}

impl Policy {
    /// Judges failed attempt number `attempt` (from 1). `left` is the time to the deadline,
    /// `uniform` a random number in [0, 1). A `Retry-After` is a lower bound: at most `base` of
    /// jitter is added, so that parallel callers do not return in step.
    pub fn judge(
        &self,
        attempt: u32,
        error: &NetError,
        left: Option<Duration>,
        now: Timestamp,
        uniform: f64,
    ) -> Verdict {
        if matches!(error, NetError::Cancelled) {
            return Verdict::Stop(Reason::Stopped);
        }
        if !error.is_transient() {
            return Verdict::Stop(Reason::Permanent);
        }
        if attempt >= self.attempts {
            return Verdict::Stop(Reason::Exhausted);
        }
        let uniform = if uniform.is_nan() { 0.0 } else { uniform.clamp(0.0, 1.0) };
        let wait = match error.retry_after() {
            Some(asked) => {
                let asked = asked.wait(now);
                if asked > self.patience {
                    return Verdict::Stop(Reason::TooPatient);
                }
                asked + self.base.mul_f64(uniform)
            }
            None => self.bound(attempt).mul_f64(uniform),
        };
        if left.is_some_and(|left| wait >= left) {
            return Verdict::Stop(Reason::Deadline);
        }
        Verdict::Wait(wait)
    }

    /// Largest wait after failed attempt number `attempt` (from 1): base x 2^(attempt-1), capped.
    fn bound(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// Calls `once` until it succeeds or [`Policy::judge`] says stop. `once` learns how much
    /// time is left so that it can shorten its own limit.
    pub fn run<T>(
        &self,
        pace: &mut Pace<'_>,
        mut once: impl FnMut(Attempt) -> Result<T, NetError>,
    ) -> Result<Done<T>, GaveUp> {
        let mut number = 1;
        loop {
            let left = pace.left();
            if left.is_some_and(|left| left.is_zero()) {
                return Err(GaveUp {
                    error: NetError::Deadline,
                    attempts: number - 1,
                    reason: Reason::Deadline,
                });
            }
            let error = match once(Attempt { number, left }) {
                Ok(value) => return Ok(Done { value, attempts: number }),
                Err(error) => error,
            };
            match self.judge(number, &error, pace.left(), (pace.now)(), (pace.uniform)()) {
                Verdict::Stop(reason) => return Err(GaveUp { error, attempts: number, reason }),
                Verdict::Wait(wait) => {
                    tracing::debug!(attempt = number, wait_ms = wait.as_millis() as u64, %error, "trying again");
                    if !(pace.sleep)(wait) {
                        return Err(GaveUp {
                            error: NetError::Cancelled,
                            attempts: number,
                            reason: Reason::Stopped,
                        });
                    }
                }
            }
            number += 1;
        }
    }
}

/// Everything a retry needs from outside.
pub struct Pace<'a> {
    /// A monotonic clock (`Clock::elapsed`).
    pub elapsed: &'a dyn Fn() -> Duration,
    /// The wall clock, only for servers that name an instant and send no `Date`.
    pub now: &'a dyn Fn() -> Timestamp,
    /// Sleeps, or returns false when a stop was asked for.
    pub sleep: &'a mut dyn FnMut(Duration) -> bool,
    /// A random number in [0, 1).
    pub uniform: &'a mut dyn FnMut() -> f64,
    /// On the monotonic clock; nothing begins or waits beyond it.
    pub deadline: Option<Duration>,
}

impl Pace<'_> {
    /// Time to the deadline; `None` without one.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub((self.elapsed)()))
    }
}

impl fmt::Debug for Pace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// Time to the deadline.
    pub left: Option<Duration>,
}

/// A success and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<T> {
    /// The answer.
    pub value: T,
    /// Attempts made.
    pub attempts: u32,
}

/// The last error and what was tried.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("gave up after {attempts} {}", if *attempts == 1 { "attempt" } else { "attempts" })]
pub struct GaveUp {
    /// The last error.
    #[source]
    pub error: NetError,
    /// Attempts made; 0 when no time was left to begin.
    pub attempts: u32,
    /// Why it ended.
    pub reason: Reason,
}

impl GaveUp {
    /// Nothing was sent because the request itself is unusable.
    pub(crate) const fn before_sending(error: NetError) -> Self {
        Self { error, attempts: 0, reason: Reason::Permanent }
    }
}

/// Opens after so many failures in a row and stays open: the server is left alone for the rest
/// of the run. Shared between threads by reference.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    failures: AtomicU32,
}

impl Default for Breaker {
    /// Three failures in a row.
    fn default() -> Self {
        Self::new(3)
    }
}

impl Breaker {
    /// A closed breaker. `threshold` is at least 1.
    pub fn new(threshold: u32) -> Self {
        Self { threshold: threshold.max(1), failures: AtomicU32::new(0) }
    }

    /// True when the server must not be asked again in this run.
    pub fn is_open(&self) -> bool {
        self.failures.load(Ordering::SeqCst) >= self.threshold
    }

    /// Records the end of a call, retries included, and returns true when this very call opened
    /// the breaker. Every error counts, except a stop or a deadline on this side; a success
    /// starts the count anew unless the breaker is open already.
    pub fn record<T>(&self, outcome: &Result<T, GaveUp>) -> bool {
        match outcome {
            Ok(_) => {
                let _ = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                    (count < self.threshold).then_some(0)
                });
                false
            }
            Err(GaveUp { error: NetError::Cancelled | NetError::Deadline, .. }) => false,
            Err(_) => {
                let before = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                    (count < self.threshold).then_some(count + 1)
                });
                before.is_ok_and(|count| count + 1 == self.threshold)
            }
        }
    }
}
