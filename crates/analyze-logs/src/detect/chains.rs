//! What the calls of one session say together: waste, how its task ended, and what it used.
//!
//! A session is the calls that share a task's, session's or trace's id, without a pause of more than
//! [`IDLE_US`]. Three kinds of waste, each with the time and money of all calls that were for nothing:
//!
//! - *repeats*: the same call (operation and arguments) succeeds at least [`REPEATS`] times; all but the first
//!   are waste;
//! - *ping-pong*: two tools take turns, at least A-B-A-B; what follows the first turn of each is waste, unless
//!   it counts as a repeat already;
//! - *retry storms*: an operation fails at least [`RETRIES`] times without a success between, each time within
//!   [`RETRY_US`] of the failure before; all failures but the first are waste.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::evidence::{Few, Span};
use crate::line::{Hashing, Kind};
use crate::read::NONE;

/// Pause that ends a session.
pub(super) const IDLE_US: i64 = 10 * 60 * 1_000_000;
/// Pause within which a call that fails again is a retry.
const RETRY_US: i64 = 10 * 1_000_000;
const REPEATS: usize = 3;
const RETRIES: usize = 3;
const TURNS: usize = 4;
/// Wastes and uses that are told apart; further ones count for `(other)`.
const MOST_WASTES: usize = 4_096;
const MOST_USES: usize = 32_768;

/// One call of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) at: i64,
    pub(super) op: u32,
    pub(super) kind: Kind,
    pub(super) task: u32,
    pub(super) args: u64,
    pub(super) us: u64,
    pub(super) nano: i64,
    pub(super) failed: bool,
    pub(super) file: u32,
    pub(super) offset: u64,
}

impl Call {
    /// When it is over at the latest: stamps are of the begin or of the end.
    pub(super) fn ends(&self) -> i64 {
        self.at.saturating_add(i64::try_from(self.us).unwrap_or(i64::MAX))
    }
}

/// How calls are wasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WasteKind {
    /// The same call again.
    Repeat,
    /// Two tools in turns.
    PingPong,
    /// Failing again and again.
    RetryStorm,
}

/// A kind of waste of one operation (of two) in sessions of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Waste {
    /// How.
    pub kind: WasteKind,
    /// The operation.
    pub op: u32,
    /// The other one of a ping-pong, or [`NONE`].
    pub other: u32,
    /// The task, or [`NONE`].
    pub task: u32,
}

/// Sums over sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Sessions.
    pub sessions: u64,
    /// Of those, whose task failed.
    pub failed: u64,
    /// Microseconds of their calls.
    pub us: u64,
    /// Nano-dollars of their calls.
    pub nano: i64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.failed += other.failed;
        self.us = self.us.saturating_add(other.us);
        self.nano = self.nano.saturating_add(other.nano);
    }
}

/// What was wasted in one way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wasted {
    /// Chains of calls.
    pub chains: u64,
    /// Calls that were for nothing.
    pub calls: u64,
    /// Microseconds that these took.
    pub us: u64,
    /// Nano-dollars that they cost.
    pub nano: i64,
    /// Calls of the longest chain.
    pub longest: u64,
    /// First and last chain.
    pub span: Span,
    /// The sessions with such chains, as a whole.
    pub sessions: Sums,
    /// Second calls of the longest chains; the rank is the length, negated.
    pub longest_ones: Few,
}

impl Wasted {
    fn absorb(&mut self, other: Self) {
        self.chains += other.chains;
        self.calls += other.calls;
        self.us = self.us.saturating_add(other.us);
        self.nano = self.nano.saturating_add(other.nano);
        self.longest = self.longest.max(other.longest);
        self.span.join(other.span);
        self.sessions.add(other.sessions);
        self.longest_ones.absorb(other.longest_ones);
    }
}

/// The sessions of one task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// All.
    pub all: Sums,
    /// Those without any waste.
    pub clean: Sums,
    /// Sessions that say how their task ended.
    pub ended: u64,
    /// Of those, well.
    pub well: u64,
    /// Places where four tool calls follow each other: chances for a ping-pong.
    pub windows: u64,
    /// Sessions above the limit of cost although none of their calls is.
    pub dear: u64,
    /// Nano-dollars of these.
    pub dear_nano: i64,
}

