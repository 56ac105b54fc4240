//! Watching a candidate that is live: new rows of `capture.db`, opinions on them, and the server itself.
//!
//! Probes make up for missing traffic at the end of the window. A latency alarm counts only after candidate
//! and incumbent, asked in turns under the present load, differ as much as the alarm says.

mod alarms;

use std::collections::HashMap;
use std::time::Duration;

use nightshift_core::config::Rule;
use nightshift_core::exchange::{Capture, Exchange, Snapshot};
use nightshift_core::{Ctx, Failure};
use nightshift_net::live::{Answer, Kind};

use crate::attempt::Attempt;
use crate::expose::{Exposed, Guards};
use crate::probe;
use crate::report::{Raised, WatchReport};
use alarms::{Alarms, ENOUGH, FIXED_MIN_REQUESTS, Outcome, fixed};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Probes that are sent at most, for each observation that is wanted.
const PROBES_PER_REQUEST: usize = 2;
/// Time that one probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for probes beyond the window.
const LONGEST_EXTENSION: Duration = Duration::from_secs(600);

/// How a watch ended.
#[derive(Debug)]
pub(crate) enum Watched {
    /// No alarm; `provisional` when too little was seen.
    Good {
        /// Too little was seen.
        provisional: bool,
    },
    /// An alarm rang.
    Bad {
        /// Which.
        raised: Raised,
        /// The candidate is to blame.
        ban: bool,
        /// When it was crossed, at the latest after this (monotonic clock).
        at: Duration,
    },
}

/// A watch under way.
#[derive(Debug)]
pub(crate) struct Watch {
    alarms: Alarms,
    rule: Rule,
    generation: i64,
    candidate: String,
    capture: Option<Capture>,
    exchange_seq: i64,
    opinion_seq: i64,
    /// Number of each counted exchange, and whether the server called it ok.
    counted: HashMap<String, (usize, bool)>,
    /// Newest opinion on each exchange.
    opinions: HashMap<String, f64>,
    window: Vec<(bool, f64)>,
    probes: u64,
    history: usize,
    started: Duration,
    looked: Duration,
    notes: Vec<String>,
}

impl Watch {
    /// Prepares the alarms.
    pub(crate) fn new(attempt: &Attempt<'_>, exposed: &Exposed) -> Result<Self, Failure> {
        let ctx = attempt.ctx;
        let alarms = Alarms::new(&attempt.history, &ctx.config.deploy)?;
        let mut notes = Vec::new();
        let history = attempt.history.len();
        if history < ENOUGH {
            notes.push(format!(
                "the incumbent has only {history} recorded requests: its history is filled up to {ENOUGH}"
            ));
        }
        if !alarms.watches_latency() {
            notes.push("too few recorded requests of the incumbent to compare latencies with".into());
        }
        let started = ctx.clock.elapsed();
        Ok(Self {
            alarms,
            rule: ctx.config.deploy.rule,
            generation: exposed.pointer.generation,
            candidate: attempt.plan.candidate.clone(),
            capture: None,
            exchange_seq: exposed.exchange_seq,
            opinion_seq: exposed.opinion_seq,
            counted: HashMap::new(),
            opinions: HashMap::new(),
            window: Vec::new(),
            probes: 0,
            history,
            started,
            looked: started,
            notes,
        })
    }

    /// Watches to the end of the window, or until an alarm rings.
    pub(crate) fn run(mut self, attempt: &mut Attempt<'_>, guards: &Guards) -> Result<Watched, Failure> {
        let ctx = attempt.ctx;
        let window = Duration::from_secs_f64(ctx.config.deploy.watch_s);
        attempt.log.say(ctx, &format!("watching {} for {} s", self.candidate, window.as_secs_f64()));
        let bar = ctx.printer.bar(window.as_secs(), "watch");
        let watched = loop {
            if let Some(bad) = self.look(attempt, guards)? {
                break bad;
            }
            let elapsed = ctx.clock.elapsed().saturating_sub(self.started);
            bar.set_position(elapsed.as_secs());
            if elapsed >= window {
                break self.conclude(attempt, guards)?;
            }
            ctx.clock.sleep(LOOK.min(window - elapsed), &ctx.stop);
        };
        bar.finish_and_clear();
        self.report(attempt);
        Ok(watched)
    }

