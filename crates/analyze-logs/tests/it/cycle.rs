//! The feedback loop: from a log line to a change that is kept or taken back, on schedule, by hand, and when killed.

use std::fmt::Write as _;
use std::time::Duration;

use nightshift_core::clock::{parse_time, rfc3339};
use nightshift_core::jiff::ToSpan;
use nightshift_stats::rng::SplitMix64;
use nightshift_testkit::{Home, Ran, wait_until};
use serde_json::Value;

const CONFIG: &str = "\
# Alpha
tasks:
  timeouts:
    report: 30   # seconds
code_execution:
  defaults:
    timeout: 30
";

/// What `task:report` is like for some hours.
struct World {
    from: &'static str,
    hours: u32,
    /// Share of calls that fail at once.
    errors: f64,
    /// Of the durations.
    scale: f64,
    /// Seconds after which a call is cut.
    limit: f64,
}

/// Ten calls an hour, log-normal durations around 15 s.
fn log(world: &World) -> String {
    let start = parse_time(world.from).unwrap();
    let mut rng = SplitMix64::new(u64::from(world.hours) + 5);
    let mut text = String::new();
    for call in 0..world.hours * 10 {
        let at = start.checked_add((i64::from(call) * 360).seconds()).unwrap();
        let (u, v) = (1.0 - rng.uniform(), rng.uniform());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let seconds = 15.0 * world.scale * (0.45 * normal).exp();
        let failed = rng.chance(world.errors);
        let rest = if seconds > world.limit {
            let limit = world.limit;
            format!(
                r#""event":"task_error","error":"operation timed out after {limit} seconds","error_type":"TimeoutError","duration":{limit}"#
            )
        } else if failed {
            format!(
                r#""event":"task_error","error":"upstream returned 503","error_type":"HTTPError","duration":{seconds:.3}"#
            )
        } else {
            format!(r#""event":"task_complete","duration":{seconds:.3}"#)
        };
        let _ = writeln!(
            text,
            r#"{{"timestamp":"{}","task_id":"{call}","task_name":"report",{rest}}}"#,
            rfc3339(at)
        );
    }
    text
}

const BEFORE: World =
    World { from: "2026-02-23T02:00:00Z", hours: 168, errors: 0.05, scale: 1.0, limit: 30.0 };
const BETTER: World = World { from: "2026-03-02T02:00:00Z", hours: 60, limit: 60.0, ..BEFORE };
const WORSE: World = World { from: "2026-03-02T02:00:00Z", hours: 60, errors: 0.3, limit: 60.0, ..BEFORE };

fn home() -> Home {
    let home = Home::new();
    home.write("logs/before.json", &log(&BEFORE));
    home.write("config.yaml", CONFIG);
    home
}

fn run(home: &Home, more: &[&str]) -> Ran {
    let mut arguments = vec!["loop", "run", "--target-config", "config.yaml", "--json"];
    arguments.extend(more);
    home.run("analyze-logs", &arguments)
}

fn steps(ran: &Value, step: &str, count: &str) -> u64 {
    ran["steps"][step][count].as_u64().unwrap_or_else(|| panic!("no {step}.{count} in {ran}"))
}

fn statuses(home: &Home) -> Vec<String> {
    let store = home.store();
    let mut statement = store.read().prepare("SELECT status FROM config_changes ORDER BY seq").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn timeout(home: &Home) -> i64 {
    let text = home.read("config.yaml");
    assert!(text.starts_with("# Alpha\n") && text.contains("# seconds"), "comments stay: {text}");
    let line = text.lines().find(|line| line.contains("report:")).unwrap();
    line.split([':', '#']).nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn a_change_that_helps_is_kept_and_its_saving_is_measured() {
    let mut home = home();
    let first = run(&home, &[]).expect(0).json();
    assert_eq!((steps(&first, "improvements", "applied"), first["cycle_number"].as_i64()), (1, Some(1)));
    assert!(steps(&first, "analysis", "patterns_found") > 0 && steps(&first, "metrics", "stored") > 0);
    let raised = timeout(&home);
    assert!((31..=60).contains(&raised), "{raised}");
    // Too early to tell; and while it waits, nothing else is done about the same task.
    home.write("logs/after.json", &log(&BETTER));
    home.now(Some("2026-03-02T05:00:00Z"));
    let early = run(&home, &[]).expect(0).json();
    assert_eq!((steps(&early, "judgement", "waiting"), steps(&early, "improvements", "applied")), (1, 0));
    home.now(Some("2026-03-04T14:00:00Z"));
    let later = run(&home, &[]).expect(0).json();
    assert_eq!(steps(&later, "judgement", "kept"), 1, "{later}");
    let verdict = &later["steps"]["judgement"]["changes"][0]["verdict"];
    assert_eq!(
        (&verdict["basis"], &verdict["baseline"]),
        (&"non_inferior".into(), &"same_hours_of_week".into())
    );
    assert_eq!((timeout(&home), statuses(&home)), (raised, vec!["kept".to_owned()]));
    let stats = home.run("analyze-logs", &["stats", "--json"]).expect(0).json();
    assert!(stats["measured_saving"]["failures_per_day"].as_f64().unwrap() > 0.0, "{stats}");
    assert_eq!((&stats["kept"], &stats["cycles"]), (&1.into(), &3.into()));
    let audit = home.run("analyze-logs", &["audit", "--json"]).expect(0).json();
    let kinds: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["config.applying", "config.applied", "config.kept"]);
    home.run("analyze-logs", &["audit", "--since", "2026-03-05"]).expect(3);
}

#[test]
fn a_change_that_harms_is_taken_back_and_not_tried_again() {
    let mut home = home();
    run(&home, &[]).expect(0);
    home.write("logs/after.json", &log(&WORSE));
    home.now(Some("2026-03-03T02:00:00Z"));
    let judged = run(&home, &[]).expect(5).json();
    assert_eq!((steps(&judged, "judgement", "reverted"), timeout(&home)), (1, 30));
    assert_eq!(home.read("config.yaml"), CONFIG, "byte for byte");
    assert_eq!(steps(&judged, "improvements", "applied"), 0, "{judged}");
    // A week under the old limit later it is recommended again; once was enough for a month.
    home.write("logs/again.json", &log(&World { from: "2026-03-05T02:00:00Z", ..BEFORE }));
    home.now(Some("2026-03-12T02:00:00Z"));
    let again = run(&home, &[]).expect(0).json();
    assert_eq!(steps(&again, "improvements", "applied"), 0, "{again}");
    assert!(steps(&again, "improvements", "deferred") >= 1, "{again}");
    assert_eq!(statuses(&home), ["reverted"]);
}

#[test]
fn harm_is_only_said_without_rollback_and_in_a_dry_run() {
    let mut home = home();
    run(&home, &[]).expect(0);
    let raised = timeout(&home);
    home.write("logs/after.json", &log(&WORSE));
    home.now(Some("2026-03-03T02:00:00Z"));
    let said = run(&home, &["--dry-run"]).expect(0).json();
    assert_eq!((steps(&said, "judgement", "harmful"), timeout(&home)), (1, raised));
    let said = run(&home, &["--no-rollback"]).expect(0).json();
    assert_eq!((steps(&said, "judgement", "harmful"), timeout(&home)), (1, raised));
    // The look is taken: it is acted on as soon as that is allowed, and not taken twice.
    run(&home, &[]).expect(5);
    assert_eq!(timeout(&home), 30);
    let looks: i64 =
        home.store().read().query_row("SELECT count(*) FROM judgements", [], |row| row.get(0)).unwrap();
    assert_eq!(looks, 1);
}

#[test]
fn a_key_that_a_person_edited_is_left_to_a_person() {
    let mut home = home();
    run(&home, &[]).expect(0);
    home.write("config.yaml", &CONFIG.replace("report: 30", "report: 44"));
    home.write("logs/after.json", &log(&WORSE));
    home.now(Some("2026-03-03T02:00:00Z"));
    let ran = run(&home, &[]).expect(6).json();
    assert_eq!(ran["steps"]["judgement"]["changes"][0]["outcome"], "not_reverted");
    assert_eq!(timeout(&home), 44);
}

#[test]
fn manual_changes_wait_for_approval() {
    let home = home();
    let manual = ["--mode", "MANUAL"];
    let ran = run(&home, &manual).expect(4).json();
    assert_eq!((steps(&ran, "improvements", "queued"), ran["status"].as_str()), (1, Some("approval_needed")));
    assert_eq!(home.read("config.yaml"), CONFIG);
    let queued = home.run("analyze-logs", &["list", "--json"]).expect(0).json();
    let id = queued["waiting"][0]["id"].as_str().unwrap().to_owned();
    assert!(queued["waiting"][0]["diff"].as_str().unwrap().contains("-    report: 30"));
    // Another cycle does not queue it twice.
    run(&home, &manual).expect(4);
    assert_eq!(home.run("analyze-logs", &["list", "--json"]).json()["waiting"].as_array().unwrap().len(), 1);
    let pending =
        home.run("analyze-logs", &["improvements", "--status", "pending", "--json"]).expect(0).json();
    assert_eq!(pending["improvements"].as_array().unwrap().len(), 1, "{pending}");
    // What is applied is what was shown.
    home.write("config.yaml", &CONFIG.replace("report: 30", "report: 33"));
    home.run("analyze-logs", &["approve", &id]).expect(4);
    home.write("config.yaml", CONFIG);
    home.run("analyze-logs", &["approve", "ffff"]).expect(4);
    home.run("analyze-logs", &["approve", &id[..30]]).expect(0);
    assert!(timeout(&home) > 30);
    home.run("analyze-logs", &["approve", &id]).expect(4);
    home.run("analyze-logs", &["list"]).expect(3);
    assert_eq!(statuses(&home), ["applied"]);
}

#[test]
fn what_a_person_rejected_does_not_come_back() {
    let home = home();
    run(&home, &["--mode", "manual"]).expect(4);
    let queued = home.run("analyze-logs", &["list", "--json"]).json();
    let id = queued["waiting"][0]["id"].as_str().unwrap();
    home.run("analyze-logs", &["reject", id, "--reason", "not on Fridays"]).expect(0);
    let ran = run(&home, &["--mode", "full_auto"]).expect(0).json();
    assert_eq!((steps(&ran, "improvements", "applied"), steps(&ran, "improvements", "deferred")), (0, 1));
    assert_eq!(home.read("config.yaml"), CONFIG);
    assert!(home.run("analyze-logs", &["audit"]).expect(0).stdout.contains("not on Fridays"));
}

#[test]
fn the_quota_is_counted_in_the_store_and_dry_runs_use_none_of_it() {
    let home = home();
    let ran = run(&home, &["--max-daily-improvements", "0"]).expect(0).json();
    assert_eq!((steps(&ran, "improvements", "applied"), steps(&ran, "improvements", "deferred")), (0, 1));
    let dry = run(&home, &["--max-daily-improvements", "1", "--dry-run"]).expect(0).json();
    assert_eq!((steps(&dry, "improvements", "dry_run"), dry["cycle_number"].as_i64()), (1, Some(0)));
    assert_eq!(home.read("config.yaml"), CONFIG);
    run(&home, &["--max-daily-improvements", "1"]).expect(0);
    assert!(timeout(&home) > 30);
    let status = home.run("analyze-logs", &["loop", "status", "--json"]).expect(3).json();
    assert_eq!((&status["quota_left_today"], &status["open_changes"]), (&4.into(), &1.into()));
}

#[test]
fn unsure_recommendations_and_unsafe_ones_are_not_applied() {
    let home = home();
    let ran = run(&home, &["--min-confidence", "0.999"]).expect(0).json();
    assert_eq!(steps(&ran, "recommendations", "confident"), 0);
    home.write("nightshift.yaml", "analyze_logs: {loop: {safe_confidence: 0.999}}\n");
    let ran = run(&home, &[]).expect(4).json();
    assert_eq!(steps(&ran, "improvements", "queued"), 1);
    home.write("nightshift.yaml", "analyze_logs: {loop: {safe_actions: [everything]}}\n");
    assert!(run(&home, &[]).expect(9).stderr.contains("safe_actions"));
    home.write("nightshift.yaml", "analyze_logs: {loop: {analysis_frequency: now and then}}\n");
    assert!(run(&home, &[]).expect(9).stderr.contains("now and then"));
}

#[test]
fn without_logs_or_a_config_nothing_is_changed() {
    let home = Home::new();
    home.run("analyze-logs", &["stats"]).expect(3);
    home.run("analyze-logs", &["audit"]).expect(3);
    home.run("analyze-logs", &["loop", "status"]).expect(3);
    home.run("analyze-logs", &["loop", "stop"]).expect(3);
    home.run("analyze-logs", &["loop", "run"]).expect(3);
    home.write("logs/before.json", &log(&BEFORE));
    let ran = home.run("analyze-logs", &["loop", "run", "--json"]).expect(0).json();
    assert!(steps(&ran, "improvements", "not_applicable") > 0);
    run(&home, &[]).expect(4);
    let status = home.run("analyze-logs", &["loop", "status", "--json"]).expect(3).json();
    assert_eq!(status["last_cycle"]["status"], "failed", "{status}");
}

#[test]
fn killed_anywhere_the_next_cycle_goes_on_and_nothing_happens_twice() {
    let points = [
        "cycle.begun",
        "cycle.repaired",
        "cycle.judged",
        "cycle.analyzed",
        "change.written",
        "cycle.applied",
        "cycle.stored",
    ];
    for point in points {
        let mut home = home();
        home.set("NIGHTSHIFT_CRASH_AT", point);
        run(&home, &[]).expect(137);
        home.unset("NIGHTSHIFT_CRASH_AT");
        home.now(Some("2026-03-02T02:30:00Z"));
        run(&home, &[]).expect(0);
        assert_eq!(statuses(&home), ["applied"], "{point}");
        let cycles: Vec<String> = {
            let store = home.store();
            let mut statement = store.read().prepare("SELECT status FROM cycles ORDER BY number").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(cycles, ["interrupted", "completed"], "{point}");
        assert!(timeout(&home) > 30);
    }
}

#[test]
fn killed_while_judging_the_look_counts_once() {
    for point in ["cycle.looked", "change.reverting", "change.undone", "cycle.judged"] {
        let mut home = home();
        run(&home, &[]).expect(0);
        home.write("logs/after.json", &log(&WORSE));
        home.now(Some("2026-03-03T02:00:00Z"));
        home.set("NIGHTSHIFT_CRASH_AT", point);
        run(&home, &[]).expect(137);
        home.unset("NIGHTSHIFT_CRASH_AT");
        let ran = run(&home, &[]);
        assert!(matches!(ran.code, 0 | 5), "{point}: {} {}", ran.code, ran.stderr);
        assert_eq!(
            (statuses(&home), home.read("config.yaml").as_str()),
            (vec!["reverted".to_owned()], CONFIG),
            "{point}"
        );
        let looks: i64 =
            home.store().read().query_row("SELECT count(*) FROM judgements", [], |row| row.get(0)).unwrap();
        assert_eq!(looks, 1, "{point}");
    }
}

#[test]
fn killed_after_an_approval_the_queue_is_settled() {
    let mut home = home();
    run(&home, &["--mode", "manual"]).expect(4);
    let queued = home.run("analyze-logs", &["list", "--json"]).json();
    let id = queued["waiting"][0]["id"].as_str().unwrap().to_owned();
    home.set("NIGHTSHIFT_CRASH_AT", "cycle.applied");
    home.run("analyze-logs", &["approve", &id]).expect(137);
    home.unset("NIGHTSHIFT_CRASH_AT");
    run(&home, &["--mode", "manual"]).expect(0);
    home.run("analyze-logs", &["list"]).expect(3);
    assert_eq!(statuses(&home), ["applied"]);
}

#[test]
fn a_loop_runs_on_schedule_and_on_request_until_it_is_stopped() {
    let mut home = home();
    home.now(None);
    let start = ["loop", "start", "--analysis-frequency", "* * * * * *", "--mode", "manual"];
    let mut child = home.spawn("analyze-logs", &start);
    let patience = Duration::from_secs(30);
    let status =
        || home.run("analyze-logs", &["loop", "status", "--analysis-frequency", "* * * * * *", "--json"]);
    wait_until("two cycles", patience, || (status().json()["cycles"].as_u64() >= Some(2)).then_some(()));
    let report = status().expect(0).json();
    assert_eq!((&report["pid"], &report["running"]), (&child.id().into(), &true.into()));
    assert_eq!(home.read("sandbox_data/analyze-logs-loop.pid").trim(), child.id().to_string());
    home.run("analyze-logs", &["loop", "start"]).expect(7);
    let asked = home.run("analyze-logs", &["loop", "trigger", "--json"]).expect(0).json();
    assert!(asked["cycle_number"].as_i64() > Some(2), "{asked}");
    home.run("analyze-logs", &["loop", "stop"]).expect(0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!home.path().join("sandbox_data/analyze-logs-loop.pid").exists());
    // Killed instead of stopped: what it left behind keeps nobody from starting.
    let mut child = home.spawn("analyze-logs", &["loop", "start"]);
    wait_until("the loop", patience, || (status().code == 0).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    status().expect(3);
    let detached = home.run("analyze-logs", &["loop", "start", "--detach", "--json"]).expect(0).json();
    assert_eq!(status().expect(0).json()["pid"], detached["pid"]);
    home.run("analyze-logs", &["loop", "stop"]).expect(0);
    status().expect(3);
    // None runs: the cycle is made here; the logs of long ago are not looked at.
    let here = home.run("analyze-logs", &["loop", "trigger", "--json"]).expect(3).json();
    assert_eq!(steps(&here, "analysis", "entries"), 0);
}