/// The sessions of one task that use one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Calls.
    pub calls: u64,
    /// Sessions whose task says how it ended.
    pub ended: u64,
    /// Of those, well.
    pub well: u64,
}

/// What all sessions said; sums only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// By kind, operation and task.
    #[serde(with = "pairs")]
    pub wastes: HashMap<Waste, Wasted, Hashing>,
    /// By task; [`NONE`] for sessions without one.
    #[serde(with = "pairs")]
    pub runs: HashMap<u32, Runs, Hashing>,
    /// By task and operation.
    #[serde(with = "pairs")]
    pub uses: HashMap<(u32, u32), Use, Hashing>,
}

/// Maps as lists that are sorted by their keys.
mod pairs {
    use std::hash::{BuildHasher, Hash};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::HashMap;

    pub(super) fn serialize<K: Serialize + Ord, V: Serialize, B, S: Serializer>(
        map: &HashMap<K, V, B>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut pairs: Vec<(&K, &V)> = map.iter().collect();
        pairs.sort_by_key(|(key, _)| *key);
        serializer.collect_seq(pairs)
    }

    pub(super) fn deserialize<'de, K, V, B, D>(deserializer: D) -> Result<HashMap<K, V, B>, D::Error>
    where
        K: Deserialize<'de> + Eq + Hash,
        V: Deserialize<'de>,
        B: BuildHasher + Default,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The entry of a key, or of `other` when there are too many.
fn bounded<K: Hash + Eq, V: Default>(
    map: &mut HashMap<K, V, Hashing>,
    most: usize,
    key: K,
    other: K,
) -> &mut V {
    let key = if map.len() >= most && !map.contains_key(&key) { other } else { key };
    map.entry(key).or_default()
}

impl Outcomes {
    /// Adds those of another machine, whose operations have the numbers that `number` translates.
    pub(super) fn absorb(&mut self, other: Self, number: &impl Fn(u32) -> u32) {
        for (waste, wasted) in other.wastes {
            let (op, task) = (number(waste.op), number(waste.task));
            let waste = Waste { op, task, other: number(waste.other), ..waste };
            self.wasted(waste, waste.op).absorb(wasted);
        }
        for (task, runs) in other.runs {
            let ours = self.runs.entry(number(task)).or_default();
            ours.all.add(runs.all);
            ours.clean.add(runs.clean);
            ours.ended += runs.ended;
            ours.well += runs.well;
            ours.windows += runs.windows;
            ours.dear += runs.dear;
            ours.dear_nano = ours.dear_nano.saturating_add(runs.dear_nano);
        }
        for ((task, op), theirs) in other.uses {
            let (task, op) = (number(task), number(op));
            let ours = bounded(&mut self.uses, MOST_USES, (task, op), (Kind::Task as u32, op));
            ours.calls += theirs.calls;
            ours.ended += theirs.ended;
            ours.well += theirs.well;
        }
    }

    /// Pairs are the same whoever begins.
    fn wasted(&mut self, mut waste: Waste, rest: u32) -> &mut Wasted {
        if waste.other != NONE && waste.other < waste.op {
            (waste.op, waste.other) = (waste.other, waste.op);
        }
        let other = Waste { op: rest, other: NONE, task: NONE, ..waste };
        bounded(&mut self.wastes, MOST_WASTES, waste, other)
    }

    /// Evaluates the calls of one id, sessions of it one by one; `files` are the names of the files.
    pub(super) fn evaluate(&mut self, calls: &mut [Call], files: &[Box<str>], dear_nano: i64) {
        if !calls.is_sorted_by_key(|call| call.at) {
            calls.sort_by_key(|call| call.at);
        }
        let mut rest: &[Call] = calls;
        while let Some(first) = rest.first() {
            let mut ends = first.ends();
            let length = rest[1..].iter().take_while(|call| {
                let goes_on = call.at <= ends.saturating_add(IDLE_US);
                ends = ends.max(call.ends());
                goes_on
            });
            let (session, next) = rest.split_at(1 + length.count());
            self.session(session, files, dear_nano);
            rest = next;
        }
    }

