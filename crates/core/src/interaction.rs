//! Interactions and feedback: the rows that `memory` writes and the other tools read.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::{Window, rfc3339};
use crate::error::Failure;
use crate::store::intern;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// system, user, assistant or tool.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A user turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// An assistant turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }
}

/// One recorded exchange. Also the JSONL row of import and export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interaction {
    /// UUIDv7; derived from (source, source_id) for imported rows.
    pub id: String,
    /// When the request arrived (RFC 3339, UTC).
    pub ts: String,
    /// Name of the served model this belongs to.
    pub target: String,
    /// Conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Hashed user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Model id as the server named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Adapter that answered; absent for the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_id: Option<String>,
    /// The last user turn.
    pub query: String,
    /// The whole conversation before the answer.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// The answer; absent when there was none.
    #[serde(default)]
    pub response: Option<String>,
    /// Whether it succeeded; absent when unknown, which is neither failed nor good.
    #[serde(default)]
    pub success: Option<bool>,
    /// P(right) when calibrated, else the smallest token probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Smallest token probability of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_token_prob: Option<f64>,
    /// Mean token probability of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_token_prob: Option<f64>,
    /// What decided `success`: error, confidence, feedback, import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_source: Option<String>,
    /// transport, timeout, truncated, empty, invalid_json, low_confidence, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<String>,
    /// stop, length, error, cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Status of the HTTP answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i64>,
    /// Milliseconds to the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Milliseconds to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Tokens read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<i64>,
    /// Tokens written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<i64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Error text of a failed exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Labels, for example the request type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Must never become training data.
    #[serde(default)]
    pub no_train: bool,
    /// Where it came from: serve, log, openai, jsonl, ...
    pub source: String,
    /// Its id there; unique within the source.
    pub source_id: String,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
}

/// An opinion on an interaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// UUIDv7.
    pub id: String,
    /// The interaction.
    pub interaction_id: String,
    /// When (RFC 3339).
    pub ts: String,
    /// user, verifier, operator, ...
    pub source: String,
    /// Unique within the source.
    pub source_id: String,
    /// -1 (bad) to 1 (good).
    pub value: f64,
    /// Why.
    pub comment: Option<String>,
    /// What the answer should have been.
    pub correction: Option<String>,
}

/// An interaction with the newest feedback on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The row.
    pub interaction: Interaction,
    /// Value of the newest feedback.
    pub feedback: Option<f64>,
}

impl Judged {
    /// An error decides, then the newest feedback (0 is no opinion), then what was recorded.
    pub fn success(&self) -> Option<bool> {
        if self.interaction.error.is_some() {
            return Some(false);
        }
        match self.feedback {
            Some(value) if value != 0.0 => Some(value > 0.0),
            _ => self.interaction.success,
        }
    }
}

/// Inserts a row once; false when (source, source_id) or the id is already there.
pub fn insert(tx: &Transaction<'_>, row: &Interaction) -> Result<bool, Failure> {
    let seen: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM interactions WHERE (source = ?1 AND source_id = ?2) OR id = ?3)",
        )?
        .query_row([&row.source, &row.source_id, &row.id], |row| row.get(0))?;
    if seen {
        return Ok(false);
    }
    let query = intern(tx, &row.query)?;
    let messages = intern(tx, &serde_json::to_string(&row.messages).unwrap_or_default())?;
    let response = row.response.as_deref().map(|text| intern(tx, text)).transpose()?;
    let tags = serde_json::to_string(&row.tags).unwrap_or_default();
    tx.prepare_cached(
        "INSERT INTO interactions (id, ts, target, session_id, user_id, model, adapter_id, query, messages, response,
            success, confidence, min_token_prob, mean_token_prob, success_source, failure_class, finish_reason,
            http_status, latency_ms, ttft_ms, prompt_tokens, completion_tokens, cost_usd, error, tags, no_train,
            source, source_id, metadata)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
            ?23, ?24, ?25, ?26, ?27, ?28, ?29)",
    )?
    .execute(params![
        row.id, row.ts, row.target, row.session_id, row.user_id, row.model, row.adapter_id, query, messages, response,
        row.success, row.confidence, row.min_token_prob, row.mean_token_prob, row.success_source, row.failure_class,
        row.finish_reason, row.http_status, row.latency_ms, row.ttft_ms, row.prompt_tokens, row.completion_tokens,
        row.cost_usd, row.error, tags, row.no_train, row.source, row.source_id, row.metadata.to_string()
    ])?;
    let rowid = tx.last_insert_rowid();
    tx.prepare_cached("INSERT INTO interactions_fts (rowid, query, response) VALUES (?1, ?2, ?3)")?
        .execute(params![rowid, row.query, row.response.as_deref().unwrap_or_default()])?;
    Ok(true)
}

/// Inserts feedback once; false when (source, source_id) is already there.
pub fn insert_feedback(tx: &Transaction<'_>, row: &Feedback) -> Result<bool, Failure> {
    let count = tx
        .prepare_cached(
            "INSERT INTO feedback VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            row.id,
            row.interaction_id,
            row.ts,
            row.source,
            row.source_id,
            row.value,
            row.comment,
            row.correction
        ])?;
    Ok(count == 1)
}

