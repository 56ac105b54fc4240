//! Rows that are conversations: OpenAI's messages and ShareGPT.
//!
//! Contents may be texts, null (beside tool calls) or lists of text parts. Arguments of tool calls, which
//! OpenAI writes as JSON inside a string, become objects: templates print them with `tojson`, and a string
//! would come out quoted twice. Keys that templates may ask for (`name`, `tool_call_id`,
//! `reasoning_content`) are handed on.

use nightshift_core::config::nearest;
use nightshift_model::Message;
use serde_json::{Value, json};

use super::row::{Object, Sample, kind, text};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "ipython"];

/// `{"messages": [...], "tools": [...]}`.
pub(super) fn messages(row: &Object) -> Result<Sample, String> {
    let Some(Value::Array(list)) = row.get("messages") else {
        return Err("`messages` is not a list".into());
    };
    let (messages, learned) = turns(list, "messages")?;
    if row.get("functions").is_some_and(|functions| !functions.is_null()) {
        return Err("`functions` is OpenAI's retired form: write them as `tools`".into());
    }
    Ok(Sample::Chat { messages, tools: tools(row)?, learned })
}

/// The turns of a list of messages; where any of them has a `weight`, the assistant turns to learn
/// (an absent weight is 1, as for OpenAI).
pub(super) fn turns(list: &[Value], key: &str) -> Result<(Vec<Message>, Option<Vec<usize>>), String> {
    if list.is_empty() {
        return Err(format!("`{key}` is empty"));
    }
    let mut messages = Vec::with_capacity(list.len());
    let mut weights = Vec::with_capacity(list.len());
    for (turn, value) in list.iter().enumerate() {
        let (message, weight) = message(value).map_err(|why| format!("{key}[{turn}]: {why}"))?;
        messages.push(message);
        weights.push(weight);
    }
    let learned = weights.iter().any(Option::is_some).then(|| {
        let learns = |turn: &usize| messages[*turn].role == "assistant" && weights[*turn] != Some(false);
        (0..messages.len()).filter(learns).collect()
    });
    Ok((messages, learned))
}

/// One turn and its weight.
fn message(value: &Value) -> Result<(Message, Option<bool>), String> {
    let Value::Object(turn) = value else { return Err(format!("is {}, not an object", kind(value))) };
    let Some(role) = text(turn, "role")? else { return Err("`role` is missing".into()) };
    if !ROLES.contains(&role.as_str()) {
        let near = nearest(&role, ROLES).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(format!("the role `{role}` is none of system, user, assistant and tool{near}"));
    }
    // Templates know the older name only.
    let role = if role == "developer" { "system".to_owned() } else { role };
    let tool_calls = turn.get("tool_calls").filter(|calls| !calls.is_null() && *calls != &json!([]));
    let content = match turn.get("content") {
        None | Some(Value::Null) if tool_calls.is_some() => String::new(),
        None | Some(Value::Null) => return Err("`content` is missing".into()),
        Some(content) => content_text(content)?,
    };
    if turn.get("function_call").is_some_and(|call| !call.is_null()) {
        return Err("`function_call` is OpenAI's retired form: write it as `tool_calls`".into());
    }
    let tool_calls = tool_calls.map(tool_calls_of).transpose()?;
    let known = ["role", "content", "tool_calls", "weight", "function_call"];
    let rest = turn.iter().filter(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
    let extra = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok((Message { role, content, tool_calls, extra }, weight(turn)?))
}

/// Whether a turn counts, if it says so.
fn weight(turn: &Object) -> Result<Option<bool>, String> {
    match turn.get("weight") {
        None | Some(Value::Null) => Ok(None),
        Some(weight) => match weight.as_f64() {
            Some(0.0) => Ok(Some(false)),
            Some(1.0) => Ok(Some(true)),
            _ => Err(format!("`weight` is {weight}; it is 0 or 1")),
        },
    }
}

/// A text, or the texts of a list of parts.
fn content_text(content: &Value) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part.get("type").and_then(Value::as_str), part.get("text")) {
                (Some("text") | None, Some(Value::String(text))) => Ok(text.as_str()),
                (Some(other), _) => {
                    Err(format!("`content` holds a part of type `{other}`; only texts are read"))
                }
                _ => Err("`content` holds a part without a text".to_owned()),
            })
            .collect(),
        other => Err(format!("`content` is {}, not a text", kind(other))),
    }
}

