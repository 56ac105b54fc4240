//! Detectors on hand-made cells: what fires, and what must not.

use std::f64::consts::TAU;

use nightshift_core::config::AnalyzeLogs;
use nightshift_stats::rng::SplitMix64;

use super::*;
use crate::line::Kind;
use crate::pattern::PatternType;
use crate::tally::{Cell, Limits, Outcome};

/// Monday 2026-01-05 00:00 UTC.
const FIRST: i32 = 490_992;

/// One operation for some hours.
struct Op {
    name: &'static str,
    kind: Kind,
    calls: f64,
    median_ms: fn(usize) -> f64,
    spread: fn(usize) -> f64,
    error_rate: fn(usize) -> f64,
    cost_nano: fn(usize) -> f64,
    volume: fn(usize) -> f64,
}

const PLAIN: Op = Op {
    name: "web",
    kind: Kind::Tool,
    calls: 12.0,
    median_ms: |_| 200.0,
    spread: |_| 0.4,
    error_rate: |_| 0.02,
    cost_nano: |_| 0.0,
    volume: |_| 1.0,
};

/// More calls at noon than at midnight.
fn noon(hour: usize) -> f64 {
    0.5 - 0.5 * (TAU * (hour % 24) as f64 / 24.0).cos()
}

fn make(hours: usize, ops: &[Op], seed: u64) -> Findings {
    let settings = AnalyzeLogs::default();
    let mut findings = Findings::empty(Limits::of(&settings));
    let mut rng = SplitMix64::new(seed);
    for op in ops {
        let number = findings.ops.number(op.kind, op.name) as usize;
        let mut cells = Vec::new();
        for hour in 0..hours {
            let expected = op.calls * (0.5 + noon(hour)) * (op.volume)(hour);
            let calls = (expected + rng.uniform()) as u64;
            let mut cell = Cell { hour: FIRST + hour as i32, calls, ..Cell::default() };
            for _ in 0..calls {
                let normal: f64 = (0..12).map(|_| rng.uniform() - 0.5).sum();
                let us = ((op.median_ms)(hour) * 1000.0 * ((op.spread)(hour) * normal).exp()) as u64;
                cell.sketch.add(us);
                cell.duration_us += us;
                cell.extremes = Some(cell.extremes.map_or((us, us), |(a, b)| (a.min(us), b.max(us))));
                cell.errors += u64::from(rng.chance((op.error_rate)(hour)));
                cell.cost_nano += ((op.cost_nano)(hour) * (0.7 + 0.6 * rng.uniform())) as i64;
            }
            if calls > 0 {
                cells.push(cell);
            }
        }
        findings.tally.extend(number, None, cells);
    }
    findings
}

/// The operation under test beside three ordinary ones.
fn beside(op: Op) -> Vec<Op> {
    vec![op, Op { name: "a", ..PLAIN }, Op { name: "b", ..PLAIN }, Op { name: "c", ..PLAIN }]
}

fn patterns_of(hours: usize, ops: &[Op], seed: u64) -> Vec<Pattern> {
    patterns(&make(hours, ops, seed), &AnalyzeLogs::default())
}

fn found(hours: usize, op: Op) -> Vec<Pattern> {
    patterns_of(hours, &beside(op), 11)
}

/// The only pattern, its metric and the hours of the log that it names.
#[track_caller]
fn only(patterns: &[Pattern]) -> (PatternType, &str, usize, usize) {
    let [pattern] = patterns else { panic!("{patterns:#?}") };
    assert_eq!(pattern.operation.as_deref(), Some("tool:web"));
    assert!(pattern.metadata["q_value"].as_f64().unwrap() <= 0.01);
    assert!((0.0..=10.0).contains(&pattern.impact_score));
    let hour = |time: &Option<String>| {
        let at: nightshift_core::jiff::Timestamp = time.as_deref().unwrap().parse().unwrap();
        (at.as_second() / 3600) as usize - FIRST as usize
    };
    (
        pattern.pattern_type,
        pattern.metadata["metric"].as_str().unwrap(),
        hour(&pattern.first_seen),
        hour(&pattern.last_seen),
    )
}

