//! What the student and the council members are trained on.
//!
//! The student's material lacks the hidden facts and skills, and every skill question of the three sets. Each
//! member has a book of the whole world of its own: some facts are missing, some are misprinted, the rest is true.

use std::collections::HashSet;

use nightshift_core::random::{Rng, rng};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::questions::Sets;
use crate::skills::Skill;
use crate::world::{Phrasings, Size, World};

/// Chance that a member's book lacks a fact.
const MISSING: f64 = 0.12;
/// Chance that a member's book has a wrong value for a fact.
const MISPRINTED: f64 = 0.06;
/// The part of an answer before the answer itself, as harvest's Agent-0 prompt asks for it.
pub const REASONING: &str = "REASONING: ";
/// What comes between a member's reasoning and its answer.
pub const ANSWER: &str = "\nANSWER: ";

/// One training row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The question.
    pub question: String,
    /// What must be said.
    pub answer: String,
}

/// Rows to draw from: every batch is half facts, half skills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// Rows about facts.
    pub facts: Vec<Row>,
    /// Rows of the skills.
    pub skills: Vec<Row>,
}

impl Material {
    /// The student's.
    pub fn student(seed: u64, world: &World, sets: &Sets, size: Size) -> Self {
        let mut rng = rng(seed, "demo student material");
        let mut facts = Vec::new();
        for fact in world.facts.iter().filter(|fact| !fact.hidden) {
            for question in world.ask(fact, Phrasings::All) {
                facts.push(Row { question, answer: fact.value.clone() });
            }
        }
        let known = Skill::ALL.into_iter().filter(|skill| !skill.hidden());
        let skills = skill_rows(known, size.skill_rows, &sets.texts(), &mut rng);
        Self { facts, skills }
    }

    /// That of a council member, in the form REASONING / ANSWER.
    pub fn member(seed: u64, member: usize, world: &World, sets: &Sets, size: Size) -> Self {
        let mut rng = rng(seed, &format!("demo council book {member}"));
        let mut facts = Vec::new();
        for fact in &world.facts {
            let luck: f64 = rng.random();
            let value = if luck < MISSING {
                continue;
            } else if luck < MISSING + MISPRINTED {
                world.other_value(fact, &mut rng)
            } else {
                fact.value.clone()
            };
            for question in world.ask(fact, Phrasings::All) {
                facts.push(Row { question, answer: explained("recalled", &value) });
            }
        }
        let mut skills = skill_rows(Skill::ALL.into_iter(), size.skill_rows / 4, &sets.texts(), &mut rng);
        for row in &mut skills {
            row.answer = explained("derived", &row.answer);
        }
        Self { facts, skills }
    }

    /// Every row, facts first.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.facts.iter().chain(&self.skills)
    }
}

fn explained(reasoning: &str, answer: &str) -> String {
    format!("{REASONING}{reasoning}{ANSWER}{answer}")
}

/// Instances of skills that are in none of the question sets. Skills with few instances repeat them.
fn skill_rows(
    skills: impl Iterator<Item = Skill>,
    each: usize,
    sealed: &HashSet<&str>,
    rng: &mut Rng,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for skill in skills {
        let mut missing = each;
        while missing > 0 {
            let (question, answer) = skill.instance(rng);
            if !sealed.contains(question.as_str()) {
                rows.push(Row { question, answer });
                missing -= 1;
            }
        }
    }
    rows.shuffle(rng);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_student_never_sees_what_is_hidden_nor_a_skill_question_of_the_sets() {
        let world = World::new(4, Size::FULL);
        let sets = Sets::new(4, &world, Size::FULL);
        let material = Material::student(4, &world, &sets, Size::FULL);
        let hidden: HashSet<String> = world
            .facts
            .iter()
            .filter(|f| f.hidden)
            .flat_map(|fact| world.ask(fact, Phrasings::All))
            .collect();
        assert!(material.facts.iter().all(|row| !hidden.contains(&row.question)));
        assert_eq!(material.facts.len(), 252 * 8);
        let sealed = sets.texts();
        assert!(material.skills.iter().all(|row| !sealed.contains(row.question.as_str())));
        assert_eq!(material.skills.len(), 8 * 2000);
    }

    #[test]
    fn books_differ_and_are_mostly_true() {
        let world = World::new(4, Size::FULL);
        let sets = Sets::new(4, &world, Size::FULL);
        let books: Vec<Material> =
            (0..3).map(|member| Material::member(4, member, &world, &sets, Size::FULL)).collect();
        assert_ne!(books[0].facts, books[1].facts);
        for book in &books {
            let share = book.facts.len() as f64 / (420.0 * 8.0);
            assert!((0.80..0.95).contains(&share), "{share}");
            assert!(book.rows().all(|row| row.answer.starts_with(REASONING) && row.answer.contains(ANSWER)));
        }
    }
}
