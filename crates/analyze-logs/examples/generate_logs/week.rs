//! Runs a drawn fleet for its days: sessions by hour with a daily and a weekly wave, every call a short line in one
//! of the three dialects. Errors that nobody planted have texts of their own.

use std::f64::consts::TAU;
use std::io::{self, Write};

use nightshift_core::jiff::Timestamp;
use nightshift_core::random::Rng;
use rand::RngExt;
use serde::Serialize;

use super::ledger::{Done, Ledger};
use super::lines::{DIALECTS, Dialect, write};
use super::plan::{Effect, Fleet, Planted};
use super::texts::Wrong;
use super::world::{Call, Plan, What};

/// 2026-01-05T00:00:00Z, a Monday.
const START: i64 = 1_767_571_200_000_000;
const HOUR: i64 = 3_600_000_000;
/// Bytes of a session, about.
const SESSION: u64 = 1_900;

/// What is in a week.
#[derive(Debug, Serialize)]
pub(crate) struct Truth {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) planted: Vec<Planted>,
}

struct Week<'a> {
    rng: Rng,
    fleet: &'a Fleet,
    days: u32,
    lines: Vec<(i64, String)>,
    /// The calls of the session.
    calls: Vec<Done>,
    ledger: Ledger,
}

/// How a call is made.
#[derive(Debug, Clone, Copy, Default)]
struct Way<'a> {
    /// The number of the duty that it is a part of.
    duty: Option<usize>,
    /// Not one of its own.
    argument: Option<&'a str>,
    /// It fails.
    fails: bool,
}

/// An instant of microseconds since 1970.
pub(crate) fn iso(us: i64) -> String {
    nightshift_core::clock::rfc3339(Timestamp::from_microsecond(us).expect("a generated time"))
}

/// Writes the log of a drawn week and gives its truth.
pub(crate) fn generate(plan: &Plan, out: &mut impl Write) -> io::Result<Truth> {
    let rng = |label: &str| nightshift_core::random::rng(plan.seed, label);
    let mut fleet = Fleet::draw(&mut rng("fleet"), plan.clean);
    fleet.widen(&mut rng("counted"), plan.clean);
    let mut week = Week {
        rng: rng(if plan.clean { "clean week" } else { "week" }),
        fleet: &fleet,
        days: plan.days,
        lines: Vec::new(),
        calls: Vec::new(),
        ledger: Ledger::default(),
    };
    week.run((plan.bytes / SESSION) as f64);
    let facts = week.ledger.facts(&fleet);
    let mut lines = week.lines;
    lines.sort_by_key(|(at, _)| *at);
    let (mut bytes, entries) = (0, lines.len() as u64);
    for (_, line) in &lines {
        bytes += line.len() as u64;
        out.write_all(line.as_bytes())?;
    }
    let span = f64::from(plan.days) * 24.0 * HOUR as f64;
    let at = |part: f64| iso(START + (part * span) as i64);
    for planted in &mut fleet.planted {
        (planted.from, planted.until) = (at(planted.span.0), at(planted.span.1));
    }
    fleet.planted.extend(facts);
    Ok(Truth { entries, bytes, planted: fleet.planted })
}

