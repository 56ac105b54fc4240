//! `export-metrics`: the newest history entry for Prometheus.

mod latest;
mod page;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nightshift_core::clock::Clock;
use nightshift_core::{Ctx, Failure, Outcome, env};
use serde_json::json;

use crate::audit::Audit;
use crate::auto;
use crate::place::history_file;

pub(crate) use latest::Latest;
pub(crate) use page::{Sample, sample};
pub(crate) use server::{More, Pages, Server, listen};

/// Arguments of `export-metrics`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database [default: synergy_history.db in the data folder]
    #[arg(long, value_name = "FILE.db")]
    history_file: Option<PathBuf>,
    /// Port; 0 takes a free one [env: SYNERGY_METRICS_PORT; default: 8003]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address; others than loopback can be reached from other machines [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Seconds between two looks at the history without a scrape
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    interval: f64,
}

/// An exporter that runs in this process until it is stopped or dropped.
#[derive(Debug)]
pub struct Exporter {
    server: Option<Server>,
    latest: Arc<Latest>,
}

/// Starts an exporter of `history` on `host:port` (port 0 takes a free one); `interval` is as for the program.
///
/// # Errors
/// The address is taken, or cannot be listened on.
pub fn start_exporter(
    history: &Path,
    host: &str,
    port: u16,
    interval: Duration,
) -> Result<Exporter, Failure> {
    Exporter::start(listen(host, port)?, history, interval, &Clock::new(None), None)
}

impl Exporter {
    fn start(
        listener: TcpListener,
        history: &Path,
        interval: Duration,
        clock: &Clock,
        more: Option<More>,
    ) -> Result<Self, Failure> {
        let latest = Arc::new(Latest::new(history.to_owned(), clock.clone(), interval));
        let pages =
            Pages { latest: Some(Arc::clone(&latest)), more, clock: clock.clone(), since: clock.elapsed() };
        Ok(Self { server: Some(Server::start(listener, pages)?), latest })
    }

    /// Where `/metrics` and `/health` are.
    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), Server::address)
    }

    /// Ends it; requests under way are answered.
    ///
    /// # Errors
    /// The server had failed before.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.server.take().map_or(Ok(()), Server::stop)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = server.stop();
        }
    }
}

/// Serves until a signal.
pub(crate) fn run(ctx: &Ctx, arguments: &Arguments) -> Result<Outcome, Failure> {
    let history = arguments.history_file.clone().unwrap_or_else(|| history_file(ctx));
    let host = arguments.host.as_deref().unwrap_or(&ctx.config.synergy.host);
    let port = arguments.port.unwrap_or(ctx.config.synergy.port);
    let interval = seconds("--interval", arguments.interval)?;
    let audit = Audit::new(ctx)?;
    if ctx.dry_run {
        let text = format!("would export {} on {host}:{port}", history.display());
        return Ok(
            Outcome::done(&json!({"history": history, "host": host, "port": port}), text).status("planned")
        );
    }
    let listener = listen(host, port).inspect_err(|failure| {
        audit.record("exporter_start_failed", json!({"error": failure.chain()}));
    })?;
    let train = ctx.env.get(env::AUTO_TRAIN_SYNERGY) == Some("1");
    let (trainer, more) = if train { auto::beside(ctx, &history)? } else { (None, None) };
    let exporter = Exporter::start(listener, &history, interval, &ctx.clock, more)?;
    announce(ctx, exporter.address(), &history);
    audit.record("exporter_started", json!({"address": exporter.address().to_string()}));
    let mut reads = 0_u64;
    while ctx.clock.sleep(interval, &ctx.stop) {
        exporter.latest.look();
        reads += 1;
    }
    let view = exporter.latest.look();
    let address = exporter.address().to_string();
    exporter.stop()?;
    if let Some(trainer) = trainer {
        trainer.join().map_err(|_| Failure::failed("the trainer broke down"))?;
    }
    let report = json!({
        "address": address, "history": history, "looks": reads, "failures": view.failures,
        "seconds": ctx.clock.elapsed().as_secs_f64(),
    });
    Ok(Outcome::done(&report, "the exporter stopped").status("stopped"))
}

/// Says that it runs, and where.
pub(crate) fn announce(ctx: &Ctx, address: SocketAddr, history: &Path) {
    let ready = json!({
        "tool": ctx.tool, "status": "ready", "address": address.to_string(), "history": history,
        "pid": std::process::id(),
    });
    ctx.printer.json(&ready);
    ctx.printer.note(&format!("Synergy metrics exporter running on http://{address}/metrics"));
    if !address.ip().is_loopback() {
        ctx.printer.note("note: this address can be reached from other machines, and requests need no key");
    }
}

/// A duration that makes sense.
pub(crate) fn seconds(name: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| Failure::usage(format!("{name} is {value}, but it is seconds above 0")))
}
