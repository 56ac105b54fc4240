//! Chains of calls that were for nothing.

use std::collections::BTreeMap;

use nightshift_stats::special::binomial_tail;
use serde_json::json;

use super::{Draft, Look, Loss, lines, numbers, percent, seconds, share, time_text, usd, usd_text};
use crate::detect::{Waste, WasteKind, Wasted};
use crate::pattern::{Pattern, PatternType};
use crate::read::NONE;

/// Wasted calls that are a pattern even if they are few chains.
const MANY_CALLS: u64 = 10;
/// The probability that tools take turns that often by chance.
const CHANCE: f64 = 1e-4;
/// When more of a task's sessions take turns than this, that is how the task is done.
const USUAL: f64 = 0.5;

pub(super) fn find(look: &Look<'_>) -> Vec<Pattern> {
    // By name: numbers are not the same on every machine.
    let mut wastes = BTreeMap::new();
    for (waste, wasted) in &look.outcomes.wastes {
        let mut names: Vec<String> =
            [waste.op, waste.other].into_iter().filter_map(|op| look.name(op)).collect();
        names.sort();
        wastes.insert((waste.kind, names, look.name(waste.task)), (waste, wasted));
    }
    let few = look.settings.min_error_occurrences;
    wastes
        .into_iter()
        .filter(|(_, (waste, wasted))| {
            (wasted.chains >= few || wasted.calls >= MANY_CALLS) && !(by_chance(look, waste, wasted))
        })
        .map(|((kind, names, task), (waste, wasted))| {
            pattern(look, kind, &names, task.as_deref(), waste, wasted)
        })
        .collect()
}

/// Turns that independent choices of the tools explain, or that nearly every session of the task takes.
fn by_chance(look: &Look<'_>, waste: &Waste, wasted: &Wasted) -> bool {
    let (WasteKind::PingPong, Some(runs)) = (waste.kind, look.outcomes.runs.get(&waste.task)) else {
        return false;
    };
    let calls = |op| look.outcomes.uses.get(&(waste.task, op)).map_or(0, |of| of.calls) as f64;
    let tools = look
        .outcomes
        .uses
        .iter()
        .filter(|((task, op), _)| *task == waste.task && look.ops.get(*op).0 == crate::line::Kind::Tool);
    let all = tools.map(|(_, of)| of.calls).sum::<u64>().max(1) as f64;
    let (a, b) = (calls(waste.op) / all, calls(waste.other) / all);
    let chance = (2.0 * a * a * b * b).min(1.0);
    let p = binomial_tail(runs.windows.max(wasted.chains), chance, wasted.chains).unwrap_or(1.0);
    p > CHANCE || share(wasted.sessions.sessions, runs.all.sessions) > USUAL
}

fn pattern(
    look: &Look<'_>,
    kind: WasteKind,
    names: &[String],
    task: Option<&str>,
    waste: &Waste,
    wasted: &Wasted,
) -> Pattern {
    let (name, what) = (
        names.first().map_or("", String::as_str),
        match kind {
            WasteKind::Repeat => "repeat",
            WasteKind::PingPong => "ping_pong",
            WasteKind::RetryStorm => "retry_storm",
        },
    );
    let did = match kind {
        WasteKind::Repeat => format!("called {name} again with the same arguments"),
        WasteKind::PingPong => format!("went back and forth between {}", names.join(" and ")),
        WasteKind::RetryStorm => format!("let {name} fail again and again within seconds"),
    };
    let runs = look.outcomes.runs.get(&waste.task).copied().unwrap_or_default();
    let sessions = wasted.sessions.sessions;
    // Calls without an id are in no session that counts.
    let all = runs.all.sessions.max(sessions);
    let who = match task {
        Some(task) => format!("{sessions} of {all} sessions of {task} ({})", percent(share(sessions, all))),
        None if sessions == 1 => "One session without a known task".to_owned(),
        None => format!("{sessions} sessions without a known task"),
    };
    let mut description = format!(
        "{who} {did}, up to {} calls in a row: {} calls for nothing, {}",
        wasted.longest,
        wasted.calls,
        time_text(seconds(wasted.us)),
    );
    if wasted.nano > 0 {
        description += &format!(" and {}", usd_text(usd(wasted.nano)));
    }
    let mean = |us: u64, sessions: u64| seconds(us) / sessions.max(1) as f64;
    let mean_usd = |nano: i64, sessions: u64| usd(nano) / sessions.max(1) as f64;
    if runs.clean.sessions > 0 {
        description += &format!(
            "; such a session takes {}, one without waste {}",
            time_text(mean(wasted.sessions.us, sessions)),
            time_text(mean(runs.clean.us, runs.clean.sessions))
        );
    }
    description.push('.');
    let failures = if kind == WasteKind::RetryStorm { wasted.calls as f64 } else { 0.0 };
    let loss = Loss { failures, seconds: seconds(wasted.us), usd: usd(wasted.nano) };
    let mut metadata = numbers([
        ("wasted_s", seconds(wasted.us)),
        ("wasted_usd", usd(wasted.nano)),
        ("rate", share(sessions, all)),
        ("rate_lower", super::bounds(sessions, all, super::CONFIDENCE).0),
        ("session_mean_s", mean(wasted.sessions.us, sessions)),
        ("other_session_mean_s", mean(runs.clean.us, runs.clean.sessions)),
        ("session_mean_usd", mean_usd(wasted.sessions.nano, sessions)),
        ("other_session_mean_usd", mean_usd(runs.clean.nano, runs.clean.sessions)),
        ("session_failure_rate", share(wasted.sessions.failed, sessions)),
        ("other_session_failure_rate", share(runs.clean.failed, runs.clean.sessions)),
    ]);
    metadata.extend([
        ("kind".to_owned(), json!(what)),
        ("wasted_calls".to_owned(), json!(wasted.calls)),
        ("longest_chain".to_owned(), json!(wasted.longest)),
        ("sessions".to_owned(), json!(sessions)),
        ("sessions_of_task".to_owned(), json!(all)),
        ("task".to_owned(), json!(task)),
        ("with".to_owned(), json!(names.get(1))),
    ]);
    let draft = Draft {
        kind: PatternType::InefficientChain,
        operation: (waste.op != NONE).then(|| name.to_owned()),
        template: None,
        occurrences: wasted.chains,
        impact: look.impact(loss, look.days),
        span: wasted.span,
        description,
        metadata,
    };
    let about: Vec<&str> = [what].into_iter().chain(names.iter().map(String::as_str)).chain(task).collect();
    let calls = names.join(" and ");
    draft.pattern(&about, lines(wasted.longest_ones.lines(), |line| format!("{calls}: {} calls", -line.rank)))
}
