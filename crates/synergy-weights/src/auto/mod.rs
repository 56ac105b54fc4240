//! `auto-train`: weights that follow the history by themselves.
//!
//! A failed training leaves everything as it was, is counted and told, and is tried again after the interval.

mod cycle;
mod position;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use nightshift_core::synergy::history::Scope;
use nightshift_core::synergy::object;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome, env, files, metrics};
use serde_json::{Value, json};

use crate::alert::{alert, count, update_failed};
use crate::audit::Audit;
use crate::edit::told;
use crate::export::{Latest, More, Sample, sample, seconds};
use crate::place::{Place, history_file};
use crate::settings::LearnerFlags;

use cycle::{Done, Job};
use watch::Watch;

/// Arguments of `auto-train`.
#[derive(Debug, Default, Args)]
pub(crate) struct Arguments {
    /// The history [default: synergy_history.db in the data folder]
    #[arg(long, value_name = "FILE.db")]
    history_file: Option<PathBuf>,
    /// The weights file; as --path
    #[arg(long, value_name = "FILE")]
    weights_file: Option<PathBuf>,
    /// Seconds between two trainings [env: AUTO_TRAIN_INTERVAL; default: 600]
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
    /// Train once and exit
    #[arg(long)]
    run_once: bool,
    /// Where the last counted row is kept [default: last_ts.json in the data folder]
    #[arg(long, value_name = "FILE")]
    progress_file: Option<PathBuf>,
    /// Serve the trainer's metrics on this port [env: SYNERGY_METRICS_PORT, METRICS_PORT]
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    #[command(flatten)]
    learner: LearnerFlags,
    /// Other programs ask for a loop that does not block; this one never does
    #[arg(long = "async", hide = true)]
    asynchronous: bool,
}

/// Numbers of this process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Totals {
    iterations: u64,
    last_id: i64,
    failures: u64,
    failures_in_a_row: u64,
    updates: u64,
    alerts: u64,
    trainer_restarts: u64,
    exporter_restarts: u64,
    last_success: Option<f64>,
}

/// A trainer: a job and what came of it so far.
#[derive(Debug, Clone)]
pub(crate) struct Trainer {
    job: Job,
    ctx: Ctx,
    audit: Audit,
    totals: Arc<Mutex<Totals>>,
}

/// Trains once, or until a signal.
pub(crate) fn run(ctx: &Ctx, path: Option<&Path>, arguments: &Arguments) -> Result<Outcome, Failure> {
    let interval = seconds("--interval", arguments.interval.unwrap_or(ctx.config.synergy.interval_s))?;
    let job = job(ctx, path, arguments)?;
    if ctx.dry_run {
        let report = json!({"history": job.history, "weights": job.place.path, "progress": job.progress});
        let text = format!("would train {} from {}", job.place.path.display(), job.history.display());
        return Ok(Outcome::done(&report, text).status("planned"));
    }
    let trainer = Trainer::new(ctx, job)?;
    let export = (ctx.env.get(env::EXPORT_SYNERGY_METRICS) == Some("1"))
        .then(|| Arc::new(Latest::new(trainer.job.history.clone(), ctx.clock.clone(), interval)));
    let mut watch = Watch::start(&trainer, export, arguments.metrics_port)?;
    let outcome =
        if arguments.run_once { trainer.once() } else { trainer.until_stopped(interval, &mut watch) };
    watch.stop();
    outcome
}

/// A trainer in a thread of its own, beside an exporter of the same history; it ends when `ctx` is stopped.
pub(crate) fn beside(ctx: &Ctx, history: &Path) -> Result<(Option<JoinHandle<()>>, Option<More>), Failure> {
    let interval = seconds("AUTO_TRAIN_INTERVAL", ctx.config.synergy.interval_s)?;
    let arguments = Arguments { history_file: Some(history.to_owned()), ..Arguments::default() };
    let trainer = Trainer::new(ctx, job(ctx, None, &arguments)?)?;
    let shown = trainer.clone();
    let mut watch = Watch::none(&trainer);
    let thread = std::thread::Builder::new().name("trainer".into()).spawn(move || {
        // It ends with the process, and well: what failed was told in each cycle.
        let _ = trainer.until_stopped(interval, &mut watch);
    });
    let thread = thread.or_fail(|| "cannot start the trainer's thread".into())?;
    Ok((Some(thread), Some(Arc::new(move || shown.samples()))))
}

fn job(ctx: &Ctx, path: Option<&Path>, arguments: &Arguments) -> Result<Job, Failure> {
    let data = ctx.paths.data();
    let weights = arguments.weights_file.as_deref().or(path);
    let mut place = Place::new(ctx, weights)?;
    let mut history = arguments.history_file.clone().unwrap_or_else(|| history_file(ctx));
    if !ctx.dry_run {
        history = present(ctx, &history, "history")?;
        place.path = present(ctx, &place.path, "weights")?;
    }
    let scope: Scope = match arguments.learner.scope.parse() {
        Ok(scope) => scope,
        Err(never) => match never {},
    };
    Ok(Job {
        history,
        place,
        progress: arguments.progress_file.clone().unwrap_or_else(|| data.join("last_ts.json")),
        scope,
        are: arguments.learner.entries()?,
        options: arguments.learner.options(ctx)?,
    })
}

