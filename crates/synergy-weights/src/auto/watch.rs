//! The trainer's metrics server, and the exporter beside it, looked after while the trainer waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nightshift_core::{Ctx, Failure, env};
use serde_json::json;

use crate::alert::alert;
use crate::auto::{Trainer, threshold};
use crate::export::{Latest, More, Pages, Server, announce, listen};

/// How long a health check may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A server that is kept running.
#[derive(Debug)]
pub(super) struct Watch {
    trainer: Trainer,
    export: Option<Arc<Latest>>,
    port: Option<u16>,
    server: Option<Server>,
    check: Duration,
}

impl Watch {
    /// Starts the server where one is wanted. A port given on the command line must be free; one from the
    /// environment is tried again, for another program may share the same settings.
    pub(super) fn start(
        trainer: &Trainer,
        export: Option<Arc<Latest>>,
        port: Option<u16>,
    ) -> Result<Self, Failure> {
        let ctx = &trainer.ctx;
        let set = |name: &str| ctx.env.get(name).and_then(|text| text.trim().parse().ok());
        let from_env = set(env::SYNERGY_METRICS_PORT).or_else(|| set(env::METRICS_PORT));
        let from_env = from_env.or(export.is_some().then_some(ctx.config.synergy.port));
        let check = Duration::from_secs_f64(ctx.config.synergy.check_interval_s.clamp(0.05, 86_400.0));
        let mut watch =
            Self { trainer: trainer.clone(), export, port: port.or(from_env), server: None, check };
        if let Err(failure) = watch.serve() {
            trainer.audit.record("exporter_start_failed", json!({"error": failure.chain()}));
            if port.is_some() {
                return Err(failure);
            }
            ctx.printer.note(&format!(
                "note: {}; tried again every {} s",
                failure.chain(),
                watch.check.as_secs_f64()
            ));
        } else if watch.server.is_some() {
            trainer.audit.record("exporter_started", json!({}));
        }
        Ok(watch)
    }

    /// Nothing to look after.
    pub(super) fn none(trainer: &Trainer) -> Self {
        let check = Duration::from_secs(1);
        Self { trainer: trainer.clone(), export: None, port: None, server: None, check }
    }

    fn serve(&mut self) -> Result<(), Failure> {
        let Some(port) = self.port else { return Ok(()) };
        let ctx: &Ctx = &self.trainer.ctx;
        let listener = listen(&ctx.config.synergy.host, port)?;
        let trainer = self.trainer.clone();
        let more: More = Arc::new(move || trainer.samples());
        let pages = Pages {
            latest: self.export.clone(),
            more: Some(more),
            clock: ctx.clock.clone(),
            since: ctx.clock.elapsed(),
        };
        let server = Server::start(listener, pages)?;
        match &self.export {
            Some(latest) => announce(ctx, server.address(), latest.path()),
            None => {
                ctx.printer.note(&format!("metrics server running on http://{}/metrics", server.address()));
            }
        }
        self.server = Some(server);
        Ok(())
    }

    /// Waits, and looks after the server meanwhile; false when a stop was asked for.
    pub(super) fn wait(&mut self, interval: Duration) -> bool {
        let clock = self.trainer.ctx.clock.clone();
        let end = clock.elapsed() + interval;
        loop {
            let left = end.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return self.trainer.ctx.stop.requested().is_none();
            }
            if !clock.sleep(left.min(self.check), &self.trainer.ctx.stop) {
                return false;
            }
            if self.port.is_some() && !self.answers() {
                self.restart();
            }
        }
    }

    fn answers(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.is_running() && answers(server.address()))
    }

    fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = server.stop();
        }
        let audit = self.trainer.audit.clone();
        if let Err(failure) = self.serve() {
            audit.record("exporter_restart_failed", json!({"error": failure.chain()}));
            tracing::warn!(error = failure.chain(), "the metrics server cannot be started");
            return;
        }
        let restarts = self.trainer.count(|totals| {
            totals.exporter_restarts += 1;
            totals.exporter_restarts
        });
        audit.record("exporter_restarted", json!({"restart_count": restarts}));
        if restarts > threshold(&self.trainer.ctx, env::SYNERGY_ALERT_THRESHOLD) {
            let context = [("component", "exporter".to_owned()), ("restarts", restarts.to_string())];
            let message = "the exporter was restarted repeatedly";
            alert(&self.trainer.ctx, "synergy_exporter_restart_threshold", false, message, &context);
        }
    }

    /// Ends the server.
    pub(super) fn stop(self) {
        if let Some(server) = self.server
            && let Err(failure) = server.stop()
        {
            tracing::warn!(error = failure.chain(), "the metrics server did not end well");
        }
    }
}

/// Whether something there speaks HTTP; a history that cannot be read is no reason to start a server again.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 5];
        stream.read_exact(&mut start)?;
        Ok(start == *b"HTTP/")
    };
    ask().unwrap_or(false)
}
