//! Start and stop: bind, load, serve, drain, flush.
//!
//! The address is taken before the model is loaded, so a second server fails at once and a client
//! that comes early gets 503. At the end requests under way may finish, then the workers end, then
//! the writer: nothing that was answered is missing on file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nightshift_core::env::NIGHTSHIFT_ADMIN_KEY;
use nightshift_core::{Ctx, Failure, OrFail, Outcome, files};
use nightshift_net::Secret;
use nightshift_net::auth::AdminGate;
use nightshift_net::server::{Drained, ServerError, Shutdown, bind, scaffold, serve_blocking};

use crate::adapters::{Adapters, Pinned};
use crate::app::{App, Door};
use crate::base::Base;
use crate::capture::{Pruning, Recorder, Writer};
use crate::confidence::Confidence;
use crate::engine::{Engine, Shared};
use crate::follow::Follower;
use crate::meters::Meters;
use crate::report::{Plan, Ready, Stopped};
use crate::routes::router;

/// How long requests under way may go on after a signal; below the time that a Nightshift parent
/// waits between SIGTERM and SIGKILL.
const DRAIN: Duration = Duration::from_secs(4);
/// Threads that read requests and write answers.
const HTTP_THREADS: usize = 2;

type Http = JoinHandle<Result<Drained, ServerError>>;

/// Loads everything and says what would be served.
pub(crate) fn plan(ctx: &Ctx, adapter: Option<&Path>) -> Result<Outcome, Failure> {
    let base = Arc::new(Base::load(&ctx.base()?, &ctx.clock)?);
    let adapters = adapters(ctx, &base);
    if let Some(dir) = adapter {
        fix(&adapters, dir)?;
    }
    let plan = Plan {
        listen: ctx.config.serve.listen.clone(),
        target: ctx.config.target.clone(),
        base: base.dir.clone(),
        base_fingerprint: base.fingerprint.clone(),
        parameters: base.model.parameters(),
        context: base.context(),
        chat_template: base.template.is_some(),
        adapter: adapters.live().adapter_id().map(str::to_owned),
        follow: ctx.config.serve.follow,
        record: ctx.config.serve.record,
    };
    let text = format!("would serve {} ({} parameters) on {}", plan.target, plan.parameters, plan.listen);
    Ok(Outcome::done(&plan, text).status("planned"))
}

/// Serves until a signal.
pub(crate) fn run(ctx: &Ctx, adapter: Option<&Path>, ready_file: Option<&Path>) -> Result<Outcome, Failure> {
    let base_dir = ctx.base()?;
    let settings = &ctx.config.serve;
    let listener = bind(&settings.listen).map_err(no_address)?;
    let address = listener.local_addr().or_fail(|| "the address is unknown".into())?.to_string();
    let shutdown = Shutdown::new();
    let stop = ctx.stop.clone();
    shutdown.follow(move || stop.requested().is_some());
    let door = Arc::new(Door::default());
    let http = {
        let router = scaffold(router(Arc::clone(&door)), settings.max_body_bytes);
        let shutdown = shutdown.clone();
        std::thread::Builder::new()
            .name("http-server".into())
            .spawn(move || serve_blocking(listener, router, shutdown, DRAIN, HTTP_THREADS))
            .or_fail(|| "cannot start the HTTP thread".into())?
    };
    let open = |http: Http| -> Result<Outcome, Failure> {
        let house = House::build(ctx, &base_dir, adapter, &shutdown)?;
        door.open(Arc::clone(&house.app));
        if !shutdown.is_fired() {
            announce(ctx, &house.app, &address, ready_file)?;
        }
        let drained = http.join().map_err(|_| Failure::failed("the HTTP thread panicked"))?;
        // An HTTP server that failed by itself must not keep the threads that wait for a signal.
        shutdown.fire();
        house.close(&address, drained)
    };
    let outcome = open(http);
    shutdown.fire();
    if let Some(path) = ready_file {
        files::remove_file(path)?;
    }
    outcome
}

fn no_address(error: ServerError) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        ServerError::InUse { .. } => {
            failure.hint("give --listen another port, or 127.0.0.1:0 for any free one")
        }
        ServerError::Bind { source, .. } => failure.hint("write --listen HOST:PORT").because(source),
        ServerError::Run { source, .. } => failure.because(source),
    }
}

fn adapters(ctx: &Ctx, base: &Arc<Base>) -> Arc<Adapters> {
    Arc::new(Adapters::new(Arc::clone(base), ctx.paths.loras(), ctx.clock.clone()))
}

/// Makes a folder's adapter live for good (`--adapter`).
fn fix(adapters: &Adapters, dir: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().map_or_else(|| "adapter".into(), |name| name.to_string_lossy().into_owned());
    let outcome = adapters.load(&name, &dir, false).map_err(|error| {
        Failure::refused(format!("the adapter {} cannot be served: {error}", dir.display()))
    })?;
    adapters.switch(Pinned { generation: 0, adapter: Some(outcome.loaded) }, started);
    Ok(())
}

