//! `POST /v1/chat/completions`.

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use nightshift_core::interaction::Message as Recorded;
use nightshift_model::{Message as Turn, ModelError};
use nightshift_net::openai::{
    ChatChoice, ChatChunk, ChatRequest, ChatResponse, ChatTokens, ChunkChoice, Delta, Message, Role,
    TokenLogprob, TopLogprob,
};
use nightshift_net::server::{ApiError, ApiJson};
use nightshift_net::sse::Frame;

use crate::adapters::Pinned;
use crate::answer::{self, Call, Chunks, Running, Whole};
use crate::app::{App, Ready};
use crate::engine::{Piece, TokenInfo};
use crate::exchange::Outcome;
use crate::labels::Labels;

const ENDPOINT: &str = "/v1/chat/completions";

/// Answers a conversation.
pub(crate) async fn handle(
    Ready(app): Ready,
    headers: HeaderMap,
    body: Result<ApiJson<ChatRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let result = answer(&app, &headers, body, arrived).await;
    app.shared.meters.rejected(&result);
    result
}

async fn answer(
    app: &std::sync::Arc<App>,
    headers: &HeaderMap,
    body: Result<ApiJson<ChatRequest>, ApiError>,
    arrived: Instant,
) -> Result<Response, ApiError> {
    let ApiJson(request) = body?;
    request.check()?;
    let labels = Labels::read(headers, &request.metadata)?;
    let choice = app.choose(&request.model)?;
    let (prompt, request) = answer::prepare(app, move |app| Ok((prompt(app, &request)?, request))).await?;
    let call = Call {
        endpoint: ENDPOINT,
        choice,
        model: request.model.clone(),
        messages: request.messages.iter().map(recorded).collect(),
        prompt,
        max_tokens: request.answer_limit(),
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        stops: request.stop.clone(),
        top_logprobs: request.logprobs.then(|| request.top_logprobs.unwrap_or(0) as usize),
        wants_json: request.wants_json(),
        stream: request.stream,
        user: request.user.clone(),
        labels,
        arrived,
    };
    let running = answer::submit(app, call)?;
    if request.stream {
        let head = Head::new(&running, request.logprobs, request.wants_usage_chunk());
        return running.stream(|pinned| head.pinned(pinned)).await;
    }
    let head = Head::new(&running, request.logprobs, false);
    Ok(whole(&head, running.whole().await?))
}

fn recorded(message: &Message) -> Recorded {
    Recorded { role: message.role.as_str().into(), content: message.content.clone() }
}

/// The tokens that the model reads.
fn prompt(app: &App, request: &ChatRequest) -> Result<Vec<u32>, ApiError> {
    let base = &app.shared.base;
    let template = base.template.as_ref().ok_or_else(|| {
        ApiError::bad_request("this base model has no chat template; use /v1/completions")
            .code("no_chat_template")
    })?;
    let turns: Vec<Turn> = request
        .messages
        .iter()
        .map(|message| {
            let role = if message.role == Role::Developer { Role::System } else { message.role };
            Turn::new(role.as_str(), message.content.clone())
        })
        .collect();
    let refused = |error: ModelError| match error {
        ModelError::Template { .. } => ApiError::bad_request(error.to_string()).param("messages"),
        _ => ApiError::internal(error.to_string()),
    };
    let text = template.render(&turns, true).map_err(refused)?;
    base.tokenizer.encode(&text).map_err(refused)
}

fn whole(head: &Head, answer: Whole) -> Response {
    let Whole { pinned, outcome, tokens } = answer;
    let choice = ChatChoice {
        index: 0,
        message: Message::assistant(outcome.text.clone()),
        finish_reason: Some(outcome.ending.as_str().into()),
        logprobs: head.logprobs.then(|| chat_tokens(tokens)),
    };
    let body = ChatResponse {
        id: head.answer_id.clone(),
        object: "chat.completion".into(),
        created: head.created,
        model: head.model.clone(),
        system_fingerprint: Some(answer::fingerprint(&pinned)),
        choices: vec![choice],
        usage: Some(answer::usage(&outcome)),
        nightshift: Some(answer::extension(&outcome, &pinned)),
    };
    let mut response = Json(body).into_response();
    answer::mark(&mut response, &head.id, &pinned);
    response
}

fn chat_tokens(tokens: Vec<TokenInfo>) -> ChatTokens {
    let content = tokens
        .into_iter()
        .map(|token| TokenLogprob {
            bytes: bytes(&token.text),
            token: token.text,
            logprob: token.logprob,
            top_logprobs: token
                .top
                .into_iter()
                .map(|(text, logprob)| TopLogprob { bytes: bytes(&text), token: text, logprob })
                .collect(),
        })
        .collect();
    ChatTokens { content }
}

/// The bytes of a token's text; unknown when the token is a part of a character.
fn bytes(text: &str) -> Option<Vec<u8>> {
    (!text.contains('\u{fffd}')).then(|| text.as_bytes().to_vec())
}

/// What every chunk of an answer repeats.
#[derive(Debug, Clone)]
struct Head {
    id: String,
    answer_id: String,
    created: i64,
    model: String,
    logprobs: bool,
    usage: bool,
    fingerprint: Option<String>,
}

impl Head {
    fn new(running: &Running, logprobs: bool, usage: bool) -> Self {
        Self {
            id: running.id.clone(),
            answer_id: format!("chatcmpl-{}", running.id),
            created: running.at.as_second(),
            model: running.model.clone(),
            logprobs,
            usage,
            fingerprint: None,
        }
    }

    fn pinned(self, pinned: &Pinned) -> Self {
        Self { fingerprint: Some(answer::fingerprint(pinned)), ..self }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatChunk {
        ChatChunk {
            id: self.answer_id.clone(),
            object: "chat.completion.chunk".into(),
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage: None,
            nightshift: None,
        }
    }
}

impl Chunks for Head {
    fn first(&mut self) -> Option<Frame> {
        let delta = Delta { role: Some(Role::Assistant), content: Some(String::new()) };
        Some(answer::frame(&self.chunk(vec![ChunkChoice { delta, ..ChunkChoice::default() }])))
    }

    fn piece(&mut self, piece: Piece) -> Frame {
        let choice = ChunkChoice {
            delta: Delta { role: None, content: Some(piece.text) },
            logprobs: self.logprobs.then(|| chat_tokens(piece.tokens)),
            ..ChunkChoice::default()
        };
        answer::frame(&self.chunk(vec![choice]))
    }

    fn last(&mut self, outcome: &Outcome, pinned: &Pinned) -> Vec<Frame> {
        let finish_reason = Some(outcome.ending.as_str().to_owned());
        let mut last = self.chunk(vec![ChunkChoice { finish_reason, ..ChunkChoice::default() }]);
        last.nightshift = Some(answer::extension(outcome, pinned));
        let mut frames = vec![answer::frame(&last)];
        if self.usage {
            let mut usage = self.chunk(Vec::new());
            usage.usage = Some(answer::usage(outcome));
            frames.push(answer::frame(&usage));
        }
        frames
    }
}

impl crate::meters::Meters {
    /// Counts a request that ended before a worker saw it.
    pub(crate) fn rejected(&self, result: &Result<Response, ApiError>) {
        let Err(error) = result else { return };
        match error.status.as_u16() {
            429 => self.refused.fetch_add(1, Ordering::Relaxed),
            400..=499 => self.invalid.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}
