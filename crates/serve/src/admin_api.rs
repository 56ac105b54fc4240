//! Loading, unloading and listing adapters: for callers on this machine, or with the admin key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use nightshift_net::server::{ApiError, ApiJson};
use serde::{Deserialize, Serialize};

use crate::adapters::{LoadError, Loaded, UnloadError};
use crate::answer::prepare;
use crate::app::{App, BASE, Ready};

/// Longest name, in characters.
const MAX_NAME_CHARS: usize = 128;

/// Body of a load.
#[derive(Debug, Deserialize)]
pub(crate) struct LoadRequest {
    lora_name: String,
    lora_path: PathBuf,
}

/// Body of an unload.
#[derive(Debug, Deserialize)]
pub(crate) struct UnloadRequest {
    lora_name: String,
}

/// One adapter in memory.
#[derive(Debug, Serialize)]
pub(crate) struct Card {
    /// The name that requests use.
    lora_name: String,
    /// Its release.
    adapter_id: String,
    /// Content digest.
    digest: String,
    /// The folder.
    path: PathBuf,
    /// When (RFC 3339).
    loaded_at: String,
    /// Whether it answers the served model.
    live: bool,
}

/// Answer of a load.
#[derive(Debug, Serialize)]
pub(crate) struct LoadResponse {
    /// `loaded`, or `already_loaded`.
    status: &'static str,
    #[serde(flatten)]
    card: Card,
    /// How long it took.
    seconds: f64,
}

/// Answer of an unload.
#[derive(Debug, Serialize)]
pub(crate) struct UnloadResponse {
    status: &'static str,
    lora_name: String,
}

/// Answer of the list.
#[derive(Debug, Serialize)]
pub(crate) struct ListResponse {
    object: &'static str,
    data: Vec<Card>,
}

/// `POST /v1/load_lora_adapter`. The work happens beside the traffic.
pub(crate) async fn load(
    Ready(app): Ready,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<LoadRequest>,
) -> Result<Json<LoadResponse>, ApiError> {
    app.gate.check(peer, &headers)?;
    let name = request.lora_name;
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(usable) {
        let message = "must be 1 to 128 letters, digits or -_.:";
        return Err(ApiError::bad_request(format!("`lora_name` {message}")).param("lora_name"));
    }
    if name == BASE || name == app.target {
        return Err(ApiError::conflict(format!("`{name}` names the model itself")).param("lora_name"));
    }
    prepare(&app, move |app| {
        let outcome =
            app.shared.adapters.load_named(&name, &request.lora_path).map_err(|error| refuse(&error))?;
        let status = if outcome.already { "already_loaded" } else { "loaded" };
        let card = card(app, name, &outcome.loaded);
        Ok(Json(LoadResponse { status, card, seconds: outcome.took.as_secs_f64() }))
    })
    .await
}

/// `POST /v1/unload_lora_adapter`. Requests under way finish with it.
pub(crate) async fn unload(
    Ready(app): Ready,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<UnloadRequest>,
) -> Result<Json<UnloadResponse>, ApiError> {
    app.gate.check(peer, &headers)?;
    app.shared.adapters.unload(&request.lora_name).map_err(|error| match error {
        UnloadError::Unknown(_) => {
            ApiError::not_found(error.to_string()).param("lora_name").code("lora_not_found")
        }
        UnloadError::IsLive(_) => ApiError::conflict(error.to_string()).param("lora_name").code("lora_live"),
    })?;
    Ok(Json(UnloadResponse { status: "unloaded", lora_name: request.lora_name }))
}

/// `GET /v1/lora_adapters`.
pub(crate) async fn list(
    Ready(app): Ready,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<ListResponse>, ApiError> {
    app.gate.check(peer, &headers)?;
    let data =
        app.shared.adapters.list().into_iter().map(|(name, loaded)| card(&app, name, &loaded)).collect();
    Ok(Json(ListResponse { object: "list", data }))
}

fn card(app: &App, lora_name: String, loaded: &Arc<Loaded>) -> Card {
    let live = app.shared.adapters.live().adapter;
    Card {
        lora_name,
        adapter_id: loaded.id.clone(),
        digest: loaded.digest.clone(),
        path: loaded.dir.clone(),
        loaded_at: loaded.loaded_at.clone(),
        live: live.is_some_and(|live| live.digest == loaded.digest),
    }
}

fn refuse(error: &LoadError) -> ApiError {
    let message = error.to_string();
    match error {
        LoadError::Outside { .. } => {
            ApiError::forbidden(message).param("lora_path").code("lora_path_forbidden")
        }
        LoadError::Missing(_) => ApiError::not_found(message).param("lora_path").code("lora_not_found"),
        LoadError::Invalid(_) => {
            ApiError::unprocessable(message).param("lora_path").code("invalid_lora_adapter")
        }
        LoadError::NameTaken { .. } => ApiError::conflict(message).param("lora_name").code("lora_name_taken"),
        LoadError::Full => ApiError::conflict(message).code("too_many_adapters"),
    }
}
