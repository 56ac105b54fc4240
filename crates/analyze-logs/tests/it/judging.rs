//! The judge: decisions on sides made by hand, and `judge` as a command.

use nightshift_analyze_logs::judge::hours::{Calls, Side};
use nightshift_analyze_logs::judge::{
    Asked, Baseline, Basis, Decision, Hours, Looks, Pairs, Question, Verdict, decide, steady,
};
use nightshift_core::clock::{parse_time, rfc3339};
use nightshift_core::config::{Guard, Judge, Unproven};
use nightshift_core::jiff::ToSpan;
use nightshift_testkit::Home;
use serde_json::json;

const HOUR_US: i64 = 3_600_000_000;
/// An hour of 2026.
const CHANGE: i32 = 492_000;

fn question(late_us: Option<u64>) -> Question {
    let at = i64::from(CHANGE) * HOUR_US;
    Question {
        scope: Vec::new(),
        at,
        baseline_from: at - 168 * HOUR_US,
        without: Vec::new(),
        until: at + 168 * HOUR_US,
        late_us,
        split: None,
    }
}

/// Calls in each of `hours` hours from `from` on: every `nth` fails, all take `ms`.
fn fill(hours: &mut Hours, from: i32, count: i32, side: Side, (calls, nth, us): (u64, u64, u64)) {
    for hour in from..from + count {
        let sides = hours.0.entry(hour).or_default();
        let one = match side {
            Side::Before => &mut sides.before,
            Side::After => &mut sides.after,
        };
        add(one, calls, nth, us);
    }
}

fn add(side: &mut Calls, calls: u64, nth: u64, us: u64) {
    side.cell.calls += calls;
    side.cell.errors += calls.checked_div(nth).unwrap_or(0);
    for call in 0..calls {
        let us = us + call * us / 50;
        side.cell.sketch.add(us);
        side.cell.duration_us += us;
        let (least, most) = side.cell.extremes.unwrap_or((us, us));
        side.cell.extremes = Some((least.min(us), most.max(us)));
    }
}

fn judge(hours: &Hours, asked: Asked) -> Verdict {
    decide(&Pairs::of(hours, &question(asked.late_us)), &Judge::default(), asked)
}

fn sides(before: (u64, u64, u64), after: (u64, u64, u64)) -> Hours {
    let mut hours = Hours::default();
    fill(&mut hours, CHANGE - 168, 50, Side::Before, before);
    fill(&mut hours, CHANGE, 50, Side::After, after);
    hours
}

#[test]
fn worse_is_taken_back_better_and_equal_are_kept() {
    let base = (60, 10, 200_000);
    let at = Asked { hours_gone: 50.0, ..Asked::default() };
    for (after, decision, basis) in [
        ((60, 10, 200_000), Decision::Keep, Basis::NonInferior),
        ((60, 20, 150_000), Decision::Keep, Basis::NonInferior),
        ((60, 5, 200_000), Decision::Revert, Basis::Worse),
        ((60, 10, 300_000), Decision::Revert, Basis::Worse),
    ] {
        let verdict = judge(&sides(base, after), at);
        assert_eq!((verdict.decision, verdict.basis), (decision, basis), "{}", verdict.why);
        assert_eq!((verdict.baseline, verdict.calls), (Baseline::SameHoursOfWeek, [3000, 3000]));
    }
}

#[test]
fn asking_often_is_no_further_look() {
    let hours = {
        let mut hours = Hours::default();
        fill(&mut hours, CHANGE - 168, 30, Side::Before, (40, 10, 200_000));
        fill(&mut hours, CHANGE, 6, Side::After, (40, 10, 200_000));
        hours
    };
    let first = judge(&hours, Asked { hours_gone: 6.0, ..Asked::default() });
    assert_eq!((first.decision, first.basis, first.looks.taken), (Decision::Wait, Basis::Undecided, 1));
    assert!(first.looks.spent < 1e-4, "the first look may spend next to nothing: {:?}", first.looks);
    let again = judge(&hours, Asked { hours_gone: 7.0, looks: first.looks, ..Asked::default() });
    assert_eq!((again.basis, again.looks), (Basis::TooEarly, first.looks));
}

