//! From a checked request to an answer: the part that chat and plain completions share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use nightshift_core::interaction::Message;
use nightshift_core::jiff::Timestamp;
use nightshift_core::random::{new_id, sha256_hex};
use nightshift_net::openai::{ADAPTER_HEADER, GENERATION_HEADER, Nightshift, REQUEST_ID_HEADER, Usage};
use nightshift_net::server::ApiError;
use nightshift_net::sse::{self, Frame};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::adapters::Pinned;
use crate::app::App;
use crate::capture::BACKLOG_LIMIT;
use crate::engine::{Choice, Ended, Event, Job, Piece, Sampling, TokenInfo};
use crate::exchange::{Ending, Origin, Outcome};
use crate::labels::Labels;

/// How long an answer that is ready waits to be on file before it is sent anyway.
const RECEIPT: Duration = Duration::from_secs(2);
/// Events that may wait for a slow reader before the forwarder waits too; the worker never does.
const FRAMES: usize = 64;

/// A request that has passed every check but the prompt's length.
#[derive(Debug)]
pub(crate) struct Call {
    /// Path of the endpoint.
    pub(crate) endpoint: &'static str,
    /// What `model` means.
    pub(crate) choice: Choice,
    /// What `model` said.
    pub(crate) model: String,
    /// The conversation, for the record.
    pub(crate) messages: Vec<Message>,
    /// Tokens of the prompt.
    pub(crate) prompt: Vec<u32>,
    /// Most answer tokens, if the client said.
    pub(crate) max_tokens: Option<u32>,
    /// Temperature, if the client said.
    pub(crate) temperature: Option<f64>,
    /// Nucleus, if the client said.
    pub(crate) top_p: Option<f64>,
    /// Random seed, if the client said.
    pub(crate) seed: Option<i64>,
    /// Strings that end the answer.
    pub(crate) stops: Vec<String>,
    /// Alternatives per token that are wanted.
    pub(crate) top_logprobs: Option<usize>,
    /// The answer must be JSON.
    pub(crate) wants_json: bool,
    /// The answer is streamed.
    pub(crate) stream: bool,
    /// Who asks.
    pub(crate) user: Option<String>,
    /// Tags and so on.
    pub(crate) labels: Labels,
    /// When the request arrived.
    pub(crate) arrived: Instant,
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Running {
    /// Id of the interaction.
    pub(crate) id: String,
    /// When it arrived.
    pub(crate) at: Timestamp,
    /// The model id that the answer names.
    pub(crate) model: String,
    events: UnboundedReceiver<Event>,
    deadline: Instant,
    limit: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Which adapter gave it.
    pub(crate) pinned: Pinned,
    /// What was produced.
    pub(crate) outcome: Outcome,
    /// Its tokens, when asked for.
    pub(crate) tokens: Vec<TokenInfo>,
}

/// How the chunks of a stream look.
pub(crate) trait Chunks: Send + 'static {
    /// Before the first token.
    fn first(&mut self) -> Option<Frame>;
    /// More of the answer.
    fn piece(&mut self, piece: Piece) -> Frame;
    /// The end: finish reason, then usage if it was asked for.
    fn last(&mut self, outcome: &Outcome, pinned: &Pinned) -> Vec<Frame>;
}

