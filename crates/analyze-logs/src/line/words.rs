//! What the words of logs mean: kinds of events and outcomes.

use super::Kind;

/// What an event's or operation's word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Meaning {
    /// What was run.
    pub(super) kind: Option<Kind>,
    /// It only began: no call yet.
    pub(super) starts: bool,
    /// It failed.
    pub(super) fails: bool,
}

const TOOLS: &[&str] = &[
    "tool",
    "tool_execution",
    "tool_call",
    "tool_use",
    "tool_invocation",
    "tool_run",
    "execute_tool",
    "function",
    "function_call",
    "function_execution",
    "skill",
    "skill_execution",
    "skill_call",
    "mcp_tool_call",
    "tools/call",
    "tool_end",
];
const LLMS: &[&str] = &[
    "llm",
    "llm_interaction",
    "llm_call",
    "llm_completion",
    "chat",
    "chat_completion",
    "chat_completions",
    "completion",
    "completions",
    "text_completion",
    "acompletion",
    "atext_completion",
    "generate_content",
    "embedding",
    "embeddings",
    "aembedding",
    "responses",
    "aresponses",
    "generation",
    "model_call",
    "inference",
    "chat.completion",
];
const TASKS: &[&str] = &[
    "task",
    "task_execution",
    "task_run",
    "job",
    "job_run",
    "workflow",
    "agent",
    "agent_run",
    "invoke_agent",
    "invoke_workflow",
];
const STARTS: &[&str] =
    &["_start", "_started", "_begin", "_request", "_requested", "_queued", "_scheduled", "_pending"];
const ENDS: &[&str] = &[
    "_end",
    "_ended",
    "_complete",
    "_completed",
    "_finish",
    "_finished",
    "_done",
    "_success",
    "_succeeded",
    "_result",
    "_response",
];
const FAILS: &[&str] =
    &["_error", "_errored", "_failed", "_failure", "_fail", "_exception", "_timeout", "_timed_out"];

impl Meaning {
    /// Of a word such as `tool_execution`, `task.completed` or `LLM`; `own` are words of the config.
    pub(super) fn of(word: &str, own: &[(String, Kind)]) -> Self {
        let word = word.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        if let Some((_, kind)) = own.iter().find(|(known, _)| *known == word) {
            return Self { kind: Some(*kind), ..Self::default() };
        }
        let kind = |word: &str| {
            let is = |words: &[&str]| words.contains(&word);
            if is(TOOLS) {
                Some(Kind::Tool)
            } else if is(LLMS) {
                Some(Kind::Llm)
            } else if is(TASKS) {
                Some(Kind::Task)
            } else {
                None
            }
        };
        if let Some(kind) = kind(&word) {
            return Self { kind: Some(kind), ..Self::default() };
        }
        let word = word.replace(['.', ':'], "_");
        if let Some(kind) = kind(&word) {
            return Self { kind: Some(kind), ..Self::default() };
        }
        let stem = |endings: &[&str]| endings.iter().find_map(|ending| word.strip_suffix(ending));
        if let Some(stem) = stem(STARTS) {
            return Self { kind: kind(stem), starts: true, fails: false };
        }
        if let Some(stem) = stem(FAILS) {
            return Self { kind: kind(stem), starts: false, fails: true };
        }
        Self { kind: stem(ENDS).and_then(kind), ..Self::default() }
    }
}

/// Whether a status says that the call went well; `None` when it says neither.
pub(super) fn outcome(status: &str) -> Option<bool> {
    let status = status.trim().to_ascii_lowercase().replace(['-', ' '], "_");
    plain_outcome(status.strip_prefix("status_code_").unwrap_or(&status).as_bytes())
}

/// The same of a status as most programs write it.
pub(super) fn plain_outcome(status: &[u8]) -> Option<bool> {
    match status {
        b"ok" | b"success" | b"succeeded" | b"successful" | b"pass" | b"passed" => Some(true),
        b"error" | b"err" | b"errored" | b"fail" | b"failed" | b"failure" | b"exception" | b"timeout"
        | b"timed_out" | b"time_out" | b"cancelled" | b"canceled" | b"aborted" | b"rejected" | b"denied"
        | b"unavailable" | b"deadline_exceeded" | b"killed" | b"crashed" => Some(false),
        _ => None,
    }
}

/// Whether a level alone says that something failed.
pub(super) fn level_fails(level: &str) -> bool {
    let fails = ["error", "critical", "fatal", "alert", "emergency", "panic"];
    fails.iter().any(|word| level.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        let of = |word| Meaning::of(word, &[("skill_run".to_owned(), Kind::Tool)]);
        let call = |kind| Meaning { kind: Some(kind), starts: false, fails: false };
        for (word, want) in [
            ("tool_execution", call(Kind::Tool)),
            ("Execute-Tool", call(Kind::Tool)),
            ("llm_interaction", call(Kind::Llm)),
            ("chat", call(Kind::Llm)),
            ("chat.completion", call(Kind::Llm)),
            ("GENERATION", call(Kind::Llm)),
            ("task_complete", call(Kind::Task)),
            ("invoke_agent", call(Kind::Task)),
            ("task.completed", call(Kind::Task)),
            ("skill_run", call(Kind::Tool)),
            ("task_error", Meaning { fails: true, ..call(Kind::Task) }),
            ("tool_call_failed", Meaning { fails: true, ..call(Kind::Tool) }),
            ("task_start", Meaning { starts: true, ..call(Kind::Task) }),
            ("user_message", Meaning::default()),
        ] {
            assert_eq!(of(word), want, "{word}");
        }
    }

    #[test]
    fn outcomes() {
        assert_eq!(outcome("STATUS_CODE_ERROR"), Some(false));
        assert_eq!(outcome("Succeeded"), Some(true));
        assert_eq!(outcome("completed"), None, "ended, well or not");
        assert!(level_fails("ERROR") && !level_fails("warning"));
    }
}
