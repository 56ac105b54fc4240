//! `GET /health`, `GET /v1/models`, `GET /metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use nightshift_core::store::Store;
use nightshift_net::openai::{ModelCard, ModelList};
use nightshift_net::server::ApiError;
use serde::Serialize;
use serde_json::json;

use crate::answer::prepare;
use crate::app::{App, BASE, Door, Ready};
use crate::metrics_page;

#[derive(Debug, Serialize)]
struct Health<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    target: &'a str,
    base_fingerprint: &'a str,
    generation: i64,
    adapter: Option<String>,
    adapters: Vec<String>,
    calibrated: bool,
    waiting: usize,
    running: usize,
    uptime_s: f64,
}

/// Whether the server does its whole job; 503 with the reasons when it does not.
pub(crate) async fn health(State(door): State<Arc<Door>>) -> Response {
    let Some(app) = door.app() else {
        let body = json!({"status": "starting", "reasons": ["the model is loading"]});
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(body)).into_response();
    };
    let shared = &app.shared;
    let mut reasons = app.troubles();
    if shared.shutdown.is_fired() {
        reasons.push("the server is stopping".into());
    }
    let live = shared.adapters.live();
    let healthy = reasons.is_empty();
    let body = Health {
        status: if healthy { "healthy" } else { "unhealthy" },
        reasons,
        target: &app.target,
        base_fingerprint: &shared.base.fingerprint,
        generation: live.generation,
        adapter: live.adapter_id().map(str::to_owned),
        adapters: shared.adapters.list().into_iter().map(|(name, _)| name).collect(),
        calibrated: shared.confidence.is_calibrated(),
        waiting: app.engine.waiting(),
        running: app.engine.running(),
        uptime_s: app.ready_since.elapsed().as_secs_f64(),
    };
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// The served model, the base, and every loaded adapter.
pub(crate) async fn models(Ready(app): Ready) -> Json<ModelList> {
    let card = |id: &str, root: &std::path::Path, parent: Option<&str>| ModelCard {
        id: id.into(),
        object: "model".into(),
        created: 0,
        owned_by: "nightshift".into(),
        root: Some(root.display().to_string()),
        parent: parent.map(str::to_owned),
    };
    let base = &app.shared.base.dir;
    let mut cards = vec![card(&app.target, base, None), card(BASE, base, None)];
    for (name, loaded) in app.shared.adapters.list() {
        cards.push(card(&name, &loaded.dir, Some(BASE)));
    }
    Json(ModelList::new(cards))
}

/// The counters of this process, then those that the other programs keep in the store.
pub(crate) async fn metrics(Ready(app): Ready) -> Result<Response, ApiError> {
    let text = prepare(&app, |app| Ok(metrics_page::render(app) + &stored(app))).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// A store that cannot be read (or is not there yet) takes nothing away from our own counters.
fn stored(app: &App) -> String {
    let text = Store::open_read_only(&app.store)
        .and_then(|store| store.map(|store| nightshift_core::metrics::render(store.read())).transpose());
    let readable = match &text {
        Ok(text) => text.is_some() || !app.store.exists(),
        Err(failure) => {
            tracing::warn!("the store cannot be read for /metrics: {}", failure.chain());
            false
        }
    };
    let state = metrics_page::gauge(
        "nightshift_store_readable",
        "0 while the counters of the other programs cannot be read.",
        f64::from(u8::from(readable)),
    );
    state + &text.ok().flatten().unwrap_or_default()
}