    /// The window is over: probes for what is missing, and the verdict.
    fn conclude(&mut self, attempt: &Attempt<'_>, guards: &Guards) -> Result<Watched, Failure> {
        let ctx = attempt.ctx;
        let wanted = match self.rule {
            Rule::Evalue => ctx.config.deploy.min_requests,
            Rule::Fixed => FIXED_MIN_REQUESTS,
        };
        let extension = Duration::from_secs_f64(ctx.config.deploy.watch_s).max(Duration::from_secs(60));
        let end = ctx.clock.elapsed() + extension.min(LONGEST_EXTENSION);
        let most = wanted * PROBES_PER_REQUEST;
        let server = attempt.server.with_limit(PROBE_LIMIT);
        for item in attempt.plan.items.iter().cycle().take(most) {
            if self.window.len() >= wanted || ctx.clock.elapsed() >= end {
                break;
            }
            let limit = ctx.config.deploy.gate_max_tokens;
            match server.ask(Kind::Probe, None, &item.messages, limit) {
                Ok(answer) => {
                    self.probes += 1;
                    // `serve` has recorded it by now, with its times; if it records at all.
                    if let Some(bad) = self.look(attempt, guards)? {
                        return Ok(bad);
                    }
                    let raised = self.count(as_exchange(&answer, &self.candidate))?;
                    if let Some(bad) = raised.and_then(|raised| self.confirmed(attempt, raised, self.looked))
                    {
                        return Ok(bad);
                    }
                }
                // What `serve` recorded of it counts; the guard decides on a server that is gone.
                Err(error) => {
                    tracing::debug!(%error, "a probe was not answered");
                    ctx.clock.sleep(LOOK, &ctx.stop);
                    if let Some(bad) = self.look(attempt, guards)? {
                        return Ok(bad);
                    }
                }
            }
        }
        if self.rule == Rule::Fixed
            && let Some(raised) = fixed(&self.window, &ctx.config.deploy)
        {
            return Ok(Watched::Bad { raised, ban: true, at: ctx.clock.elapsed() });
        }
        Ok(Watched::Good { provisional: self.window.len() < wanted })
    }

    /// One look at everything.
    fn look(&mut self, attempt: &Attempt<'_>, guards: &Guards) -> Result<Option<Watched>, Failure> {
        let ctx = attempt.ctx;
        ctx.stop.check()?;
        if let Some(failure) = guards.lost() {
            return Err(failure);
        }
        let before = std::mem::replace(&mut self.looked, ctx.clock.elapsed());
        if let Some(raised) = self.read(ctx)?
            && let Some(bad) = self.confirmed(attempt, raised, before)
        {
            return Ok(Some(bad));
        }
        Ok(guards.silent(ctx.clock.elapsed()).map(|(since, seen)| {
            let raised = Raised::plain("server", format!("the server is not well: {seen}"));
            Watched::Bad { raised, ban: false, at: since }
        }))
    }

