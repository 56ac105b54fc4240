//! Simulates changes that do harm, nothing or good, and counts what the judge does with them.
//!
//! Calls come in hours with a daily wave; hours are better or worse as a whole, and follow one another's example
//! (an autoregressive level); durations are log-normal. The judge is asked every six hours, in three settings: with so
//! many calls on each side and no more; with all calls of the weeks before and so many after; and with as many calls
//! after as it asks for until the deadline. A last part makes many small changes for the worse, one after the other.
//! `--runs N --seed N --calls N`. Prints tables and, last, one JSON line.

use nightshift_analyze_logs::judge::hours::Side;
use nightshift_analyze_logs::judge::{Asked, Basis, Decision, Hours, Looks, Pairs, Question, decide, steady};
use nightshift_analyze_logs::read::{NONE, Step, Text};
use nightshift_analyze_logs::tally::HOUR_US;
use nightshift_core::config::Judge;
use nightshift_stats::rng::SplitMix64;
use serde_json::{Value, json};

/// Calls in an average hour.
const AN_HOUR: f64 = 10.0;

/// What the operation is like.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    /// Share of calls that fail.
    errors: f64,
    /// Of the logarithm of the durations.
    sigma: f64,
    /// Spread of the hours' levels: of the logarithm of the durations and of the log-odds of failing.
    hours: (f64, f64),
    /// How much of the level of an hour is that of the hour before.
    carried: f64,
    /// Whether the goals are asked here.
    goal: bool,
}

/// What the change does.
#[derive(Clone, Copy)]
struct Effect {
    name: &'static str,
    /// Failures become so many times as many.
    errors: f64,
    /// All durations become so many times as long.
    all: f64,
    /// The slowest tenth becomes so many times as slow, which moves the 95th percentile by as much.
    tail: f64,
}

const NEUTRAL: Effect = Effect { name: "neutral", errors: 1.0, all: 1.0, tail: 1.0 };
const EFFECTS: [Effect; 4] = [
    NEUTRAL,
    Effect { name: "errors x1.5", errors: 1.5, ..NEUTRAL },
    Effect { name: "p95 x1.5, all calls", all: 1.5, ..NEUTRAL },
    Effect { name: "p95 x1.5, slowest tenth", tail: 1.5, ..NEUTRAL },
];

const ORDINARY: World =
    World { name: "30 % fail", errors: 0.30, sigma: 0.5, hours: (0.1, 0.2), carried: 0.6, goal: true };
/// Small changes for the worse, and their number in a series.
const SMALL: [Effect; 3] = [
    NEUTRAL,
    Effect { name: "errors x1.1", errors: 1.1, ..NEUTRAL },
    Effect { name: "p95 x1.1", all: 1.1, ..NEUTRAL },
];
const SERIES: u32 = 8;
/// Where series are tried.
const CHAINED: [&str; 2] = ["10 % fail", "20 % fail"];
/// Nineteen in twenty series must end at most so many times worse: harm that is found for sure, and one change more.
const RATCHET: f64 = 1.5 * 1.1 + 1e-9;

const WORLDS: [World; 9] = [
    World { name: "30 % fail, even hours", hours: (0.0, 0.0), ..ORDINARY },
    World { name: "10 % fail, even hours", errors: 0.10, hours: (0.0, 0.0), ..ORDINARY },
    World { name: "5 % fail", errors: 0.05, ..ORDINARY },
    World { name: "10 % fail", errors: 0.10, ..ORDINARY },
    World { name: "20 % fail", errors: 0.20, ..ORDINARY },
    ORDINARY,
    World { name: "10 % fail, sigma 1", errors: 0.10, sigma: 1.0, ..ORDINARY },
    World { name: "20 % fail, rough hours", errors: 0.20, hours: (0.2, 0.4), ..ORDINARY },
    World {
        name: "20 % fail, wild hours",
        errors: 0.20,
        hours: (0.3, 0.6),
        carried: 0.8,
        goal: false,
        ..ORDINARY
    },
];

struct Draws(SplitMix64);

impl Draws {
    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.0.uniform(), self.0.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn poisson(&mut self, mean: f64) -> u32 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.0.uniform(), 0);
        while product > limit {
            product *= self.0.uniform();
            count += 1;
        }
        count
    }
}

