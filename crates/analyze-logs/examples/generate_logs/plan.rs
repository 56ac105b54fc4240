//! A family of weeks: every seed draws another fleet, and other problems in it, each on an operation of its own.
//!
//! Sizes are drawn from ranges that a person on call would want to hear of; none of them is the limit of
//! what can be found.

use nightshift_core::random::Rng;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::texts::{LIMIT, QUOTA, expression};
use super::world::What;

/// How an operation behaves when nothing is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Habit {
    pub(crate) what: What,
    pub(crate) name: String,
    pub(crate) median_ms: f64,
    /// Deviation of the logarithm of durations.
    pub(crate) spread: f64,
    pub(crate) error_rate: f64,
    /// How much longer it takes at noon than at midnight, as a share.
    pub(crate) wave: f64,
    /// Nano-dollars of a call, about.
    pub(crate) cost_nano: f64,
}

/// What a problem does, from `from` until `until` (parts of the week, 0 to 1).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Durations times this.
    Slower(f64),
    /// This share of calls fails.
    Fails(f64),
    /// This share of calls takes so many times as long.
    Tail(f64, f64),
    /// The deviation of durations grows to so many times.
    Spreads(f64),
    /// The median grows to so many times.
    Grows(f64),
    /// The share of failed calls grows by so much.
    Decays(f64),
    /// So many times as many calls; 0 is none.
    Calls(f64),
    /// A call costs so many times as much.
    Dearer(f64),
    /// The cost of a call grows to so many times.
    Inflates(f64),
    /// In these hours of the week this share fails, here and in the operation of that number.
    Together(Vec<usize>, f64),
    /// In that task this share fails.
    FailsIn(usize, f64),
    /// This share fails with a message of this text.
    Template(f64, &'static str),
    /// This share runs into its limit, with a message of this text.
    TimesOut(f64, &'static str),
    /// This share of calls takes 6 to 14 s.
    Slow(f64),
    /// This share of calls costs so many nano-dollars.
    Dear(f64, f64),
    /// In this share of the tasks its first tool makes the same call so many times.
    Repeats(f64, usize),
    /// In this share of the tasks its first two tools take so many turns.
    Turns(f64, usize),
    /// In this share of the tasks its second tool fails so many times, with pauses of so many seconds.
    Storm(f64, usize, f64),
    /// This share of the tasks fails that did not use this tool.
    FailsWithout(usize, f64),
}

/// A problem.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// Index of the operation.
    pub(crate) op: usize,
    pub(crate) effect: Effect,
    pub(crate) from: f64,
    pub(crate) until: f64,
}

/// What the truth says of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Planted {
    pub(crate) pattern_type: &'static str,
    pub(crate) operation: String,
    /// The other one of a correlation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) other: Option<String>,
    /// Parts of the time, 0 to 1.
    #[serde(skip)]
    pub(crate) span: (f64, f64),
    pub(crate) from: String,
    pub(crate) until: String,
    /// It follows from another problem: true when reported, no miss when not.
    pub(crate) secondary: bool,
    pub(crate) note: String,
    /// Of a fact: how many calls, errors, chains or successes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) occurrences: Option<u64>,
    /// What all messages of an error match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// What a finding's metadata must say as well.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// A fact that was planted; how many there are of it is counted.
#[derive(Debug, Clone)]
pub(crate) struct Meant {
    pub(crate) kind: &'static str,
    /// The operation; of a waste its task. Nothing to an error with a template.
    pub(crate) op: usize,
    pub(crate) template: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) note: String,
}

/// A task and what it uses.
#[derive(Debug, Clone)]
pub(crate) struct Duty {
    pub(crate) task: usize,
    pub(crate) tools: Vec<usize>,
    pub(crate) models: Vec<usize>,
    /// Runs in a week, all of them well; any number of them if absent.
    pub(crate) runs: Option<usize>,
}

/// A fleet and its problems.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) habits: Vec<Habit>,
    pub(crate) duties: Vec<Duty>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) planted: Vec<Planted>,
    pub(crate) meant: Vec<Meant>,
    /// Calls at night as a share of those at noon; of a weekend as a share of other days.
    pub(crate) night: f64,
    pub(crate) weekend: f64,
}

/// Kinds that state what was counted.
const FACTS: [&str; 6] = [
    "recurring_error",
    "slow_operation",
    "timeout_pattern",
    "high_cost_operation",
    "inefficient_chain",
    "successful_pattern",
];
const TOOLS: [&str; 16] = [
    "web_search",
    "browse",
    "code_exec",
    "file_read",
    "file_write",
    "shell",
    "db_query",
    "vector_search",
    "http_get",
    "send_mail",
    "calendar",
    "pdf_parse",
    "ocr",
    "geocode",
    "translate",
    "render",
];
const MODELS: [&str; 5] = ["small-1", "large-2", "code-3", "reason-4", "vision-5"];
const TASKS: [&str; 6] = ["report", "research", "triage", "refactor", "inbox", "etl"];

