//! The other half of the fleet: what is told of it is counted, calls above a limit or errors of one text. Some of it is
//! its normal state, planted in clean weeks too; beside it is what looks like such a problem and is none.

use nightshift_core::random::Rng;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::plan::{Duty, Effect, Fleet, Habit};
use super::texts::{AGAIN, LATE, ODD, RARE, TWINS};
use super::world::What;

const TOOLS: [&str; 14] = [
    "queue_push",
    "blob_get",
    "blob_put",
    "lint",
    "test_run",
    "build",
    "ticket_find",
    "ticket_add",
    "chat_post",
    "sql_run",
    "embed",
    "scan",
    "notify",
    "parse",
];
const MODELS: [&str; 4] = ["mini-6", "chat-7", "deep-8", "draft-9"];
/// Tasks with the places of their tools and models; the last one is seldom.
const TASKS: [(&str, &[usize], &[usize]); 7] = [
    ("release", &[3, 4, 5, 2], &[0, 1]),
    ("support", &[6, 7, 8, 12], &[1, 3]),
    ("billing", &[9, 1, 12, 13], &[0, 3]),
    ("crawl", &[11, 13, 0, 2], &[0, 2]),
    ("digest", &[10, 1, 8, 11], &[2, 1]),
    ("watch", &[0, 9, 3, 10], &[3, 0]),
    ("audit", &[1, 13], &[0, 2]),
];
const ALWAYS: (f64, f64) = (0.0, 1.0);

impl Fleet {
    /// Adds the other half, and unless it is `clean`, its problems.
    pub(crate) fn widen(&mut self, rng: &mut Rng, clean: bool) {
        let first = self.habits.len();
        let names = TOOLS.iter().map(|name| (What::Tool, *name));
        let names = names.chain(MODELS.iter().map(|name| (What::Llm, *name)));
        for (what, name) in names.chain(TASKS.iter().map(|(name, ..)| (What::Task, *name))) {
            self.habits.push(Habit {
                what,
                name: name.to_owned(),
                median_ms: rng.random_range(3.0..6.0_f64).exp(),
                spread: rng.random_range(0.3..0.6),
                error_rate: rng.random_range(0.005..0.03),
                wave: 0.0,
                cost_nano: if what == What::Llm { rng.random_range(1e6..5e6) } else { 0.0 },
            });
        }
        let model = first + TOOLS.len();
        let mut duties: Vec<usize> = Vec::new();
        for (number, (_, tools, models)) in TASKS.iter().enumerate() {
            let mut tools: Vec<usize> = tools.iter().map(|tool| first + tool).collect();
            tools.shuffle(rng);
            let seldom = number + 1 == TASKS.len();
            if !seldom {
                duties.push(self.duties.len());
            }
            self.duties.push(Duty {
                task: model + MODELS.len() + number,
                tools,
                models: models.iter().map(|of| model + of).collect(),
                // Six of six are no proof.
                runs: seldom.then_some(6),
            });
        }
        let mut tools: Vec<usize> = (first..model).collect();
        let mut models: Vec<usize> = (model..model + MODELS.len()).collect();
        tools.shuffle(rng);
        models.shuffle(rng);
        duties.shuffle(rng);
        let mut again = AGAIN;
        again.shuffle(rng);
        let mut late = LATE;
        late.shuffle(rng);
        self.normal(rng, &tools, &models, &duties, &again, late[0]);
        if !clean {
            self.limits(rng, &tools, &models, &duties, &late[1..]);
            self.errors(rng, &tools, &again[2..]);
            self.waste(rng, &duties);
        }
    }

