//! `POST /v1/completions`: the model continues a text, without a chat template.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use nightshift_core::interaction::Message;
use nightshift_model::Family;
use nightshift_net::openai::{CompletionChoice, CompletionRequest, CompletionResponse, CompletionTokens};
use nightshift_net::server::{ApiError, ApiJson};
use nightshift_net::sse::Frame;
use serde_json::{Map, Value};

use crate::adapters::Pinned;
use crate::answer::{self, Call, Chunks, Running, Whole};
use crate::app::{App, Ready};
use crate::engine::{Piece, TokenInfo};
use crate::exchange::Outcome;
use crate::labels::Labels;

const ENDPOINT: &str = "/v1/completions";
/// OpenAI's limit when a request has none.
const MAX_TOKENS: u32 = 16;

/// Continues a text.
pub(crate) async fn handle(
    Ready(app): Ready,
    headers: HeaderMap,
    body: Result<ApiJson<CompletionRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let result = answer(&app, &headers, body, arrived).await;
    app.shared.meters.rejected(&result);
    result
}

async fn answer(
    app: &Arc<App>,
    headers: &HeaderMap,
    body: Result<ApiJson<CompletionRequest>, ApiError>,
    arrived: Instant,
) -> Result<Response, ApiError> {
    let ApiJson(request) = body?;
    request.check()?;
    if request.echo && request.logprobs.is_some() {
        let message = "`echo` together with `logprobs` is not supported: the prompt is not scored";
        return Err(ApiError::bad_request(message).param("echo"));
    }
    let labels = Labels::read(headers, &request.metadata)?;
    let choice = app.choose(&request.model)?;
    let (prompt, request) =
        answer::prepare(app, move |app| Ok((prompt(app, &request.prompt)?, request))).await?;
    let call = Call {
        endpoint: ENDPOINT,
        choice,
        model: request.model.clone(),
        messages: vec![Message::user(request.prompt.clone())],
        prompt,
        max_tokens: Some(request.max_tokens.unwrap_or(MAX_TOKENS)),
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        stops: request.stop.clone(),
        top_logprobs: request.logprobs.map(|top| top as usize),
        wants_json: false,
        stream: request.stream,
        user: request.user.clone(),
        labels,
        arrived,
    };
    let running = answer::submit(app, call)?;
    let head = Head::new(&running, &request);
    if request.stream {
        return running
            .stream(|pinned| Head { fingerprint: Some(answer::fingerprint(pinned)), ..head })
            .await;
    }
    Ok(whole(head, running.whole().await?))
}

/// The tokens that the model reads: the text, after the token that Llama and Mistral texts begin with.
fn prompt(app: &App, text: &str) -> Result<Vec<u32>, ApiError> {
    let base = &app.shared.base;
    let config = &base.model.config;
    let mut tokens = base.tokenizer.encode(text).map_err(|error| ApiError::internal(error.to_string()))?;
    if let Some(first) = config.bos_token_id
        && matches!(config.family, Family::Llama | Family::Mistral)
        && tokens.first() != Some(&first)
    {
        tokens.insert(0, first);
    }
    if tokens.is_empty() {
        return Err(ApiError::bad_request("the prompt is empty").param("prompt"));
    }
    Ok(tokens)
}

fn whole(mut head: Head, answer: Whole) -> Response {
    let Whole { pinned, outcome, tokens } = answer;
    head.fingerprint = Some(answer::fingerprint(&pinned));
    let logprobs = head.logprobs.then(|| head.tokens(tokens));
    let text = format!("{}{}", head.echo.take().unwrap_or_default(), outcome.text);
    let mut body = head.body(text, logprobs);
    body.choices[0].finish_reason = Some(outcome.ending.as_str().into());
    body.usage = Some(answer::usage(&outcome));
    body.nightshift = Some(answer::extension(&outcome, &pinned));
    let mut response = Json(body).into_response();
    answer::mark(&mut response, &head.id, &pinned);
    response
}

/// What every event of an answer repeats, and how far the text has come.
#[derive(Debug, Clone)]
struct Head {
    id: String,
    created: i64,
    model: String,
    logprobs: bool,
    usage: bool,
    /// The prompt, until it has been given out.
    echo: Option<String>,
    fingerprint: Option<String>,
    /// Characters of the tokens given out so far.
    offset: usize,
}

impl Head {
    fn new(running: &Running, request: &CompletionRequest) -> Self {
        Self {
            id: running.id.clone(),
            created: running.at.as_second(),
            model: running.model.clone(),
            logprobs: request.logprobs.is_some(),
            usage: request.stream_options.is_some_and(|options| options.include_usage),
            echo: request.echo.then(|| request.prompt.clone()),
            fingerprint: None,
            offset: 0,
        }
    }

    fn body(&self, text: String, logprobs: Option<CompletionTokens>) -> CompletionResponse {
        CompletionResponse {
            id: format!("cmpl-{}", self.id),
            object: "text_completion".into(),
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices: vec![CompletionChoice { index: 0, text, finish_reason: None, logprobs }],
            usage: None,
            nightshift: None,
        }
    }

    fn tokens(&mut self, tokens: Vec<TokenInfo>) -> CompletionTokens {
        let mut lists = CompletionTokens::default();
        for token in tokens {
            lists.text_offset.push(self.offset);
            self.offset += token.text.chars().count();
            lists.tokens.push(token.text);
            lists.token_logprobs.push(Some(token.logprob));
            let top: Map<String, Value> = token.top.into_iter().map(|(text, p)| (text, p.into())).collect();
            lists.top_logprobs.push((!top.is_empty()).then_some(top));
        }
        lists
    }
}

impl Chunks for Head {
    fn first(&mut self) -> Option<Frame> {
        let text = self.echo.take()?;
        Some(answer::frame(&self.body(text, None)))
    }

    fn piece(&mut self, piece: Piece) -> Frame {
        let logprobs = self.logprobs.then(|| self.tokens(piece.tokens));
        answer::frame(&self.body(piece.text, logprobs))
    }

    fn last(&mut self, outcome: &Outcome, pinned: &Pinned) -> Vec<Frame> {
        let mut last = self.body(String::new(), None);
        last.choices[0].finish_reason = Some(outcome.ending.as_str().into());
        last.nightshift = Some(answer::extension(outcome, pinned));
        let mut frames = vec![answer::frame(&last)];
        if self.usage {
            let mut usage = self.body(String::new(), None);
            usage.choices.clear();
            usage.usage = Some(answer::usage(outcome));
            frames.push(answer::frame(&usage));
        }
        frames
    }
}