/// At most `most` calls of one side in the hours from `from` to `until`, as they come.
fn side(
    draws: &mut Draws,
    world: &World,
    effect: &Effect,
    (from, until): (i32, i32),
    most: usize,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut levels = [draws.normal(), draws.normal()];
    let slow = (1.2816 * world.sigma).exp();
    for hour in from..until {
        let wave = (std::f64::consts::TAU * f64::from(hour % 24) / 24.0).sin();
        for level in &mut levels {
            *level = world.carried * *level + (1.0 - world.carried * world.carried).sqrt() * draws.normal();
        }
        let rate = (world.errors * effect.errors).min(0.98);
        let odds = (rate / (1.0 - rate)).ln() + 0.2 * wave + world.hours.1 * levels[0];
        let rate = 1.0 / (1.0 + (-odds).exp());
        for _ in 0..draws.poisson(AN_HOUR * (1.0 + 0.6 * wave)) {
            let own = (world.sigma * draws.normal()).exp();
            let stretched = if own > slow { own * effect.tail } else { own };
            let seconds = effect.all * stretched * (0.2 * wave + world.hours.0 * levels[1]).exp();
            let at = i64::from(hour) * HOUR_US + (draws.0.uniform() * HOUR_US as f64) as i64;
            steps.push(step(at, (seconds * 1e6) as u64, draws.0.chance(rate)));
            if steps.len() == most {
                return steps;
            }
        }
    }
    steps
}

fn step(at: i64, duration_us: u64, failed: bool) -> Step {
    Step {
        at,
        op: 0,
        task: NONE,
        group: 0,
        args: 0,
        duration_us,
        cost_nano: i64::MIN,
        prompt_tokens: 0,
        completion_tokens: 0,
        failed,
        timed_out: false,
        error: Text::default(),
        error_type: Text::default(),
        offset: 0,
        line: Text::default(),
        shape: 0,
    }
}

/// What the judge is given.
#[derive(Clone, Copy, PartialEq)]
enum Given {
    /// So many calls before and after.
    Sides,
    /// All calls of the weeks before, so many after.
    Weeks,
    /// All calls before and after.
    All,
}

/// The settings; goals are asked of the last.
const GIVEN: [(Given, &str); 3] =
    [(Given::Sides, "both sides"), (Given::Weeks, "weeks before"), (Given::All, "all calls")];

/// How one change ended.
#[derive(Clone, Copy)]
struct Ended {
    reverted: bool,
    basis: Basis,
    calls: u64,
}

const WEEK: i32 = 168;

fn question(change: i32, hours: i32) -> Question {
    let at = i64::from(change) * HOUR_US;
    Question {
        scope: Vec::new(),
        at,
        baseline_from: at - 4 * i64::from(WEEK) * HOUR_US,
        without: Vec::new(),
        until: at + i64::from(hours) * HOUR_US,
        late_us: None,
        split: None,
    }
}

/// Asks until there is a verdict; the calls after come from `after`, the baselines are filled.
fn judged(
    change: i32,
    mut own: Hours,
    mut anchor: Option<Hours>,
    after: &[Step],
    rules: &Judge,
) -> (Ended, i32) {
    let mut looks = Looks::default();
    let mut after = after.iter().peekable();
    for gone in (6..=rules.deadline_hours as i32).step_by(6) {
        let question = question(change, gone);
        while let Some(step) = after.next_if(|step| step.at < question.until) {
            own.add(step, Side::After, None);
            if let Some(anchor) = &mut anchor {
                anchor.add(step, Side::After, None);
            }
        }
        let anchored = anchor.as_ref().map(|hours| Pairs::of(hours, &question));
        let asked =
            Asked { hours_gone: f64::from(gone), looks, anchor: anchored.as_ref(), ..Asked::default() };
        let verdict = decide(&Pairs::of(&own, &question), rules, asked);
        looks = verdict.looks;
        if verdict.decision != Decision::Wait {
            let reverted = verdict.decision == Decision::Revert;
            return (Ended { reverted, basis: verdict.basis, calls: verdict.calls[1] }, gone);
        }
    }
    unreachable!("the deadline decides")
}

fn baseline(steps: &[Step], rules: &Judge) -> Hours {
    let mut hours = Hours::default();
    for step in steps {
        hours.add(step, Side::Before, None);
    }
    steady(hours, rules)
}