    /// What is so in clean weeks as well.
    fn normal(
        &mut self,
        rng: &mut Rng,
        tools: &[usize],
        models: &[usize],
        duties: &[usize],
        again: &[&'static str],
        late: &'static str,
    ) {
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        self.habits[tools[0]].median_ms = between(3_300.0, 3_900.0);
        self.habits[tools[0]].spread = between(0.35, 0.5);
        self.mean("slow_operation", tools[0], "slow at times");
        self.habits[models[0]].median_ms = between(6_500.0, 9_000.0);
        self.mean("slow_operation", models[0], "slow as a rule");
        let share = between(0.03, 0.2);
        self.add(
            "high_cost_operation",
            models[2],
            Effect::Dear(share, 2.5e8),
            ALWAYS,
            "some calls cost more",
        );
        self.habits[models[1]].cost_nano = between(5e7, 6.8e7);
        let of = self.duties.iter().find(|duty| duty.models.contains(&models[1]) && duty.runs.is_none());
        let task = of.expect("every model is used").task;
        self.mean("high_cost_operation", task, "its runs cost more although no call does");
        for text in &again[..2] {
            let effect = Effect::Template(between(0.005, 0.01), text);
            self.add("recurring_error", tools[3], effect, ALWAYS, "an error as always");
        }
        let odd = Effect::Template(between(0.01, 0.02), ODD[usize::from(between(0.0, 1.0) < 0.5)]);
        self.add("recurring_error", tools[4], odd, ALWAYS, "an error about time-outs that is none");
        let task = self.duties[duties[1]].task;
        self.mean("successful_pattern", task, "succeeds");
        if let Some(meant) = self.meant.last_mut() {
            meant.metadata.insert("with".to_owned(), Value::Null);
        }
        // Nothing to tell: just below the limit, too seldom, or with a good reason.
        self.habits[tools[1]].median_ms = between(3_000.0, 3_500.0);
        self.habits[tools[1]].spread = 0.08;
        self.habits[self.duties[duties[0]].task].error_rate = between(0.15, 0.22);
        self.happens(tools[2], Effect::Slow(0.0006));
        self.happens(tools[2], Effect::TimesOut(0.0006, late));
        self.happens(self.duties[duties[2]].task, Effect::Repeats(0.3, 2));
        self.happens(self.duties[duties[3]].task, Effect::Storm(0.03, 3, 15.0));
        self.fails_more(duties[3]);
    }

    /// What is above the limits of time and cost.
    fn limits(
        &mut self,
        rng: &mut Rng,
        tools: &[usize],
        models: &[usize],
        duties: &[usize],
        late: &[&'static str],
    ) {
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        let slow = Effect::Slow(between(0.02, 0.1));
        self.add("slow_operation", tools[10], slow, ALWAYS, "some calls take seconds");
        let task = self.duties[duties[4]].task;
        for (op, text) in [tools[9], models[3], task].into_iter().zip(late) {
            let effect = Effect::TimesOut(between(0.02, 0.06), text);
            self.add("timeout_pattern", op, effect, ALWAYS, "runs into its limit");
        }
        let dear = Effect::Dear(between(0.015, 0.04), 2e8);
        self.add("high_cost_operation", models[3], dear, ALWAYS, "a few calls cost more");
    }

    /// Errors of one text, often and seldom.
    fn errors(&mut self, rng: &mut Rng, tools: &[usize], again: &[&'static str]) {
        let pair = 2 * rng.random_range(0..TWINS.len() / 2);
        let rare = RARE[rng.random_range(0..RARE.len())];
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        for (op, text, share) in [
            (tools[5], TWINS[pair], between(0.01, 0.04)),
            (tools[5], TWINS[pair + 1], between(0.01, 0.04)),
            (tools[6], again[0], between(0.02, 0.05)),
            (tools[7], rare, between(0.005, 0.01)),
            (tools[8], again[1], between(0.01, 0.03)),
        ] {
            self.add("recurring_error", op, Effect::Template(share, text), ALWAYS, "the same error");
        }
        // Two have it.
        self.happens(tools[11], Effect::Template(between(0.01, 0.03), again[1]));
    }

    /// Calls for nothing, and what helps.
    fn waste(&mut self, rng: &mut Rng, duties: &[usize]) {
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        let (repeat, turn, storm) = (between(3.0, 9.0), between(4.0, 11.0), between(3.0, 8.0));
        let task = |fleet: &Self, of: usize| fleet.duties[duties[of]].task;
        let effect = Effect::Repeats(between(0.03, 0.2), repeat as usize);
        self.add("inefficient_chain", task(self, 4), effect, ALWAYS, "the same call again and again");
        let effect = Effect::Turns(between(0.05, 0.2), turn as usize);
        self.add("inefficient_chain", task(self, 5), effect, ALWAYS, "back and forth");
        let effect = Effect::Storm(between(0.03, 0.12), storm as usize, 0.01);
        self.add("inefficient_chain", task(self, 1), effect, ALWAYS, "fails again and again");
        self.fails_more(duties[1]);
        let effect = Effect::FailsWithout(self.duties[duties[2]].tools[1], between(0.25, 0.45));
        self.add("successful_pattern", task(self, 2), effect, ALWAYS, "needs a tool");
        let effect = Effect::FailsIn(duties[5], between(0.2, 0.4));
        self.add("skill", self.duties[duties[5]].models[0], effect, ALWAYS, "the wrong model for a task");
    }

    /// A task's second tool fails more in it than elsewhere.
    fn fails_more(&mut self, duty: usize) {
        let other = self.habits[self.duties[duty].task].full_name();
        self.follow("correlation", self.duties[duty].tools[1], ALWAYS, "fails again and again in one task");
        if let Some(planted) = self.planted.last_mut() {
            planted.other = Some(other);
        }
    }
}
