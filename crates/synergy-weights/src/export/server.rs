//! `/metrics` and `/health` on one port, for the exporter, the trainer, or both.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nightshift_core::clock::Clock;
use nightshift_core::{Failure, OrFail};
use nightshift_net::server::{Drained, ServerError, Shutdown, bind, scaffold, serve_blocking};
use serde_json::json;

use crate::export::latest::Latest;
use crate::export::page::{Form, Sample, render, sample};

/// How long requests under way may go on.
const DRAIN: Duration = Duration::from_secs(2);
/// Threads that answer.
const THREADS: usize = 2;

/// More samples for a page, of the trainer that runs beside.
pub(crate) type More = Arc<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub(crate) struct Pages {
    /// The newest row of a history.
    pub(crate) latest: Option<Arc<Latest>>,
    /// Further samples.
    pub(crate) more: Option<More>,
    /// For the uptime.
    pub(crate) clock: Clock,
    /// Process time of the start.
    pub(crate) since: Duration,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    thread: JoinHandle<Result<Drained, ServerError>>,
}

/// Takes an address, or says who has it.
pub(crate) fn listen(host: &str, port: u16) -> Result<TcpListener, Failure> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    bind(&address).map_err(|error| {
        let failure = Failure::failed(error.to_string());
        match error {
            ServerError::InUse { .. } => failure.hint(
                "give --port another one, change SYNERGY_METRICS_PORT, or stop the program that holds it",
            ),
            ServerError::Bind { source, .. } | ServerError::Run { source, .. } => failure.because(source),
        }
    })
}

impl Server {
    /// Serves from a thread of its own.
    pub(crate) fn start(listener: TcpListener, pages: Pages) -> Result<Self, Failure> {
        let address = listener.local_addr().or_fail(|| "the address is unknown".into())?;
        let shutdown = Shutdown::new();
        let router = Router::new()
            .route("/", get(metrics))
            .route("/metrics", get(metrics))
            .route("/health", get(health))
            .with_state(pages);
        let (router, stop) = (scaffold(router, 1024), shutdown.clone());
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || serve_blocking(listener, router, stop, DRAIN, THREADS))
            .or_fail(|| "cannot start the metrics thread".into())?;
        Ok(Self { address, shutdown, thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// False once it ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends it; requests under way are answered.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.shutdown.fire();
        match self.thread.join() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::failed("the metrics server failed").because(error)),
            Err(_) => Err(Failure::failed("the metrics server broke down")),
        }
    }
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let form = Form::accepted(&accept.join(","));
    let page = render(&pages.samples(), form);
    ([(header::CONTENT_TYPE, form.content_type())], page).into_response()
}

/// The union of what two generations of clients read: `status` and `updated`, `healthy` and `last_update`.
async fn health(State(pages): State<Pages>) -> Response {
    let Some(latest) = &pages.latest else {
        return Json(json!({"status": "ok", "healthy": true, "updated": null, "last_update": null}))
            .into_response();
    };
    let view = latest.look();
    let healthy = !view.stale;
    let body = json!({
        "status": if healthy { "ok" } else { "stale" },
        "healthy": healthy,
        "updated": view.updated,
        "last_update": view.updated,
        "last_id": view.id,
        "error": view.trouble,
    });
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

impl Pages {
    fn samples(&self) -> Vec<Sample> {
        let mut own = Vec::new();
        let mut values = Vec::new();
        if let Some(latest) = &self.latest {
            let view = latest.look();
            let uptime = self.clock.elapsed().saturating_sub(self.since).as_secs_f64();
            own.push(sample(
                "synergy_exporter_uptime_seconds",
                "Seconds since the exporter started.",
                uptime,
            ));
            let help = "Readings of the history that failed.";
            own.push(sample("synergy_exporter_failures_total", help, view.failures as f64));
            if let Some(at) = view.written {
                let help = "When the history was written last, epoch seconds.";
                own.push(sample("synergy_exporter_last_entry_timestamp_seconds", help, at));
            }
            values = view.values;
        }
        own.extend(self.more.iter().flat_map(|more| more()));
        let ours = own.len();
        for (name, value) in values {
            if !own[..ours].iter().any(|sample| sample.name == name) {
                let help = format!("{name} of the newest history entry.");
                own.push(Sample { name, help, value });
            }
        }
        own
    }
}
