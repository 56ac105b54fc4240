//! What every HTTP server of the house shares: binding, errors, limits, shutdown.
//!
//! A tool builds a `Router` and hands it to [`scaffold`], binds with [`bind`] and runs
//! [`serve_blocking`] until its [`Shutdown`] fires. Every error leaves as an OpenAI error object.

mod api_error;
mod json;
mod shutdown;

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;

pub use api_error::ApiError;
pub use json::ApiJson;
pub use shutdown::Shutdown;

/// Text of a plain error that is kept in its error object.
const ERROR_TEXT_BYTES: usize = 4 * 1024;

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another program listens there.
    #[error("address {address} is already in use; stop the program that holds it or choose another port")]
    InUse {
        /// The address asked for.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server could not start or stopped by itself.
    #[error("the HTTP server on {address} failed")]
    Run {
        /// The address it listened on.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way was answered.
    Clean,
    /// The limit passed first; requests still under way are cut.
    Cut,
}

/// Listens on `address` (`127.0.0.1:8000`, `[::1]:0`; port 0 picks a free one).
pub fn bind(address: &str) -> Result<TcpListener, ServerError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::InUse { address: address.to_owned() },
        _ => ServerError::Bind { address: address.to_owned(), source },
    };
    let addresses: Vec<SocketAddr> = address.to_socket_addrs().map_err(fail)?.collect();
    TcpListener::bind(&addresses[..]).map_err(fail)
}

/// Finishes a router: bodies of at most `body_limit_bytes`, panics answered with 500, and every
/// error that is not JSON yet (404, 405, extractors) rewritten as an error object.
pub fn scaffold(router: Router, body_limit_bytes: usize) -> Router {
    router
        .layer(Extension(json::BodyLimit(body_limit_bytes)))
        .layer(DefaultBodyLimit::max(body_limit_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(render_errors))
}

/// Gives the routes of `router` a time limit, answered with 504. The limit ends with the response
/// headers, so a stream that has begun is not cut; streams that think long before their first
/// byte belong into a router without it.
pub fn with_timeout(router: Router, limit: Duration) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", limit.as_secs_f64());
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, message).into_response()
        })
    }))
}

/// Serves until `shutdown` fires, then lets requests under way finish for at most `drain`.
/// Handlers find the peer in `ConnectInfo<SocketAddr>`. After [`Drained::Cut`] the remaining
/// connections live until the runtime is dropped.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
    drain: Duration,
) -> Result<Drained, ServerError> {
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let fail = |source| ServerError::Run { address: address.clone(), source };
    listener.set_nonblocking(true).map_err(fail)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(fail)?.tap_io(|stream| {
        // A token per packet must not wait for the next one. Failing to say so only costs time.
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = shutdown.clone();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move { stop.fired().await });
    let overdue = async {
        shutdown.fired().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = server => ended.map(|()| Drained::Clean).map_err(fail),
        () = overdue => Ok(Drained::Cut),
    }
}

/// [`serve`] on a runtime of its own with `threads` workers (at least 1); blocks the caller.
/// When it returns no connection is open any more.
pub fn serve_blocking(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
    drain: Duration,
    threads: usize,
) -> Result<Drained, ServerError> {
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|source| ServerError::Run { address, source })?;
    let outcome = runtime.block_on(serve(listener, router, shutdown, drain));
    // Blocking work that a handler left behind is not waited for.
    runtime.shutdown_background();
    outcome
}

fn panicked(_panic: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    ApiError::internal("the server made a mistake; the request was not completed").into_response()
}

/// Rewrites errors that the framework or an extractor wrote as plain text.
async fn render_errors(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, ERROR_TEXT_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let message = match status {
        _ if !text.is_empty() => text,
        StatusCode::NOT_FOUND => format!("there is no `{path}` here"),
        StatusCode::METHOD_NOT_ALLOWED => format!("`{path}` does not take {method}"),
        _ => status.canonical_reason().unwrap_or("error").to_ascii_lowercase(),
    };
    let rendered = ApiError::new(status, message).into_response();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    let (rendered_parts, body) = rendered.into_parts();
    parts.headers.extend(rendered_parts.headers);
    Response::from_parts(parts, body)
}