/// Tool calls with their arguments as objects.
fn tool_calls_of(calls: &Value) -> Result<Value, String> {
    let Value::Array(calls) = calls else { return Err("`tool_calls` is not a list".into()) };
    let mut calls = calls.clone();
    for call in &mut calls {
        let wrapped = call.get("function").is_some_and(Value::is_object);
        let function = if wrapped { call.get_mut("function") } else { Some(call) };
        let Some(function) = function.and_then(Value::as_object_mut) else {
            return Err("`tool_calls` holds something that is no call".into());
        };
        if !function.get("name").is_some_and(Value::is_string) {
            return Err("`tool_calls` holds a call without the name of a function".into());
        }
        if let Some(Value::String(arguments)) = function.get("arguments") {
            let parsed: Value =
                serde_json::from_str(if arguments.trim().is_empty() { "{}" } else { arguments })
                    .map_err(|error| format!("the arguments of a tool call are no JSON: {error}"))?;
            function.insert("arguments".into(), parsed);
        }
    }
    Ok(Value::Array(calls))
}

/// Functions beside a conversation: a list, or a list written as a text. A bare function is wrapped as
/// OpenAI writes it.
pub(super) fn tools(row: &Object) -> Result<Option<Value>, String> {
    let parsed = match row.get("tools") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| format!("`tools` is no JSON: {error}"))?
        }
        Some(value) => value.clone(),
    };
    let Value::Array(mut tools) = parsed else { return Err("`tools` is not a list".into()) };
    for tool in &mut tools {
        if tool.get("function").is_none() && tool.get("name").is_some() {
            *tool = json!({"type": "function", "function": tool.take()});
        }
    }
    Ok((!tools.is_empty()).then_some(Value::Array(tools)))
}

/// `{"conversations": [{"from", "value"}], "system", "tools"}`.
pub(super) fn sharegpt(row: &Object) -> Result<Sample, String> {
    let Some(Value::Array(list)) = row.get("conversations") else {
        return Err("`conversations` is not a list".into());
    };
    let mut turns = Vec::with_capacity(list.len() + 1);
    if let Some(system) = text(row, "system")?.filter(|system| !system.is_empty()) {
        turns.push(json!({"role": "system", "content": system}));
    }
    for (turn, value) in list.iter().enumerate() {
        turns.push(said(value).map_err(|why| format!("conversations[{turn}]: {why}"))?);
    }
    let (messages, learned) = self::turns(&turns, "conversations")?;
    Ok(Sample::Chat { messages, tools: tools(row)?, learned })
}