#[track_caller]
fn nothing(hours: usize, op: Op) {
    let patterns = found(hours, op);
    assert!(patterns.is_empty(), "{patterns:#?}");
}

#[test]
fn a_level_shift_is_named_with_its_hour() {
    let patterns = found(168, Op { median_ms: |hour| if hour >= 100 { 320.0 } else { 200.0 }, ..PLAIN });
    assert_eq!(only(&patterns), (PatternType::LevelShift, "latency", 100, 168));
    let text = &patterns[0].description;
    assert!(text.starts_with("Since 2026-01-09 04:00 tool:web takes 1.6"), "{text}");
    let ratio = patterns[0].metadata["ratio"].as_f64().unwrap();
    assert!((1.5..1.7).contains(&ratio), "{ratio}");
    let twice = found(168, Op { median_ms: |hour| if hour >= 100 { 320.0 } else { 200.0 }, ..PLAIN });
    assert_eq!(twice, patterns, "the same cells, the same patterns");
}

#[test]
fn waves_gaps_and_low_counts_are_no_shift() {
    nothing(168, PLAIN);
    nothing(168, Op { median_ms: |hour| 200.0 * (1.0 + noon(hour)), ..PLAIN });
    nothing(168, Op { error_rate: |hour| 0.02 + 0.1 * noon(hour), ..PLAIN });
    // Three weeks whose weekends are slower, fail more and are quiet.
    nothing(504, Op { median_ms: |hour| if hour / 24 % 7 >= 5 { 320.0 } else { 200.0 }, ..PLAIN });
    nothing(504, Op { error_rate: |hour| if hour / 24 % 7 >= 5 { 0.12 } else { 0.02 }, ..PLAIN });
    // A handful of calls a day.
    nothing(168, Op { calls: 0.3, median_ms: |hour| if hour >= 150 { 400.0 } else { 200.0 }, ..PLAIN });
    // It only runs at some times.
    nothing(168, Op { volume: |hour| if hour % 24 < 12 { 1.0 } else { 0.0 }, ..PLAIN });
}

