//! Recurring and new errors: retry what passes by itself, mend what does not. A permanent error is never retried.

use std::sync::LazyLock;

use regex::bytes::RegexSet;
use serde_json::json;

use super::context::{Context, error_rate};
use super::draft::Draft;
use super::facts::Facts;
use super::say::{percent, short};
use crate::pattern::PatternType;
use crate::recommendation::{ActionType, Saving};

/// Why an error happens, as far as its text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The other side asks to come more slowly.
    RateLimited,
    /// Time ran out.
    TimedOut,
    /// The other side or the way to it was down for a moment.
    Unavailable,
    /// This machine has too little of something.
    Resource,
    /// It may not: keys, rights, quota.
    Denied,
    /// What was asked for is wrong, and stays wrong.
    Invalid,
    /// The text does not say.
    Unknown,
}

/// Of a text that fits several classes, the first one counts: what never passes by itself comes first.
const CLASSES: [(ErrorClass, &str); 6] = [
    (
        ErrorClass::Denied,
        r"(?i-u)permission|forbidden|unauthori[sz]ed|authenticat|access denied|not allowed|invalid (api )?(key|token|credential)|expired (key|token|credential)|certificate|\b40[13]\b|quota|billing|payment required|\b402\b",
    ),
    (
        ErrorClass::Invalid,
        r"(?i-u)not ?found|no such (file|key|host|table|column|module|model)|does not exist|\b(400|404|405|409|410|413|415|422)\b|bad request|invalid|malformed|syntax ?error|parse ?error|unexpected token|key ?error|value ?error|type ?error|index ?error|attribute ?error|name ?error|assertion|is missing|missing (key|field|column|argument|parameter)|out of range|schema|checksum|unsupported|not implemented|context.length|too long|unknown (argument|column|field|model|tool)|bad value|unprocessable|null pointer|cannot read propert",
    ),
    (
        ErrorClass::Resource,
        r"(?i-u)no space left|disk (is )?full|enospc|out of memory|\boom\b|memory ?error|cannot allocate|killed|signal 9|sigkill|too many open files|emfile|resource exhausted",
    ),
    (
        ErrorClass::RateLimited,
        r"(?i-u)rate.?limit|too many requests|\b429\b|throttl|overloaded|\b529\b|slow down|retry.after",
    ),
    (
        ErrorClass::TimedOut,
        r"(?i-u)time(d)?[ _-]?out|deadline.?exceeded|took too long|gave up after|etimedout|\b(408|504)\b",
    ),
    (
        ErrorClass::Unavailable,
        r"(?i-u)unavailable|\b50[023]\b|bad gateway|internal server error|connection ?(error|reset|refused|aborted|closed|lost)|econn|epipe|broken pipe|reset by peer|temporar|try again|eai_again|\bdns\b|network|unreachable|deadlock|lock wait|\blocked\b|server disconnected|\beof\b",
    ),
];

static WORDS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(CLASSES.map(|(_, words)| words)).expect("the patterns of the classes are valid")
});

/// The class of an error, from its class's name and its text.
pub fn classify(error_type: &str, text: &str) -> ErrorClass {
    let found = WORDS.matches(format!("{error_type}\n{text}").as_bytes());
    found.iter().next().map_or(ErrorClass::Unknown, |first| CLASSES[first].0)
}

impl ErrorClass {
    /// The same call may succeed a moment later.
    pub const fn passes_by_itself(self) -> bool {
        matches!(self, Self::RateLimited | Self::TimedOut | Self::Unavailable)
    }
}

