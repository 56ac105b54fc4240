//! The built-in names: which keys have which role, by the node that they lie in.

use super::roles::Role;

/// Names of the roles in `analyze_logs.roles`, with the power of ten of their unit.
pub(super) const NAMED: &[(&str, Role, i8)] = &[
    ("time", Role::Time, 0),
    ("start", Role::Start, 0),
    ("end", Role::End, 0),
    ("duration_s", Role::Duration, 0),
    ("duration_ms", Role::Duration, -3),
    ("duration_us", Role::Duration, -6),
    ("duration_ns", Role::Duration, -9),
    ("event", Role::Event, 0),
    ("tool", Role::Tool, 0),
    ("model", Role::Model, 0),
    ("task", Role::Task, 0),
    ("name", Role::Name, 0),
    ("success", Role::Success, 0),
    ("timed_out", Role::TimedOut, 0),
    ("status", Role::Status, 0),
    ("http_status", Role::HttpStatus, 0),
    ("level", Role::Level, 0),
    ("error", Role::Error, 0),
    ("error_type", Role::ErrorType, 0),
    ("message", Role::Message, 0),
    ("cost_usd", Role::Cost, 0),
    ("task_id", Role::TaskId, 0),
    ("session_id", Role::Session, 0),
    ("trace_id", Role::Trace, 0),
    ("parameters", Role::Params, 0),
    ("prompt_tokens", Role::PromptTokens, 0),
    ("completion_tokens", Role::CompletionTokens, 0),
];

/// A place in a line whose keys have meanings of their own.
pub(super) type Node = u8;
/// The line itself.
pub(super) const TOP: Node = 0;
/// Its attributes: the same names as in the line, and weaker.
pub(super) const INSIDE: Node = 1;
pub(super) const ERROR: Node = 2;
pub(super) const STATUS: Node = 3;
pub(super) const USAGE: Node = 4;
pub(super) const SESSION: Node = 5;
pub(super) const TASK: Node = 6;
pub(super) const TOOL: Node = 7;
pub(super) const REQUEST: Node = 8;
pub(super) const RESPONSE: Node = 9;
pub(super) const META: Node = 10;
/// Nodes that `analyze_logs.roles` adds begin here.
pub(super) const OWN: Node = 11;

/// Keys whose objects (or lists of key and value, as OTLP has them) are looked into.
pub(super) const CHILDREN: &[(&[Node], &[&str], Node)] = &[
    (
        &[TOP],
        &["attributes", "span_attributes", "SpanAttributes", "fields", "extra", "data", "payload", "context"],
        INSIDE,
    ),
    (&[TOP, INSIDE, RESPONSE], &["error", "exception", "err", "error_information"], ERROR),
    (&[TOP, INSIDE], &["status"], STATUS),
    (&[TOP, INSIDE, RESPONSE], &["usage", "token_usage", "usageDetails", "usage_details"], USAGE),
    (&[TOP, INSIDE], &["session", "conversation", "thread"], SESSION),
    (&[TOP, INSIDE], &["task", "job"], TASK),
    (&[TOP, INSIDE], &["tool", "function"], TOOL),
    (&[TOP], &["request"], REQUEST),
    (&[TOP], &["response"], RESPONSE),
    (&[TOP, INSIDE], &["metadata", "meta"], META),
];