#[test]
fn a_gap_of_the_whole_log_is_nothing() {
    let gap = |hour: usize| if (60..90).contains(&hour) { 0.0 } else { 1.0 };
    let ops: Vec<Op> = ["a", "b", "c", "web"].map(|name| Op { name, volume: gap, ..PLAIN }).into();
    let all = patterns_of(168, &ops, 3);
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn one_slow_hour_is_an_anomaly() {
    let patterns =
        found(168, Op { median_ms: |hour| if (80..83).contains(&hour) { 900.0 } else { 200.0 }, ..PLAIN });
    assert_eq!(only(&patterns), (PatternType::Anomaly, "latency", 80, 83));
}

#[test]
fn a_rising_median_is_a_trend() {
    let patterns = found(168, Op { median_ms: |hour| 200.0 * (1.0 + hour as f64 / 168.0), ..PLAIN });
    assert_eq!(only(&patterns), (PatternType::Trend, "latency", 0, 168));
    assert_eq!(patterns[0].metadata["direction"], "up");
    let patterns = found(168, Op { median_ms: |hour| 400.0 / (1.0 + hour as f64 / 168.0), ..PLAIN });
    assert_eq!(patterns[0].metadata["direction"], "down");
}

#[test]
fn a_rise_towards_a_limit_is_forecast() {
    let patterns = found(168, Op { median_ms: |hour| 2000.0 + 2000.0 * hour as f64 / 168.0, ..PLAIN });
    let breach = patterns.iter().find(|p| p.pattern_type == PatternType::BreachForecast).unwrap();
    // 2 s a week from 4 s on: 5 s after half a week.
    let days = breach.metadata["days_until"].as_f64().unwrap();
    assert!((3.0..4.0).contains(&days), "{days}");
    assert!(breach.metadata["days_until_soonest"].as_f64().unwrap() < days);
    assert!(breach.metadata["days_until_latest"].as_f64().unwrap() > days);
    assert_eq!(breach.metadata["setting"], "slow_operation_threshold");
    assert!(patterns.iter().any(|p| p.pattern_type == PatternType::Trend));
    // Far away is no forecast.
    let patterns = found(168, Op { median_ms: |hour| 200.0 + 100.0 * hour as f64 / 168.0, ..PLAIN });
    assert!(patterns.iter().all(|p| p.pattern_type != PatternType::BreachForecast), "{patterns:#?}");
}

#[test]
fn failures_come_in_bursts_and_levels() {
    let patterns =
        found(168, Op { error_rate: |hour| if (61..64).contains(&hour) { 0.7 } else { 0.02 }, ..PLAIN });
    assert_eq!(only(&patterns), (PatternType::Burst, "error_rate", 61, 64));
    assert!(patterns[0].metadata["burn_rate"].as_f64().unwrap() > 40.0);
    let patterns = found(168, Op { error_rate: |hour| if hour >= 110 { 0.2 } else { 0.02 }, ..PLAIN });
    let (kind, metric, from, until) = only(&patterns);
    assert_eq!((kind, metric, until), (PatternType::LevelShift, "error_rate", 168));
    assert!(from.abs_diff(110) <= 2, "{from}");
    // Four failures of five calls in a quiet hour are not many, one in a hundred calls neither.
    nothing(168, Op { calls: 2.0, error_rate: |hour| if hour == 61 { 0.5 } else { 0.02 }, ..PLAIN });
}

#[test]
fn calls_may_be_too_many_or_missing() {
    let patterns =
        found(168, Op { volume: |hour| if (84..87).contains(&hour) { 5.0 } else { 1.0 }, ..PLAIN });
    assert_eq!(only(&patterns), (PatternType::Anomaly, "calls", 84, 87));
    let patterns =
        found(168, Op { volume: |hour| if (80..88).contains(&hour) { 0.0 } else { 1.0 }, ..PLAIN });
    assert_eq!(only(&patterns), (PatternType::Anomaly, "calls", 80, 88));
    // Of all operations at once it is said once.
    let surge = |hour: usize| if (84..87).contains(&hour) { 5.0 } else { 1.0 };
    let ops: Vec<Op> = ["a", "b", "c", "web"].map(|name| Op { name, volume: surge, ..PLAIN }).into();
    let all = patterns_of(168, &ops, 3);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0].operation, None);
}

#[test]
fn costs_have_levels_too() {
    let dear = Op { cost_nano: |hour| if hour >= 90 { 4e6 } else { 2e6 }, ..PLAIN };
    assert_eq!(only(&found(168, dear)), (PatternType::LevelShift, "cost", 90, 168));
    let hours = Op { cost_nano: |hour| if (90..94).contains(&hour) { 8e6 } else { 2e6 }, ..PLAIN };
    assert_eq!(only(&found(168, hours)), (PatternType::Anomaly, "cost", 90, 94));
    nothing(168, Op { cost_nano: |hour| 2e6 * (1.0 + noon(hour)), ..PLAIN });
}

#[test]
fn shapes_change_around_the_same_median() {
    let drift = found(168, Op { spread: |hour| 0.3 * (1.0 + hour as f64 / 120.0), ..PLAIN });
    assert_eq!(only(&drift).0, PatternType::Drift);
    let mut findings = make(168, &beside(PLAIN), 11);
    let web = findings.ops.find(Kind::Tool, "web").unwrap() as usize;
    let mut rng = SplitMix64::new(5);
    for cell in &mut findings.tally.series[web].cells {
        if cell.hour >= FIRST + 90 {
            let slow = (0..cell.calls).filter(|_| rng.chance(0.12)).count() as u64;
            cell.calls += slow;
            (0..slow).for_each(|_| cell.sketch.add(1_600_000));
        }
    }
    let tail = patterns(&findings, &AnalyzeLogs::default());
    let (kind, _, from, _) = only(&tail);
    assert_eq!(kind, PatternType::TailGrowth);
    assert!(from.abs_diff(90) <= 3, "{from}");
}

