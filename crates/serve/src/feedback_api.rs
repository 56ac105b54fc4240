//! `POST /v1/feedback`: an opinion on an answer, on disk before it is confirmed.

use axum::Json;
use axum::http::StatusCode;
use nightshift_core::clock::rfc3339;
use nightshift_core::random::new_id;
use nightshift_net::server::{ApiError, ApiJson};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::app::Ready;
use crate::capture::{Noted, Opinion};

/// Who has an opinion unless the request says.
const SOURCE: &str = "user";
/// Longest `source`, in characters.
const MAX_SOURCE_CHARS: usize = 64;

/// The body.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    /// `chatcmpl-...` or `cmpl-...` as the answer had it, or the bare id.
    id: String,
    value: serde_json::Value,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    correction: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Confirmed {
    /// Id of the opinion.
    id: String,
    /// The exchange it is on.
    exchange_id: String,
}

/// Records an opinion.
pub(crate) async fn handle(
    Ready(app): Ready,
    ApiJson(request): ApiJson<Request>,
) -> Result<Json<Confirmed>, ApiError> {
    let recorder = app.shared.recorder.as_ref().ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "this server records nothing (--no-record), so no opinions either",
        )
    })?;
    let value = value(&request.value)?;
    let source = request.source.filter(|source| !source.is_empty()).unwrap_or_else(|| SOURCE.into());
    if source.chars().count() > MAX_SOURCE_CHARS {
        let message = format!("`source` has more than {MAX_SOURCE_CHARS} characters");
        return Err(ApiError::bad_request(message).param("source"));
    }
    let id = &request.id;
    let exchange_id =
        id.strip_prefix("chatcmpl-").or_else(|| id.strip_prefix("cmpl-")).unwrap_or(id).to_owned();
    let now = app.clock.now();
    let opinion = Opinion {
        id: new_id(now),
        at: rfc3339(now),
        exchange_id: exchange_id.clone(),
        value,
        source,
        comment: request.comment,
        correction: request.correction,
    };
    let id = opinion.id.clone();
    match recorder.note(opinion).await {
        Noted::Yes => Ok(Json(Confirmed { id, exchange_id })),
        Noted::Unknown => {
            let message = format!("no recorded answer has the id `{exchange_id}`");
            Err(ApiError::not_found(message).param("id").code("exchange_not_found"))
        }
        Noted::Failed(reason) => {
            let message = format!("the opinion could not be recorded: {reason}");
            Err(ApiError::unavailable(message, Duration::from_secs(5)))
        }
    }
}

fn value(value: &serde_json::Value) -> Result<f64, ApiError> {
    let number = match value {
        serde_json::Value::String(text) if text == "up" => Some(1.0),
        serde_json::Value::String(text) if text == "down" => Some(-1.0),
        serde_json::Value::Number(number) => number.as_f64().filter(|number| (-1.0..=1.0).contains(number)),
        _ => None,
    };
    number.ok_or_else(|| {
        ApiError::bad_request("`value` must be \"up\", \"down\" or a number from -1 to 1").param("value")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values() {
        assert_eq!(value(&json!("up")).unwrap(), 1.0);
        assert_eq!(value(&json!("down")).unwrap(), -1.0);
        assert_eq!(value(&json!(-0.5)).unwrap(), -0.5);
        for bad in [json!(2), json!("good"), json!(null), json!(true), json!([1])] {
            assert_eq!(value(&bad).unwrap_err().param.as_deref(), Some("value"), "{bad}");
        }
    }
}
