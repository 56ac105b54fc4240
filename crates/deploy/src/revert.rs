//! Taking a candidate back: the row first, then the links, then the server.

use std::time::Duration;

use nightshift_core::pointer::{self, Pointer};
use nightshift_core::restore::{self, GoodState, Return};
use nightshift_core::store::Store;
use nightshift_core::summary::{self, RollbackSummary};
use nightshift_core::{Ctx, Exit, Failure, Outcome, metrics};
use nightshift_net::live::Following;
use nightshift_net::news;
use nightshift_net::webhook::Status;
use serde_json::{Value, json};

use crate::attempt::Attempt;
use crate::expose::Exposed;
use crate::probe;
use crate::record::{self, Step};
use crate::report::Raised;

/// How long the server may take to serve the old state again when a signal waits.
const HURRY: Duration = Duration::from_secs(2);

/// What is to be taken back, and how the row says it.
pub(crate) struct TakeBack<'a> {
    /// The deployment's row, if there is one.
    pub(crate) id: Option<&'a str>,
    /// The pointer that is taken back; the change is refused if it moved meanwhile.
    pub(crate) from: &'a Pointer,
    /// The reason, for a person.
    pub(crate) why: &'a str,
    /// An alarm took it back; it counts as a rollback.
    pub(crate) alarm: bool,
    /// The candidate is to blame: its digest is banned.
    pub(crate) ban: bool,
    /// The row's new state.
    pub(crate) state: &'a str,
    /// The row ends with it.
    pub(crate) ends: bool,
    /// What the row keeps of the watch.
    pub(crate) watch: Option<Value>,
}

/// The state after it.
pub(crate) struct TakenBack {
    /// The pointer.
    pub(crate) pointer: Pointer,
    /// `rollback_summary.json`, the server's health still unknown.
    pub(crate) summary: RollbackSummary,
}

/// Moves the pointer back to the newest good state, in one transaction with everything it means.
pub(crate) fn take_back(ctx: &Ctx, store: &mut Store, back: &TakeBack<'_>) -> Result<TakenBack, Failure> {
    let base = GoodState { generation: 0, adapter_id: None, original: 0 };
    let to = &restore::newest_restorable(ctx, store)?.unwrap_or(base);
    let wanted = Return { from: back.from, to, ban: back.ban, deployment_id: back.id, why: back.why };
    let summary = restore::summary(ctx, store, &wanted)?;
    let pointer = store.write(|tx| {
        let pointer = restore::go_back(ctx, tx, &wanted)?;
        if back.alarm {
            metrics::add(tx, metrics::ROLLBACK_TRIGGERED, "", 1.0)?;
        }
        if let Some(id) = back.id {
            let watch = json!({"report": back.watch, "generation": pointer.generation,
                "file": summary::ROLLBACK, "summary": summary});
            let step = Step {
                state: back.state,
                ends: back.ends,
                reason: Some(back.why),
                watch: Some(watch),
                ..Step::default()
            };
            record::step(ctx, tx, id, &step)?;
        }
        Ok(pointer)
    })?;
    Ok(TakenBack { pointer, summary })
}