#[test]
fn all_looks_together_spend_alpha_and_no_more() {
    let mut looks = Looks::default();
    for count in [6, 13, 26] {
        let mut hours = Hours::default();
        fill(&mut hours, CHANGE - 168, 60, Side::Before, (40, 10, 200_000));
        fill(&mut hours, CHANGE, count, Side::After, (40, 9, 200_000));
        let verdict = judge(&hours, Asked { hours_gone: f64::from(count), looks, ..Asked::default() });
        assert!(verdict.looks.spent > looks.spent);
        looks = verdict.looks;
    }
    assert!(looks.spent < 0.05, "{looks:?}");
    let hours = sides((4, 10, 200_000), (4, 9, 200_000));
    let last = judge(&hours, Asked { hours_gone: 168.0, looks, ..Asked::default() });
    assert_eq!((last.decision, last.basis), (Decision::Keep, Basis::NoHarmByDeadline), "{}", last.why);
    assert!((last.looks.spent - 0.05).abs() < 1e-12);
}

#[test]
fn small_harms_add_up_against_the_time_before_all_of_them() {
    // By itself this change adds a tenth to the failures; with those kept before it, two thirds.
    let rates = |before| sides((60, before, 200_000), (60, 6, 200_000));
    let (own, first) = (rates(6), rates(10));
    let (question, rules) = (question(None), Judge::default());
    let anchor = Pairs::of(&first, &question);
    let asked = Asked { hours_gone: 50.0, ..Asked::default() };
    let alone = decide(&Pairs::of(&own, &question), &rules, asked);
    assert_eq!(alone.decision, Decision::Keep, "{}", alone.why);
    let verdict = decide(&Pairs::of(&own, &question), &rules, Asked { anchor: Some(&anchor), ..asked });
    assert_eq!(
        (verdict.decision, verdict.basis),
        (Decision::Revert, Basis::WorseTogether),
        "{}",
        verdict.why
    );
    assert!(verdict.why.contains("kept before it: error rate 10.0 % -> 16.7 %"), "{}", verdict.why);
}

#[test]
fn weeks_of_another_piece_are_no_baseline() {
    let mut hours = Hours::default();
    for (week, nth) in [(4, 4), (3, 4), (2, 10), (1, 10)] {
        fill(&mut hours, CHANGE - week * 168, 168, Side::Before, (40, nth, 200_000));
    }
    fill(&mut hours, CHANGE, 50, Side::After, (40, 10, 200_000));
    let steady = steady(hours.clone(), &Judge::default());
    let calls = |hours: &Hours| hours.0.values().map(|sides| sides.before.cell.calls).sum::<u64>();
    assert_eq!((calls(&hours), calls(&steady)), (4 * 168 * 40, 2 * 168 * 40));
    // Half as many failures as in the oldest weeks, and as many as lately: that is no better and no worse.
    let verdict = judge(&steady, Asked { hours_gone: 50.0, ..Asked::default() });
    assert_eq!((verdict.decision, verdict.figures[0].before), (Decision::Keep, 0.1), "{}", verdict.why);
}

#[test]
fn the_judge_says_how_many_more_calls_it_needs() {
    let hours = sides((10, 10, 200_000), (10, 10, 200_000));
    let verdict = judge(&hours, Asked { hours_gone: 50.0, ..Asked::default() });
    assert_eq!((verdict.decision, verdict.basis), (Decision::Wait, Basis::Undecided), "{}", verdict.why);
    assert!((100..3000).contains(&verdict.calls_needed), "{}", verdict.calls_needed);
    assert!(verdict.why.contains("more calls are needed"), "{}", verdict.why);
    let power = verdict.figures[0].power;
    assert!((0.6..0.8).contains(&power), "{power}");
    // At the deadline it is the operator's choice.
    let late = Asked { hours_gone: 168.0, ..Asked::default() };
    for (unproven, decision) in [(Unproven::Keep, Decision::Keep), (Unproven::Revert, Decision::Revert)] {
        let rules = Judge { unproven, ..Judge::default() };
        let verdict = decide(&Pairs::of(&hours, &question(None)), &rules, late);
        assert_eq!((verdict.decision, verdict.basis), (decision, Basis::NoHarmByDeadline), "{}", verdict.why);
    }
}