/// Puts a call into the queue.
pub(crate) fn submit(app: &App, call: Call) -> Result<Running, ApiError> {
    let shared = &app.shared;
    if let Some(recorder) = &shared.recorder
        && recorder.backlog() >= BACKLOG_LIMIT
    {
        let reason = recorder.trouble().unwrap_or_else(|| "the disk is too slow".into());
        let message = format!("exchanges cannot be recorded, so no more are taken: {reason}");
        return Err(ApiError::unavailable(message, Duration::from_secs(5)));
    }
    let room = shared.base.context().saturating_sub(call.prompt.len());
    if room == 0 {
        let message = format!(
            "the prompt has {} tokens; this model's context holds {} and the answer needs one",
            call.prompt.len(),
            shared.base.context()
        );
        return Err(ApiError::bad_request(message).param("messages").code("context_length_exceeded"));
    }
    let at = app.clock.now();
    let id = new_id(at);
    let model = if call.model.is_empty() { app.target.clone() } else { call.model };
    let sampling = Sampling {
        temperature: call.temperature.unwrap_or(1.0),
        top_p: call.top_p.unwrap_or(1.0),
        seed: call.seed.map_or_else(|| seed_of(&id), i64::cast_unsigned),
    };
    let origin = Origin {
        id: id.clone(),
        at,
        target: app.target.clone(),
        model: model.clone(),
        endpoint: call.endpoint,
        session_id: call.labels.session_id,
        user_id: call
            .user
            .and_then(|user| shared.recorder.as_ref().map(|recorder| recorder.hash_user(&user))),
        messages: call.messages,
        tags: call.labels.tags,
        no_train: call.labels.no_train,
        kind: call.labels.kind,
        wants_json: call.wants_json,
        labels: call.labels.others,
    };
    let (sender, events) = mpsc::unbounded_channel();
    let limit = app.limit();
    let deadline = call.arrived + limit;
    let job = Job {
        origin,
        choice: call.choice,
        prompt: call.prompt,
        max_tokens: call.max_tokens.map_or(app.settings.max_tokens, |limit| limit as usize).min(room),
        sampling,
        stops: call.stops,
        top_logprobs: call.top_logprobs,
        pieces: call.stream,
        arrived: call.arrived,
        deadline,
        events: sender,
    };
    app.engine.submit(job).map_err(|_busy| busy(app))?;
    Ok(Running { id, at, model, events, deadline, limit })
}

/// A request without a random seed gets one from its id, which nobody can guess.
fn seed_of(id: &str) -> u64 {
    u64::from_str_radix(&sha256_hex(id.as_bytes())[..16], 16).unwrap_or_default()
}

fn busy(app: &App) -> ApiError {
    let ahead = (app.engine.waiting() + 1) as f64 / app.engine.workers() as f64;
    let wait = (app.shared.meters.mean_seconds() * ahead).clamp(1.0, 30.0);
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "every worker is busy and the queue is full; try again later",
    )
    .code("queue_full")
    .retry_after(Duration::from_secs_f64(wait))
}

impl Running {
    async fn next(&mut self) -> Result<Event, ApiError> {
        match tokio::time::timeout_at(self.deadline.into(), self.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(ApiError::internal("the worker ended without an answer")),
            Err(_) => Err(overdue(self.limit)),
        }
    }

    /// Waits until a worker has begun; says with which adapter.
    async fn started(&mut self) -> Result<Pinned, ApiError> {
        match self.next().await? {
            Event::Started(pinned) => Ok(pinned),
            Event::Ended(ended) => Err(failure(*ended, self.limit).await),
            Event::Piece(_) => Err(ApiError::internal("the worker answered before it began")),
        }
    }

    /// Waits for the whole answer.
    pub(crate) async fn whole(mut self) -> Result<Whole, ApiError> {
        let pinned = self.started().await?;
        let mut tokens = Vec::new();
        loop {
            match self.next().await? {
                Event::Started(_) => {}
                Event::Piece(piece) => tokens.extend(piece.tokens),
                Event::Ended(ended) if ended.is_answer() => {
                    let outcome = on_file(*ended).await;
                    return Ok(Whole { pinned, outcome, tokens });
                }
                Event::Ended(ended) => return Err(failure(*ended, self.limit).await),
            }
        }
    }

    /// Streams the answer, once a worker has begun it.
    pub(crate) async fn stream<C: Chunks>(
        mut self,
        shape: impl FnOnce(&Pinned) -> C,
    ) -> Result<Response, ApiError> {
        let pinned = self.started().await?;
        let chunks = shape(&pinned);
        let (frames, receiver) = mpsc::channel(FRAMES);
        let mut response = sse::respond(receiver);
        mark(&mut response, &self.id, &pinned);
        tokio::spawn(forward(self, pinned, chunks, frames));
        Ok(response)
    }
}