fn one(seed: u64, world: &World, effect: &Effect, (given, calls): (Given, usize), rules: &Judge) -> Ended {
    let mut draws = Draws(SplitMix64::new(seed));
    let change = 400_000 + draws.0.below(168) as i32;
    let (weeks, most) = match given {
        Given::Sides => (1, calls),
        Given::Weeks | Given::All => (rules.baseline_weeks as i32, usize::MAX),
    };
    let before = side(&mut draws, world, &NEUTRAL, (change - weeks * WEEK, change), most);
    let most = if given == Given::All { usize::MAX } else { calls };
    let after = side(&mut draws, world, effect, (change, change + rules.deadline_hours as i32), most);
    judged(change, baseline(&before, rules), None, &after, rules).0
}

/// What came of many runs.
struct Shares {
    reverted: f64,
    not_worse: f64,
    no_harm: f64,
    /// Calls after the change at the verdict: of half of the runs, and of nineteen in twenty.
    calls: [u64; 2],
}

/// Runs of one kind, in as many threads as there are cores; the answers in the order of the runs.
fn many<T: Send>(seed: u64, runs: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    // Mixed, for neighbouring states of this generator give the same numbers one draw later.
    let number = |run: u64| SplitMix64::new(seed.wrapping_mul(1_000_003).wrapping_add(run)).next_u64();
    let part = |thread| (thread * runs / threads..(thread + 1) * runs / threads).map(|run| one(number(run)));
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || part(thread).collect::<Vec<T>>())).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no run panics")).collect()
    })
}

fn shares(
    world: &World,
    effect: &Effect,
    given: (Given, usize),
    (runs, seed): (u64, u64),
    rules: &Judge,
) -> Shares {
    let ended = many(seed, runs, |number| one(number, world, effect, given, rules));
    let share = |of: fn(&Ended) -> bool| ended.iter().filter(|ended| of(ended)).count() as f64 / runs as f64;
    let mut calls: Vec<u64> = ended.iter().map(|ended| ended.calls).collect();
    calls.sort_unstable();
    Shares {
        reverted: share(|ended| ended.reverted),
        not_worse: share(|ended| ended.basis == Basis::NonInferior),
        no_harm: share(|ended| ended.basis == Basis::NoHarm),
        calls: [calls[calls.len() / 2], calls[calls.len() * 19 / 20]],
    }
}

/// Small changes, each made when the one before it has its verdict: how many times worse it is in the end, and how
/// many were taken back.
fn series(seed: u64, world: &World, each: &Effect, rules: &Judge) -> (f64, u32) {
    let mut draws = Draws(SplitMix64::new(seed));
    let mut now = 400_000 + draws.0.below(168) as i32;
    let anchor = side(&mut draws, world, &NEUTRAL, (now - 4 * WEEK, now), usize::MAX);
    let (mut own, mut kept, mut reverted) = (anchor.clone(), 0, 0);
    for _ in 0..SERIES {
        let times = |factor: f64| factor.powi(kept + 1);
        let effect = Effect { errors: times(each.errors), all: times(each.all), ..NEUTRAL };
        let window = (now, now + rules.deadline_hours as i32);
        let after = side(&mut draws, world, &effect, window, usize::MAX);
        let first = (kept > 0).then(|| baseline(&anchor, rules));
        let (ended, hours) = judged(now, baseline(&own, rules), first, &after, rules);
        now += hours;
        if ended.reverted {
            reverted += 1;
        } else {
            kept += 1;
            let until = i64::from(now) * HOUR_US;
            own = after.into_iter().filter(|step| step.at < until).collect();
        }
    }
    (each.errors.max(each.all).powi(kept), reverted)
}

/// What the best test of two plain samples of rates could do at the same error, for comparison.
fn best_power(world: &World, effect: &Effect, calls: u64, alpha: f64) -> Option<f64> {
    use nightshift_stats::special::{normal_cdf, normal_quantile};
    if effect.errors <= 1.0 {
        return None;
    }
    let (p, q) = (world.errors, world.errors * effect.errors);
    let mean = f64::midpoint(p, q);
    let n = calls as f64;
    let shift = (q - p) / (2.0 * mean * (1.0 - mean) / n).sqrt();
    Some(normal_cdf(shift + normal_quantile(alpha).ok()?))
}

