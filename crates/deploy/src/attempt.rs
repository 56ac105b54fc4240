//! One deployment from its first check to its end.

use std::time::Duration;

use nightshift_core::clock::rfc3339;
use nightshift_core::exchange::{self, Exchange, Snapshot};
use nightshift_core::logfile::LogFile;
use nightshift_core::store::Store;
use nightshift_core::summary::{self, DeploymentSummary, Thresholds};
use nightshift_core::{Ctx, Exit, Failure, Outcome, metrics, pointer, release};
use nightshift_net::NetError;
use nightshift_net::live::LiveServer;
use nightshift_net::news;
use nightshift_net::webhook::Status;
use nightshift_stats::paired::Verdict;
use serde_json::{Value, json};

use crate::expose::Exposed;
use crate::plan::Plan;
use crate::probe;
use crate::record::{self, Step};
use crate::report::{Raised, Report};
use crate::watch::Watched;

/// Requests of the incumbent that the candidate is held against.
const HISTORY: usize = 500;

/// A deployment under way. Its row is open until [`Attempt::run`] returns.
pub(crate) struct Attempt<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) store: Store,
    pub(crate) server: LiveServer,
    pub(crate) plan: Plan,
    pub(crate) incumbent: Option<String>,
    /// The incumbent's newest exchanges, newest first.
    pub(crate) history: Vec<Exchange>,
    pub(crate) id: String,
    pub(crate) log: LogFile,
    pub(crate) report: Report,
}

impl<'a> Attempt<'a> {
    /// Opens the deployment's row and its log.
    pub(crate) fn begin(ctx: &'a Ctx, mut store: Store, plan: Plan) -> Result<Self, Failure> {
        let server =
            LiveServer::new(ctx, Duration::from_secs_f64(ctx.config.serve.timeout_s.clamp(1.0, 600.0)))?;
        let log = LogFile::open(ctx, "deployment")?;
        let incumbent = plan.incumbent(ctx).map(str::to_owned);
        let history =
            exchange::history(&ctx.paths, &store, &ctx.config.target, incumbent.as_deref(), HISTORY)?;
        let id = record::begin(ctx, &mut store, &plan)?;
        let report = Report {
            deployment_id: id.clone(),
            candidate: plan.candidate.clone(),
            digest: plan.digest.clone(),
            previous_adapter_id: incumbent.clone(),
            generation: plan.live.generation,
            before: Snapshot::over(&history),
            log: log.path().display().to_string(),
            ..Report::default()
        };
        log.say(ctx, &plan.to_string());
        Ok(Self { ctx, store, server, plan, incumbent, history, id, log, report })
    }

    /// Goes all the way, and says how it ended.
    pub(crate) fn run(mut self) -> Result<Outcome, Failure> {
        match self.before_exposure() {
            Ok(Verdict::Pass) => {}
            Ok(_) => return self.refused_by_the_gate(),
            Err(failure) => return Err(self.close(failure)),
        }
        let exposed = match self.expose() {
            Ok(exposed) => exposed,
            Err(failure) => return Err(self.close(failure)),
        };
        match self.attend(&exposed) {
            Ok(Watched::Good { provisional }) => match self.keep(&exposed, provisional) {
                Ok(outcome) => Ok(outcome),
                Err(failure) => Err(self.give_up(&exposed, failure)),
            },
            Ok(Watched::Bad { raised, ban, at }) => self.revert(&exposed, raised, ban, at),
            Err(failure) if matches!(failure.exit(), Exit::Busy | Exit::Interrupted | Exit::Terminated) => {
                Err(self.give_up(&exposed, failure))
            }
            // Whatever went wrong: nothing unwatched stays live.
            Err(failure) => {
                let text = format!("the watch itself failed: {}", failure.chain());
                let raised = Raised::plain("watch", text);
                let at = self.ctx.clock.elapsed();
                self.revert(&exposed, raised, false, at)
            }
        }
    }

    /// Validation by the server, and the gate.
    fn before_exposure(&mut self) -> Result<Verdict, Failure> {
        pointer::check_links(&self.ctx.paths)?;
        self.load_candidate()?;
        let step = Step { state: "loaded", ..Step::default() };
        self.store.write(|tx| record::step(self.ctx, tx, &self.id, &step))?;
        let verdict = self.gate()?;
        self.ctx.crash.reach("deploy.gated", "");
        self.ctx.stop.check()?;
        Ok(verdict)
    }

    /// The server's base model is the release's, and the server can hold the adapter.
    fn load_candidate(&self) -> Result<(), Failure> {
        let health = self.server.health().map_err(|error| self.upstream("the server is not ready", error))?;
        if health.base_fingerprint != self.plan.base_fingerprint {
            return Err(Failure::refused(format!(
                "{} was trained for another base model: {} instead of the server's {}",
                self.plan.candidate,
                short(&self.plan.base_fingerprint),
                short(&health.base_fingerprint)
            ))
            .hint("train it for the base model that is served, or serve the other base"));
        }
        let loaded = self.server.load(&self.plan.candidate, &self.plan.folder);
        loaded.map_err(|error| match error.status() {
            Some(400..=499) if error.status() != Some(429) => {
                Failure::refused(format!("the server refuses {}", self.plan.candidate)).because(error)
            }
            _ => self.upstream("the server cannot load the adapter", error),
        })?;
        self.log.say(self.ctx, &format!("the server has loaded {}", self.plan.candidate));
        Ok(())
    }