/// Carries events to the reader until the end, or until the reader is gone, which the worker
/// notices by the closed channel.
async fn forward<C: Chunks>(
    mut running: Running,
    pinned: Pinned,
    mut chunks: C,
    frames: mpsc::Sender<Frame>,
) {
    if let Some(frame) = chunks.first()
        && frames.send(frame).await.is_err()
    {
        return;
    }
    loop {
        let event = tokio::select! {
            event = running.next() => event,
            () = frames.closed() => return,
        };
        let last = match event {
            Ok(Event::Started(_)) => continue,
            Ok(Event::Piece(piece)) => {
                if frames.send(chunks.piece(piece)).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Event::Ended(ended)) if ended.is_answer() => {
                let outcome = on_file(*ended).await;
                let mut last = chunks.last(&outcome, &pinned);
                last.push(Frame::Done);
                last
            }
            Ok(Event::Ended(ended)) => error_frame(&failure(*ended, running.limit).await),
            Err(error) => error_frame(&error),
        };
        for frame in last {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
        return;
    }
}

/// An error inside a stream; the missing `[DONE]` tells readers that the answer is cut.
fn error_frame(error: &ApiError) -> Vec<Frame> {
    vec![frame(&error.body())]
}

/// An event that holds a value as JSON.
pub(crate) fn frame<T: serde::Serialize>(value: &T) -> Frame {
    Frame::json(value)
        .unwrap_or_else(|error| Frame::Data(format!("{{\"error\":{{\"message\":\"{error}\"}}}}")))
}

async fn on_file(ended: Ended) -> Outcome {
    if let Some(receipt) = ended.receipt
        && tokio::time::timeout(RECEIPT, receipt).await.is_err()
    {
        tracing::warn!("an answer is sent before it is on file");
    }
    ended.outcome
}

/// A failure as the client gets it, once it is on file.
async fn failure(ended: Ended, limit: Duration) -> ApiError {
    failed(&on_file(ended).await.ending, limit)
}

fn overdue(limit: Duration) -> ApiError {
    let message = format!("no whole answer within {} s", limit.as_secs_f64());
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, message).code("timeout")
}

fn failed(ending: &Ending, limit: Duration) -> ApiError {
    match ending {
        Ending::TimedOut => overdue(limit),
        Ending::Broken(reason) => {
            ApiError::internal(format!("the model failed: {reason}")).code("model_error")
        }
        Ending::Stopped => ApiError::unavailable("the server is stopping", Duration::from_secs(5)),
        Ending::Cancelled | Ending::Stop | Ending::Length => ApiError::internal("the answer was not sent"),
    }
}

/// Puts the headers of an answer on a response.
pub(crate) fn mark(response: &mut Response, id: &str, pinned: &Pinned) {
    let headers = response.headers_mut();
    let adapter = pinned.adapter_id().unwrap_or("none");
    for (name, value) in [(ADAPTER_HEADER, adapter), (REQUEST_ID_HEADER, id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(GENERATION_HEADER, HeaderValue::from(pinned.generation));
}

/// `system_fingerprint` of an answer.
pub(crate) fn fingerprint(pinned: &Pinned) -> String {
    match &pinned.adapter {
        Some(adapter) => format!("fp_{}", &adapter.digest[..12.min(adapter.digest.len())]),
        None => "fp_base".into(),
    }
}

/// The object `nightshift` of an answer.
pub(crate) fn extension(outcome: &Outcome, pinned: &Pinned) -> Nightshift {
    Nightshift {
        adapter: pinned.adapter_id().map(str::to_owned),
        generation: Some(pinned.generation.unsigned_abs()),
        confidence: outcome.confidence,
        min_token_prob: outcome.probs.smallest(),
        mean_token_prob: outcome.probs.mean(),
    }
}

/// Tokens counted.
pub(crate) const fn usage(outcome: &Outcome) -> Usage {
    Usage::new(outcome.prompt_tokens as u64, outcome.completion_tokens as u64)
}

/// Runs work that may take long (rendering, encoding) off the HTTP threads.
pub(crate) async fn prepare<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || work(&app)).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the prompt could not be prepared")))
}
