//! Is the answer written in the script of the prompt?
//!
//! Judged by Unicode scripts only: English and German are the same here, English and Russian are not. Han, Hiragana,
//! Katakana, Bopomofo and Hangul count as one East Asian group, because Chinese, Japanese and Korean texts share
//! characters. Text with fewer than [`LEAST_LETTERS`] letters has no script (numbers, codes, names of one letter), and
//! code fences do not count. A prompt that asks for a translation cannot be told from one that does not; a caller
//! that expects translations does not use this check.

use serde::{Deserialize, Serialize};
use unicode_script::{Script, UnicodeScript};

/// Letters below which a text is not judged.
pub const LEAST_LETTERS: usize = 4;

/// Share of letters from which a script is the text's own.
const DOMINANT: f64 = 0.6;

/// A prompt's and an answer's script side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum ScriptMatch {
    /// Both are written in this script.
    Same {
        /// Its Unicode name.
        script: String,
    },
    /// They are written in different scripts.
    Different {
        /// Script of the prompt.
        prompt: String,
        /// Script of the answer.
        answer: String,
    },
    /// One of them has too few letters or mixes scripts: nothing can be said.
    Unknown,
}

/// Compares the scripts of a prompt and its answer.
pub fn compare(prompt: &str, answer: &str) -> ScriptMatch {
    match (dominant_script(prompt), dominant_script(answer)) {
        (Some(prompt), Some(answer)) if prompt == answer => ScriptMatch::Same { script: prompt.to_owned() },
        (Some(prompt), Some(answer)) => {
            // An answer that only quotes the prompt's words is fine, a prompt that holds both scripts too.
            ScriptMatch::Different { prompt: prompt.to_owned(), answer: answer.to_owned() }
        }
        _ => ScriptMatch::Unknown,
    }
}

/// Name of the script that holds at least 60 % of a text's letters.
pub fn dominant_script(text: &str) -> Option<&'static str> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    let mut letters = 0;
    // Every second piece between fences is code.
    for prose in text.split("```").step_by(2) {
        for c in prose.chars().filter(|c| c.is_alphabetic()) {
            let name = group(c.script());
            letters += 1;
            match counts.iter_mut().find(|(n, _)| *n == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
        }
    }
    if letters < LEAST_LETTERS {
        return None;
    }
    let (name, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count as f64 >= DOMINANT * letters as f64).then_some(name)
}

fn group(script: Script) -> &'static str {
    match script {
        Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo => "East Asian",
        other => other.full_name(),
    }
}