impl Fleet {
    /// Draws a fleet, and unless it is `clean`, its problems.
    pub(crate) fn draw(rng: &mut Rng, clean: bool) -> Self {
        let mut habits = Vec::new();
        let names = TOOLS.iter().map(|name| (What::Tool, *name));
        let names = names.chain(MODELS.iter().map(|name| (What::Llm, *name)));
        for (what, name) in names.chain(TASKS.iter().map(|name| (What::Task, *name))) {
            let model = what == What::Llm;
            let span: (f64, f64) = if model { (5.7, 6.6) } else { (3.0, 6.0) };
            habits.push(Habit {
                what,
                name: name.to_owned(),
                median_ms: rng.random_range(span.0..span.1).exp(),
                spread: rng.random_range(0.3..0.6),
                error_rate: rng.random_range(0.005..0.03),
                wave: if rng.random_range(0..2) == 0 { rng.random_range(0.1..0.5) } else { 0.0 },
                cost_nano: if model { rng.random_range(1e6..2e7) } else { 0.0 },
            });
        }
        let mut tools: Vec<usize> = (0..TOOLS.len()).collect();
        let duties = (0..TASKS.len())
            .map(|task| {
                // Every tool is used by some task.
                tools.shuffle(rng);
                let mut used: Vec<usize> =
                    (0..TOOLS.len()).filter(|tool| tool % TASKS.len() == task).collect();
                used.extend(tools.iter().take(3));
                used.sort_unstable();
                used.dedup();
                let first = TOOLS.len();
                Duty {
                    task: first + MODELS.len() + task,
                    tools: used,
                    models: vec![first + task % MODELS.len(), first + (task + 2) % MODELS.len()],
                    runs: None,
                }
            })
            .collect();
        let mut fleet = Self {
            habits,
            duties,
            problems: Vec::new(),
            planted: Vec::new(),
            meant: Vec::new(),
            night: rng.random_range(0.25..0.6),
            weekend: rng.random_range(0.5..1.0),
        };
        if !clean {
            fleet.plant(rng);
        }
        fleet
    }

    fn plant(&mut self, rng: &mut Rng) {
        let mut tools: Vec<usize> = (0..TOOLS.len()).collect();
        let mut models: Vec<usize> = (TOOLS.len()..TOOLS.len() + MODELS.len()).collect();
        tools.shuffle(rng);
        models.shuffle(rng);
        // Of the tools that two tasks use, one fails in one of them.
        if let Some(shared) = tools.iter().position(|tool| self.users(*tool).count() > 1) {
            tools.swap(10, shared);
        }
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        let start = between(0.2, 0.8);
        self.add("level_shift", tools[0], Effect::Slower(between(1.5, 4.0)), (start, 1.0), "takes longer");
        let start = between(0.2, 0.8);
        self.add("level_shift", tools[1], Effect::Fails(between(0.1, 0.4)), (start, 1.0), "fails more");
        let start = between(0.25, 0.7);
        let effect = Effect::Tail(between(0.08, 0.2), between(5.0, 10.0));
        self.add("tail_growth", tools[2], effect, (start, 1.0), "some calls take much longer");
        // Failures of the night are few: a burst of three calls is none.
        let start = (between(0.0, 7.0).floor() * 24.0 + between(7.0, 15.0)) / 168.0;
        let effect = Effect::Fails(between(0.4, 0.95));
        self.add("burst", tools[3], effect, (start, start + between(2.0, 8.0) / 168.0), "fails for hours");
        self.add("drift", tools[4], Effect::Spreads(between(1.8, 2.6)), (0.0, 1.0), "scatters more and more");
        self.add("trend", tools[5], Effect::Grows(between(1.6, 3.0)), (0.0, 1.0), "takes longer and longer");
        self.add("trend", tools[6], Effect::Decays(between(0.15, 0.35)), (0.0, 1.0), "fails more and more");
        // In the busy hours of a day: at night few calls are missed.
        let day = between(0.0, 5.0).floor();
        let start = (day * 24.0 + between(8.0, 11.0)) / 168.0;
        let (calls, length) = if between(0.0, 1.0) < 0.5 { (between(4.0, 9.0), 3.0) } else { (0.0, 7.0) };
        self.add(
            "anomaly",
            tools[7],
            Effect::Calls(calls),
            (start, start + length / 168.0),
            "other calls than usual",
        );
        let share = between(0.35, 0.6);
        let hours: Vec<usize> = (0..16).map(|_| between(0.0, 168.0) as usize).collect();
        self.together(tools[8], tools[9], &hours, share);
        self.plant_errors(rng, &tools);
        self.plant_costs(rng, &models);
    }