#[test]
fn operations_that_fail_together_are_named_together() {
    let together = |hour: usize| {
        if [9, 20, 31, 44, 58, 63, 77, 88, 101, 120, 134, 150].contains(&hour) { 0.4 } else { 0.01 }
    };
    let ops = vec![
        Op { error_rate: together, ..PLAIN },
        Op { name: "a", error_rate: together, ..PLAIN },
        Op { name: "b", ..PLAIN },
        Op { name: "c", ..PLAIN },
    ];
    let findings = make(168, &ops, 4);
    let told = tell(&findings, &AnalyzeLogs::default());
    let row = told.correlations.iter().find(|row| row.correlation_type == "errors_together").unwrap();
    assert_eq!((row.entity_a.as_str(), row.entity_b.as_str()), ("tool:a", "tool:web"));
    assert!(row.score > 4.0);
    let pattern = told.patterns.iter().find(|p| p.pattern_type == PatternType::Correlation).unwrap();
    assert!(
        pattern.description.contains("tool:a and tool:web fail in the same hours"),
        "{}",
        pattern.description
    );
}

#[test]
fn tasks_tell_which_model_to_use() {
    let ops: Vec<Op> = ["small", "large"].map(|name| Op { name, kind: Kind::Llm, ..PLAIN }).into();
    let mut findings = make(168, &ops, 4);
    let task = findings.ops.number(Kind::Task, "report");
    let other = findings.ops.number(Kind::Task, "inbox");
    let [small, large] = ["small", "large"].map(|name| findings.ops.find(Kind::Llm, name).unwrap());
    let outcome = |calls, errors| Outcome { calls, errors, cost_nano: 0, duration_us: calls * 1000 };
    findings.tally.outcomes.insert((task, small), outcome(200, 60));
    findings.tally.outcomes.insert((task, large), outcome(200, 4));
    findings.tally.outcomes.insert((other, small), outcome(300, 6));
    let told = tell(&findings, &AnalyzeLogs::default());
    let skill = told.patterns.iter().find(|p| p.pattern_type == PatternType::Skill).unwrap();
    assert!(
        skill.description.starts_with("For task:report use llm:large rather than llm:small"),
        "{}",
        skill.description
    );
    assert!(told.patterns.iter().any(|p| p.pattern_type == PatternType::Correlation));
    assert_eq!(told.skills.len(), 2);
    assert_eq!((told.skills[0].week.as_str(), told.skills[0].operation.as_str()), ("2026-W02", "llm:large"));
    assert!(told.skills[0].success_low < told.skills[0].success_rate);
}

#[test]
fn nothing_at_all_and_broken_clocks_are_endured() {
    let settings = AnalyzeLogs::default();
    let mut findings = Findings::empty(Limits::of(&settings));
    assert!(patterns(&findings, &settings).is_empty());
    let number = findings.ops.number(Kind::Tool, "web") as usize;
    let at = |hour| Cell { hour, calls: 1, errors: 1, ..Cell::default() };
    findings.tally.extend(
        number,
        None,
        vec![at(i32::MIN), at(i32::MIN + 1), at(-5), at(0), at(i32::MAX - 1)],
    );
    assert!(patterns(&findings, &settings).is_empty());
    // One stamp of the year 9999 does not hide the week.
    let mut findings =
        make(168, &beside(Op { median_ms: |hour| if hour >= 100 { 320.0 } else { 200.0 }, ..PLAIN }), 11);
    let other = findings.ops.number(Kind::Tool, "far") as usize;
    findings.tally.extend(other, None, vec![at(FIRST + 70_000_000)]);
    assert_eq!(only(&patterns(&findings, &settings)).2, 100);
}