/// Names by role, the best first, for the line and its attributes.
pub(super) const COMMON: &[(Role, i8, &[&str])] = &[
    (
        Role::Time,
        0,
        &[
            "timestamp",
            "@timestamp",
            "ts",
            "time",
            "Timestamp",
            "timeUnixNano",
            "time_unix_nano",
            "datetime",
            "date",
            "asctime",
            "observedTimeUnixNano",
            "created_at",
            "createdAt",
            "created",
            "request_created_at",
            "at",
        ],
    ),
    (
        Role::Start,
        0,
        &[
            "startTimeUnixNano",
            "start_time_unix_nano",
            "start_time",
            "startTime",
            "StartTime",
            "started_at",
            "start",
            "start_ts",
        ],
    ),
    (
        Role::End,
        0,
        &[
            "endTimeUnixNano",
            "end_time_unix_nano",
            "end_time",
            "endTime",
            "EndTime",
            "ended_at",
            "finished_at",
            "end",
            "end_ts",
        ],
    ),
    (
        Role::Operation,
        0,
        &[
            "gen_ai.operation.name",
            "openinference.span.kind",
            "traceloop.span.kind",
            "call_type",
            "operation_name",
            "operation",
        ],
    ),
    (
        Role::Event,
        0,
        &["event", "event_type", "eventType", "event_name", "event.name", "type", "kind", "object"],
    ),
    (
        Role::Tool,
        0,
        &[
            "tool_name",
            "toolName",
            "gen_ai.tool.name",
            "tool.name",
            "tool",
            "function_name",
            "function",
            "skill",
            "skill_name",
        ],
    ),
    (
        Role::Model,
        0,
        &[
            "model",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "model_name",
            "modelName",
            "llm.model_name",
            "provided_model_name",
            "request_model",
            "response_model",
            "model_id",
        ],
    ),
    (
        Role::Task,
        0,
        &[
            "task_name",
            "taskName",
            "task",
            "gen_ai.agent.name",
            "agent_name",
            "agent",
            "job_name",
            "job",
            "workflow",
        ],
    ),
    (Role::Name, 0, &["name", "span_name", "spanName"]),
    (Role::Success, 0, &["success", "ok", "succeeded", "is_success"]),
    (Role::TimedOut, 0, &["timed_out", "timedOut", "is_timeout", "timeout"]),
    (Role::Status, 0, &["status", "outcome", "otel.status_code", "status_text"]),
    (
        Role::HttpStatus,
        0,
        &[
            "status_code",
            "statusCode",
            "http_status",
            "http.status_code",
            "http.response.status_code",
            "response_status",
        ],
    ),
    (Role::Level, 0, &["level", "severity", "severityText", "SeverityText", "levelname", "log_level"]),
    (
        Role::Error,
        0,
        &[
            "error",
            "error_message",
            "errorMessage",
            "error_str",
            "exception.message",
            "exception",
            "err",
            "status_message",
            "statusMessage",
        ],
    ),
    (
        Role::ErrorType,
        0,
        &[
            "error_type",
            "errorType",
            "error.type",
            "exception.type",
            "exception_type",
            "error_class",
            "error_code",
            "failure_class",
        ],
    ),
    (Role::Message, 0, &["message", "msg", "body"]),
    (
        Role::Cost,
        0,
        &[
            "estimated_cost",
            "cost_usd",
            "cost",
            "response_cost",
            "total_cost",
            "totalCost",
            "spend",
            "gen_ai.usage.cost",
            "llm.cost.total",
            "usd",
            "price_usd",
            "costUsd",
        ],
    ),
    (Role::Cost, -2, &["cost_cents"]),
    (Role::Cost, -6, &["cost_micro_usd", "cost_micros", "cost_micro"]),
    (Role::TaskId, 0, &["task_id", "taskId", "task.id", "job_id", "run_id", "runId"]),
    (
        Role::Session,
        0,
        &[
            "session_id",
            "sessionId",
            "session.id",
            "session",
            "gen_ai.conversation.id",
            "conversation_id",
            "thread_id",
        ],
    ),
    (Role::Trace, 0, &["trace_id", "traceId", "TraceId", "litellm_call_id"]),
    (
        Role::Params,
        0,
        &[
            "parameters",
            "params",
            "arguments",
            "args",
            "tool_input",
            "input",
            "gen_ai.tool.call.arguments",
            "kwargs",
        ],
    ),
    (
        Role::PromptTokens,
        0,
        &[
            "prompt_tokens",
            "input_tokens",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.token_count.prompt",
        ],
    ),
    (
        Role::CompletionTokens,
        0,
        &[
            "completion_tokens",
            "output_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
        ],
    ),
];

/// Stems of durations and what their endings say of the unit; without an ending it is seconds.
pub(super) const STEMS: &[&str] = &[
    "duration",
    "latency",
    "elapsed",
    "response_time",
    "responseTime",
    "request_duration",
    "execution_time",
    "executionTime",
    "processing_time",
    "total_duration",
    "time_taken",
    "took",
    "runtime",
    "delay",
    "wall_time",
];
pub(super) const ENDINGS: &[(&str, i8)] = &[
    ("", 0),
    ("_s", 0),
    ("_sec", 0),
    ("_secs", 0),
    ("_seconds", 0),
    ("Seconds", 0),
    ("_ms", -3),
    ("Ms", -3),
    ("_millis", -3),
    ("_milliseconds", -3),
    ("_us", -6),
    ("_micros", -6),
    ("_ns", -9),
    ("_nanos", -9),
    ("Nano", -9),
];

/// Names that count in one node only.
pub(super) const SPECIAL: &[(Node, Role, &[&str])] = &[
    (ERROR, Role::Error, &["message", "msg", "error_message", "detail", "reason", "description", "text"]),
    (ERROR, Role::ErrorType, &["type", "error_type", "class", "error_class", "name", "code", "error_code"]),
    (STATUS, Role::Status, &["code", "status_code", "statusCode", "status"]),
    (STATUS, Role::Error, &["message", "description"]),
    (USAGE, Role::PromptTokens, &["prompt_tokens", "input_tokens", "input"]),
    (USAGE, Role::CompletionTokens, &["completion_tokens", "output_tokens", "output"]),
    (USAGE, Role::Cost, &["cost", "total_cost", "cost_usd"]),
    (SESSION, Role::Session, &["id", "session_id", "sessionId"]),
    (TASK, Role::TaskId, &["id", "task_id"]),
    (TASK, Role::Task, &["name", "task_name", "type"]),
    (TOOL, Role::Tool, &["name", "tool_name"]),
    (TOOL, Role::Params, &["arguments", "parameters", "input", "args"]),
    (REQUEST, Role::Model, &["model"]),
    (RESPONSE, Role::Model, &["model"]),
    (RESPONSE, Role::Time, &["created"]),
    (META, Role::TaskId, &["task_id", "taskId", "run_id"]),
    (META, Role::Task, &["task_name", "taskName", "task"]),
    (META, Role::Session, &["session_id", "sessionId", "conversation_id", "thread_id"]),
    (META, Role::Trace, &["trace_id", "traceId"]),
];
