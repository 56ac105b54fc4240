//! What training must not see: registered evaluation items, further files, and marked interactions.
//!
//! A text is compared as [`EvalGuard`] says: the same words, a common run of 13 words, or nearly the same
//! words; texts of fewer than 13 words by the same words only.

use std::collections::HashSet;
use std::path::Path;

use nightshift_core::rusqlite::Connection;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, evalset};
use nightshift_model::Message;
use nightshift_verify::similarity::EvalGuard;

use crate::data;

/// What training must not see.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    guard: EvalGuard,
    /// Of each item of the guard, what it is called.
    names: Vec<String>,
    no_train: HashSet<String>,
}

impl Seals {
    /// The registered evaluation questions and the interactions marked `no_train`.
    pub(crate) fn load(connection: &Connection) -> Result<Self, Failure> {
        let mut statement = connection.prepare("SELECT id FROM interactions WHERE no_train = 1")?;
        let no_train = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut seals = Self { no_train, ..Self::default() };
        for sealed in evalset::sealed_items(connection)? {
            seals.add(
                &sealed.question,
                format!("item `{}` of the evaluation set `{}`", sealed.item, sealed.set),
            );
        }
        Ok(seals)
    }

    /// Nothing is sealed: a home without a store.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// The evaluation sets of the home, if there is one; nothing is made or changed in it. A store that an
    /// older program wrote is not read, which is said.
    pub(crate) fn of_home(ctx: &Ctx) -> Result<Self, Failure> {
        let path = ctx.paths.store();
        if let Some(store) = Store::open_read_only(&path)? {
            return Self::load(store.read());
        }
        if path.exists() {
            let path = path.display();
            ctx.printer.note(&format!("{path} is of another version: its evaluation sets are not checked"));
        }
        Ok(Self::none())
    }

    /// Adds the questions of a file: evaluation items, rows of any form, bare questions.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        for (name, question) in data::questions(path)? {
            self.add(&question, name);
        }
        Ok(())
    }

    fn add(&mut self, question: &str, name: String) {
        self.guard.add(question);
        self.names.push(name);
    }

    /// Why texts may not be trained on. A paragraph that is by itself an evaluation question counts too:
    /// the input of an alpaca row is one.
    pub(crate) fn refuse_texts<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let found = texts.into_iter().find_map(|text| {
            let paragraphs = text.split("\n\n").filter(|paragraph| paragraph.len() < text.len());
            self.guard.check(text).or_else(|| paragraphs.into_iter().find_map(|part| self.guard.check(part)))
        })?;
        Some(format!("{} as {}", found.kind.words(), self.names[found.item]))
    }

    /// Why a conversation may not be trained on: any of its turns but the system's.
    pub(crate) fn refuse(&self, messages: &[Message]) -> Option<String> {
        let said = messages.iter().filter(|message| message.role != "system");
        self.refuse_texts(said.map(|message| message.content.as_str()))
    }

    /// Whether an interaction is marked `no_train`.
    pub(crate) fn is_no_train(&self, interaction_id: &str) -> bool {
        self.no_train.contains(interaction_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_names_the_item_and_how() {
        let mut seals = Seals::none();
        let long =
            "Which of the three rivers that cross the old city of Vesk carries the most water in spring?";
        seals.add("What is the capital of Norland?", "item `7` of the evaluation set `gate`".into());
        seals.add(long, "held-out.jsonl:2".into());
        let refuse = |text: &str| seals.refuse_texts([text]);
        let why = refuse("what is the capital of  NORLAND").unwrap();
        assert_eq!(why, "the same words as item `7` of the evaluation set `gate`");
        assert!(refuse("Answer in one word.\n\nWhat is the capital of Norland?").is_some());
        assert!(refuse("What is the capital of Sudland?").is_none());
        let why = refuse(&format!("Please say: {} Thanks.", &long.to_lowercase())).unwrap();
        assert_eq!(why, "a common run of 13 words as held-out.jsonl:2");
        let turn = |role: &str| [Message::new(role, long)];
        assert!(seals.refuse(&turn("system")).is_none() && seals.refuse(&turn("assistant")).is_some());
    }
}
