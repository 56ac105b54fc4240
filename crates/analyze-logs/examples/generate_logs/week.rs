//! Runs a drawn fleet for its days: sessions by hour with a daily and a weekly wave, every call a short line in one
//! of the three dialects. Errors that nobody planted have texts of their own.

use std::f64::consts::TAU;
use std::io::{self, Write};

use nightshift_core::jiff::Timestamp;
use nightshift_core::random::Rng;
use rand::RngExt;
use serde::Serialize;

use super::lines::{DIALECTS, Dialect, write};
use super::plan::{Effect, Fleet, Planted};
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
}

/// Writes the log of a drawn week and gives its truth.
pub(crate) fn generate(plan: &Plan, out: &mut impl Write) -> io::Result<Truth> {
    let mut fleet = Fleet::draw(&mut nightshift_core::random::rng(plan.seed, "fleet"), plan.clean);
    let mut week = Week {
        rng: nightshift_core::random::rng(plan.seed, if plan.clean { "clean week" } else { "week" }),
        fleet: &fleet,
        days: plan.days,
        lines: Vec::new(),
    };
    let hours = plan.days as usize * 24;
    let weights: Vec<f64> = (0..hours).map(|hour| week.traffic(hour)).collect();
    let rate = (plan.bytes / SESSION) as f64 / weights.iter().sum::<f64>();
    let mut session = 0;
    for (hour, weight) in weights.iter().enumerate() {
        // Poisson by gaps.
        let mut at = 0.0;
        loop {
            at -= (1.0 - week.rng.random_range(0.0..1.0_f64)).ln() / (rate * weight);
            if at >= 1.0 {
                break;
            }
            session += 1;
            week.session(session, START + hour as i64 * HOUR + (at * HOUR as f64) as i64);
        }
        week.surge(hour, rate * weight, &mut session);
    }
    let mut lines = week.lines;
    lines.sort_by_key(|(at, _)| *at);
    let (mut bytes, entries) = (0, lines.len() as u64);
    for (_, line) in &lines {
        bytes += line.len() as u64;
        out.write_all(line.as_bytes())?;
    }
    let span = f64::from(plan.days) * 24.0 * HOUR as f64;
    let iso = |part: f64| {
        let at = Timestamp::from_microsecond(START + (part * span) as i64).expect("a generated time");
        nightshift_core::clock::rfc3339(at)
    };
    for planted in &mut fleet.planted {
        (planted.from, planted.until) = (iso(planted.span.0), iso(planted.span.1));
    }
    Ok(Truth { entries, bytes, planted: fleet.planted })
}

