//! One call as a line of each dialect.

use std::fmt::Write;

use super::world::{Call, What};

/// How a service writes its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The original's structlog lines.
    Original,
    /// Flat, milliseconds, nested session.
    Flat,
    /// OpenTelemetry GenAI spans with their attributes as an object.
    Otel,
}

/// All of them.
pub(crate) const DIALECTS: [Dialect; 3] = [Dialect::Original, Dialect::Flat, Dialect::Otel];

/// `2026-01-05T00:00:01.123456Z`.
fn iso(us: i64) -> String {
    let at = nightshift_core::jiff::Timestamp::from_microsecond(us).expect("a generated time");
    nightshift_core::clock::rfc3339(at)
}

/// Nano-dollars as a decimal number of dollars.
fn usd(nano: i64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

/// Appends the line of a call, newline included. Calls are logged when they begin (OpenTelemetry) or end.
pub(crate) fn write(dialect: Dialect, call: &Call<'_>, out: &mut String) {
    match dialect {
        Dialect::Original => original(call, out),
        Dialect::Flat => flat(call, out),
        Dialect::Otel => otel(call, out),
    }
    out.push('\n');
}

/// The task's name as one more key.
fn task(call: &Call<'_>, space: &str) -> String {
    call.task.map_or_else(String::new, |task| format!(",{space}\"task_name\":{space}\"{task}\""))
}

fn original(call: &Call<'_>, out: &mut String) {
    let seconds = format!("{}.{:06}", call.duration_us / 1_000_000, call.duration_us % 1_000_000);
    let (id, name, at) = (call.session, call.name, iso(call.at));
    let error = call.error.as_deref().map(quoted);
    let _ = match (call.what, error) {
        (What::Tool, error) => write!(
            out,
            r#"{{"tool_name": "{name}", "parameters": {{"query": {}, "limit": {}}}, "duration": {seconds}, "success": {}, "result": {}, "error": {}, "task_id": "{id:08x}"{}, "event": "tool_execution", "timestamp": "{at}"}}"#,
            quoted(call.argument),
            call.tokens.0 % 50,
            error.is_none(),
            quoted(call.text),
            error.as_deref().unwrap_or("null"),
            task(call, " "),
        ),
        (What::Llm, error) => write!(
            out,
            r#"{{"provider": "acme", "model": "{name}", "prompt_tokens": {}, "completion_tokens": {}, "total_tokens": {}, "duration": {seconds}, "estimated_cost": {}, "metadata": {{"task_id": "{id:08x}"{}, "prompt": {}}}, "error": {}, "event": "llm_interaction", "timestamp": "{at}"}}"#,
            call.tokens.0,
            call.tokens.1,
            call.tokens.0 + call.tokens.1,
            usd(call.cost_nano),
            task(call, " "),
            quoted(call.text),
            error.as_deref().unwrap_or("null"),
        ),
        (What::Task, None) => write!(
            out,
            r#"{{"task_id": "{id:08x}", "task_name": "{name}", "duration": {seconds}, "result": {}, "metadata": {{"host": "agent-{}"}}, "event": "task_complete", "timestamp": "{at}"}}"#,
            quoted(call.text),
            id % 7,
        ),
        (What::Task, Some(error)) => write!(
            out,
            r#"{{"task_id": "{id:08x}", "task_name": "{name}", "duration": {seconds}, "error": {error}, "error_type": "{}", "traceback": {}, "metadata": {{}}, "event": "task_error", "timestamp": "{at}"}}"#,
            call.error_type,
            quoted(call.text),
        ),
    };
}

fn flat(call: &Call<'_>, out: &mut String) {
    let kind = match call.what {
        What::Tool => "tool",
        What::Llm => "llm",
        What::Task => "task",
    };
    let failed = call.error.is_some();
    let _ = write!(
        out,
        r#"{{"ts":{},"level":"{}","kind":"{kind}","name":"{}","session":{{"id":"{:08x}","host":"agent-{}"}},"latency_ms":{}.{:03},"status":"{}"{}"#,
        call.at / 1000,
        if failed { "error" } else { "info" },
        call.name,
        call.session,
        call.session % 7,
        call.duration_us / 1000,
        call.duration_us % 1000,
        if failed { "error" } else { "ok" },
        task(call, ""),
    );
    let _ = match call.what {
        What::Tool => write!(out, r#","input":{{"query":{}}}"#, quoted(call.argument)),
        What::Llm => write!(
            out,
            r#","usage":{{"input_tokens":{},"output_tokens":{}}},"cost_usd":{}"#,
            call.tokens.0,
            call.tokens.1,
            usd(call.cost_nano)
        ),
        What::Task => Ok(()),
    };
    if let Some(error) = &call.error {
        let _ = write!(out, r#","err":{{"type":"{}","message":{}}}"#, call.error_type, quoted(error));
    }
    let _ = write!(out, r#","output":{}}}"#, quoted(call.text));
}

fn otel(call: &Call<'_>, out: &mut String) {
    let (operation, attribute) = match call.what {
        What::Tool => ("execute_tool", "gen_ai.tool.name"),
        What::Llm => ("chat", "gen_ai.request.model"),
        What::Task => ("invoke_agent", "gen_ai.agent.name"),
    };
    let _ = write!(
        out,
        r#"{{"traceId":"{:032x}","spanId":"{:016x}","name":"{operation} {}","kind":1,"startTimeUnixNano":"{}000","endTimeUnixNano":"{}000","attributes":{{"gen_ai.operation.name":"{operation}","{attribute}":"{}","session.id":"{:08x}"{}"#,
        call.session,
        call.at as u64 ^ call.session,
        call.name,
        call.at,
        call.at + call.duration_us as i64,
        call.name,
        call.session,
        task(call, ""),
    );
    let _ = match call.what {
        What::Tool => {
            write!(
                out,
                r#","gen_ai.tool.call.arguments":{}"#,
                quoted(&format!("{{\"query\": {}}}", quoted(call.argument)))
            )
        }
        What::Llm => write!(
            out,
            r#","gen_ai.usage.input_tokens":{},"gen_ai.usage.output_tokens":{},"gen_ai.usage.cost":{}"#,
            call.tokens.0,
            call.tokens.1,
            usd(call.cost_nano)
        ),
        What::Task => Ok(()),
    };
    let _ = write!(out, r#","gen_ai.output":{}"#, quoted(call.text));
    let _ = match &call.error {
        None => write!(out, r#"}},"status":{{"code":1}}}}"#),
        Some(error) => write!(
            out,
            r#","error.type":"{}"}},"status":{{"code":2,"message":{}}}}}"#,
            call.error_type,
            quoted(error)
        ),
    };
}