    /// New rows and new opinions.
    fn read(&mut self, ctx: &Ctx) -> Result<Option<Raised>, Failure> {
        if self.capture.is_none() {
            self.capture = Capture::open(&ctx.paths)?;
        }
        let Some(capture) = &self.capture else { return Ok(None) };
        let rows = capture.answered(self.exchange_seq, self.generation, Some(&self.candidate))?;
        let opinions = capture.opinions(self.opinion_seq)?;
        for row in rows {
            self.exchange_seq = self.exchange_seq.max(row.seq);
            if let Some(raised) = self.count(row)? {
                return Ok(Some(raised));
            }
        }
        for (seq, exchange, value) in opinions {
            self.opinion_seq = self.opinion_seq.max(seq);
            let known = self.counted.get(&exchange).copied();
            self.opinions.insert(exchange, value);
            let Some((number, ok)) = known else { continue };
            self.window[number].0 = !ok || value < 0.0;
            if let Some(raised) =
                self.alarms.amend(number, !ok || value < 0.0).filter(|_| self.rule == Rule::Evalue)
            {
                return Ok(Some(raised));
            }
        }
        Ok(None)
    }

    /// Counts an exchange once.
    fn count(&mut self, row: Exchange) -> Result<Option<Raised>, Failure> {
        if self.counted.contains_key(&row.id) {
            return Ok(None);
        }
        let negative = self.opinions.get(&row.id).is_some_and(|value| *value < 0.0);
        let outcome = Outcome {
            failed: !row.ok || negative,
            latency_ms: row.ok.then_some(row.latency_ms),
            cost_ms: (row.ok && row.seq > 0).then(|| row.cost_ms()),
            tags: row.tags,
        };
        self.window.push((outcome.failed, row.latency_ms));
        let (number, raised) = self.alarms.observe(&outcome)?;
        self.counted.insert(row.id, (number, row.ok));
        Ok(raised.filter(|_| self.rule == Rule::Evalue))
    }

    /// The alarm, unless it is one of latency that a look side by side does not bear out.
    fn confirmed(&mut self, attempt: &Attempt<'_>, mut raised: Raised, at: Duration) -> Option<Watched> {
        if raised.alarm == "latency" {
            let ctx = attempt.ctx;
            let (items, incumbent) = (&attempt.plan.items, attempt.incumbent.as_deref());
            if let Some(both) = probe::side_by_side(ctx, &attempt.server, items, &self.candidate, incumbent) {
                let seen = format!(
                    "side by side {:.2} ms a token against the incumbent's {:.2}",
                    both.candidate_ms, both.incumbent_ms
                );
                let usual_ms = self.alarms.usual_ms().unwrap_or_default();
                if !both.is_slower(ctx.config.deploy.latency_tolerance, usual_ms) {
                    let note =
                        format!("latency alarm not borne out, {seen}: the load has changed, not the adapter");
                    attempt.log.say(ctx, &note);
                    self.notes.push(note);
                    self.alarms.disarm_latency();
                    return None;
                }
                raised.text = format!("{}; {seen}", raised.text);
            }
        }
        Some(Watched::Bad { raised, ban: true, at })
    }

    /// What was seen, into the deployment's report.
    fn report(self, attempt: &mut Attempt<'_>) {
        let (e_value, latency_e_value) = self.alarms.evidence();
        attempt.report.after = Snapshot::of(self.window.iter().copied());
        attempt.report.watch = Some(WatchReport {
            seconds: (attempt.ctx.clock.elapsed() - self.started).as_secs_f64(),
            requests: self.window.len() as u64,
            probes: self.probes,
            failures: self.window.iter().filter(|(failed, _)| *failed).count() as u64,
            history_requests: self.history,
            e_value,
            latency_e_value,
            tags: self.alarms.tag_reports(),
            notes: self.notes,
        });
    }
}

/// The answer to a probe that `serve` did not record. Its cost is left out: the incumbent's was measured
/// by the server.
fn as_exchange(answer: &Answer, candidate: &str) -> Exchange {
    Exchange {
        seq: 0,
        id: answer.id.clone(),
        at: String::new(),
        ok: !answer.text.trim().is_empty() && answer.adapter.as_deref() == Some(candidate),
        negative: false,
        failure_class: None,
        latency_ms: answer.elapsed.as_secs_f64() * 1e3,
        ttft_ms: None,
        completion_tokens: None,
        tags: Vec::new(),
    }
}
