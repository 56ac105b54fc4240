//! The paired gate: candidate and incumbent answer the same registered questions, greedily.
//!
//! A question that an arm cannot answer (5xx after retries, 4xx) counts as wrong for that arm. A server
//! that cannot be reached, or that answers with another adapter than asked, ends the gate without a verdict.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nightshift_core::rusqlite::params;
use nightshift_core::{Ctx, Failure, metrics};
use nightshift_net::live::{Answer, Kind, LiveServer};
use nightshift_net::retry::{GaveUp, Policy};
use nightshift_stats::paired::{GateRules, PairedCounts, Verdict, gate};
use serde_json::json;

use crate::attempt::Attempt;
use crate::plan::GateItem;
use crate::probe;
use crate::record::{self, Step};
use crate::report::GateReport;

/// Questions in flight at once.
const PARALLEL: usize = 4;
/// How a busy or stumbling server is treated.
const PATIENCE: Policy = Policy {
    attempts: 6,
    base: Duration::from_millis(250),
    cap: Duration::from_secs(5),
    patience: Duration::from_secs(30),
};

/// One arm's answer to one item.
#[derive(Debug, Clone)]
struct Judged {
    text: String,
    right: bool,
}

/// What the asking threads share.
struct Asker<'a> {
    ctx: &'a Ctx,
    server: &'a LiveServer,
    items: &'a [GateItem],
    candidate: &'a str,
    incumbent: Option<&'a str>,
}

impl Asker<'_> {
    /// (incumbent, candidate) for each item, in order.
    fn both_arms(&self) -> Result<Vec<(Judged, Judged)>, Failure> {
        let items = self.items;
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Failure>> = Mutex::new(None);
        let answers: Mutex<Vec<Option<Judged>>> = Mutex::new(vec![None; items.len() * 2]);
        let bar = self.ctx.printer.bar(items.len() as u64 * 2, "gate");
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(items.len() * 2) {
                scope.spawn(|| {
                    loop {
                        let task = next.fetch_add(1, Ordering::SeqCst);
                        if task >= items.len() * 2 || locked(&failed).is_some() {
                            return;
                        }
                        match self.judge(&items[task / 2], task % 2 == 1) {
                            Ok(judged) => locked(&answers)[task] = Some(judged),
                            Err(failure) => {
                                locked(&failed).get_or_insert(failure);
                            }
                        }
                        bar.inc(1);
                    }
                });
            }
        });
        bar.finish_and_clear();
        if let Some(failure) = locked(&failed).take() {
            return Err(failure);
        }
        let answers: Vec<Judged> = locked(&answers).drain(..).flatten().collect();
        Ok(answers.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    }

    /// One arm's answer to one item.
    fn judge(&self, item: &GateItem, candidate: bool) -> Result<Judged, Failure> {
        self.ctx.stop.check()?;
        let arm = if candidate { Some(self.candidate) } else { self.incumbent };
        match self.ask_with_patience(item, arm) {
            Ok(answer) if answer.adapter.as_deref() == arm => {
                let right = item.check.run(item.reference.as_deref(), &answer.text).right;
                Ok(Judged { text: answer.text, right })
            }
            Ok(answer) => Err(Failure::failed(format!(
                "the server answered with {} when {} was asked for: the gate would compare an adapter with itself",
                answer.adapter.as_deref().unwrap_or("no adapter"),
                arm.unwrap_or("the base model")
            ))
            .hint("is deploy.server_url the nightshift server of this home?")),
            Err(gave_up) => {
                let unanswerable = matches!(gave_up.error.status(), Some(400 | 413 | 422 | 500..=599));
                if unanswerable {
                    tracing::warn!(item = item.id, arm = arm.unwrap_or("base"), "not answered: {}", gave_up.error);
                    return Ok(Judged { text: format!("(no answer: {})", gave_up.error), right: false });
                }
                self.ctx.stop.check()?;
                Err(probe::failure(self.ctx, self.server, &format!("gate item `{}` was not answered", item.id), gave_up.error))
            }
        }
    }

    fn ask_with_patience(&self, item: &GateItem, arm: Option<&str>) -> Result<Answer, GaveUp> {
        let limit = self.ctx.config.deploy.gate_max_tokens;
        probe::with_patience(self.ctx, &PATIENCE, None, || {
            self.server.ask(Kind::Gate, Some(arm.unwrap_or("base")), &item.messages, limit)
        })
    }
}

impl Attempt<'_> {
    /// Asks, judges, stores. Only [`Verdict::Pass`] may go on.
    pub(crate) fn gate(&mut self) -> Result<Verdict, Failure> {
        let started = self.ctx.clock.elapsed();
        let asker = Asker {
            ctx: self.ctx,
            server: &self.server,
            items: &self.plan.items,
            candidate: &self.plan.candidate,
            incumbent: self.incumbent.as_deref(),
        };
        let answers = asker.both_arms()?;
        let mut counts = PairedCounts::default();
        for (incumbent, candidate) in &answers {
            counts.add(incumbent.right, candidate.right);
        }
        let deploy = &self.ctx.config.deploy;
        let rules = GateRules {
            alpha: deploy.gate_alpha,
            max_lost_share: deploy.max_lost_share,
            ..GateRules::default()
        };
        let decision = gate(&counts, &rules)
            .map_err(|error| Failure::config("the gate's settings cannot be used").because(error))?;
        let report = GateReport {
            set: self.plan.gate_set.clone(),
            set_version: self.plan.gate_set_version,
            candidate_right: counts.both_right + counts.won,
            incumbent_right: counts.both_right + counts.lost,
            seconds: (self.ctx.clock.elapsed() - started).as_secs_f64(),
            decision,
        };
        self.log.say(self.ctx, &format!("gate {}: {}", report.decision.verdict, report.decision.reason));
        let verdict = report.decision.verdict;
        self.store_gate(&answers, &report)?;
        self.report.gate = Some(report);
        Ok(verdict)
    }

    /// Answers, verdict and metrics in one transaction.
    fn store_gate(&mut self, answers: &[(Judged, Judged)], report: &GateReport) -> Result<(), Failure> {
        let ctx = self.ctx;
        let verdict = report.decision.verdict.to_string();
        let label = metrics::label("verdict", &verdict.to_lowercase());
        let improvement = report.candidate_right as f64 / report.incumbent_right.max(1) as f64;
        let step = Step {
            state: "gated",
            reason: Some(&report.decision.reason),
            verdict: Some(&verdict),
            gate: Some(json!(report)),
            ..Step::default()
        };
        self.store.write(|tx| {
            let mut insert = tx.prepare_cached("INSERT INTO gate_answers VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for (item, (incumbent, candidate)) in self.plan.items.iter().zip(answers) {
                insert.execute(params![
                    self.id,
                    item.id,
                    incumbent.text,
                    candidate.text,
                    incumbent.right,
                    candidate.right
                ])?;
            }
            metrics::add(tx, metrics::GATE_DECISIONS, &label, 1.0)?;
            metrics::set(tx, metrics::QUALITY_IMPROVEMENT, "", improvement)?;
            record::step(ctx, tx, &self.id, &step)
        })
    }
}

/// No thread panics while it holds one of these locks.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
