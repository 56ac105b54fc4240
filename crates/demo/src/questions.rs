//! Three disjoint question sets: traffic (without a key), gate, and the sealed report set.
//!
//! 65 % facts, 35 % skills, uniform. No text is in two sets, and no text of the skills in any of them is ever
//! trained on by the student ([`Sets::texts`]). Facts in gate and report set use phrasings that traffic never has.

use std::collections::HashSet;

use nightshift_core::evalset::EvalItem;
use nightshift_core::interaction::Message;
use nightshift_core::random::{Rng, rng};
use nightshift_verify::Check;
use rand::seq::SliceRandom;

use crate::skills::Skill;
use crate::world::{ATTRIBUTES, Phrasings, Size, World};

/// Share of facts in every set, in percent.
const FACT_PERCENT: usize = 65;
/// Skill questions kept for traffic, of each skill; days beyond that repeat some.
const TRAFFIC_SKILL_ROWS: usize = 60;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// A fact: its index in the world, and its attribute.
    Fact {
        /// Index into [`World::facts`].
        fact: usize,
        /// Index into [`ATTRIBUTES`].
        attribute: usize,
    },
    /// A skill.
    Skill(Skill),
}

impl Family {
    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fact { attribute, .. } => ATTRIBUTES[attribute],
            Self::Skill(skill) => skill.name(),
        }
    }
}

/// A question with its answer, which never leaves this crate but as a gate or report reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The text.
    pub text: String,
    /// The right answer.
    pub answer: String,
    /// What it is about.
    pub family: Family,
    /// Whether the student never saw this fact or skill.
    pub hidden: bool,
}

impl Question {
    fn of_skill(skill: Skill, rng: &mut Rng) -> Self {
        let (text, answer) = skill.instance(rng);
        Self { text, answer, family: Family::Skill(skill), hidden: skill.hidden() }
    }

    /// The request type.
    pub const fn tag(&self) -> &'static str {
        match self.family {
            Family::Fact { .. } => "fact",
            Family::Skill(skill) => skill.tag(),
        }
    }

    /// Whether it asks for a JSON object.
    pub const fn is_json(&self) -> bool {
        matches!(self.family, Family::Skill(skill) if skill.is_json())
    }

    fn check(&self) -> Check {
        if self.is_json() { Check::Json {} } else { Check::Exact { strict: false } }
    }

    /// Judges an answer with the check that the gate would use.
    pub fn right(&self, answer: &str) -> bool {
        self.check().run(Some(&self.answer), answer).right
    }

    /// The item of an evaluation set, with its reference.
    pub fn item(&self, id: String) -> EvalItem {
        EvalItem {
            id,
            messages: vec![Message::user(&self.text)],
            reference: Some(self.answer.clone()),
            check: serde_json::to_value(self.check()).unwrap_or_default(),
        }
    }
}

/// The three sets of one world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sets {
    facts: Vec<Question>,
    skills: Vec<Vec<Question>>,
    /// The gate's questions.
    pub gate: Vec<Question>,
    /// The sealed questions.
    pub report: Vec<Question>,
    size: Size,
}

impl Sets {
    /// Deals out the questions of a world.
    pub fn new(seed: u64, world: &World, size: Size) -> Self {
        let mut rng = rng(seed, "demo questions");
        let mut open = fact_questions(world, Phrasings::Open);
        let mut sealed = fact_questions(world, Phrasings::Sealed);
        open.shuffle(&mut rng);
        sealed.shuffle(&mut rng);
        let mut used = HashSet::new();
        let mut skills: Vec<Vec<Question>> = Vec::new();
        for skill in Skill::ALL {
            skills.push(fresh(skill, TRAFFIC_SKILL_ROWS, &mut used, &mut rng));
        }
        let mut sealed_set = |count: usize| {
            let of_facts = count * FACT_PERCENT / 100;
            let mut set: Vec<Question> = sealed.drain(..of_facts.min(sealed.len())).collect();
            for (index, skill) in Skill::ALL.into_iter().enumerate() {
                let share = share_of(count - of_facts, index);
                set.extend(fresh(skill, share, &mut used, &mut rng));
            }
            set.shuffle(&mut rng);
            set
        };
        let gate = sealed_set(size.gate);
        let report = sealed_set(size.report);
        Self { facts: open, skills, gate, report, size }
    }