    /// Evaluates calls of one tool without an id that follow each other; they are no session that counts.
    pub(super) fn evaluate_loose(&mut self, calls: &[Call], files: &[Box<str>]) {
        if calls.len() >= REPEATS.min(RETRIES) {
            let mut sums = Sums { sessions: 1, ..Sums::default() };
            for call in calls {
                sums.us = sums.us.saturating_add(call.us);
                sums.nano = sums.nano.saturating_add(call.nano);
            }
            self.wastes(calls, task_of(calls).0, sums, files);
        }
    }

    fn session(&mut self, calls: &[Call], files: &[Box<str>], dear_nano: i64) {
        let (task, ended) = task_of(calls);
        let mut sums = Sums { sessions: 1, failed: u64::from(ended == Some(false)), ..Sums::default() };
        let (mut tools, mut failures, mut own_nano, mut single) = (0, 0, 0_i64, false);
        for call in calls {
            if call.kind == Kind::Task {
                own_nano = own_nano.saturating_add(call.nano);
                continue;
            }
            tools += usize::from(call.kind == Kind::Tool);
            failures += usize::from(call.failed);
            single |= call.nano > dear_nano;
            sums.us = sums.us.saturating_add(call.us);
            sums.nano = sums.nano.saturating_add(call.nano);
        }
        // Without costs of its calls, what the task itself says.
        if sums.nano == 0 {
            sums.nano = own_nano;
        }
        let clean = (tools < REPEATS && failures < RETRIES) || self.wastes(calls, task, sums, files);
        let runs = self.runs.entry(task).or_default();
        runs.all.add(sums);
        if clean {
            runs.clean.add(sums);
        }
        runs.ended += u64::from(ended.is_some());
        runs.well += u64::from(ended == Some(true));
        runs.windows += tools.saturating_sub(TURNS - 1) as u64;
        if sums.nano > dear_nano && !single && own_nano <= dear_nano {
            runs.dear += 1;
            runs.dear_nano = runs.dear_nano.saturating_add(sums.nano);
        }
        self.use_up(calls, task, ended);
    }

    fn use_up(&mut self, calls: &[Call], task: u32, ended: Option<bool>) {
        for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.kind != Kind::Task) {
            let first = !calls[..index].iter().any(|before| before.op == call.op);
            let key = (task, call.op);
            let known = self.uses.get_mut(&key);
            let ours = match known {
                Some(known) => known,
                None => bounded(&mut self.uses, MOST_USES, key, (Kind::Task as u32, call.op)),
            };
            ours.calls += 1;
            ours.ended += u64::from(first && ended.is_some());
            ours.well += u64::from(first && ended == Some(true));
        }
    }

    /// Finds the wastes of a session; true when there is none.
    fn wastes(&mut self, calls: &[Call], task: u32, sums: Sums, files: &[Box<str>]) -> bool {
        let mut found: Vec<(WasteKind, u32, Vec<usize>)> = Vec::new();
        storms(calls, &mut found);
        let mut wasted = vec![false; calls.len()];
        repeats(calls, &mut found);
        for &index in found.iter().flat_map(|(.., chain)| &chain[1..]) {
            wasted[index] = true;
        }
        ping_pong(calls, &wasted, &mut found);
        let mut seen: Vec<Waste> = Vec::new();
        for (kind, other, chain) in &found {
            let (first, second) = (&calls[chain[0]], &calls[chain[1]]);
            let waste = Waste { kind: *kind, op: first.op, other: *other, task };
            let turns = if *kind == WasteKind::PingPong { 2 } else { 1 };
            let once = !seen.contains(&waste);
            let all = self.wasted(waste, first.kind as u32);
            all.chains += 1;
            all.longest = all.longest.max(chain.len() as u64);
            all.span.see(first.at);
            all.span.see(calls[chain[chain.len() - 1]].at);
            for &index in &chain[turns..] {
                if *kind == WasteKind::PingPong && wasted[index] {
                    continue;
                }
                all.calls += 1;
                all.us = all.us.saturating_add(calls[index].us);
                all.nano = all.nano.saturating_add(calls[index].nano);
            }
            let file = files.get(second.file as usize).map_or("", |file| file);
            all.longest_ones.offer((-(chain.len() as i64), second.at), file, second.offset, "");
            if once {
                all.sessions.add(sums);
                seen.push(waste);
            }
        }
        found.is_empty()
    }
}

