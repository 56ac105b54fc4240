//! Simulates changes that do harm, nothing or good, and counts what the judge does with them.
//!
//! Calls come in hours with a daily wave; hours are better or worse as a whole, and follow one another's example
//! (an autoregressive level); durations are log-normal. The judge is asked every six hours until each side has
//! the wanted number of calls, and once more at the deadline. `--runs N --seed N --calls N`.
//! Prints a table and, last, one JSON line.

use nightshift_analyze_logs::judge::hours::Side;
use nightshift_analyze_logs::judge::{Asked, Basis, Decision, Hours, Looks, Pairs, Question, decide};
use nightshift_analyze_logs::read::{NONE, Step, Text};
use nightshift_analyze_logs::tally::HOUR_US;
use nightshift_core::config::Judge;
use nightshift_stats::rng::SplitMix64;
use serde_json::json;

/// Calls in an average hour.
const AN_HOUR: f64 = 10.0;
/// How much of the level of an hour is that of the hour before.
const CARRIED: f64 = 0.6;

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
    /// Whether the goals are asked here: elsewhere no test could reach them with so few calls, or hours are rough.
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
const EFFECTS: [Effect; 5] = [
    NEUTRAL,
    Effect { name: "errors x1.5", errors: 1.5, ..NEUTRAL },
    Effect { name: "p95 x1.5, all calls", all: 1.5, ..NEUTRAL },
    Effect { name: "p95 x1.5, slowest tenth", tail: 1.5, ..NEUTRAL },
    Effect { name: "better (errors /1.5, p95 /1.3)", errors: 1.0 / 1.5, all: 1.0 / 1.3, tail: 1.0 },
];

const WORLDS: [World; 8] = [
    World { name: "20 % fail, even hours", errors: 0.20, sigma: 0.5, hours: (0.0, 0.0), goal: false },
    World { name: "30 % fail, even hours", errors: 0.30, sigma: 0.5, hours: (0.0, 0.0), goal: true },
    World { name: "5 % fail", errors: 0.05, sigma: 0.5, hours: (0.1, 0.2), goal: false },
    World { name: "10 % fail", errors: 0.10, sigma: 0.5, hours: (0.1, 0.2), goal: false },
    World { name: "20 % fail", errors: 0.20, sigma: 0.5, hours: (0.1, 0.2), goal: false },
    World { name: "30 % fail", errors: 0.30, sigma: 0.5, hours: (0.1, 0.2), goal: true },
    World { name: "30 % fail, sigma 1", errors: 0.30, sigma: 1.0, hours: (0.1, 0.2), goal: false },
    World { name: "30 % fail, rough hours", errors: 0.30, sigma: 0.5, hours: (0.2, 0.4), goal: false },
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

/// `most` calls of one side from the hour `from` on, as they come.
fn side(draws: &mut Draws, world: &World, effect: &Effect, from: i32, most: usize) -> Vec<Step> {
    let mut steps = Vec::with_capacity(most);
    let mut levels = [draws.normal(), draws.normal()];
    let slow = (1.2816 * world.sigma).exp();
    for hour in from.. {
        let wave = (std::f64::consts::TAU * f64::from(hour % 24) / 24.0).sin();
        for level in &mut levels {
            *level = CARRIED * *level + (1.0 - CARRIED * CARRIED).sqrt() * draws.normal();
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

/// How one change ended, and whether at the wanted number of calls already.
fn one(seed: u64, world: &World, effect: &Effect, calls: usize, rules: &Judge) -> (Decision, Basis, bool) {
    let mut draws = Draws(SplitMix64::new(seed));
    let change = 400_000 + draws.0.below(168) as i32;
    let before = side(&mut draws, world, &NEUTRAL, change - 168, calls);
    let after = side(&mut draws, world, effect, change, calls);
    let at = i64::from(change) * HOUR_US;
    let mut looks = Looks::default();
    for asked in (6..=rules.deadline_hours as i32).step_by(6) {
        let until = at + i64::from(asked) * HOUR_US;
        let question = Question {
            scope: Vec::new(),
            at,
            baseline_from: at - 168 * HOUR_US,
            without: Vec::new(),
            until,
            late_us: None,
            split: None,
        };
        let mut hours = Hours::default();
        for step in &before {
            hours.add(step, Side::Before, None);
        }
        for step in after.iter().filter(|step| step.at < until) {
            hours.add(step, Side::After, None);
        }
        let asked_now = Asked { hours_gone: f64::from(asked), looks, ..Asked::default() };
        let verdict = decide(&Pairs::of(&hours, &question), rules, asked_now);
        looks = verdict.looks;
        if verdict.decision != Decision::Wait {
            return (verdict.decision, verdict.basis, f64::from(asked) < rules.deadline_hours);
        }
    }
    (Decision::Wait, Basis::Undecided, false)
}

/// Shares of the runs: reverted at the wanted calls, reverted in all, kept as not worse, kept at the deadline.
fn shares(world: &World, effect: &Effect, (runs, seed, calls): (u64, u64, u64), rules: &Judge) -> [f64; 4] {
    let mut counts = [0_u32; 4];
    for run in 0..runs {
        // Mixed, for neighbouring states of this generator give the same numbers one draw later.
        let number = SplitMix64::new(seed.wrapping_mul(1_000_003).wrapping_add(run)).next_u64();
        let (decision, basis, early) = one(number, world, effect, calls as usize, rules);
        let reverted = decision == Decision::Revert;
        for (count, counts_so) in counts.iter_mut().zip([
            reverted && early,
            reverted,
            basis == Basis::NonInferior,
            basis == Basis::NoHarmByDeadline,
        ]) {
            *count += u32::from(counts_so);
        }
    }
    counts.map(|count| f64::from(count) / runs as f64)
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
    let print = |line: &str| {
        use std::io::Write;
        writeln!(std::io::stdout(), "{line}").expect("stdout is open");
    };
    print(&format!("{runs} runs, {calls} calls a side, alpha {}, random seed {seed}", rules.alpha));
    print(&format!(
        "{:30} {:30} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "operation", "change", "reverted", "+deadline", "not worse", "deadline", "best test"
    ));
    let (mut rows, mut missed) = (Vec::new(), Vec::new());
    for world in &WORLDS {
        for effect in &EFFECTS {
            let [early, reverted, proven, deadline] = shares(world, effect, (runs, seed, calls), &rules);
            let best = best_power(world, effect, calls, rules.alpha);
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            print(&format!(
                "{:30} {:30} {:>9} {:>9} {:>9} {:>9} {:>9}",
                world.name,
                effect.name,
                percent(early),
                percent(reverted),
                percent(proven),
                percent(deadline),
                best.map_or("-".into(), percent)
            ));
            let met = match effect.name {
                "neutral" => reverted <= 0.05,
                "errors x1.5" | "p95 x1.5, all calls" => early >= 0.95,
                _ => true,
            };
            if world.goal && !met {
                missed.push(format!("{}: {}", world.name, effect.name));
            }
            rows.push(json!({"operation": world.name, "change": effect.name, "reverted": early,
                "reverted_by_deadline": reverted, "kept_not_worse": proven, "kept_by_deadline": deadline,
                "best_test": best}));
        }
    }
    let report = json!({"name": "sim-judging", "runs": runs, "seed": seed, "calls": calls, "alpha": rules.alpha,
        "rows": rows, "missed": missed, "goals_met": missed.is_empty()});
    print(&report.to_string());
    if !missed.is_empty() {
        std::process::exit(1);
    }
}
