//! Which path goes where.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::app::Door;
use crate::{admin_api, chat_api, completions_api, feedback_api, status_api};

/// Every route of the server.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat_api::handle))
        .route("/v1/completions", post(completions_api::handle))
        .route("/v1/models", get(status_api::models))
        .route("/v1/feedback", post(feedback_api::handle))
        .route("/v1/load_lora_adapter", post(admin_api::load))
        .route("/v1/unload_lora_adapter", post(admin_api::unload))
        .route("/v1/lora_adapters", get(admin_api::list))
        .route("/health", get(status_api::health))
        .route("/metrics", get(status_api::metrics))
        .with_state(door)
}