    /// The end after FAIL and INCONCLUSIVE. The release stays what it is: the row of this deployment says
    /// that the gate did not pass it, which is what `nightly` asks.
    fn refused_by_the_gate(mut self) -> Result<Outcome, Failure> {
        let reason = self.report.gate.as_ref().map(|gate| gate.decision.reason.clone()).unwrap_or_default();
        let step = Step { state: "refused", ends: true, reason: Some(&reason), ..Step::default() };
        self.store.write(|tx| record::step(self.ctx, tx, &self.id, &step))?;
        self.forget_candidate();
        let verdict =
            self.report.gate.as_ref().map(|gate| gate.decision.verdict.to_string()).unwrap_or_default();
        let text = format!("{} is not deployed: gate {verdict}, {reason}", self.plan.candidate);
        self.log.write(self.ctx, &text);
        news::tell(self.ctx, Status::Warning, "deployment failed", &text);
        self.report.reason = reason;
        Ok(Outcome::new(Exit::Refused, &self.report, text).status("refused"))
    }

    /// The candidate stays: pointer, release, row and metrics in one transaction.
    fn keep(&mut self, exposed: &Exposed, provisional: bool) -> Result<Outcome, Failure> {
        let state = if provisional { "provisional" } else { "deployed" };
        let seen = self.report.after.requests;
        let reason = if provisional {
            format!("no alarm, but only {seen} requests of {}", self.ctx.config.deploy.min_requests)
        } else {
            format!("no alarm in {seen} requests")
        };
        let generation = exposed.pointer.generation;
        let summary = self.summary(generation, state, &reason);
        let ctx = self.ctx;
        let watch = Some(self.kept(generation, summary::DEPLOYMENT, &summary));
        let step = Step { state, ends: true, reason: Some(&reason), watch, ..Step::default() };
        self.store.write(|tx| {
            pointer::confirm(ctx, tx, generation, &reason)?;
            if !provisional {
                release::mark(tx, &self.plan.candidate, "good", None)?;
            }
            metrics::add(tx, metrics::DEPLOYMENT_SUCCESS, "", 1.0)?;
            record::step(ctx, tx, &self.id, &step)
        })?;
        // The row is the truth; what follows is repaired by the next run if it fails.
        let live = pointer::live_dir(&ctx.paths, generation);
        if let Err(failure) = pointer::write_summary(&live, summary::DEPLOYMENT, &summary) {
            tracing::warn!("{}", failure.chain());
        }
        self.report.reason.clone_from(&reason);
        let text = format!("{} is live (generation {generation}): {reason}", self.plan.candidate);
        self.log.write(ctx, &text);
        news::tell(ctx, Status::Success, "deployment succeeded", &text);
        Ok(Outcome::done(&self.report, text).status(state))
    }

    /// Closes the row of a deployment that never exposed anything; the same failure.
    fn close(&mut self, failure: Failure) -> Failure {
        let state = match failure.exit() {
            Exit::Refused => "refused",
            Exit::Interrupted | Exit::Terminated => "interrupted",
            Exit::Busy => "superseded",
            _ => "failed",
        };
        let reason = failure.chain();
        let step = Step { state, ends: true, reason: Some(&reason), ..Step::default() };
        if let Err(second) = self.store.write(|tx| record::step(self.ctx, tx, &self.id, &step)) {
            tracing::warn!("the deployment's row stays open until the next run: {}", second.chain());
        }
        self.forget_candidate();
        let text = format!("{} is not deployed: {reason}", self.plan.candidate);
        self.log.write(self.ctx, &text);
        news::tell(self.ctx, Status::Warning, "deployment failed", &text);
        failure
    }

    /// `deployment_summary.json` as things stand.
    pub(crate) fn summary(&self, generation: i64, status: &str, reason: &str) -> Value {
        let deploy = &self.ctx.config.deploy;
        json!(DeploymentSummary {
            deployment_timestamp: rfc3339(self.ctx.clock.now()),
            deployment_id: self.id.clone(),
            lora_directory: format!("loras/{}", self.plan.candidate),
            adapter_id: self.plan.candidate.clone(),
            previous_adapter_id: self.incumbent.clone(),
            generation,
            pre_deployment: self.report.before.clone(),
            post_deployment: self.report.after.clone(),
            monitoring_duration_s: self.report.watch.as_ref().map_or(0.0, |watch| watch.seconds),
            rollback_thresholds: Thresholds {
                max_latency_ms: deploy.max_latency_ms,
                min_success_rate: deploy.min_success_rate,
            },
            gate: json!(self.report.gate),
            deployment_status: status.into(),
            reason: reason.into(),
        })
    }

    /// What the row keeps of the watch: its counts, and the summary file so that it can be written again.
    pub(crate) fn kept(&self, generation: i64, file: &str, summary: &Value) -> Value {
        json!({"report": self.report.watch, "generation": generation, "file": file, "summary": summary})
    }

    /// Frees the server's memory; it does no harm when this fails.
    pub(crate) fn forget_candidate(&self) {
        if let Err(error) = self.server.unload(&self.plan.candidate) {
            tracing::debug!(%error, "the candidate stays loaded");
        }
    }

    /// A failure of the server, with the exit code it means.
    pub(crate) fn upstream(&self, what: &str, error: NetError) -> Failure {
        probe::failure(self.ctx, &self.server, what, error)
    }
}

/// The first characters of a fingerprint.
fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}
