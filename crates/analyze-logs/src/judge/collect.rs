//! One reading of the logs for all the changes that wait for a verdict.

use nightshift_core::Failure;
use nightshift_core::config::{AnalyzeLogs, Split};

use super::hours::{Hours, Side};
use crate::line::Kind;
use crate::read::{self, Input, Job, NONE, Ops, Options, Problem, Step, Window, hash};

/// Which calls a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `tool:<name>`, `llm:<model>` or `task:<name>`.
    Operation(String),
    /// All of a kind.
    Kind(Kind),
    /// All.
    All,
}

impl Selector {
    fn matches(&self, ops: &Ops, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Kind(kind) => ops.get(number).0 == *kind,
            Self::Operation(name) => ops.full_name(number) == *name,
        }
    }
}

/// What to collect: times in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Calls of any of these.
    pub scope: Vec<Selector>,
    /// When the change was made; with a split, from when on the arms differ.
    pub at: i64,
    /// First instant of the baseline.
    pub baseline_from: i64,
    /// Parts of the baseline that another change has touched.
    pub without: Vec<(i64, i64)>,
    /// First instant that is not looked at any more.
    pub until: i64,
    /// The limit that was raised, in microseconds.
    pub late_us: Option<u64>,
    /// The arms, where the sides are arms.
    pub split: Option<Split>,
}

impl Question {
    /// The side of a call, if it is on one.
    fn side(&self, step: &Step, arms: Option<&Arms>) -> Option<Side> {
        if step.at >= self.until || step.at < self.baseline_from {
            return None;
        }
        match arms {
            Some(arms) if step.at >= self.at => arms.side(step.group),
            Some(_) => None,
            None if step.at >= self.at => Some(Side::After),
            None => {
                let touched = self.without.iter().any(|(from, to)| (*from..*to).contains(&step.at));
                (!touched).then_some(Side::Before)
            }
        }
    }
}

/// The hashes of the arms' names, written as a text or as they are (a number).
struct Arms {
    control: [u64; 2],
    treatment: [u64; 2],
}

impl Arms {
    fn of(split: &Split) -> Self {
        let both = |name: &str| [hash(format!("\"{name}\"").as_bytes()), hash(name.as_bytes())];
        Self { control: both(&split.control), treatment: both(&split.treatment) }
    }

    fn side(&self, group: u64) -> Option<Side> {
        if self.treatment.contains(&group) {
            Some(Side::After)
        } else {
            self.control.contains(&group).then_some(Side::Before)
        }
    }
}

/// Whose calls a question is about, by number of the operation, as numbers become known.
struct Scope<'a> {
    question: &'a Question,
    arms: Option<Arms>,
    inside: Vec<bool>,
}

impl Scope<'_> {
    fn holds(&mut self, ops: &Ops, op: u32) -> bool {
        while self.inside.len() <= op as usize {
            let number = self.inside.len() as u32;
            self.inside.push(self.question.scope.iter().any(|selector| selector.matches(ops, number)));
        }
        self.inside[op as usize]
    }
}

/// Reads the inputs once; the hours of each question come back in its place. Questions with a split must name the
/// same field.
pub fn collect(
    inputs: Vec<Input>,
    options: &Options<'_>,
    questions: &[Question],
    problems: &mut Vec<Problem>,
) -> Result<Vec<Hours>, Failure> {
    let split = questions.iter().find_map(|question| question.split.as_ref());
    let settings = settings(options.settings, split);
    let since = questions.iter().map(|question| question.baseline_from).min();
    let until = questions.iter().map(|question| question.until).max();
    let options = Options { settings: &settings, window: Window { since, until }, ..*options };
    let mut hours = vec![Hours::default(); questions.len()];
    let mut scopes: Vec<Scope<'_>> = questions
        .iter()
        .map(|question| {
            let arms = question.split.as_ref().map(Arms::of);
            Scope { question, arms, inside: Vec::new() }
        })
        .collect();
    let jobs = inputs.into_iter().map(Job::whole).collect();
    let read = read::read(jobs, &options, &mut Ops::default(), |batch, ops| {
        for step in batch.steps.iter().filter(|step| step.op != NONE && step.at != i64::MIN) {
            for (scope, hours) in scopes.iter_mut().zip(&mut hours) {
                if scope.holds(ops, step.op)
                    && let Some(side) = scope.question.side(step, scope.arms.as_ref())
                {
                    hours.add(step, side, scope.question.late_us);
                }
            }
        }
        Ok(())
    })?;
    problems.extend(read.problems);
    Ok(hours)
}

/// With a split, the key that holds the arm takes the place of the id that groups calls: nothing here asks for
/// the group, and the reader has no further column to fill for everybody.
fn settings(settings: &AnalyzeLogs, split: Option<&Split>) -> AnalyzeLogs {
    let mut settings = settings.clone();
    if let Some(split) = split {
        settings.roles.0.retain(|(role, _)| role != "task_id");
        settings.roles.0.push(("task_id".into(), vec![split.field.clone()]));
    }
    settings
}
