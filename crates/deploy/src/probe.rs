//! Questions of our own: does the server answer, with which adapter, and how fast side by side.

use std::time::Duration;

use nightshift_core::{Ctx, Failure};
use nightshift_net::NetError;
use nightshift_net::live::{Answer, Kind, LiveServer};
use nightshift_net::retry::{GaveUp, Pace, Policy};
use nightshift_stats::describe::median;
use rand::RngExt;

use crate::plan::GateItem;

/// Pairs that a latency alarm is confirmed with, and the fewest that say something.
const PAIRS: usize = 5;
const FEWEST_PAIRS: usize = 3;
/// Time for them.
const SIDE_BY_SIDE: Duration = Duration::from_secs(10);
/// Pause between two looks for an answer.
const LOOK: Duration = Duration::from_millis(50);
/// Tokens of an answer that is asked for only to see who gives it.
const FEW_TOKENS: u32 = 4;

/// Median milliseconds per token of candidate and incumbent, asked in turns under the present load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SideBySide {
    pub(crate) candidate_ms: f64,
    pub(crate) incumbent_ms: f64,
}

impl SideBySide {
    /// Whether the candidate is slower by the tolerance, and so much that on top of the incumbent's usual
    /// milliseconds per token it would be so too: beside answers of microseconds any ratio is noise.
    pub(crate) fn is_slower(self, tolerance: f64, usual_ms: f64) -> bool {
        let difference = self.candidate_ms - self.incumbent_ms;
        self.candidate_ms > self.incumbent_ms * tolerance && difference > usual_ms * (tolerance - 1.0)
    }
}

/// Calls `once` as long as the policy allows.
pub(crate) fn with_patience<T>(
    ctx: &Ctx,
    policy: &Policy,
    deadline: Option<Duration>,
    mut once: impl FnMut() -> Result<T, NetError>,
) -> Result<T, GaveUp> {
    let mut rng = ctx.rng("retry");
    let mut pace = Pace {
        elapsed: &|| ctx.clock.elapsed(),
        now: &|| ctx.clock.now(),
        sleep: &mut |time| ctx.clock.sleep(time, &ctx.stop),
        uniform: &mut || rng.random::<f64>(),
        deadline,
    };
    policy.run(&mut pace, |_| once()).map(|done| done.value)
}

/// A failed request as a failure of the program, with the exit code it means.
pub(crate) fn failure(ctx: &Ctx, server: &LiveServer, what: &str, error: NetError) -> Failure {
    if let Err(stopped) = ctx.stop.check() {
        return stopped;
    }
    match error {
        NetError::Unusable(_) => Failure::config(what).because(error),
        error => Failure::upstream(what)
            .hint(format!("is serve running at {}? see its log, then run again", server.address()))
            .because(error),
    }
}

/// Asks until an answer names this adapter; the error is what was seen instead.
pub(crate) fn until_named(
    ctx: &Ctx,
    server: &LiveServer,
    item: Option<&GateItem>,
    adapter: Option<&str>,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<(), String> {
    let Some(item) = item else { return Err("there is no question to ask".into()) };
    let end = ctx.clock.elapsed() + patience;
    let server = server.with_limit(patience);
    loop {
        let seen = match server.ask(Kind::Probe, None, &item.messages, FEW_TOKENS) {
            Ok(answer) if answer.adapter.as_deref() == adapter => return Ok(()),
            Ok(answer) => format!("it answers with {}", answer.adapter.as_deref().unwrap_or("no adapter")),
            Err(error) => error.to_string(),
        };
        if ctx.clock.elapsed() >= end || give_up() {
            return Err(seen);
        }
        std::thread::sleep(LOOK);
    }
}

/// Asks both in turns; `None` when one of them did not answer often enough to compare.
pub(crate) fn side_by_side(
    ctx: &Ctx,
    server: &LiveServer,
    items: &[GateItem],
    candidate: &str,
    incumbent: Option<&str>,
) -> Option<SideBySide> {
    let end = ctx.clock.elapsed() + SIDE_BY_SIDE;
    let server = server.with_limit(SIDE_BY_SIDE);
    let (mut candidate_ms, mut incumbent_ms) = (Vec::new(), Vec::new());
    for item in items.iter().cycle().take(PAIRS) {
        for (arm, times) in [(candidate, &mut candidate_ms), (incumbent.unwrap_or("base"), &mut incumbent_ms)]
        {
            let asked = server.ask(Kind::Gate, Some(arm), &item.messages, ctx.config.deploy.gate_max_tokens);
            times.extend(asked.ok().map(|answer| per_token_ms(&answer)));
        }
        if ctx.clock.elapsed() >= end {
            break;
        }
    }
    if candidate_ms.len().min(incumbent_ms.len()) < FEWEST_PAIRS {
        return None;
    }
    Some(SideBySide { candidate_ms: median(&candidate_ms).ok()?, incumbent_ms: median(&incumbent_ms).ok()? })
}

fn per_token_ms(answer: &Answer) -> f64 {
    answer.elapsed.as_secs_f64() * 1e3 / answer.tokens.unwrap_or(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_is_by_ratio_and_by_what_the_incumbent_usually_takes() {
        let seen = |candidate_ms, incumbent_ms| SideBySide { candidate_ms, incumbent_ms };
        assert!(seen(40.0, 20.0).is_slower(1.5, 20.0));
        assert!(!seen(29.0, 20.0).is_slower(1.5, 20.0));
        // Twice as slow, but by a tenth of a millisecond where answers usually take 20 ms a token.
        assert!(!seen(0.35, 0.17).is_slower(1.5, 20.0));
        // Under a load that makes both slow the difference alone says nothing.
        assert!(!seen(215.0, 200.0).is_slower(1.5, 20.0));
    }
}
