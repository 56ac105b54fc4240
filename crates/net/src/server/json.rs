//! `ApiJson`: a request body read as JSON, with errors a person can act on.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio_stream::StreamExt;

use super::ApiError;

/// Largest body when no limit was set.
const DEFAULT_LIMIT: usize = 2 * 1024 * 1024;
/// How long a client may take to send its body; a stalled one must not hold a connection.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How long the rest of a body that is too large is read, so that the client sees the answer.
const LINGER: Duration = Duration::from_secs(2);

/// Largest request body, put into each request by [`scaffold`](super::scaffold).
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

/// A JSON body. Refuses a wrong content type with 415 (which also keeps foreign web pages out:
/// they cannot send JSON without asking), a body over the limit with 413, one that takes over 30 s
/// with 408, and anything that does not fit with 400, naming the field, line and column.
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send `content-type: application/json`",
            ));
        }
        let limit = request.extensions().get::<BodyLimit>().map_or(DEFAULT_LIMIT, |limit| limit.0);
        let bytes =
            tokio::time::timeout(READ_LIMIT, read(request.into_body(), limit)).await.map_err(|_| {
                let message = format!("the body did not arrive within {} s", READ_LIMIT.as_secs());
                ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
            })??;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::bad_request("the body is empty; a JSON object is expected"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = format!("the body is not a valid request: {error}");
        // A syntax error has no field; its path is `.` or wherever reading stopped.
        match error.inner().classify() {
            serde_json::error::Category::Data if path != "." => ApiError::bad_request(message).param(path),
            _ => ApiError::bad_request(format!("the body is not valid JSON: {}", error.inner())),
        }
        .code("invalid_body")
    })?;
    json.end().map_err(|error| ApiError::bad_request(format!("the body is not valid JSON: {error}")))?;
    Ok(value)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut stream = body.into_data_stream();
    if announced <= limit {
        let mut bytes = Vec::with_capacity(announced);
        loop {
            let Some(frame) = stream.next().await else { return Ok(bytes) };
            let frame =
                frame.map_err(|error| ApiError::bad_request(format!("the body broke off: {error}")))?;
            if bytes.len() + frame.len() > limit {
                break;
            }
            bytes.extend_from_slice(&frame);
        }
    }
    // Closing while the client still writes would reset the connection and lose the answer.
    let drain = async { while matches!(stream.next().await, Some(Ok(_))) {} };
    let _ = tokio::time::timeout(LINGER, drain).await;
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes")))
}