    /// Errors by task and template, limits, waste.
    fn plant_errors(&mut self, rng: &mut Rng, tools: &[usize]) {
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        let task = self.users(tools[10]).next().unwrap_or(0);
        self.add(
            "correlation",
            tools[10],
            Effect::FailsIn(task, between(0.2, 0.4)),
            (0.0, 1.0),
            "fails in one task",
        );
        self.add(
            "recurring_error",
            tools[11],
            Effect::Template(between(0.02, 0.05), QUOTA),
            (0.0, 1.0),
            "the same error",
        );
        let start = between(0.4, 0.7);
        self.add(
            "new_template",
            tools[12],
            Effect::Template(between(0.03, 0.06), QUOTA),
            (start, 1.0),
            "an error from then on",
        );
        let end = between(0.3, 0.6);
        self.add(
            "vanished_template",
            tools[13],
            Effect::Template(between(0.03, 0.06), QUOTA),
            (0.0, end),
            "an error until then",
        );
        self.add(
            "timeout_pattern",
            tools[14],
            Effect::TimesOut(between(0.03, 0.08), LIMIT),
            (0.0, 1.0),
            "runs into its limit",
        );
        self.add(
            "slow_operation",
            tools[15],
            Effect::Slow(between(0.05, 0.12)),
            (0.0, 1.0),
            "some calls take seconds",
        );
        let task = (between(0.0, TASKS.len() as f64) as usize).min(TASKS.len() - 1);
        self.add(
            "inefficient_chain",
            self.duties[task].task,
            Effect::Repeats(between(0.1, 0.25), 6),
            (0.0, 1.0),
            "the same call again and again",
        );
    }

    /// What calls of models cost.
    fn plant_costs(&mut self, rng: &mut Rng, models: &[usize]) {
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        let start = between(0.1, 0.9);
        let effect = Effect::Dearer(between(2.5, 6.0));
        self.add(
            "anomaly",
            models[0],
            effect,
            (start, start + between(3.0, 9.0) / 168.0),
            "costs more for hours",
        );
        let start = between(0.2, 0.8);
        self.add("level_shift", models[1], Effect::Dearer(between(1.5, 3.0)), (start, 1.0), "costs more");
        self.habits[models[2]].cost_nano = between(5.0e7, 6.0e7);
        self.add(
            "breach_forecast",
            models[2],
            Effect::Inflates(between(1.35, 1.6)),
            (0.0, 1.0),
            "its cost will pass 0.10 USD",
        );
        self.follow("trend", models[2], (0.0, 1.0), "its cost rises");
        self.habits[models[3]].cost_nano = between(1.2e8, 2.0e8);
        self.mean("high_cost_operation", models[3], "its calls cost above 0.10 USD");
    }

    /// Adds a problem, its truth, and what follows from it.
    pub(crate) fn add(
        &mut self,
        kind: &'static str,
        op: usize,
        effect: Effect,
        span: (f64, f64),
        note: &str,
    ) {
        let note = format!("{note}: {effect:?}");
        let in_task = match effect {
            Effect::FailsIn(duty, _) => Some(self.habits[self.duties[duty].task].full_name()),
            _ => None,
        };
        if FACTS.contains(&kind) {
            self.mean(kind, op, &note);
            self.tell(&effect);
        } else {
            self.note(kind, op, span, &note);
            self.planted.last_mut().expect("it was just added").other.clone_from(&in_task);
        }
        let longer = matches!(
            effect,
            Effect::Slower(_)
                | Effect::Tail(..)
                | Effect::Spreads(_)
                | Effect::Grows(_)
                | Effect::TimesOut(..)
                | Effect::Slow(_)
        );
        if longer {
            // A task lasts as long as its calls.
            let tasks = self.users(op).map(|duty| self.duties[duty].task).collect::<Vec<_>>();
            for task in tasks {
                for kind in ["level_shift", "tail_growth", "drift", "trend", "anomaly"] {
                    self.follow(kind, task, span, &format!("{note}, and its tasks with it"));
                }
            }
        }
        match effect {
            // In no task is a model the best that does not answer.
            Effect::TimesOut(..) if self.habits[op].what == What::Llm => {
                for duty in 0..self.duties.len() {
                    let other = Some(self.habits[self.duties[duty].task].full_name());
                    self.follow("skill", op, span, &note);
                    self.planted.last_mut().expect("it was just added").other = other;
                }
            }
            Effect::Template(..) => {
                if span.0 > 0.0 {
                    self.follow("level_shift", op, span, &note);
                }
                if span != (0.0, 1.0) {
                    self.follow("trend", op, span, &note);
                }
            }
            Effect::FailsIn(..) => {
                self.follow(if kind == "skill" { "correlation" } else { "skill" }, op, span, &note);
                self.planted.last_mut().expect("it was just added").other = in_task;
            }
            _ => {}
        }
        self.problems.push(Problem { op, effect, from: span.0, until: span.1 });
    }