/// A row of the first table, and the goals that it misses.
fn row(
    (given, name): (Given, &str),
    world: &World,
    effect: &Effect,
    (runs, seed, calls): (u64, u64, u64),
    rules: &Judge,
) -> (Value, Option<String>) {
    let found = shares(world, effect, (given, calls as usize), (runs, seed), rules);
    let best = best_power(world, effect, calls, rules.alpha).filter(|_| given == Given::Sides);
    let goal = match effect.name {
        "neutral" => found.reverted <= 0.05,
        _ => found.reverted >= 0.95,
    };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    print(&format!(
        "{name:13} {:24} {:24} {:>8} {:>9} {:>8} {:>6} {:>6} {:>9}",
        world.name,
        effect.name,
        percent(found.reverted),
        percent(found.not_worse),
        percent(found.no_harm),
        found.calls[0],
        found.calls[1],
        best.map_or("-".into(), percent),
    ));
    let row = json!({"given": name, "operation": world.name, "change": effect.name, "reverted": found.reverted,
        "kept_not_worse": found.not_worse, "kept_no_harm": found.no_harm, "calls_median": found.calls[0],
        "calls_p95": found.calls[1], "best_test": best});
    let missed = given == Given::All && world.goal && !goal;
    (row, missed.then(|| format!("{}: {}", world.name, effect.name)))
}

/// A row of the second table.
fn series_row(
    world: &World,
    each: &Effect,
    (runs, seed): (u64, u64),
    rules: &Judge,
) -> (Value, Option<String>) {
    let ended = many(seed, runs, |number| series(number, world, each, rules));
    let reverted = ended.iter().map(|(_, reverted)| f64::from(*reverted)).sum::<f64>();
    let reverted = reverted / (runs as f64 * f64::from(SERIES));
    let mut factors: Vec<f64> = ended.iter().map(|(factor, _)| *factor).collect();
    factors.sort_by(f64::total_cmp);
    let all = each.errors.max(each.all).powi(SERIES as i32);
    let (median, high) = (factors[factors.len() / 2], factors[factors.len() * 19 / 20]);
    print(&format!(
        "{:24} {:24} {:>7.1} % {all:>8.2} {median:>8.2} {high:>8.2}",
        world.name,
        each.name,
        100.0 * reverted
    ));
    let missed = high > RATCHET || (all == 1.0 && reverted > 0.05);
    let row = json!({"operation": world.name, "each": each.name, "reverted": reverted, "if_all_were_kept": all,
        "median": median, "p95": high});
    (row, missed.then(|| format!("{}: {} changes, {}", world.name, SERIES, each.name)))
}

fn print(line: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").expect("stdout is open");
}

fn main() {
    let (mut runs, mut seed, mut calls) = (400, 1, 500);
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        let number = value.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {value}"));
        match name.as_str() {
            "--runs" => runs = number,
            "--seed" => seed = number,
            "--calls" => calls = number,
            _ => panic!("unknown option {name}"),
        }
    }
    let rules = Judge { observations: calls, ..Judge::default() };
    print(&format!(
        "{runs} runs, {calls} calls, alpha {}, power {}, random seed {seed}",
        rules.alpha, rules.power
    ));
    print(&format!(
        "{:13} {:24} {:24} {:>8} {:>9} {:>8} {:>6} {:>6} {:>9}",
        "calls", "operation", "change", "reverted", "not worse", "no harm", "median", "p95", "best test"
    ));
    let (mut rows, mut chains, mut missed) = (Vec::new(), Vec::new(), Vec::new());
    for given in GIVEN {
        for world in &WORLDS {
            for effect in &EFFECTS {
                let (row, miss) = row(given, world, effect, (runs, seed, calls), &rules);
                rows.push(row);
                missed.extend(miss);
            }
        }
    }
    print(&format!("{SERIES} small changes, one after the other: how many times worse in the end"));
    print(&format!(
        "{:24} {:24} {:>9} {:>8} {:>8} {:>8}",
        "operation", "each", "reverted", "all kept", "median", "p95"
    ));
    for world in WORLDS.iter().filter(|world| CHAINED.contains(&world.name)) {
        for each in &SMALL {
            let (row, miss) = series_row(world, each, (runs / 4, seed), &rules);
            chains.push(row);
            missed.extend(miss);
        }
    }
    let report = json!({"name": "sim-judging", "runs": runs, "seed": seed, "calls": calls, "alpha": rules.alpha,
        "power": rules.power, "rows": rows, "series": chains, "missed": missed, "goals_met": missed.is_empty()});
    print(&report.to_string());
    if !missed.is_empty() {
        std::process::exit(1);
    }
}