impl Week<'_> {
    /// About so many sessions.
    fn run(&mut self, sessions: f64) {
        let hours = self.days as usize * 24;
        let weights: Vec<f64> = (0..hours).map(|hour| self.traffic(hour)).collect();
        let rate = sessions / weights.iter().sum::<f64>();
        let usual: Vec<usize> = self.duties(|runs| runs.is_none());
        let mut session = 0;
        for (hour, weight) in weights.iter().enumerate() {
            // Poisson by gaps.
            let mut at = 0.0;
            loop {
                at -= (1.0 - self.rng.random_range(0.0..1.0_f64)).ln() / (rate * weight);
                if at >= 1.0 {
                    break;
                }
                session += 1;
                let duty = usual[self.rng.random_range(0..usual.len())];
                self.session(session, START + hour as i64 * HOUR + (at * HOUR as f64) as i64, duty);
            }
            self.surge(hour, rate * weight / usual.len() as f64, &mut session);
        }
        for duty in self.duties(|runs| runs.is_some()) {
            for _ in 0..self.fleet.duties[duty].runs.unwrap_or(0) {
                session += 1;
                let at = self.rng.random_range(0..hours as i64 * HOUR);
                self.session(session, START + at, duty);
            }
        }
    }

    fn duties(&self, which: impl Fn(Option<usize>) -> bool) -> Vec<usize> {
        (0..self.fleet.duties.len()).filter(|duty| which(self.fleet.duties[*duty].runs)).collect()
    }

    /// Sessions of an hour, up to a factor.
    fn traffic(&self, hour: usize) -> f64 {
        let fleet = self.fleet;
        let noon = 0.5 - 0.5 * (TAU * (hour % 24) as f64 / 24.0).cos();
        let day = if hour / 24 % 7 >= 5 { fleet.weekend } else { 1.0 };
        day * (fleet.night + (1.0 - fleet.night) * noon)
    }

    fn part(&self, at: i64) -> f64 {
        (at - START) as f64 / (f64::from(self.days) * 24.0 * HOUR as f64)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_range(0.0..1.0) < share
    }

    /// Extra calls of an operation that is called more than usual in this hour; `sessions` are those of a duty.
    fn surge(&mut self, hour: usize, sessions: f64, session: &mut u64) {
        for problem in &self.fleet.problems {
            let Effect::Calls(factor) = problem.effect else { continue };
            let part = (hour as f64 + 0.5) / (f64::from(self.days) * 24.0);
            if factor <= 1.0 || !(problem.from..problem.until).contains(&part) {
                continue;
            }
            let users = self.fleet.duties.iter().filter(|duty| duty.tools.contains(&problem.op));
            let usual: f64 = users.map(|duty| sessions * 2.5 / duty.tools.len() as f64).sum();
            for _ in 0..(usual * (factor - 1.0)) as usize {
                *session += 1;
                let at = START + hour as i64 * HOUR + self.rng.random_range(0..HOUR);
                let dialect = DIALECTS[(*session % 3) as usize];
                self.call(dialect, *session, at, problem.op, Way::default());
                self.end_session();
            }
        }
    }

    fn end_session(&mut self) {
        self.ledger.session(&self.calls, self.fleet);
        self.calls.clear();
    }

    fn session(&mut self, session: u64, begin: i64, number: usize) {
        let dialect = DIALECTS[(session % 3) as usize];
        let (fleet, duty) = (self.fleet, &self.fleet.duties[number]);
        let way = Way { duty: Some(number), ..Way::default() };
        let mut at = begin;
        for index in 0..self.rng.random_range(3..8) {
            let used = if index % 2 == 0 { &duty.models } else { &duty.tools };
            let op = used[self.rng.random_range(0..used.len())];
            at = self.call(dialect, session, at, op, way);
        }
        let mut wrong = None;
        for problem in fleet.problems.iter().filter(|problem| problem.op == duty.task) {
            match problem.effect {
                Effect::Repeats(share, times) if self.chance(share) => {
                    let way = Way { argument: Some("the same again"), ..way };
                    for _ in 0..times {
                        at = self.call(dialect, session, at, duty.tools[0], way);
                    }
                }
                Effect::Turns(share, turns) if self.chance(share) => {
                    for turn in 0..turns {
                        at = self.call(dialect, session, at, duty.tools[turn % 2], way);
                    }
                }
                Effect::Storm(share, times, pause) if self.chance(share) => {
                    for _ in 0..times {
                        at = self.call(dialect, session, at, duty.tools[1], Way { fails: true, ..way });
                        at += (pause * self.rng.random_range(1e6..2e6)) as i64;
                    }
                }
                Effect::TimesOut(share, text) if self.chance(share) => {
                    wrong = Some(Wrong::of(text, &fleet.habits[duty.task].name, true, &mut self.rng));
                }
                Effect::FailsWithout(tool, share)
                    if !self.calls.iter().any(|call| call.op == tool) && self.chance(share) =>
                {
                    wrong = Some(Wrong::noise(&mut self.rng));
                }
                _ => {}
            }
        }
        if wrong.is_none() && self.chance(fleet.habits[duty.task].error_rate) && duty.runs.is_none() {
            wrong = Some(Wrong::noise(&mut self.rng));
        }
        let (op, stamp) = (duty.task, at);
        let argument = String::new();
        self.log(dialect, session, None, Done { op, stamp, begin, end: at, wrong, nano: 0, argument });
        self.end_session();
    }

    /// A call; when it ended.
    fn call(&mut self, dialect: Dialect, session: u64, at: i64, op: usize, way: Way<'_>) -> i64 {
        let fleet = self.fleet;
        let habit = &fleet.habits[op];
        let part = self.part(at);
        let hour = ((at - START) / HOUR) as usize;
        let noon = 0.5 - 0.5 * (TAU * (hour % 24) as f64 / 24.0).cos();
        let mut median = habit.median_ms * (1.0 + habit.wave * noon);
        let (mut spread, mut error_rate, mut cost) = (habit.spread, habit.error_rate, habit.cost_nano);
        let mut fixed_ms = None;
        let mut wrong = None;
        for problem in fleet.problems.iter().filter(|p| p.op == op && (p.from..p.until).contains(&part)) {
            let through = (part - problem.from) / (problem.until - problem.from);
            match &problem.effect {
                Effect::Slower(factor) => median *= factor,
                Effect::Fails(share) => error_rate = *share,
                Effect::Tail(share, factor) if self.chance(*share) => median *= factor,
                Effect::Spreads(factor) => spread *= 1.0 + (factor - 1.0) * through,
                Effect::Grows(factor) => median *= 1.0 + (factor - 1.0) * through,
                Effect::Decays(share) => error_rate += share * through,
                Effect::Calls(factor) if *factor == 0.0 => return at,
                Effect::Dearer(factor) => cost *= factor,
                Effect::Inflates(factor) => cost *= 1.0 + (factor - 1.0) * through,
                Effect::Together(hours, share) if hours.contains(&hour) => error_rate = *share,
                Effect::FailsIn(other, share) if Some(*other) == way.duty => error_rate = *share,
                Effect::Template(share, text) if self.chance(*share) => {
                    wrong = Some(Wrong::of(text, &habit.name, false, &mut self.rng));
                }
                Effect::TimesOut(share, text) if self.chance(*share) => {
                    fixed_ms = Some(31_000.0);
                    wrong = Some(Wrong::of(text, &habit.name, true, &mut self.rng));
                }
                Effect::Dear(share, nano) if self.chance(*share) => cost = *nano,
                Effect::Slow(share) if self.chance(*share) => {
                    fixed_ms = Some(self.rng.random_range(6_000.0..14_000.0));
                }
                _ => {}
            }
        }
        let normal: f64 = (0..12).map(|_| self.rng.random_range(-0.5..0.5)).sum();
        let ms = fixed_ms.unwrap_or(median * (spread * normal).exp());
        let end = at + (ms * 1000.0) as i64 + 1;
        if wrong.is_none() && (way.fails || self.chance(error_rate)) {
            wrong = Some(Wrong::noise(&mut self.rng));
        }
        let nano = (cost * self.rng.random_range(0.6..1.4)) as i64;
        let own = format!("{:x}", self.rng.random::<u64>());
        let argument =
            if habit.what == What::Tool { way.argument.map_or(own, str::to_owned) } else { String::new() };
        self.log(dialect, session, way.duty, Done { op, stamp: at, begin: at, end, wrong, nano, argument });
        end + self.rng.random_range(1_000..40_000)
    }

    /// Writes the line of a call, and remembers it.
    fn log(&mut self, dialect: Dialect, session: u64, duty: Option<usize>, mut done: Done) {
        let habit = &self.fleet.habits[done.op];
        done.stamp = if dialect == Dialect::Otel { done.begin } else { done.end };
        let call = Call {
            what: habit.what,
            name: &habit.name,
            session,
            task: duty.map(|duty| self.fleet.habits[self.fleet.duties[duty].task].name.as_str()),
            at: done.stamp,
            duration_us: (done.end - done.begin) as u64,
            error_type: if done.wrong.is_some() { "Failed" } else { "" },
            error: done.wrong.as_ref().map(|wrong| wrong.message.clone()),
            cost_nano: done.nano,
            tokens: if habit.what == What::Llm { (400, 90) } else { (10, 0) },
            argument: &done.argument,
            text: "ok",
        };
        let mut line = String::with_capacity(400);
        write(dialect, &call, &mut line);
        self.lines.push((done.end, line));
        self.calls.push(done);
    }
}