    /// What nobody has to be told of.
    pub(crate) fn happens(&mut self, op: usize, effect: Effect) {
        self.problems.push(Problem { op, effect, from: 0.0, until: 1.0 });
    }

    /// A fact that is planted.
    pub(crate) fn mean(&mut self, kind: &'static str, op: usize, note: &str) {
        let (metadata, note) = (Map::new(), note.to_owned());
        self.meant.push(Meant { kind, op, template: None, metadata, note });
    }

    /// What tells the fact that was planted last from others of its kind.
    fn tell(&mut self, effect: &Effect) {
        let Some(meant) = self.meant.last_mut() else { return };
        let (name, value) = match effect {
            Effect::Template(_, text) => {
                meant.template = Some(expression(text, &self.habits[meant.op].name));
                return;
            }
            Effect::Repeats(..) => ("kind", json!("repeat")),
            Effect::Turns(..) => ("kind", json!("ping_pong")),
            Effect::Storm(..) => ("kind", json!("retry_storm")),
            Effect::FailsWithout(tool, _) => ("with", json!(self.habits[*tool].full_name())),
            _ => return,
        };
        meant.metadata.insert(name.to_owned(), value);
    }

    fn together(&mut self, a: usize, b: usize, hours: &[usize], share: f64) {
        let note = format!("fail together in {} hours, {share:.2} of the calls", hours.len());
        for op in [a, b] {
            let effect = Effect::Together(hours.to_vec(), share);
            self.problems.push(Problem { op, effect, from: 0.0, until: 1.0 });
            for hour in hours {
                let span = (*hour as f64 / 168.0, (*hour + 1) as f64 / 168.0);
                self.follow("burst", op, span, &note);
            }
        }
        self.note("correlation", a, (0.0, 1.0), &note);
        if let Some(planted) = self.planted.last_mut() {
            planted.other = Some(self.habits[b].full_name());
        }
    }

    fn users(&self, op: usize) -> impl Iterator<Item = usize> {
        (0..self.duties.len()).filter(move |duty| self.duties[*duty].tools.contains(&op))
    }

    /// Whether an operation is a task.
    pub(crate) fn is_task(&self, op: usize) -> bool {
        self.habits[op].what == What::Task
    }

    fn duty(&self, task: usize) -> Option<&Duty> {
        self.duties.iter().find(|duty| duty.task == task)
    }

    /// The tools that take turns in a task, where that was planted.
    pub(crate) fn turns(&self, task: usize) -> Option<&[usize]> {
        let planted = |p: &&Problem| p.op == task && matches!(p.effect, Effect::Turns(..));
        self.problems.iter().find(planted).and_then(|_| self.duty(task)).map(|duty| &duty.tools[..2])
    }

    /// Whether a task fails that does not use a certain tool.
    pub(crate) fn fails_without_a_tool(&self, task: usize) -> bool {
        self.problems.iter().any(|p| p.op == task && matches!(p.effect, Effect::FailsWithout(..)))
    }

    fn note(&mut self, kind: &'static str, op: usize, span: (f64, f64), note: &str) {
        self.planted.push(Planted {
            pattern_type: kind,
            operation: self.habits[op].full_name(),
            other: None,
            span,
            from: String::new(),
            until: String::new(),
            secondary: false,
            note: note.to_owned(),
            occurrences: None,
            template: None,
            metadata: Map::new(),
        });
    }

    pub(crate) fn follow(&mut self, kind: &'static str, op: usize, span: (f64, f64), note: &str) {
        self.note(kind, op, span, note);
        if let Some(planted) = self.planted.last_mut() {
            planted.secondary = true;
        }
    }
}

impl Habit {
    pub(crate) fn full_name(&self) -> String {
        let prefix = match self.what {
            What::Tool => "tool:",
            What::Llm => "llm:",
            What::Task => "task:",
        };
        format!("{prefix}{}", self.name)
    }
}