/// Everything that runs, in the order in which it is ended.
struct House {
    app: Arc<App>,
    follower: Option<JoinHandle<()>>,
    writer: Option<Writer>,
}

impl House {
    fn build(
        ctx: &Ctx,
        base_dir: &Path,
        adapter: Option<&Path>,
        shutdown: &Shutdown,
    ) -> Result<Self, Failure> {
        let settings = &ctx.config.serve;
        let base = Arc::new(Base::load(base_dir, &ctx.clock)?);
        let adapters = adapters(ctx, &base);
        if let Some(dir) = adapter {
            fix(&adapters, dir)?;
        }
        let confidence = Arc::new(Confidence::default());
        let (recorder, writer) = if settings.record {
            let pruning = Pruning::new(ctx.clock.clone(), settings.keep_capture_days);
            let (recorder, writer) = Recorder::start(&ctx.paths.capture(), &ctx.paths.store(), pruning)?;
            (Some(recorder), Some(writer))
        } else {
            (None, None)
        };
        let follower = if settings.follow || settings.record {
            let mut follower = Follower::new(
                ctx.paths.store(),
                ctx.config.target.clone(),
                ctx.clock.clone(),
                Arc::clone(&adapters),
                Arc::clone(&confidence),
                settings.follow,
            );
            follower.look();
            Some(follower.spawn(shutdown.clone())?)
        } else {
            None
        };
        let shared = Arc::new(Shared {
            base,
            adapters,
            confidence,
            recorder,
            meters: Meters::default(),
            success_above: ctx.config.memory.success_above,
            shutdown: shutdown.clone(),
        });
        let engine = Engine::start(&shared, settings)?;
        let key = ctx.env.get(NIGHTSHIFT_ADMIN_KEY).map(Secret::new);
        let app = App {
            shared,
            engine,
            target: ctx.config.target.clone(),
            settings: settings.clone(),
            clock: ctx.clock.clone(),
            store: ctx.paths.store(),
            gate: AdminGate::new(key),
            ready_since: Instant::now(),
        };
        Ok(Self { app: Arc::new(app), follower, writer })
    }

    /// Ends everything after the HTTP server has.
    fn close(self, address: &str, drained: Result<Drained, ServerError>) -> Result<Outcome, Failure> {
        self.app.engine.finish();
        if let Some(follower) = self.follower {
            let _ = follower.join();
        }
        let lost = self.writer.map_or(0, Writer::finish);
        let drained = drained.map_err(no_address)?;
        let shared = &self.app.shared;
        let reason = shared.recorder.as_ref().and_then(Recorder::trouble).unwrap_or_default();
        if lost > 0 {
            return Err(Failure::failed(format!("{lost} exchanges could not be recorded: {reason}"))
                .hint("free some space or repair sandbox_data/capture.db before the next start"));
        }
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let succeeded = read(&shared.meters.ok);
        let report = Stopped {
            address: address.to_owned(),
            requests: succeeded + read(&shared.meters.failed),
            succeeded,
            cancelled: read(&shared.meters.cancelled),
            recorded: shared.recorder.as_ref().map_or(0, Recorder::recorded),
            switches: shared.adapters.times().switches,
            drained: drained == Drained::Clean,
            seconds: self.app.ready_since.elapsed().as_secs_f64(),
        };
        let text = format!("stopped after {} requests, {} recorded", report.requests, report.recorded);
        Ok(Outcome::done(&report, text).status("stopped"))
    }
}

fn announce(ctx: &Ctx, app: &App, address: &str, ready_file: Option<&Path>) -> Result<(), Failure> {
    let live = app.shared.adapters.live();
    let ready = Ready {
        tool: "serve",
        status: "ready",
        address: address.to_owned(),
        pid: std::process::id(),
        target: app.target.clone(),
        base: app.shared.base.dir.clone(),
        base_fingerprint: app.shared.base.fingerprint.clone(),
        adapter: live.adapter_id().map(str::to_owned),
        generation: live.generation,
        follow: app.settings.follow,
        record: app.settings.record,
        seconds: ctx.clock.elapsed().as_secs_f64(),
    };
    let line = serde_json::to_value(&ready).or_fail(|| "the ready line cannot be written".into())?;
    if let Some(path) = ready_file {
        files::write_atomic(path, line.to_string().as_bytes())?;
    }
    ctx.printer.json(&line);
    let adapter = ready.adapter.as_deref().unwrap_or("none");
    ctx.printer.note(&format!("serving {} on http://{address} (adapter: {adapter})", ready.target));
    if !address.starts_with("127.") && !address.starts_with("[::1]") {
        ctx.printer
            .note("warning: this address can be reached from other machines, and requests need no key");
    }
    Ok(())
}