/// The file itself, else the one of its name in the data folder, made empty when it is missing there too.
fn present(ctx: &Ctx, path: &Path, what: &str) -> Result<PathBuf, Failure> {
    if path.exists() || (what == "history" && path.with_extension("json").exists()) {
        return Ok(path.to_owned());
    }
    let name = path.file_name().ok_or_else(|| Failure::usage(format!("{} is no file", path.display())))?;
    let place = ctx.paths.data().join(name);
    if !place.exists() {
        files::create_dir(ctx.paths.data())?;
        files::write_atomic(&place, b"")?;
        let (path, place) = (path.display(), place.display());
        ctx.printer.note(&format!("{what} file {path} missing - created empty file at {place}"));
    }
    Ok(place)
}

impl Trainer {
    /// A trainer of this job.
    fn new(ctx: &Ctx, job: Job) -> Result<Self, Failure> {
        let totals = Totals { last_id: position::last_id(&job.progress), ..Totals::default() };
        Ok(Self { job, ctx: ctx.clone(), audit: Audit::new(ctx)?, totals: Arc::new(Mutex::new(totals)) })
    }

    fn count<T>(&self, change: impl FnOnce(&mut Totals) -> T) -> T {
        change(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One cycle with everything that belongs to it.
    fn cycle(&self) -> Result<Done, Failure> {
        let ctx = &self.ctx;
        let result = cycle::run(ctx, &self.job);
        match &result {
            Ok(done) => {
                let now = ctx.clock.real().as_microsecond() as f64 / 1e6;
                self.count(|totals| {
                    totals.iterations += u64::from(done.rows > 0);
                    totals.updates += u64::from(done.rows > 0);
                    totals.last_id = done.last_id;
                    totals.failures_in_a_row = 0;
                    totals.last_success = Some(now);
                });
                if let Some(learned) = &done.learned {
                    count(ctx, metrics::SYNERGY_UPDATES);
                    let fields = json!({
                        "rows": done.rows, "last_id": done.last_id, "weights": object(&learned.weights),
                    });
                    self.audit.record("synergy_weights_trained", fields);
                }
            }
            // Asked to stop while it waited for a lock: nothing failed.
            Err(_) if ctx.stop.requested().is_some() => {}
            Err(failure) => {
                let in_a_row = self.count(|totals| {
                    totals.iterations += 1;
                    totals.failures += 1;
                    totals.failures_in_a_row += 1;
                    totals.alerts += 1;
                    totals.failures_in_a_row
                });
                update_failed(
                    ctx,
                    &self.job.place.path,
                    failure,
                    in_a_row >= threshold(ctx, env::SYNERGY_WEIGHT_ALERT_THRESHOLD),
                );
                self.audit.record("synergy_weight_update_failed", json!({"error": failure.chain()}));
                if let Err(failure) = cycle::keep_progress(&self.job) {
                    tracing::warn!(error = failure.chain(), "the progress file cannot be written");
                }
            }
        }
        result
    }

    fn once(&self) -> Result<Outcome, Failure> {
        let done = self.cycle()?;
        let Some(learned) = &done.learned else {
            let report = self.report();
            let text = format!("no new rows in {}", self.job.history.display());
            return Ok(Outcome::new(Exit::NothingToDo, &report, text));
        };
        let mut report = self.report();
        report["rows"] = json!(done.rows);
        report["weights"] = Value::Object(object(&learned.weights));
        let moved = told(&done.before, &learned.weights);
        Ok(Outcome::done(&report, format!("{} rows up to id {}\n{moved}", done.rows, done.last_id)))
    }

    /// Trains after each interval until a signal, which ends it well.
    fn until_stopped(&self, interval: Duration, watch: &mut Watch) -> Result<Outcome, Failure> {
        let ctx = &self.ctx;
        let name = self.job.place.path.display();
        ctx.printer.note(&format!("training {name} every {} s", interval.as_secs_f64()));
        loop {
            self.attempt(interval, || self.cycle());
            if !watch.wait(interval) {
                return Ok(Outcome::done(&self.report(), "the trainer stopped").status("stopped"));
            }
        }
    }

    /// One cycle, and what came of it said. A bug in it must not end the trainer: it is counted and told as a restart.
    fn attempt(&self, interval: Duration, cycle: impl FnOnce() -> Result<Done, Failure>) {
        let printer = &self.ctx.printer;
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(cycle)) {
            Ok(Ok(done)) if done.rows > 0 => {
                printer.note(&format!("{} rows up to id {}", done.rows, done.last_id));
            }
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => {
                printer.note(&format!("{}; tried again in {} s", failure.chain(), interval.as_secs_f64()));
            }
            Err(_) => self.restarted(),
        }
    }

    fn restarted(&self) {
        let restarts = self.count(|totals| {
            totals.trainer_restarts += 1;
            totals.trainer_restarts
        });
        self.audit.record("auto_trainer_restarted", json!({"restart_count": restarts}));
        if restarts > threshold(&self.ctx, env::SYNERGY_ALERT_THRESHOLD) {
            let context = [("component", "auto_trainer".to_owned()), ("restarts", restarts.to_string())];
            let message = "the auto trainer was restarted repeatedly";
            alert(&self.ctx, "synergy_trainer_restart_threshold", false, message, &context);
        }
        let pause = self.ctx.env.get(env::SYNERGY_TRAINER_CHECK_INTERVAL).and_then(|text| text.parse().ok());
        let pause = Duration::try_from_secs_f64(pause.unwrap_or(10.0)).unwrap_or(Duration::from_secs(10));
        self.ctx.clock.sleep(pause, &self.ctx.stop);
    }

    fn report(&self) -> Value {
        let totals = self.count(|totals| totals.clone());
        json!({
            "history": self.job.history, "weights_file": self.job.place.path, "progress": self.job.progress,
            "rows": 0, "last_id": totals.last_id, "iterations": totals.iterations, "updates": totals.updates,
            "failures": totals.failures, "alerts": totals.alerts, "exporter_restarts": totals.exporter_restarts,
            "trainer_restarts": totals.trainer_restarts, "seconds": self.ctx.clock.elapsed().as_secs_f64(),
        })
    }

    /// The trainer's page.
    fn samples(&self) -> Vec<Sample> {
        let totals = self.count(|totals| totals.clone());
        let mut samples = vec![
            sample(
                "synergy_trainer_iterations",
                "Training cycles since the start.",
                totals.iterations as f64,
            ),
            sample(
                "synergy_trainer_last_id",
                "Id of the newest history row that was counted.",
                totals.last_id as f64,
            ),
            sample("synergy_trainer_failures_total", "Training cycles that failed.", totals.failures as f64),
            sample("synergy_weight_updates_total", "Times the weights were written.", totals.updates as f64),
            sample(
                "synergy_weight_update_failures_total",
                "Updates of the weights that failed.",
                totals.failures as f64,
            ),
            sample("synergy_weight_update_alerts_total", "Alerts of failed updates.", totals.alerts as f64),
            sample(
                "synergy_exporter_restarts_total",
                "Restarts of the exporter beside.",
                totals.exporter_restarts as f64,
            ),
            sample(
                "synergy_trainer_restarts_total",
                "Restarts of the trainer.",
                totals.trainer_restarts as f64,
            ),
        ];
        if let Some(at) = totals.last_success {
            let help = "When a cycle ended well last, epoch seconds.";
            samples.push(sample("synergy_trainer_last_success_timestamp_seconds", help, at));
        }
        samples
    }
}

/// A whole number from the environment; 5 when it is none.
fn threshold(ctx: &Ctx, name: &str) -> u64 {
    ctx.env.get(name).and_then(|text| text.trim().parse().ok()).unwrap_or(5)
}

#[cfg(test)]
mod tests {
    use nightshift_testkit::{Answer, FakeServer};