impl Week<'_> {
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

    /// Extra calls of an operation that is called more than usual in this hour.
    fn surge(&mut self, hour: usize, sessions: f64, session: &mut u64) {
        for problem in &self.fleet.problems {
            let Effect::Calls(factor) = problem.effect else { continue };
            let part = (hour as f64 + 0.5) / (f64::from(self.days) * 24.0);
            if factor <= 1.0 || !(problem.from..problem.until).contains(&part) {
                continue;
            }
            let users = self.fleet.uses.iter().filter(|(tools, _)| tools.contains(&problem.op));
            let usual: f64 = users.map(|(tools, _)| sessions / 6.0 * 2.5 / tools.len() as f64).sum();
            for _ in 0..(usual * (factor - 1.0)) as usize {
                *session += 1;
                let at = START + hour as i64 * HOUR + self.rng.random_range(0..HOUR);
                let dialect = DIALECTS[(*session % 3) as usize];
                self.call(dialect, *session, at, problem.op, None, None);
            }
        }
    }

    fn session(&mut self, session: u64, begin: i64) {
        let dialect = DIALECTS[(session % 3) as usize];
        let task = self.rng.random_range(0..self.fleet.uses.len());
        let (tools, models) = &self.fleet.uses[task];
        let mut at = begin;
        for index in 0..self.rng.random_range(3..8) {
            let used = if index % 2 == 0 { models } else { tools };
            let op = used[self.rng.random_range(0..used.len())];
            at = self.call(dialect, session, at, op, Some(task), None);
        }
        for problem in &self.fleet.problems {
            if let Effect::Repeats(share, times) = problem.effect
                && problem.op == self.fleet.tasks + task
                && self.chance(share)
            {
                for _ in 0..times {
                    at = self.call(dialect, session, at, tools[0], Some(task), Some("the same again"));
                }
            }
        }
        let op = self.fleet.tasks + task;
        let failed = self.chance(self.fleet.habits[op].error_rate);
        let error = failed.then(|| self.noise());
        self.log(dialect, (op, session, None), (begin, at), error, (0, ""));
    }

    /// A call; when it ended.
    fn call(
        &mut self,
        dialect: Dialect,
        session: u64,
        at: i64,
        op: usize,
        task: Option<usize>,
        argument: Option<&str>,
    ) -> i64 {
        let fleet = self.fleet;
        let habit = &fleet.habits[op];
        let part = self.part(at);
        let hour = ((at - START) / HOUR) as usize;
        let noon = 0.5 - 0.5 * (TAU * (hour % 24) as f64 / 24.0).cos();
        let mut median = habit.median_ms * (1.0 + habit.wave * noon);
        let (mut spread, mut error_rate, mut cost) = (habit.spread, habit.error_rate, habit.cost_nano);
        let mut fixed_ms = None;
        let mut text = None;
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
                Effect::FailsIn(other, share) if Some(*other) == task => error_rate = *share,
                Effect::Template(share) if self.chance(*share) => {
                    let number = self.rng.random_range(1..9_999);
                    text = Some(format!("{} backend refused request {number}: quota is used up", habit.name));
                }
                Effect::TimesOut(share) if self.chance(*share) => {
                    let number = self.rng.random_range(1..9_999);
                    fixed_ms = Some(31_000.0);
                    text = Some(format!("request {number} timed out after 31 s"));
                }
                Effect::Slow(share) if self.chance(*share) => {
                    fixed_ms = Some(self.rng.random_range(6_000.0..14_000.0));
                }
                _ => {}
            }
        }
        let normal: f64 = (0..12).map(|_| self.rng.random_range(-0.5..0.5)).sum();
        let ms = fixed_ms.unwrap_or(median * (spread * normal).exp());
        let end = at + (ms * 1000.0) as i64 + 1;
        if text.is_none() && self.chance(error_rate) {
            text = Some(self.noise());
        }
        let nano = (cost * self.rng.random_range(0.6..1.4)) as i64;
        let own = format!("{:x}", self.rng.random::<u64>());
        self.log(dialect, (op, session, task), (at, end), text, (nano, argument.unwrap_or(&own)));
        end + self.rng.random_range(1_000..40_000)
    }

    /// A text that no other error has.
    fn noise(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.rng.random_range(4..9) {
            let letters = self.rng.random_range(4..10);
            text.extend((0..letters).map(|_| char::from(self.rng.random_range(b'a'..=b'z'))));
            text.push(' ');
        }
        text.trim_end().to_owned()
    }

    fn log(
        &mut self,
        dialect: Dialect,
        (op, session, task): (usize, u64, Option<usize>),
        (begin, end): (i64, i64),
        error: Option<String>,
        (cost_nano, argument): (i64, &str),
    ) {
        let habit = &self.fleet.habits[op];
        let call = Call {
            what: habit.what,
            name: &habit.name,
            session,
            task: task.map(|task| self.fleet.habits[self.fleet.tasks + task].name.as_str()),
            at: if dialect == Dialect::Otel { begin } else { end },
            duration_us: (end - begin) as u64,
            error_type: if error.is_some() { "Failed" } else { "" },
            error,
            cost_nano,
            tokens: if habit.what == What::Llm { (400, 90) } else { (10, 0) },
            argument,
            text: "ok",
        };
        let mut line = String::with_capacity(400);
        write(dialect, &call, &mut line);
        self.lines.push((end, line));
    }
}