#[test]
fn few_calls_prove_nothing() {
    let hours = sides((20, 10, 200_000), (0, 1, 1));
    let asked = Asked { hours_gone: 24.0, ..Asked::default() };
    assert_eq!(judge(&hours, asked).decision, Decision::Wait);
    let late = Asked { hours_gone: 200.0, ..Asked::default() };
    let verdict = judge(&hours, late);
    assert_eq!((verdict.decision, verdict.basis), (Decision::Keep, Basis::Unproven));
    let strict = Judge { unproven: Unproven::Revert, ..Judge::default() };
    let verdict = decide(&Pairs::of(&hours, &question(None)), &strict, late);
    assert_eq!((verdict.decision, verdict.basis), (Decision::Revert, Basis::Unproven));
}

#[test]
fn without_a_week_of_logs_the_days_before_are_the_baseline() {
    let mut hours = Hours::default();
    fill(&mut hours, CHANGE - 48, 48, Side::Before, (20, 10, 200_000));
    fill(&mut hours, CHANGE, 30, Side::After, (20, 10, 200_000));
    assert_eq!(judge(&hours, Asked::default()).baseline, Baseline::SameHoursOfDay);
    let mut hours = Hours::default();
    fill(&mut hours, CHANGE - 3, 3, Side::Before, (200, 10, 200_000));
    fill(&mut hours, CHANGE + 5, 10, Side::After, (50, 10, 200_000));
    assert_eq!(judge(&hours, Asked::default()).baseline, Baseline::AllBefore);
}

#[test]
fn a_raised_limit_has_to_pay() {
    let mut hours = sides((20, 10, 20_000_000), (20, 10, 20_000_000));
    let late_us = Some(30_000_000);
    let asked = Asked { hours_gone: 168.0, late_us, ..Asked::default() };
    for sides in hours.0.values_mut() {
        // Forty seconds more for each that comes to nothing.
        sides.after.late.calls = 1;
        sides.after.late.extra_us = 40_000_000;
    }
    let verdict = judge(&hours, asked);
    assert_eq!((verdict.decision, verdict.basis), (Decision::Revert, Basis::DidNotPay), "{}", verdict.why);
    for sides in hours.0.values_mut() {
        sides.after.late.succeeded = 1;
        sides.after.late.extra_us = 10_000_000;
    }
    let verdict = judge(&hours, asked);
    assert_eq!(verdict.decision, Decision::Keep);
    assert!(verdict.late.unwrap().paid());
}

#[test]
fn fewer_calls_are_seen_where_throughput_is_guarded() {
    let rules = Judge { guard: vec![Guard::Throughput], ..Judge::default() };
    let last = Asked { hours_gone: 60.0, last: true, ..Asked::default() };
    for (fewer, decision) in [(12, Decision::Revert), (0, Decision::Keep)] {
        let mut hours = Hours::default();
        for hour in 0..50 {
            let calls = 20 + hour as u64 % 3;
            fill(&mut hours, CHANGE - 168 + hour, 1, Side::Before, (calls, 10, 200_000));
            let calls = 20 + hour as u64 % 4 - fewer;
            fill(&mut hours, CHANGE + hour, 1, Side::After, (calls, 10, 200_000));
        }
        let verdict = decide(&Pairs::of(&hours, &question(None)), &rules, last);
        assert_eq!(verdict.decision, decision, "{}", verdict.why);
        assert_eq!(verdict.figures.len(), 1);
    }
}

#[test]
fn a_higher_cost_of_a_call_is_seen() {
    let last = Asked { hours_gone: 60.0, last: true, ..Asked::default() };
    for (percent, decision) in [(150, Decision::Revert), (100, Decision::Keep)] {
        let mut hours = sides((20, 10, 200_000), (20, 10, 200_000));
        for sides in hours.0.values_mut() {
            for (calls, percent) in [(&mut sides.before, 100), (&mut sides.after, percent)] {
                for call in 0..calls.cell.calls {
                    calls.costs.add((1_000_000 + 50_000 * call) * percent / 100);
                }
            }
        }
        let verdict = decide(&Pairs::of(&hours, &question(None)), &Judge::default(), last);
        assert_eq!(verdict.decision, decision, "{}", verdict.why);
    }
}

