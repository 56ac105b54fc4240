//! OpenAI chat logs: `{timestamp, request, response}`, or OpenPipe's `{input, output, tags}`.

use nightshift_core::clock::{parse_time, rfc3339};
use nightshift_core::interaction::{Interaction, Message};
use nightshift_core::jiff::Timestamp;
use nightshift_core::random::{derived_id, sha256_hex};
use serde_json::{Map, Value};

/// True for a line that carries a request with messages.
pub(crate) fn recognises(object: &Map<String, Value>) -> bool {
    request(object).is_some_and(|request| request.get("messages").is_some())
}

fn request(object: &Map<String, Value>) -> Option<&Value> {
    object.get("request").or_else(|| object.get("input")).filter(|value| value.is_object())
}

/// Reads a line; the error says which field is wrong.
pub(crate) fn read(object: &Map<String, Value>, target: &str) -> Result<Interaction, String> {
    let request = request(object).ok_or("no `request` object")?;
    let null = Value::Null;
    let response = object.get("response").or_else(|| object.get("output")).unwrap_or(&null);
    let messages = read_messages(request.get("messages").unwrap_or(&null))?;
    let query = messages
        .iter()
        .rev()
        .find(|message| message.role == "user")
        .ok_or("no user message")?
        .content
        .clone();
    let at =
        time(object, response).ok_or("no `timestamp` (RFC 3339 or seconds) and no `response.created`")?;
    let choice = &response["choices"][0];
    let answer = choice.get("message").map(|message| text(&message["content"])).transpose()?.flatten();
    let error = match &response["error"] {
        Value::Null => None,
        Value::String(message) => Some(message.clone()),
        error => Some(error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned)),
    };
    let finish = choice["finish_reason"].as_str().map(str::to_owned);
    let truncated = matches!(finish.as_deref(), Some("length" | "content_filter"));
    let has_tool_call = choice["message"]["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    let empty = answer.as_deref().is_none_or(|answer| answer.trim().is_empty()) && !has_tool_call;
    let failure_class = if error.is_some() {
        Some("transport")
    } else if truncated {
        Some("truncated")
    } else if empty {
        Some("empty")
    } else {
        None
    };
    let line = Value::Object(object.clone()).to_string();
    let source_id = response["id"].as_str().filter(|id| !id.is_empty());
    let source_id = source_id.map_or_else(|| sha256_hex(line.as_bytes()), str::to_owned);
    Ok(Interaction {
        id: derived_id(at, &format!("openai\n{source_id}")),
        ts: rfc3339(at),
        target: target.to_owned(),
        session_id: None,
        user_id: request["user"]
            .as_str()
            .or(object.get("client_id").and_then(Value::as_str))
            .map(|user| sha256_hex(user.as_bytes())[..16].to_owned()),
        model: response["model"].as_str().or(request["model"].as_str()).map(str::to_owned),
        adapter_id: None,
        query,
        messages,
        response: answer,
        success: None,
        confidence: None,
        min_token_prob: None,
        mean_token_prob: None,
        success_source: None,
        failure_class: failure_class.map(str::to_owned),
        finish_reason: finish,
        http_status: None,
        latency_ms: None,
        ttft_ms: None,
        prompt_tokens: response["usage"]["prompt_tokens"].as_i64(),
        completion_tokens: response["usage"]["completion_tokens"].as_i64(),
        cost_usd: None,
        error,
        tags: tags(object),
        no_train: false,
        source: "openai".into(),
        source_id,
        metadata: Value::Null,
    })
}

fn tags(object: &Map<String, Value>) -> Vec<String> {
    let workload = object.get("workload_id").and_then(Value::as_str).map(str::to_owned);
    let tags = match object.get("tags") {
        Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::Object(tags)) => tags
            .iter()
            .map(|(key, value)| {
                format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect(),
        _ => Vec::new(),
    };
    workload.into_iter().chain(tags).collect()
}

fn time(object: &Map<String, Value>, response: &Value) -> Option<Timestamp> {
    let seconds = |value: &Value| {
        let seconds = value.as_f64()?;
        Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
    };
    match object.get("timestamp") {
        Some(Value::String(text)) => parse_time(text),
        Some(value) => seconds(value),
        None => seconds(&response["created"]),
    }
}

fn read_messages(value: &Value) -> Result<Vec<Message>, String> {
    let list = value.as_array().ok_or("`messages` is not a list")?;
    list.iter()
        .enumerate()
        .map(|(index, message)| {
            let role = message["role"].as_str().ok_or_else(|| format!("message {index} has no role"))?;
            let content = text(&message["content"]).map_err(|why| format!("message {index}: {why}"))?;
            Ok(Message { role: role.to_owned(), content: content.unwrap_or_default() })
        })
        .collect()
}

/// The text of a content field: a string, null, or parts; parts that are no text are refused.
fn text(content: &Value) -> Result<Option<String>, String> {
    match content {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) => {
            let mut text = String::new();
            for part in parts {
                match part["text"].as_str() {
                    Some(piece) => text.push_str(piece),
                    None => return Err(format!("content part of type {} is not text", part["type"])),
                }
            }
            Ok(Some(text))
        }
        _ => Err("content is neither text nor a list of parts".into()),
    }
}
