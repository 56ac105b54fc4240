//! The switch, and the two guards that stand beside everything that happens while a candidate is live.
//!
//! One guard renews the lease, so that this process' death (or a pause longer than the lease) takes the
//! switch back by itself; it stops when somebody else moved the pointer. The other asks the server for
//! its health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nightshift_core::exchange::Capture;
use nightshift_core::jiff::SignedDuration;
use nightshift_core::pointer::{self, Pointer, Switch};
use nightshift_core::{Ctx, Failure, release, summary};
use nightshift_net::live::LiveServer;

use crate::attempt::Attempt;
use crate::probe;
use crate::record::{self, Step};
use crate::report::Raised;
use crate::watch::{Watch, Watched};

/// How long the server may be silent, or serve something else, before that is an alarm.
const SILENCE: Duration = Duration::from_secs(3);
/// Pause between two looks at its health.
const HEALTH_EVERY: Duration = Duration::from_millis(500);
/// Step in which the guards wait.
const TICK: Duration = Duration::from_millis(50);

/// A candidate that is live for the length of a lease.
#[derive(Debug, Clone)]
pub(crate) struct Exposed {
    /// The pointer after the switch.
    pub(crate) pointer: Pointer,
    /// Position of the newest exchange before the switch.
    pub(crate) exchange_seq: i64,
    /// Position of the newest opinion before the switch.
    pub(crate) opinion_seq: i64,
    /// When the pointer moved, on the monotonic clock.
    pub(crate) at: Duration,
}

/// What the guards have seen.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    done: AtomicBool,
    fenced: AtomicBool,
    lost: Mutex<Option<Failure>>,
    silent: Mutex<Option<(Duration, String)>>,
}

impl Guards {
    /// The failure with which the lease was lost, once.
    pub(crate) fn lost(&self) -> Option<Failure> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// True once the lease was lost.
    fn is_lost(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }

    /// Since when (monotonic) and how the server is not well, once that has lasted too long.
    pub(crate) fn silent(&self, now: Duration) -> Option<(Duration, String)> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        silent.filter(|(since, _)| now.saturating_sub(*since) >= SILENCE)
    }

    /// Renews the lease three times in its length, and once a second at least, so that a rollback is
    /// noticed soon; until told to stop.
    fn renew(&self, ctx: &Ctx, generation: i64) {
        let pause = Duration::from_secs_f64((ctx.config.deploy.lease_s / 3.0).min(1.0));
        let mut opened = None;
        while self.wait(ctx, pause) {
            let store = match &mut opened {
                Some(store) => Ok(store),
                none => ctx.store().map(|store| none.insert(store)),
            };
            let renewed =
                store.and_then(|store| store.write(|tx| pointer::renew(ctx, tx, generation, lease_of(ctx))));
            let Err(failure) = renewed else { continue };
            if is_ours(ctx, generation) {
                // A store that is busy for too long: the lease is the limit, it lapses if this goes on.
                tracing::warn!("the lease was not renewed: {}", failure.chain());
                continue;
            }
            *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            self.fenced.store(true, Ordering::SeqCst);
            return;
        }
    }

    /// Looks at the server's health until told to stop.
    fn look(&self, ctx: &Ctx, server: &LiveServer, generation: i64, adapter: &str) {
        while self.wait(ctx, HEALTH_EVERY) {
            let asked = ctx.clock.elapsed();
            let unwell = match server.health() {
                Ok(health) if health.serves(generation, Some(adapter)) => None,
                Ok(health) => Some(format!(
                    "it serves {} under generation {}",
                    health.adapter.as_deref().unwrap_or("no adapter"),
                    health.generation
                )),
                Err(error) => Some(error.to_string()),
            };
            let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            let since = silent.as_ref().map_or(asked, |(since, _)| *since);
            *silent = unwell.map(|text| (since, text));
        }
    }

    /// Waits; false when it is over.
    fn wait(&self, ctx: &Ctx, time: Duration) -> bool {
        let end = ctx.clock.elapsed() + time;
        while ctx.clock.elapsed() < end {
            if self.done.load(Ordering::SeqCst) {
                return false;
            }
            std::thread::sleep(TICK.min(time));
        }
        !self.done.load(Ordering::SeqCst)
    }
}

