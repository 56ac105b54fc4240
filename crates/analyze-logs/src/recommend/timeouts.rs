//! Time-outs: a longer limit where late calls do end, a shorter one and a circuit breaker where they hang.

use serde_json::json;

use super::context::Context;
use super::draft::Draft;
use super::facts::Facts;
use super::late::Late;
use super::say::{percent, seconds, short};
use super::score;
use crate::recommendation::{ActionType, Saving};

/// A limit that saves less than this share of the old one is not worth a change.
const SHORTER: f64 = 0.7;

pub(super) fn drafts(facts: Facts<'_>, context: &Context<'_>) -> Vec<Draft> {
    let daily = context.daily(facts.occurrences());
    let totals = context.totals(facts.operation());
    // Where not all calls say how long they took, the time-outs that do say where the limit is.
    let partly = totals.is_some_and(|totals| totals.sketch.count() < totals.calls);
    let limit = facts
        .seconds(&["limit", "timeout"])
        .or_else(|| facts.seconds(&["mean"]).filter(|mean| partly && *mean > 0.0));
    // Time-outs that took another time than the limit that shows ran into no limit of their own.
    let told = facts.seconds(&["mean"]).filter(|mean| *mean > 0.0);
    let fits = |late: &Late| told.is_none_or(|mean| (mean / late.limit_s - 1.0).abs() < 0.1);
    let late = totals.and_then(|totals| Late::of(totals, limit)).filter(fits);
    let Some(late) = late else {
        let mut draft = circuit(facts, daily);
        draft.reason.push_str(
            " How long its calls run before that is not in the logs, so no longer limit is proposed.",
        );
        draft.certainty = 0.9;
        return vec![draft, investigate(facts, daily)];
    };
    let longer = raise(facts, late, daily);
    if score::points(longer.saving, &context.settings.objectives) > 0.0 {
        return vec![longer];
    }
    let mut breaker = circuit(facts, daily);
    breaker.reason.push_str(&format!(
        " Of its calls that were still running at half the limit of {}, {} ended well: more time does not help.",
        seconds(late.limit_s),
        late.finished
    ));
    // Far below the limit the past says little of what a busy day needs.
    let shorter_s = (late.p99_s * 1.5).max(0.1 * late.limit_s);
    if late.finished == 0 && shorter_s < SHORTER * late.limit_s {
        return vec![breaker, lower(facts, late, shorter_s, daily)];
    }
    vec![breaker, investigate(facts, daily)]
}

fn raise(facts: Facts<'_>, late: Late, daily: f64) -> Draft {
    let suggested = late.longer_s();
    let recovered = late.recovered(suggested);
    let more = suggested - late.limit_s;
    // Who ends does so half-way on average, who does not waits to the end.
    let waiting = daily * more * (1.0 - recovered / 2.0);
    let mut draft = Draft::new(ActionType::ConfigUpdate, "raise_timeout", facts.operation()).saying(
        format!("Give {} {} instead of {}", name(facts), seconds(suggested), seconds(late.limit_s)),
        format!(
            "{} calls a day run into the limit of {}. In its second half {} calls end well for {} that do not, so that \
             with {} at least {} of them should end.",
            short(daily),
            seconds(late.limit_s),
            late.finished,
            late.unfinished,
            seconds(suggested),
            percent(recovered)
        ),
    );
    draft.saving =
        Saving { failures_per_day: daily * recovered, seconds_per_day: -waiting, ..Saving::default() };
    draft.with(json!({
        "suggested_timeout_s": suggested, "current_timeout_s": late.limit_s, "expected_recovered_share": recovered,
        "finished_late": late.finished, "timeouts": late.unfinished,
    }))
}

fn lower(facts: Facts<'_>, late: Late, shorter_s: f64, daily: f64) -> Draft {
    let mut draft = Draft::new(ActionType::ConfigUpdate, "lower_timeout", facts.operation()).saying(
        format!(
            "Give up on {} after {} instead of {}",
            name(facts),
            seconds(shorter_s),
            seconds(late.limit_s)
        ),
        format!(
            "{} calls a day wait {} for nothing, while 99 % of those that end well do so within {}.",
            short(daily),
            seconds(late.limit_s),
            seconds(late.p99_s)
        ),
    );
    draft.saving = Saving { seconds_per_day: daily * (late.limit_s - shorter_s), ..Saving::default() };
    draft.with(json!({"suggested_timeout_s": shorter_s, "current_timeout_s": late.limit_s}))
}

fn circuit(facts: Facts<'_>, daily: f64) -> Draft {
    let waited = facts.seconds(&["mean"]).unwrap_or(0.0);
    let mut draft = Draft::new(ActionType::ErrorHandling, "break_circuit", facts.operation()).saying(
        format!("Stop calling {} for a while when it times out", name(facts)),
        format!("{} calls a day of {} end in a time-out.", short(daily), name(facts)),
    );
    // An open circuit spares the waiting of about half of them; the work still fails.
    draft.saving = Saving { seconds_per_day: 0.5 * daily * waited, ..Saving::default() };
    draft.with(json!({"failure_threshold": 5, "open_s": 60.0}))
}

/// A person may find what a limit or a circuit breaker does not mend: half of it, say.
fn investigate(facts: Facts<'_>, daily: f64) -> Draft {
    let mut draft = Draft::new(ActionType::ErrorHandling, "investigate_timeouts", facts.operation()).saying(
        format!("Find out why {} times out", name(facts)),
        format!("{} calls a day of {} end in a time-out.", short(daily), name(facts)),
    );
    draft.saving = Saving { failures_per_day: 0.5 * daily, ..Saving::default() };
    draft
}

fn name(facts: Facts<'_>) -> &str {
    facts.operation().unwrap_or("the operation")
}
