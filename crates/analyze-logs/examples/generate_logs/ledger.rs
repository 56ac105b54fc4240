//! What is so, counted while the calls are made up: what took longer or cost more than the limits, timed out, failed
//! in the same way, was done for nothing, succeeded. The rules are those of docs/patterns.md, written once more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::plan::{Fleet, Meant, Planted};
use super::texts::Wrong;
use super::week::iso;
use super::world::What;

const SLOW_US: i64 = 5_000_000;
const DEAR_NANO: i64 = 100_000_000;
/// Pause within which a call that fails again is a retry.
const RETRY_US: i64 = 10_000_000;
/// Least share of calls that is worth a word when nobody planted it.
const WORTH: f64 = 0.005;

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) op: usize,
    /// What its line says.
    pub(crate) stamp: i64,
    pub(crate) begin: i64,
    pub(crate) end: i64,
    pub(crate) wrong: Option<Wrong>,
    pub(crate) nano: i64,
    pub(crate) argument: String,
}

/// How many, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    count: u64,
    span: Option<(i64, i64)>,
}

impl Seen {
    fn see(&mut self, at: i64) {
        self.count += 1;
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
    }
}

/// Of one operation.
#[derive(Debug, Default)]
struct Calls {
    all: Seen,
    slow: Seen,
    late: Seen,
    dear: Seen,
    failed: Seen,
    /// Sessions above the limit of cost although none of their calls is.
    dear_runs: Seen,
}

/// Of one template.
#[derive(Debug, Default)]
struct Same {
    all: Seen,
    by: BTreeMap<usize, u64>,
}

/// Of one way of waste.
#[derive(Debug, Default)]
struct Waste {
    chains: Seen,
    calls: u64,
    us: i64,
}

/// Everything that was counted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ops: BTreeMap<usize, Calls>,
    templates: BTreeMap<String, Same>,
    /// By kind, the names of one or two operations in their order, and the task.
    wastes: BTreeMap<(&'static str, Vec<usize>, usize), Waste>,
    /// By task and operation: sessions, and those that succeeded.
    uses: BTreeMap<(usize, usize), (u64, u64)>,
}

impl Ledger {
    /// Counts the calls of a session, in their order; the last one is that of its task, if it has one.
    pub(crate) fn session(&mut self, calls: &[Done], fleet: &Fleet) {
        for call in calls {
            let of = self.ops.entry(call.op).or_default();
            of.all.see(call.stamp);
            if call.end - call.begin > SLOW_US {
                of.slow.see(call.stamp);
            }
            if call.nano > DEAR_NANO {
                of.dear.see(call.stamp);
            }
            if let Some(wrong) = &call.wrong {
                of.failed.see(call.stamp);
                if wrong.timeout {
                    of.late.see(call.stamp);
                }
                if let Some(template) = &wrong.template {
                    let same = self.templates.entry(template.clone()).or_default();
                    same.all.see(call.stamp);
                    *same.by.entry(call.op).or_default() += 1;
                }
            }
        }
        let Some((task, calls)) = calls.split_last().filter(|(last, _)| fleet.is_task(last.op)) else {
            return;
        };
        if calls.iter().map(|call| call.nano).sum::<i64>() > DEAR_NANO
            && calls.iter().all(|call| call.nano <= DEAR_NANO)
        {
            self.ops.entry(task.op).or_default().dear_runs.see(task.stamp);
        }
        for op in calls.iter().map(|call| call.op).collect::<BTreeSet<usize>>() {
            let of = self.uses.entry((task.op, op)).or_default();
            of.0 += 1;
            of.1 += u64::from(task.wrong.is_none());
        }
        self.repeats(calls, task.op);
        self.storms(calls, task.op);
        self.turns(calls, task.op, fleet);
    }

    fn waste(
        &mut self,
        kind: &'static str,
        ops: Vec<usize>,
        task: usize,
        chain: &[&Done],
        for_nothing: usize,
    ) {
        let waste = self.wastes.entry((kind, ops, task)).or_default();
        waste.chains.see(chain[0].stamp);
        waste.chains.see(chain[chain.len() - 1].stamp);
        waste.chains.count -= 1;
        waste.calls += for_nothing as u64;
        waste.us += chain[chain.len() - for_nothing..].iter().map(|call| call.end - call.begin).sum::<i64>();
    }