    use super::*;

    #[test]
    fn a_trainer_that_breaks_down_is_started_again_and_above_the_threshold_somebody_is_told() {
        let home = tempfile::tempdir().unwrap();
        let hook = FakeServer::start(|_| Answer::Json(json!({})));
        let mut ctx = Ctx::for_test(home.path());
        ctx.config.notify.webhook = Some(format!("{}/hook", hook.url()));
        ctx.env = env::Env::from_pairs([
            (env::SYNERGY_ALERT_THRESHOLD, "2"),
            (env::SYNERGY_TRAINER_CHECK_INTERVAL, "0"),
            (env::SANDBOX_CENTRAL_LOGGING, "1"),
        ]);
        let trainer = Trainer::new(&ctx, job(&ctx, None, &Arguments::default()).unwrap()).unwrap();
        let second = Duration::from_secs(1);
        for _ in 0..2 {
            trainer.attempt(second, || panic!("a bug"));
        }
        assert!(hook.requests().is_empty(), "two restarts are within the threshold");
        trainer.attempt(second, || panic!("a bug"));
        trainer.attempt(second, || trainer.cycle());
        let news = hook.requests();
        assert_eq!(news.len(), 1);
        for part in ["[synergy_trainer_restart_threshold]", "component=auto_trainer", "restarts=3"] {
            assert!(news[0].body.contains(part), "{part}: {}", news[0].body);
        }
        let counted =
            trainer.samples().into_iter().find(|s| s.name == "synergy_trainer_restarts_total").unwrap();
        assert!((counted.value - 3.0).abs() < 1e-12);
        let trail = files::read_text(&ctx.paths.logs().join("audit.log")).unwrap();
        assert_eq!(trail.matches("auto_trainer_restarted").count(), 3, "{trail}");
    }
}
