//! What is recorded of a request and its answer, and whether the answer counts as a failure.
//!
//! Pure: no clock, no file. `ok` is what the watch of `deploy` counts (5xx, timeout, empty answer,
//! invalid JSON where JSON was asked for); `success` is what `memory` keeps, fixed here once.

use nightshift_core::clock::rfc3339;
use nightshift_core::interaction::{Interaction, Message};
use nightshift_core::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::capture::{Exchange, Kind};
use crate::confidence::TokenProbs;

/// `source` of every row that this program records.
pub(crate) const SOURCE: &str = "serve";
/// `failure_class` of an exchange whose client went away; it is no failure.
pub(crate) const CANCELLED: &str = "cancelled";

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Id of the interaction (UUIDv7).
    pub(crate) id: String,
    /// When it arrived.
    pub(crate) at: Timestamp,
    /// The served model's name.
    pub(crate) target: String,
    /// The model id that the answer names.
    pub(crate) model: String,
    /// Path of the endpoint.
    pub(crate) endpoint: &'static str,
    /// Conversation.
    pub(crate) session_id: Option<String>,
    /// Hashed user.
    pub(crate) user_id: Option<String>,
    /// The conversation before the answer.
    pub(crate) messages: Vec<Message>,
    /// Labels.
    pub(crate) tags: Vec<String>,
    /// Must never become training data.
    pub(crate) no_train: bool,
    /// Whose traffic.
    pub(crate) kind: Kind,
    /// The answer must be JSON.
    pub(crate) wants_json: bool,
    /// Whatever else the client labelled it with.
    pub(crate) labels: Map<String, Value>,
}

/// How the work on a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The model ended its answer, or a stop string did.
    Stop,
    /// The limit on answer tokens (or the context) ended it.
    Length,
    /// The client went away.
    Cancelled,
    /// The time limit passed.
    TimedOut,
    /// The model failed, with the reason.
    Broken(String),
    /// The server was stopped and the answer cut.
    Stopped,
}

impl Ending {
    /// As `finish_reason` has it on the wire and in the row.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::TimedOut | Self::Broken(_) | Self::Stopped => "error",
        }
    }
}

/// What was produced, whole or in part.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// How it ended.
    pub(crate) ending: Ending,
    /// The text so far.
    pub(crate) text: String,
    /// Its token probabilities.
    pub(crate) probs: TokenProbs,
    /// P(right), or the smallest token probability.
    pub(crate) confidence: Option<f64>,
    /// The adapter that answered.
    pub(crate) adapter_id: Option<String>,
    /// Generation of the pointer that chose it; 0 when the request did.
    pub(crate) generation: i64,
    /// Tokens read.
    pub(crate) prompt_tokens: usize,
    /// Tokens written, the end token included.
    pub(crate) completion_tokens: usize,
    /// Milliseconds from arrival to the end.
    pub(crate) latency_ms: f64,
    /// Milliseconds from arrival to the first token.
    pub(crate) ttft_ms: Option<f64>,
}

struct Verdict {
    ok: bool,
    class: Option<&'static str>,
    error: Option<String>,
    status: i64,
    success: Option<bool>,
    source: Option<&'static str>,
}

impl Verdict {
    fn failed(class: &'static str, status: i64, error: impl Into<String>) -> Self {
        let error = Some(error.into());
        Self { ok: false, class: Some(class), error, status, success: Some(false), source: Some("error") }
    }
}

/// The row of an exchange. `success_above` is the setting `memory.success_above`.
pub(crate) fn row(origin: Origin, outcome: &Outcome, success_above: f64) -> Exchange {
    let verdict = judge(origin.wants_json, outcome, success_above);
    let mut metadata = Map::new();
    metadata.insert("endpoint".into(), origin.endpoint.into());
    if !origin.labels.is_empty() {
        metadata.insert("labels".into(), Value::Object(origin.labels));
    }
    let answered = !outcome.text.is_empty() || matches!(outcome.ending, Ending::Stop | Ending::Length);
    let body = Interaction {
        source_id: origin.id.clone(),
        id: origin.id,
        ts: rfc3339(origin.at),
        target: origin.target,
        session_id: origin.session_id,
        user_id: origin.user_id,
        model: Some(origin.model),
        adapter_id: outcome.adapter_id.clone(),
        query: query(&origin.messages),
        messages: origin.messages,
        response: answered.then(|| outcome.text.clone()),
        success: verdict.success,
        confidence: outcome.confidence,
        min_token_prob: outcome.probs.smallest(),
        mean_token_prob: outcome.probs.mean(),
        success_source: verdict.source.map(str::to_owned),
        failure_class: match verdict.class {
            Some(CANCELLED) | None => None,
            Some(class) => Some(class.to_owned()),
        },
        finish_reason: Some(outcome.ending.as_str().to_owned()),
        http_status: Some(verdict.status),
        latency_ms: Some(outcome.latency_ms),
        ttft_ms: outcome.ttft_ms,
        prompt_tokens: Some(outcome.prompt_tokens as i64),
        completion_tokens: Some(outcome.completion_tokens as i64),
        cost_usd: None,
        error: verdict.error,
        tags: origin.tags,
        no_train: origin.no_train,
        source: SOURCE.into(),
        metadata: json!(metadata),
    };
    Exchange {
        generation: outcome.generation,
        kind: origin.kind,
        ok: verdict.ok,
        failure_class: verdict.class,
        body,
    }
}

/// The last user turn, else the last turn.
fn query(messages: &[Message]) -> String {
    let user = messages.iter().rev().find(|message| message.role == "user");
    user.or(messages.last()).map(|message| message.content.clone()).unwrap_or_default()
}