    /// The same call succeeds three times.
    fn repeats(&mut self, calls: &[Done], task: usize) {
        let mut same: BTreeMap<(usize, &str), Vec<&Done>> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.wrong.is_none() && !call.argument.is_empty()) {
            same.entry((call.op, &call.argument)).or_default().push(call);
        }
        for ((op, _), chain) in same.into_iter().filter(|(_, chain)| chain.len() > 2) {
            self.waste("repeat", vec![op], task, &chain, chain.len() - 1);
        }
    }

    /// An operation fails three times without a success between, each time within seconds.
    fn storms(&mut self, calls: &[Done], task: usize) {
        for op in calls.iter().map(|call| call.op).collect::<BTreeSet<usize>>() {
            let own: Vec<&Done> = calls.iter().filter(|call| call.op == op).collect();
            let goes_on =
                |a: &&Done, b: &&Done| a.wrong.is_some() == b.wrong.is_some() && b.begin - a.end <= RETRY_US;
            for chain in own.chunk_by(goes_on).filter(|chain| chain.len() > 2 && chain[0].wrong.is_some()) {
                self.waste("retry_storm", vec![op], task, chain, chain.len() - 1);
            }
        }
    }

    /// Two tools take turns; only where that was planted: otherwise it is chance.
    fn turns(&mut self, calls: &[Done], task: usize, fleet: &Fleet) {
        let Some(pair) = fleet.turns(task) else { return };
        let tools: Vec<&Done> =
            calls.iter().filter(|call| fleet.habits[call.op].what == What::Tool).collect();
        let mut rest = &tools[..];
        while rest.len() >= 4 {
            let alternates =
                |at: usize| rest[at].op != rest[at - 1].op && (at < 2 || rest[at].op == rest[at - 2].op);
            let length = (1..rest.len()).find(|at| !alternates(*at)).unwrap_or(rest.len());
            if length >= 4 && pair.contains(&rest[0].op) && pair.contains(&rest[1].op) {
                self.waste("ping_pong", pair.to_vec(), task, &rest[..length], length - 2);
            }
            // The last call may begin the next chain.
            rest = &rest[(length - 1).max(1)..];
        }
    }

    /// The facts; those that the fleet is meant to have are no secondary ones.
    pub(crate) fn facts(&self, fleet: &Fleet) -> Vec<Planted> {
        let mut facts = Vec::new();
        for (&op, of) in &self.ops {
            let limits = [
                ("slow_operation", of.slow, "calls"),
                ("timeout_pattern", of.late, "calls"),
                ("high_cost_operation", of.dear, "calls"),
                ("high_cost_operation", of.dear_runs, "runs"),
            ];
            for (kind, seen, all) in limits {
                let fact = Fact { op, seen, metadata: told([(all, json!(of.all.count))]), ..Fact::of(kind) };
                facts.extend(fact.planted(fleet, of.all.count));
            }
            if fleet.is_task(op) && of.failed.count * 10 <= of.all.count && of.all.count >= 20 {
                let seen = Seen { count: of.all.count - of.failed.count, span: of.all.span };
                let metadata = told([("runs", json!(of.all.count)), ("with", Value::Null)]);
                let fact = Fact { op, seen, metadata, ..Fact::of("successful_pattern") };
                facts.extend(fact.planted(fleet, of.all.count));
            }
        }
        self.better_with(fleet, &mut facts);
        for (template, same) in self.templates.iter().filter(|(_, same)| same.all.count >= 3) {
            let by = same.by.iter().map(|(op, count)| (*count, fleet.habits[*op].full_name(), *op));
            let most = by.max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
            let op = most.map_or(0, |(.., op)| op);
            let fact = Fact { op, seen: same.all, template: Some(template), ..Fact::of("recurring_error") };
            facts.extend(fact.planted(fleet, same.all.count));
        }
        self.wasted(fleet, &mut facts);
        facts
    }

    /// Tasks that fail without one of their tools: how they do with each of them.
    fn better_with(&self, fleet: &Fleet, facts: &mut Vec<Planted>) {
        for (&(op, with), &(runs, well)) in &self.uses {
            if fleet.fails_without_a_tool(op) {
                let seen = Seen { count: well, span: self.ops[&op].all.span };
                let metadata = told([("runs", json!(runs)), ("with", json!(fleet.habits[with].full_name()))]);
                let fact = Fact { op, seen, metadata, ..Fact::of("successful_pattern") };
                facts.extend(fact.planted(fleet, runs));
            }
        }
    }

    fn wasted(&self, fleet: &Fleet, facts: &mut Vec<Planted>) {
        let enough = |waste: &Waste| waste.chains.count >= 3 || waste.calls >= 10;
        for ((kind, ops, task), waste) in self.wastes.iter().filter(|(_, waste)| enough(waste)) {
            let mut names: Vec<String> = ops.iter().map(|op| fleet.habits[*op].full_name()).collect();
            names.sort();
            let metadata = told([
                ("kind", json!(kind)),
                ("task", json!(fleet.habits[*task].full_name())),
                ("with", json!(names.get(1))),
                ("wasted_calls", json!(waste.calls)),
                ("wasted_s", json!(waste.us as f64 / 1e6)),
            ]);
            let fact = Fact { op: *task, seen: waste.chains, metadata, ..Fact::of("inefficient_chain") };
            let planted = fact.planted(fleet, waste.chains.count);
            facts.extend(planted.map(|planted| Planted { operation: names[0].clone(), ..planted }));
        }
    }
}

fn told<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Something that is so; of a waste the operation is its task.
struct Fact<'a> {
    kind: &'static str,
    op: usize,
    seen: Seen,
    template: Option<&'a str>,
    metadata: Map<String, Value>,
}

impl Fact<'_> {
    fn of(kind: &'static str) -> Self {
        Self { kind, op: 0, seen: Seen::default(), template: None, metadata: Map::new() }
    }

    fn is_meant(&self, meant: &Meant) -> bool {
        let told = |(name, value): (&String, &Value)| self.metadata.get(name) == Some(value);
        self.kind == meant.kind
            && (self.op == meant.op || meant.template.is_some())
            && self.template == meant.template.as_deref()
            && meant.metadata.iter().all(told)
    }

    /// As a part of the truth; what nobody planted only if it is worth a word.
    fn planted(self, fleet: &Fleet, all: u64) -> Option<Planted> {
        let meant = fleet.meant.iter().find(|meant| self.is_meant(meant));
        let (from, until) = self.seen.span?;
        let worth = self.seen.count >= 2 && self.seen.count as f64 >= WORTH * all as f64;
        (meant.is_some() || worth).then(|| Planted {
            pattern_type: self.kind,
            operation: fleet.habits[self.op].full_name(),
            other: None,
            span: (0.0, 1.0),
            from: iso(from),
            until: iso(until),
            secondary: meant.is_none(),
            note: meant.map_or_else(String::new, |meant| meant.note.clone()),
            occurrences: Some(self.seen.count),
            template: self.template.map(str::to_owned),
            metadata: self.metadata,
        })
    }
}