    /// The traffic of a day, in the order in which it is asked. Days beyond the stock repeat older questions.
    pub fn day(&self, seed: u64, day: usize) -> Vec<Question> {
        let facts = self.size.day * FACT_PERCENT / 100;
        let mut questions: Vec<Question> =
            self.facts.iter().cycle().skip(day * facts).take(facts).cloned().collect();
        for (index, stock) in self.skills.iter().enumerate() {
            let share = share_of(self.size.day - facts, index);
            questions.extend(stock.iter().cycle().skip(day * share).take(share).cloned());
        }
        questions.shuffle(&mut rng(seed, &format!("demo day {day}")));
        questions
    }

    /// Whether a text belongs to any of the three sets.
    pub fn texts(&self) -> HashSet<&str> {
        let all = self.facts.iter().chain(self.skills.iter().flatten()).chain(&self.gate).chain(&self.report);
        all.map(|question| question.text.as_str()).collect()
    }
}

/// The number of the skill at `index` when `count` questions are spread evenly over all skills.
fn share_of(count: usize, index: usize) -> usize {
    let skills = Skill::ALL.len();
    count / skills + usize::from(index < count % skills)
}

/// Every question about a fact, in those phrasings.
pub fn fact_questions(world: &World, phrasings: Phrasings) -> Vec<Question> {
    let mut questions = Vec::new();
    for (index, fact) in world.facts.iter().enumerate() {
        for text in world.ask(fact, phrasings) {
            let family = Family::Fact { fact: index, attribute: fact.attribute };
            questions.push(Question { text, answer: fact.value.clone(), family, hidden: fact.hidden });
        }
    }
    questions
}

fn fresh(skill: Skill, count: usize, used: &mut HashSet<String>, rng: &mut Rng) -> Vec<Question> {
    let mut questions = Vec::with_capacity(count);
    while questions.len() < count {
        let question = Question::of_skill(skill, rng);
        if used.insert(question.text.clone()) {
            questions.push(question);
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(seed: u64) -> (World, Sets) {
        let world = World::new(seed, Size::FULL);
        let sets = Sets::new(seed, &world, Size::FULL);
        (world, sets)
    }

    #[test]
    fn the_sets_are_disjoint_and_of_the_stated_size() {
        let (_, sets) = sets(1);
        assert_eq!((sets.gate.len(), sets.report.len(), sets.day(1, 0).len()), (400, 1500, 400));
        let mut seen = HashSet::new();
        for question in sets.gate.iter().chain(&sets.report) {
            assert!(seen.insert(question.text.clone()), "twice: {}", question.text);
        }
        for day in 0..4 {
            for question in sets.day(1, day) {
                assert!(seen.insert(question.text.clone()), "twice: {}", question.text);
            }
        }
        let facts =
            sets.report.iter().filter(|question| matches!(question.family, Family::Fact { .. })).count();
        assert_eq!(facts, 975);
    }

    #[test]
    fn days_never_run_out() {
        let (_, sets) = sets(2);
        assert_eq!(sets.day(2, 30).len(), 400);
    }

    #[test]
    fn the_small_world_has_enough_questions() {
        let world = World::new(1, Size::QUICK);
        let sets = Sets::new(1, &world, Size::QUICK);
        assert_eq!((sets.gate.len(), sets.report.len()), (Size::QUICK.gate, Size::QUICK.report));
    }

    #[test]
    fn a_right_answer_is_right_and_a_wrong_one_is_not() {
        let (_, sets) = sets(3);
        for (at, question) in sets.report.iter().enumerate() {
            assert!(question.right(&question.answer), "{question:?}");
            let other = sets.report[at + 1..]
                .iter()
                .find(|o| o.family.name() == question.family.name() && o.answer != question.answer);
            if let Some(other) = other {
                assert!(!question.right(&other.answer), "{question:?} / {}", other.answer);
            }
        }
    }
}