/// The task of a session, if it is one, and whether it ended well, if it says so once.
fn task_of(calls: &[Call]) -> (u32, Option<bool>) {
    let (mut task, mut ended, mut ends) = (NONE, None, 0);
    for call in calls {
        let name = if call.kind == Kind::Task { call.op } else { call.task };
        if call.kind == Kind::Task {
            ends += 1;
            ended = Some(!call.failed);
        }
        if name != NONE {
            if task != NONE && task != name {
                return (NONE, None);
            }
            task = name;
        }
    }
    (task, ended.filter(|_| ends == 1))
}

fn storms(calls: &[Call], found: &mut Vec<(WasteKind, u32, Vec<usize>)>) {
    let mut running: Vec<(u32, Vec<usize>)> = Vec::new();
    let mut close = |chain: Vec<usize>| {
        if chain.len() >= RETRIES {
            found.push((WasteKind::RetryStorm, NONE, chain));
        }
    };
    for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.kind != Kind::Task) {
        let at = running.iter().position(|(op, _)| *op == call.op);
        match (at, call.failed) {
            (None, false) => {}
            (None, true) => running.push((call.op, vec![index])),
            (Some(at), false) => close(running.swap_remove(at).1),
            (Some(at), true) => {
                let chain = &mut running[at].1;
                let before = &calls[chain[chain.len() - 1]];
                // Stamps are of the begin or of the end: one of the two calls lies between them.
                let between = call.at.saturating_sub(before.at);
                if between.saturating_sub_unsigned(before.us.max(call.us)) > RETRY_US {
                    close(std::mem::take(chain));
                }
                chain.push(index);
            }
        }
    }
    for (_, chain) in running {
        close(chain);
    }
}

fn repeats(calls: &[Call], found: &mut Vec<(WasteKind, u32, Vec<usize>)>) {
    let mut keyed: Vec<(u32, u64, usize)> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.kind != Kind::Task && call.args != 0)
        .map(|(index, call)| (call.op, call.args, index))
        .collect();
    keyed.sort_unstable();
    for same in keyed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        // What fails is tried again with reason, or a storm.
        let chain: Vec<usize> =
            same.iter().map(|(.., index)| *index).filter(|&index| !calls[index].failed).collect();
        if chain.len() >= REPEATS {
            found.push((WasteKind::Repeat, NONE, chain));
        }
    }
}