impl Attempt<'_> {
    /// Takes the candidate back after an alarm. `at` is when the alarm was crossed (monotonic).
    pub(crate) fn revert(
        &mut self,
        exposed: &Exposed,
        raised: Raised,
        ban: bool,
        at: Duration,
    ) -> Result<Outcome, Failure> {
        let ctx = self.ctx;
        self.log.say(ctx, &format!("taking {} back: {}", self.plan.candidate, raised.text));
        let back = TakeBack {
            id: Some(&self.id),
            from: &exposed.pointer,
            why: &raised.text,
            alarm: true,
            ban,
            state: "reverting",
            ends: false,
            watch: Some(json!(self.report.watch)),
        };
        let returned = match take_back(ctx, &mut self.store, &back) {
            Ok(returned) => returned,
            Err(failure) => return Err(self.give_up(exposed, failure)),
        };
        ctx.crash.reach("deploy.reverting", "");
        self.report.reason.clone_from(&raised.text);
        self.report.alarm = Some(raised);
        let following = self.restore(&returned, self.patience())?;
        let serving = following == Following::Yes;
        if serving {
            self.report.revert_seconds = Some((ctx.clock.elapsed() - at).as_secs_f64());
        }
        self.finish(returned, &following)?;
        self.forget_candidate();
        Ok(self.reverted(&following))
    }

    /// The outcome of a revert: 5 when the old state serves, 6 when it does not.
    fn reverted(&self, following: &Following) -> Outcome {
        let restored = self.report.restored.as_deref().unwrap_or("none");
        let what = format!("{} was taken back: {}", self.plan.candidate, self.report.reason);
        match following {
            Following::Yes => {
                let text = format!("{what}; live again: {restored}");
                self.log.write(self.ctx, &text);
                news::tell(self.ctx, Status::Warning, "quality regression, rolled back", &text);
                Outcome::new(Exit::RolledBack, &self.report, text)
            }
            Following::No(seen) | Following::Down(seen) => {
                let text = format!(
                    "{what}; the pointer names {restored} again, but the server does not serve it ({seen}): start or check serve"
                );
                self.log.write(self.ctx, &text);
                news::tell(self.ctx, Status::Error, "rollback failed, a person is needed", &text);
                Outcome::new(Exit::NotRecovered, &self.report, text)
            }
        }
    }

    /// Links and server after the pointer went back; whether the server follows.
    fn restore(&mut self, returned: &TakenBack, patience: Duration) -> Result<Following, Failure> {
        let ctx = self.ctx;
        let adapter = returned.pointer.adapter_id.clone();
        self.report.generation = returned.pointer.generation;
        self.report.restored = Some(returned.summary.rollback_target.clone());
        pointer::settle(ctx, &self.store, Some((summary::ROLLBACK, &json!(returned.summary))))?;
        if let Some(adapter) = &adapter
            && let Err(error) = self.server.load(adapter, &ctx.paths.loras().join(adapter))
        {
            // The server loads it by itself as well; what counts is whether it answers with it.
            tracing::debug!(%error, adapter, "loading the old adapter again");
        }
        let item = self.plan.items.first();
        let named = probe::until_named(ctx, &self.server, item, adapter.as_deref(), patience, || false);
        Ok(match named {
            Ok(()) => Following::Yes,
            // A server that is too busy for a probe still says what it serves.
            Err(seen) => match self.server.wait_until_it_follows(
                &ctx.clock,
                Duration::ZERO,
                returned.pointer.generation,
                adapter.as_deref(),
            ) {
                Following::Yes => Following::Yes,
                Following::No(_) => Following::No(seen),
                Following::Down(_) => Following::Down(seen),
            },
        })
    }

    /// The last line of the row, and both summaries in their final form.
    fn finish(&mut self, returned: TakenBack, following: &Following) -> Result<(), Failure> {
        let ctx = self.ctx;
        let TakenBack { pointer, mut summary } = returned;
        let (state, health) = match following {
            Following::Yes => ("rolled_back", "healthy"),
            Following::No(_) => ("not_recovered", "not_following"),
            Following::Down(_) => ("not_recovered", "unreachable"),
        };
        summary.service_health = health.into();
        let file = json!(summary);
        let watch = Some(self.kept(pointer.generation, summary::ROLLBACK, &file));
        let step = Step { state, ends: true, reason: Some(&self.report.reason), watch, ..Step::default() };
        self.store.write(|tx| record::step(ctx, tx, &self.id, &step))?;
        let taken_back = pointer.generation - 1;
        let about_candidate = self.summary(taken_back, "rolled_back", &self.report.reason);
        for (generation, name, file) in [
            (pointer.generation, summary::ROLLBACK, &file),
            (taken_back, summary::DEPLOYMENT, &about_candidate),
        ] {
            if let Err(failure) =
                pointer::write_summary(&pointer::live_dir(&ctx.paths, generation), name, file)
            {
                tracing::warn!("{}", failure.chain());
            }
        }
        Ok(())
    }

    /// The end when a signal came, the lease was lost, or somebody else moved the pointer: nothing
    /// unwatched stays live, the candidate is not blamed, and the failure stays what it was.
    pub(crate) fn give_up(&mut self, exposed: &Exposed, failure: Failure) -> Failure {
        let ctx = self.ctx;
        let reason = failure.chain();
        let state = if failure.exit() == Exit::Busy { "superseded" } else { "interrupted" };
        let back = TakeBack {
            id: Some(&self.id),
            from: &exposed.pointer,
            why: &reason,
            alarm: false,
            ban: false,
            state,
            ends: true,
            watch: Some(json!(self.report.watch)),
        };
        if let Ok(returned) = take_back(ctx, &mut self.store, &back) {
            self.log.say(ctx, &format!("{} was taken back: {reason}", self.plan.candidate));
            if let Err(second) = self.restore(&returned, HURRY) {
                tracing::warn!("the next run repairs the links: {}", second.chain());
            }
        } else {
            // Somebody else moved it: theirs is the word, and only the row of this deployment is closed.
            let step = Step { state, ends: true, reason: Some(&reason), ..Step::default() };
            if let Err(second) = self.store.write(|tx| record::step(ctx, tx, &self.id, &step)) {
                tracing::warn!("the deployment's row stays open until the next run: {}", second.chain());
            }
        }
        let text = format!("{} is not deployed: {reason}", self.plan.candidate);
        self.log.write(ctx, &text);
        news::tell(ctx, Status::Warning, "deployment failed", &text);
        failure
    }
}