/// Columns of [`read_row`], to be followed by WHERE / ORDER over `i`.
pub const SELECT: &str =
    "SELECT i.id, i.ts, i.target, i.session_id, i.user_id, i.model, i.adapter_id, q.body, m.body,
    r.body, i.success, i.confidence, i.min_token_prob, i.mean_token_prob, i.success_source, i.failure_class,
    i.finish_reason, i.http_status, i.latency_ms, i.ttft_ms, i.prompt_tokens, i.completion_tokens, i.cost_usd,
    i.error, i.tags, i.no_train, i.source, i.source_id, i.metadata,
    (SELECT f.value FROM feedback f WHERE f.interaction_id = i.id ORDER BY f.ts DESC, f.rowid DESC LIMIT 1)
    FROM interactions i JOIN texts q ON q.id = i.query JOIN texts m ON m.id = i.messages
    LEFT JOIN texts r ON r.id = i.response";

/// A row of [`SELECT`].
pub fn read_row(row: &Row<'_>) -> rusqlite::Result<Judged> {
    let json = |index: usize, text: String| {
        serde_json::from_str(&text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
        })
    };
    let interaction = Interaction {
        id: row.get(0)?,
        ts: row.get(1)?,
        target: row.get(2)?,
        session_id: row.get(3)?,
        user_id: row.get(4)?,
        model: row.get(5)?,
        adapter_id: row.get(6)?,
        query: row.get(7)?,
        messages: serde_json::from_value(json(8, row.get(8)?)?).unwrap_or_default(),
        response: row.get(9)?,
        success: row.get(10)?,
        confidence: row.get(11)?,
        min_token_prob: row.get(12)?,
        mean_token_prob: row.get(13)?,
        success_source: row.get(14)?,
        failure_class: row.get(15)?,
        finish_reason: row.get(16)?,
        http_status: row.get(17)?,
        latency_ms: row.get(18)?,
        ttft_ms: row.get(19)?,
        prompt_tokens: row.get(20)?,
        completion_tokens: row.get(21)?,
        cost_usd: row.get(22)?,
        error: row.get(23)?,
        tags: serde_json::from_value(json(24, row.get(24)?)?).unwrap_or_default(),
        no_train: row.get(25)?,
        source: row.get(26)?,
        source_id: row.get(27)?,
        metadata: json(28, row.get(28)?)?,
    };
    Ok(Judged { interaction, feedback: row.get(29)? })
}

/// The interactions of a target in a window, oldest first.
pub fn in_window(connection: &Connection, target: &str, window: Window) -> Result<Vec<Judged>, Failure> {
    let mut statement = connection.prepare(&format!(
        "{SELECT} WHERE i.target = ?1 AND i.ts >= ?2 AND i.ts < ?3 ORDER BY i.ts, i.rowid"
    ))?;
    let rows = statement.query_map(params![target, rfc3339(window.from), rfc3339(window.to)], read_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One interaction.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Judged>, Failure> {
    Ok(connection.prepare(&format!("{SELECT} WHERE i.id = ?1"))?.query_row([id], read_row).optional()?)
}

/// P(right | confidence) as `memory calibrate` fitted it: `1 / (1 + exp(-(intercept + slope * x)))`,
/// x = ln(p / (1 - p)) of the smallest token probability p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Intercept of the logit.
    pub intercept: f64,
    /// Slope on the logit of the smallest token probability.
    pub slope: f64,
}

impl Calibration {
    /// The logit that calibration works on; probabilities are kept 1e-7 away from 0 and 1.
    pub fn feature(min_token_prob: f64) -> f64 {
        let p = min_token_prob.clamp(1e-7, 1.0 - 1e-7);
        (p / (1.0 - p)).ln()
    }

    /// P(right).
    pub fn apply(&self, min_token_prob: f64) -> f64 {
        1.0 / (1.0 + (-(self.intercept + self.slope * Self::feature(min_token_prob))).exp())
    }
}

/// The calibration of a target, once fitted.
pub fn calibration(connection: &Connection, target: &str) -> Result<Option<Calibration>, Failure> {
    Ok(connection
        .prepare_cached("SELECT intercept, slope FROM calibrations WHERE target = ?1")?
        .query_row([target], |row| Ok(Calibration { intercept: row.get(0)?, slope: row.get(1)? }))
        .optional()?)
}

/// Stores a calibration with its fit statistics.
pub fn store_calibration(
    tx: &Transaction<'_>,
    now: Timestamp,
    target: &str,
    fitted: Calibration,
    n: usize,
    (auc, brier, ece): (f64, f64, f64),
) -> Result<(), Failure> {
    tx.execute(
        "INSERT OR REPLACE INTO calibrations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![target, rfc3339(now), n as i64, fitted.intercept, fitted.slope, auc, brier, ece],
    )?;
    Ok(())
}