fn ping_pong(calls: &[Call], wasted: &[bool], found: &mut Vec<(WasteKind, u32, Vec<usize>)>) {
    let tools: Vec<usize> = (0..calls.len()).filter(|&index| calls[index].kind == Kind::Tool).collect();
    let op = |at: usize| calls[tools[at]].op;
    let mut start = 0;
    while start + TURNS <= tools.len() {
        let mut end = start + 1;
        while end < tools.len() && op(end) != op(end - 1) && (end < start + 2 || op(end) == op(end - 2)) {
            end += 1;
        }
        let chain = &tools[start..end];
        if chain.len() >= TURNS && chain[2..].iter().any(|&index| !wasted[index]) {
            found.push((WasteKind::PingPong, op(start + 1), chain.to_vec()));
        }
        // The last call may begin the next one.
        start = (end - 1).max(start + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 10;
    const B: u32 = 11;
    const TASK: u32 = 20;

    /// Calls of a second each, a second apart: operation, arguments, failed.
    fn calls(list: &[(u32, u64, bool)]) -> Vec<Call> {
        let call = |(index, &(op, args, failed)): (usize, &(u32, u64, bool))| Call {
            at: index as i64 * 2_000_000,
            op,
            kind: if op == TASK { Kind::Task } else { Kind::Tool },
            task: NONE,
            args,
            us: 1_000_000,
            nano: 1_000,
            failed,
            file: 0,
            offset: index as u64,
        };
        list.iter().enumerate().map(call).collect()
    }

    fn outcomes(list: &[(u32, u64, bool)]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        outcomes.evaluate(&mut calls(list), &["a.log".into()], 100_000_000);
        outcomes
    }

    fn only(outcomes: &Outcomes) -> (Waste, Wasted) {
        assert_eq!(outcomes.wastes.len(), 1, "{:?}", outcomes.wastes);
        outcomes.wastes.iter().map(|(waste, wasted)| (*waste, wasted.clone())).next().unwrap()
    }

    #[test]
    fn the_same_call_again_is_a_repeat() {
        let outcomes = outcomes(&[
            (A, 1, false),
            (B, 9, false),
            (A, 1, false),
            (A, 2, false),
            (A, 1, false),
            (TASK, 0, false),
        ]);
        let (waste, wasted) = only(&outcomes);
        assert_eq!(waste, Waste { kind: WasteKind::Repeat, op: A, other: NONE, task: TASK });
        assert_eq!(
            (wasted.chains, wasted.calls, wasted.us, wasted.nano, wasted.longest),
            (1, 2, 2_000_000, 2_000, 3)
        );
        assert_eq!(wasted.longest_ones.lines()[0].offset, 2);
        assert_eq!((outcomes.runs[&TASK].all.sessions, outcomes.runs[&TASK].clean.sessions), (1, 0));
    }

    #[test]
    fn failing_again_is_a_storm_and_no_repeat() {
        let outcomes = outcomes(&[
            (A, 1, true),
            (A, 1, true),
            (A, 1, true),
            (A, 1, true),
            (A, 1, false),
            (TASK, 0, false),
        ]);
        let (waste, wasted) = only(&outcomes);
        assert_eq!((waste.kind, wasted.calls, wasted.longest), (WasteKind::RetryStorm, 3, 4));
    }

    #[test]
    fn a_success_or_a_pause_ends_a_storm() {
        let mut apart = calls(&[(A, 1, true), (A, 1, true), (A, 1, true), (A, 1, true)]);
        apart[2].at += 60_000_000;
        apart[3].at += 60_000_000;
        let mut outcomes = Outcomes::default();
        outcomes.evaluate(&mut apart, &[], 0);
        assert!(outcomes.wastes.is_empty());
        let outcomes =
            self::outcomes(&[(A, 1, true), (A, 1, true), (A, 2, false), (A, 1, true), (A, 1, true)]);
        assert!(outcomes.wastes.is_empty());
    }

    #[test]
    fn taking_turns_is_ping_pong_whoever_begins() {
        let turns = [(A, 1, false), (B, 2, false), (A, 3, false), (B, 4, false), (A, 5, false)];
        let (waste, wasted) = only(&outcomes(&turns));
        assert_eq!((waste.kind, waste.op, waste.other), (WasteKind::PingPong, A, B));
        assert_eq!((wasted.calls, wasted.longest), (3, 5));
        let (other, _) = only(&outcomes(&turns[1..]));
        assert_eq!(other, waste);
        assert!(outcomes(&turns[..3]).wastes.is_empty());
        let chain =
            [(A, 1, false), (B, 2, false), (A, 3, false), (12, 4, false), (A, 5, false), (B, 6, false)];
        assert!(outcomes(&chain).wastes.is_empty());
    }

    #[test]
    fn turns_with_equal_arguments_are_repeats_and_count_once() {
        let one = [(A, 1, false), (B, 2, false)];
        let outcomes = outcomes(&[one, one, one].concat());
        let wasted: u64 = outcomes.wastes.values().map(|wasted| wasted.calls).sum();
        assert_eq!(wasted, 4);
        assert!(outcomes.wastes.keys().all(|waste| waste.kind == WasteKind::Repeat));
    }

    #[test]
    fn a_pause_ends_a_session() {
        let mut calls = calls(&[(A, 1, false), (A, 1, false), (A, 1, false), (A, 1, false)]);
        calls[2].at += 2 * IDLE_US;
        calls[3].at += 2 * IDLE_US;
        let mut outcomes = Outcomes::default();
        outcomes.evaluate(&mut calls, &[], 0);
        assert!(outcomes.wastes.is_empty());
        assert_eq!(outcomes.runs[&NONE].all.sessions, 2);
    }

    #[test]
    fn uses_count_sessions_once_and_two_tasks_are_none() {
        let outcomes = outcomes(&[(A, 1, false), (A, 2, false), (TASK, 0, true)]);
        assert_eq!(outcomes.uses[&(TASK, A)], Use { calls: 2, ended: 1, well: 0 });
        let two = self::outcomes(&[(A, 1, false), (TASK, 0, false), (TASK, 0, false)]);
        assert_eq!(two.uses[&(TASK, A)], Use { calls: 1, ended: 0, well: 0 });
    }
}