fn judge(wants_json: bool, outcome: &Outcome, success_above: f64) -> Verdict {
    match &outcome.ending {
        Ending::Cancelled => {
            // 499 is what proxies write for a client that went away.
            Verdict {
                ok: true,
                class: Some(CANCELLED),
                error: None,
                status: 499,
                success: None,
                source: None,
            }
        }
        Ending::TimedOut => Verdict::failed("timeout", 504, "the time limit passed"),
        Ending::Broken(reason) => Verdict::failed("model_error", 500, reason),
        Ending::Stopped => Verdict::failed("stopped", 503, "the server was stopped"),
        Ending::Stop | Ending::Length if outcome.text.trim().is_empty() => {
            Verdict::failed("empty", 200, "the answer is empty")
        }
        Ending::Stop | Ending::Length => match wants_json.then(|| not_json(&outcome.text)).flatten() {
            Some(why) => {
                Verdict::failed("invalid_json", 200, format!("the answer is not a JSON object: {why}"))
            }
            None => by_confidence(outcome, success_above),
        },
    }
}

/// A sure answer is a success, an unsure one a failure. A sure one that the limit cut is neither:
/// its end, the part that token probabilities judge best, is missing.
fn by_confidence(outcome: &Outcome, success_above: f64) -> Verdict {
    let sure = outcome.confidence.map(|confidence| confidence > success_above);
    let cut = outcome.ending == Ending::Length;
    let (success, class) = match sure {
        Some(false) => (Some(false), Some("low_confidence")),
        Some(true) if cut => (None, Some("truncated")),
        sure => (sure, None),
    };
    let source = success.map(|_| "confidence");
    Verdict { ok: true, class, error: None, status: 200, success, source }
}

fn not_json(text: &str) -> Option<String> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => None,
        Ok(_) => Some("it is JSON of another kind".into()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(wants_json: bool) -> Origin {
        Origin {
            id: "01".into(),
            at: "2026-03-01T02:00:00Z".parse().unwrap(),
            target: "nightshift".into(),
            model: "nightshift".into(),
            endpoint: "/v1/chat/completions",
            session_id: None,
            user_id: None,
            messages: vec![Message::user("first"), Message::assistant("a"), Message::user("last")],
            tags: vec!["json".into()],
            no_train: false,
            kind: Kind::Live,
            wants_json,
            labels: Map::new(),
        }
    }

    fn outcome(ending: Ending, text: &str, probability: f64) -> Outcome {
        let mut probs = TokenProbs::default();
        probs.add(probability.ln());
        Outcome {
            ending,
            text: text.into(),
            probs,
            confidence: Some(probability),
            adapter_id: None,
            generation: 3,
            prompt_tokens: 4,
            completion_tokens: 1,
            latency_ms: 5.0,
            ttft_ms: Some(1.0),
        }
    }

    #[test]
    fn every_ending_is_judged() {
        let table = [
            (Ending::Stop, "yes", 0.9, false, (true, None, Some(true), 200)),
            (Ending::Stop, "yes", 0.7, false, (true, Some("low_confidence"), Some(false), 200)),
            (Ending::Length, "yes", 0.9, false, (true, Some("truncated"), None, 200)),
            (Ending::Length, "yes", 0.2, false, (true, Some("low_confidence"), Some(false), 200)),
            (Ending::Stop, " \n", 0.9, false, (false, Some("empty"), Some(false), 200)),
            (Ending::Stop, "yes", 0.9, true, (false, Some("invalid_json"), Some(false), 200)),
            (Ending::Stop, "[1]", 0.9, true, (false, Some("invalid_json"), Some(false), 200)),
            (Ending::Stop, "{\"a\":1}", 0.9, true, (true, None, Some(true), 200)),
            (Ending::Cancelled, "ye", 0.9, false, (true, Some(CANCELLED), None, 499)),
            (Ending::TimedOut, "ye", 0.9, false, (false, Some("timeout"), Some(false), 504)),
            (Ending::Broken("nan".into()), "", 0.9, false, (false, Some("model_error"), Some(false), 500)),
            (Ending::Stopped, "ye", 0.9, false, (false, Some("stopped"), Some(false), 503)),
        ];
        for (ending, text, probability, wants_json, expected) in table {
            let exchange = row(origin(wants_json), &outcome(ending.clone(), text, probability), 0.7);
            let body = &exchange.body;
            let found = (exchange.ok, exchange.failure_class, body.success, body.http_status.unwrap());
            assert_eq!(found, expected, "{ending:?} {text:?} {probability}");
            assert_eq!(body.error.is_some(), !exchange.ok, "{ending:?}: an error exactly when it failed");
        }
    }

    #[test]
    fn the_row_is_an_interaction_that_memory_reads() {
        let exchange = row(origin(false), &outcome(Ending::Stop, "yes", 0.9), 0.7);
        assert_eq!((exchange.generation, exchange.body.query.as_str()), (3, "last"));
        assert_eq!(exchange.body.success_source.as_deref(), Some("confidence"));
        assert_eq!((exchange.body.source.as_str(), exchange.body.source_id.as_str()), ("serve", "01"));
        let text = serde_json::to_string(&exchange.body).unwrap();
        assert_eq!(serde_json::from_str::<Interaction>(&text).unwrap(), exchange.body);
    }

    #[test]
    fn a_cancelled_request_without_text_has_no_response() {
        let exchange = row(origin(false), &outcome(Ending::Cancelled, "", 0.9), 0.7);
        assert_eq!((exchange.body.response, exchange.body.failure_class), (None, None));
    }
}
