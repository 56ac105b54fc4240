//! What every handler works with, and the door that stays shut until the model is loaded.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nightshift_core::clock::Clock;
use nightshift_core::config::Serve;
use nightshift_net::auth::AdminGate;
use nightshift_net::server::ApiError;

use crate::capture::Recorder;
use crate::engine::{Choice, Engine, Shared};

/// Model id that always means the base without an adapter.
pub(crate) const BASE: &str = "base";

/// The running server.
#[derive(Debug)]
pub(crate) struct App {
    /// What workers and handlers share.
    pub(crate) shared: Arc<Shared>,
    /// Queue and workers.
    pub(crate) engine: Engine,
    /// Name of the served model.
    pub(crate) target: String,
    /// Section `serve` of the config, flags applied.
    pub(crate) settings: Serve,
    /// Time.
    pub(crate) clock: Clock,
    /// The store, for `/metrics`.
    pub(crate) store: PathBuf,
    /// Who may load and unload adapters.
    pub(crate) gate: AdminGate,
    /// When the server became ready.
    pub(crate) ready_since: Instant,
}

impl App {
    /// What a model id means. Absent (empty) is the served model.
    pub(crate) fn choose(&self, model: &str) -> Result<Choice, ApiError> {
        if model.is_empty() || model == self.target {
            return Ok(Choice::Live);
        }
        if model == BASE {
            return Ok(Choice::Base);
        }
        self.shared.adapters.get(model).map(Choice::Adapter).ok_or_else(|| {
            let mut known = vec![self.target.clone(), BASE.to_owned()];
            known.extend(self.shared.adapters.list().into_iter().map(|(name, _)| name));
            ApiError::not_found(format!("there is no model `{model}` here; there are: {}", known.join(", ")))
                .param("model")
                .code("model_not_found")
        })
    }

    /// The time limit of one request.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.settings.timeout_s)
    }

    /// Everything that keeps this server from doing its whole job.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let recorder = self.shared.recorder.as_ref();
        let capture = recorder.and_then(Recorder::trouble);
        let capture = capture.map(|reason| format!("exchanges cannot be recorded: {reason}"));
        self.shared.adapters.trouble().into_iter().chain(capture).collect()
    }
}

/// Holds the app once it is there.
#[derive(Debug, Default)]
pub(crate) struct Door(OnceLock<Arc<App>>);

impl Door {
    /// Lets requests in.
    pub(crate) fn open(&self, app: Arc<App>) {
        let _ = self.0.set(app);
    }

    /// The app, once it is there.
    pub(crate) fn app(&self) -> Option<&Arc<App>> {
        self.0.get()
    }
}

/// Extracts the app; 503 while the model is loading.
#[derive(Debug)]
pub(crate) struct Ready(pub Arc<App>);

impl FromRequestParts<Arc<Door>> for Ready {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, door: &Arc<Door>) -> Result<Self, ApiError> {
        match door.app() {
            Some(app) => Ok(Self(Arc::clone(app))),
            None => Err(ApiError::unavailable("the model is loading", Duration::from_secs(1))),
        }
    }
}