/// A turn of ShareGPT as OpenAI writes it.
pub(super) fn said(turn: &Value) -> Result<Value, String> {
    let Value::Object(fields) = turn else { return Err(format!("is {}, not an object", kind(turn))) };
    let Some(from) = text(fields, "from")? else { return Ok(turn.clone()) };
    let value = text(fields, "value")?.ok_or("`value` is missing")?;
    let mut message = match from.as_str() {
        "human" | "user" => json!({"role": "user", "content": value}),
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => {
            json!({"role": "assistant", "content": value})
        }
        "system" => json!({"role": "system", "content": value}),
        "tool" | "observation" => json!({"role": "tool", "content": value}),
        "function_call" => {
            let call: Value = serde_json::from_str(&value)
                .map_err(|error| format!("the function call is no JSON: {error}"))?;
            let calls = if call.is_array() { call } else { json!([call]) };
            let wrap = |call: &Value| json!({"type": "function", "function": call});
            let calls: Vec<Value> = calls.as_array().into_iter().flatten().map(wrap).collect();
            json!({"role": "assistant", "content": "", "tool_calls": calls})
        }
        other => return Err(format!("`from` is `{other}`, not human, gpt, system, tool or function_call")),
    };
    if let Some(weight) = fields.get("weight") {
        message["weight"] = weight.clone();
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        let Value::Object(object) = value else { panic!("{value}") };
        object
    }

    fn chat(sample: Sample) -> (Vec<Message>, Option<Value>, Option<Vec<usize>>) {
        let Sample::Chat { messages, tools, learned } = sample else { panic!("{sample:?}") };
        (messages, tools, learned)
    }

    #[test]
    fn messages_with_weights_parts_and_tool_calls() {
        let row = object(json!({
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Vesk?"}]},
                {"role": "assistant", "content": null, "weight": 0, "refusal": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Vesk\"}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
                {"role": "assistant", "content": "Rain."},
            ],
            "tools": [{"type": "function", "function": {"name": "weather"}}],
        }));
        let (turns, tools, learned) = chat(messages(&row).unwrap());
        assert_eq!((turns[0].role.as_str(), turns[1].content.as_str()), ("system", "Weather in Vesk?"));
        assert_eq!(
            turns[2].tool_calls.as_ref().unwrap()[0]["function"]["arguments"],
            json!({"city": "Vesk"})
        );
        assert_eq!((turns[2].content.as_str(), turns[2].extra.len()), ("", 0));
        assert_eq!(turns[3].extra["tool_call_id"], "c1");
        assert_eq!(learned, Some(vec![4]), "weight 0 is not learned, an absent weight is 1");
        assert_eq!(tools.unwrap()[0]["function"]["name"], "weather");
        let plain = object(json!({"messages": [{"role": "user", "content": "Q"}]}));
        assert_eq!(chat(messages(&plain).unwrap()).2, None, "without weights --loss-on decides");
    }

    #[test]
    fn bad_turns_are_named() {
        let why = |turn: Value| messages(&object(json!({"messages": [turn]}))).unwrap_err();
        assert!(why(json!({"role": "asistant", "content": "x"})).contains("did you mean `assistant`?"));
        assert!(why(json!({"role": "user"})).contains("messages[0]: `content` is missing"));
        assert!(why(json!({"content": "x"})).contains("`role` is missing"));
        assert!(why(json!({"role": "user", "content": [{"type": "image_url"}]})).contains("image_url"));
        assert!(why(json!({"role": "assistant", "content": "x", "weight": 0.5})).contains("0 or 1"));
        let call =
            json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]});
        assert!(why(call).contains("no JSON"));
        assert!(why(json!("x")).contains("a text, not an object"));
        assert!(messages(&object(json!({"messages": []}))).unwrap_err().contains("empty"));
    }

    #[test]
    fn sharegpt_names_become_roles() {
        let row = object(json!({
            "system": "Be brief.",
            "tools": "[{\"name\": \"weather\"}]",
            "conversations": [
                {"from": "human", "value": "Weather?"},
                {"from": "function_call", "value": "{\"name\": \"weather\", \"arguments\": {\"city\": \"Vesk\"}}"},
                {"from": "observation", "value": "rain"},
                {"from": "gpt", "value": "Rain."},
            ],
        }));
        let (turns, tools, learned) = chat(sharegpt(&row).unwrap());
        let roles: Vec<&str> = turns.iter().map(|turn| turn.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
        assert_eq!(turns[2].tool_calls.as_ref().unwrap()[0]["function"]["name"], "weather");
        assert_eq!((tools.unwrap()[0]["function"]["name"].as_str(), learned), (Some("weather"), None));
        let why = |turn: Value| sharegpt(&object(json!({"conversations": [turn]}))).unwrap_err();
        assert!(why(json!({"from": "alien", "value": "x"})).contains("`alien`"));
        assert!(why(json!({"from": "gpt"})).contains("`value` is missing"));
    }
}