pub(super) fn drafts(facts: Facts<'_>, all: &[Facts<'_>], context: &Context<'_>) -> Vec<Draft> {
    let error_type = facts.text(&["error_type", "error_class"]).unwrap_or_default();
    let text = facts.pattern.template.as_deref().or_else(|| facts.text(&["template", "message"]));
    let text = text.unwrap_or(&facts.pattern.description);
    let class = classify(error_type, text);
    let place = facts.operation().map_or_else(String::new, |operation| format!(" in {operation}"));
    let daily = context.daily(facts.occurrences());
    // New errors are asked about; a retry is for those that came often enough to know them.
    if facts.pattern.pattern_type == PatternType::NewTemplate {
        let draft = Draft::new(ActionType::ErrorHandling, "investigate_error", facts.operation()).saying(
            format!("Look into a new error{place}: {}", excerpt(text)),
            format!("It was not seen before and then {} times.", facts.pattern.occurrences),
        );
        return vec![named(draft, error_type, text, "investigate", daily, 0.0)];
    }
    let stormy = all.iter().any(|other| {
        other.is(PatternType::InefficientChain, facts.operation())
            && other.text(&["kind"]).is_some_and(|kind| kind.contains("storm"))
    });
    let what = format!("{} failed {} times a day with: {}.", subject(facts), short(daily), excerpt(text));
    let draft = if class.passes_by_itself() {
        retry(facts, class, stormy, context, &what, &place)
    } else {
        mend(facts, class, &what, &place)
    };
    // An independent second call would succeed as often as the operation does; what made the first one fail is still
    // there half of the time.
    let again = context.totals(facts.operation()).map(|totals| 0.5 * (1.0 - error_rate(totals)));
    let share = if class.passes_by_itself() { again.unwrap_or(0.25) } else { 1.0 };
    let suggested = match class {
        _ if class.passes_by_itself() => "add_retry_logic",
        ErrorClass::Resource => "free_resources",
        ErrorClass::Denied => "fix_access",
        ErrorClass::Invalid => "validate_input",
        _ => "investigate",
    };
    let breaks = draft.action == "break_circuit";
    let mut draft = named(draft, error_type, text, suggested, daily, if breaks { 0.0 } else { share });
    if class == ErrorClass::Unknown || (class.passes_by_itself() && again.is_none()) {
        draft.certainty = 0.9;
    }
    if !breaks {
        return vec![draft];
    }
    // An open circuit mends nothing.
    let look = Draft::new(ActionType::ErrorHandling, "investigate_error", facts.operation())
        .saying(format!("Find out why nearly all fails{place}"), what);
    vec![draft, named(look, error_type, text, "investigate", daily, 0.5)]
}

fn retry(
    facts: Facts<'_>,
    class: ErrorClass,
    stormy: bool,
    context: &Context<'_>,
    what: &str,
    place: &str,
) -> Draft {
    let new = |action| Draft::new(ActionType::ErrorHandling, action, facts.operation());
    if stormy || class == ErrorClass::RateLimited {
        let why = if stormy {
            "It is repeated within seconds already, so more retries would only add load: wait longer between them."
        } else {
            "The other side asks to be called less often: wait before calling again, doubling the wait."
        };
        return new("back_off")
            .with(json!({"max_retries": 3, "initial_backoff_s": 2.0, "backoff_factor": 2.0, "jitter": true}))
            .saying(format!("Wait longer between attempts{place}"), what.to_owned())
            .advising(why);
    }
    let rate = context.totals(facts.operation()).map(error_rate);
    if let Some(rate) = rate.filter(|rate| *rate > 0.5) {
        return new("break_circuit")
            .with(json!({"failure_threshold": 5, "open_s": 60.0}))
            .saying(
                format!("Stop calling for a while when it fails{place}"),
                format!("{what} {} of its calls fail.", percent(rate)),
            )
            .advising("Where most calls fail a retry would fail too: break the circuit instead.");
    }
    new("add_retry")
        .with(json!({"max_retries": 2, "initial_backoff_s": 1.0, "backoff_factor": 2.0, "jitter": true}))
        .saying(format!("Retry what fails for a moment{place}"), what.to_owned())
        .advising("Such errors pass by themselves: try again, twice, with a growing wait.")
}

fn mend(facts: Facts<'_>, class: ErrorClass, what: &str, place: &str) -> Draft {
    let (action, title, why) = match class {
        ErrorClass::Invalid => (
            "validate_input",
            "Check the input before calling",
            "The same call fails again, so a retry does not help: check its input first, or mend who makes it.",
        ),
        ErrorClass::Denied => (
            "fix_access",
            "Mend keys, rights or quota",
            "It is refused, so a retry does not help: keys, rights or quota need a person.",
        ),
        ErrorClass::Resource => (
            "free_resources",
            "Give it the resources that it lacks",
            "The machine lacks memory, disk or handles, so a retry adds to the load.",
        ),
        _ => (
            "investigate_error",
            "Look into a recurring error",
            "Its text does not say whether it passes by itself, so no retry is proposed.",
        ),
    };
    Draft::new(ActionType::ErrorHandling, action, facts.operation())
        .saying(format!("{title}{place}"), what.to_owned())
        .advising(why)
}

/// The error's names for whoever carries it out; of the daily failures, `share` would go.
fn named(
    mut draft: Draft,
    error_type: &str,
    text: &str,
    suggested_action: &str,
    daily: f64,
    share: f64,
) -> Draft {
    // One proposal for all errors of an operation that the same thing helps against.
    if draft.action == "investigate_error" {
        text.clone_into(&mut draft.about);
    }
    draft.saving = Saving { failures_per_day: daily * share, ..Saving::default() };
    draft.with(json!({"error_type": error_type, "template": text, "suggested_action": suggested_action}))
}

fn subject(facts: Facts<'_>) -> &str {
    facts.operation().unwrap_or("Something")
}

/// The beginning of a template, in quotes.
fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("\"{short}{dots}\"")
}