impl Attempt<'_> {
    /// Moves the pointer, tentatively.
    pub(crate) fn expose(&mut self) -> Result<Exposed, Failure> {
        let ctx = self.ctx;
        pointer::check_links(&ctx.paths)?;
        let (exchange_seq, opinion_seq) =
            Capture::open(&ctx.paths)?.map_or(Ok((0, 0)), |capture| capture.ends())?;
        let at = ctx.clock.elapsed();
        let why = format!("deployment of {}: the gate passed it", self.plan.candidate);
        let wanted = Switch {
            expected: self.plan.live.generation,
            adapter_id: Some(&self.plan.candidate),
            lease: Some(lease_of(ctx)),
            deployment_id: Some(&self.id),
            why: &why,
        };
        let lifts_ban = self.plan.lifts_ban;
        let pointer = self.store.write(|tx| {
            let pointer = pointer::switch(ctx, tx, &wanted)?;
            if lifts_ban {
                release::mark(tx, &self.plan.candidate, "new", None)?;
            }
            let reason = if lifts_ban { "its ban is lifted (--force)" } else { "" };
            let step = Step { state: "exposed", reason: Some(reason), ..Step::default() };
            record::step(ctx, tx, &self.id, &step)?;
            Ok(pointer)
        })?;
        self.report.generation = pointer.generation;
        ctx.crash.reach("deploy.pointer_moved", "");
        Ok(Exposed { pointer, exchange_seq, opinion_seq, at })
    }

    /// Projects the switch, waits for the server to follow, and watches, under the eyes of the guards.
    pub(crate) fn attend(&mut self, exposed: &Exposed) -> Result<Watched, Failure> {
        let guards = Guards::default();
        let (ctx, server) = (self.ctx, self.server.clone());
        let (generation, candidate) = (exposed.pointer.generation, self.plan.candidate.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| guards.renew(ctx, generation));
            let watched = self.follow(exposed, &guards).and_then(|unfollowed| {
                if let Some(watched) = unfollowed {
                    return Ok(watched);
                }
                scope.spawn(|| guards.look(ctx, &server, generation, &candidate));
                let watched = Watch::new(self, exposed)?.run(self, &guards)?;
                ctx.crash.reach("deploy.watched", "");
                Ok(watched)
            });
            guards.done.store(true, Ordering::SeqCst);
            watched
        })
    }

    /// How long the server may take to answer with what the pointer names: one lease.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.ctx.config.deploy.lease_s)
    }

    /// Links, and the first answer of the candidate; something only when there was none.
    fn follow(&mut self, exposed: &Exposed, guards: &Guards) -> Result<Option<Watched>, Failure> {
        let ctx = self.ctx;
        let summary = self.summary(exposed.pointer.generation, "monitoring", "being watched");
        let now = pointer::settle(ctx, &self.store, Some((summary::DEPLOYMENT, &summary)))?;
        if now.generation != exposed.pointer.generation {
            return Err(Failure::busy("the pointer was moved by somebody else right after the switch"));
        }
        ctx.crash.reach("deploy.link_moved", "");
        let give_up = || guards.is_lost() || ctx.stop.requested().is_some();
        let patience = self.patience();
        let item = self.plan.items.first();
        let named =
            probe::until_named(ctx, &self.server, item, Some(&self.plan.candidate), patience, give_up);
        ctx.stop.check()?;
        if let Some(failure) = guards.lost() {
            return Err(failure);
        }
        match named {
            Ok(()) => {
                let seconds = (ctx.clock.elapsed() - exposed.at).as_secs_f64();
                self.report.switch_seconds = Some(seconds);
                self.log.say(
                    ctx,
                    &format!("the server answers with {} after {seconds:.3} s", self.plan.candidate),
                );
                Ok(None)
            }
            Err(seen) => {
                let text = format!("the server did not follow within {} s: {seen}", patience.as_secs_f64());
                let at = ctx.clock.elapsed();
                Ok(Some(Watched::Bad { raised: Raised::plain("not_following", text), ban: false, at }))
            }
        }
    }
}

/// Whether the pointer is still the tentative one of this generation, or cannot be read at all.
fn is_ours(ctx: &Ctx, generation: i64) -> bool {
    let read = ctx.store().and_then(|store| pointer::read(store.read(), &ctx.config.target));
    read.map_or(true, |pointer| {
        pointer.generation == generation && pointer.tentative && !pointer.lapsed(&ctx.clock)
    })
}

fn lease_of(ctx: &Ctx) -> SignedDuration {
    SignedDuration::from_millis((ctx.config.deploy.lease_s * 1e3) as i64)
}