fn line(at: &str, more: &str) -> String {
    format!(r#"{{"event":"tool_execution","timestamp":"{at}","tool_name":"web",{more}}}"#) + "\n"
}

#[test]
fn arms_of_a_split_are_compared_with_each_other() {
    let home = Home::new();
    let mut text = String::new();
    for call in 0..1200 {
        let at = format!("2026-03-01T{:02}:{:02}:{:02}Z", call / 60, call % 60, call % 59);
        // The arm `new` fails twice as often; the log has no calls before the split.
        let (arm, nth) = if call % 2 == 0 { ("new", 5) } else { ("old", 10) };
        let fails = (call / 2) % nth == 0;
        text += &line(&at, &format!(r#""duration":0.2,"success":{},"metadata":{{"arm":"{arm}"}}"#, !fails));
    }
    home.write("logs/a.jsonl", &text);
    let judge = |split: &str| {
        home.run("analyze-logs", &["judge", "--operation", "tool:web", "--ab", split, "--json"])
    };
    let report = judge("metadata/arm=old,new").expect(4).json();
    assert_eq!((&report["baseline"], &report["status"]), (&"control_arm".into(), &"worse".into()));
    assert_eq!((&report["calls"][0], &report["calls"][1]), (&600.into(), &600.into()));
    judge("metadata/arm=new,old").expect(0);
    judge("metadata/arm=a,b").expect(3);
    judge("metadata/arm").expect(2);
    home.run("analyze-logs", &["judge", "--operation", "tool:web"]).expect(2);
    home.run("analyze-logs", &["judge"]).expect(3);
}

/// Forty calls of `tool:web` in each of so many hours from `from` on; `failing` of them fail.
fn hours_of_calls(from: &str, hours: i64, failing: i64) -> String {
    let start = parse_time(from).unwrap();
    let mut text = String::new();
    for call in 0..40 * hours {
        let at = start.checked_add((call * 90).seconds()).unwrap();
        let fails = call % 40 < failing;
        let more = format!(r#""duration":0.{},"success":{}"#, 200 + call * 7 % 40, !fails);
        text += &line(&rfc3339(at), &more);
    }
    text
}

#[test]
fn a_chain_of_kept_changes_is_judged_as_one() {
    let mut home = Home::new();
    home.write("app.yaml", "knobs:\n  a: 1\n  b: 1\n");
    let rule = "{action: turn, key: 'knobs.{x}', value: {add: 1}, type: integer, min: 0, max: 9}";
    home.write("rules.yaml", &format!("name: app\nrules: [{rule}]\n"));
    let turn = |home: &Home, knob: &str| {
        let advice = json!({
            "id": knob, "title": "turn", "description": "because", "pattern_ids": [], "action_type": "config_update",
            "action": "turn", "operation": "tool:web", "parameters": {"x": knob}, "confidence": 0.9,
            "priority": "HIGH", "score": 1.0,
            "saving": {"seconds_per_day": 1.0, "usd_per_day": 0.0, "failures_per_day": 0.0},
        });
        home.write("advice.json", &advice.to_string());
        let apply =
            ["apply", "--from", "advice.json", "--target-config", "app.yaml", "--rules", "rules.yaml"];
        home.run("analyze-logs", &apply).expect(0);
    };
    home.write("logs/0.jsonl", &hours_of_calls("2026-02-23T02:00:00Z", 168, 4));
    home.now(Some("2026-03-02T02:00:00Z"));
    turn(&home, "a");
    // A quarter more failures in a few hours, and then no calls: nothing that could be told from chance.
    home.write("logs/1.jsonl", &hours_of_calls("2026-03-02T02:00:00Z", 20, 5));
    home.now(Some("2026-03-09T04:00:00Z"));
    let first = home.run("analyze-logs", &["judge", "--json"]).expect(0).json();
    assert_eq!(first["changes"][0]["verdict"]["basis"], "no_harm_by_deadline", "{first}");
    turn(&home, "b");
    // A fifth more again.
    home.write("logs/2.jsonl", &hours_of_calls("2026-03-09T04:00:00Z", 30, 6));
    home.now(Some("2026-03-10T10:00:00Z"));
    let second = home.run("analyze-logs", &["judge", "--json"]).expect(5).json();
    let verdict = &second["changes"][0]["verdict"];
    assert_eq!(verdict["basis"], "worse_together", "{second}");
    assert_eq!(verdict["together"][0]["before"], 0.1, "{second}");
    assert_eq!(home.read("app.yaml"), "knobs:\n  a: 2\n  b: 1\n");
}
