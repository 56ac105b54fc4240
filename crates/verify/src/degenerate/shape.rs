//! Rules on the shape of a text: cut off, unbalanced, repeated.

use std::collections::HashSet;

use crate::words::tokens;

/// Texts shorter than this many tokens are not judged for repetition.
const LEAST_TOKENS: usize = 30;
/// Share of repeated trigrams from which a text is a loop.
const LOOP_RATIO: f64 = 0.6;
/// The same token so many times in a row is a loop at any length.
const LONGEST_RUN: usize = 12;
/// Words from which prose must end like prose.
const PROSE_WORDS: usize = 40;

pub(super) fn truncated(answer: &str, finish_reason: Option<&str>) -> Option<String> {
    if matches!(finish_reason, Some("length" | "max_tokens")) {
        return Some("the endpoint cut it at the length limit".to_owned());
    }
    let end = answer.trim_end();
    if end.ends_with("...") && end.split_whitespace().count() < 4 {
        return Some("it breaks off".to_owned());
    }
    let last_line = end.lines().next_back().unwrap_or_default();
    let words = end.split_whitespace().count();
    // Prose that ends in the middle of a clause: on a comma, a joining word or an opening bracket.
    let last_word = last_line.split_whitespace().next_back().unwrap_or_default();
    let hangs = last_line.ends_with([',', '(', '[', '{', '-'])
        || matches!(
            last_word.to_lowercase().as_str(),
            "and"
                | "or"
                | "the"
                | "a"
                | "an"
                | "of"
                | "to"
                | "with"
                | "because"
                | "which"
                | "that"
                | "for"
                | "but"
        );
    let fenced = end.matches("```").count() % 2 == 1;
    (words >= PROSE_WORDS && hangs && !fenced || words >= 4 && hangs && last_word_joins(last_word))
        .then(|| format!("it ends in the middle of a sentence: {last_word:?}"))
}

/// Words that never end an English sentence, whatever its length.
fn last_word_joins(word: &str) -> bool {
    matches!(word, "and" | "or" | "the" | "an" | "because" | "with")
}

/// A fence that never closes, JSON that is cut, or brackets of prose that are far from balanced.
pub(super) fn unbalanced(answer: &str) -> Option<String> {
    if answer.matches("```").count() % 2 == 1 {
        return Some("a code fence never closes".to_owned());
    }
    let text = answer.trim();
    let starts_json = text.starts_with(['{', '[']);
    // Smileys, "a)" lists and half-open intervals make round brackets unreliable in prose; JSON is strict.
    if starts_json && let Some(open) = first_unclosed(text) {
        return Some(format!("a {open:?} never closes"));
    }
    None
}

/// First opening brace or square bracket outside of strings that has no partner.
fn first_unclosed(text: &str) -> Option<char> {
    let mut open = Vec::new();
    let mut in_string = false;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => open.push(c),
            // ")" closes the half-open interval "[0, 1)".
            '}' | ']' | ')' if !in_string => {
                open.pop();
            }
            _ => {}
        }
    }
    open.first().copied()
}

pub(super) fn repetition(answer: &str) -> Option<String> {
    let tokens = tokens(answer);
    let mut run = 1;
    for pair in tokens.windows(2) {
        run = if pair[0] == pair[1] && pair[0].chars().any(char::is_alphabetic) { run + 1 } else { 1 };
        if run >= LONGEST_RUN {
            return Some(format!("{:?} stands {LONGEST_RUN} times in a row", pair[0]));
        }
    }
    if tokens.len() < LEAST_TOKENS {
        return None;
    }
    let ratio = repetition_ratio(answer);
    (ratio >= LOOP_RATIO).then(|| format!("{:.0} % of its word triples are repeated", 100.0 * ratio))
}

pub(super) fn repetition_ratio(text: &str) -> f64 {
    let words = crate::words::words(text);
    if words.len() < 3 {
        return 0.0;
    }
    let all = words.len() - 2;
    let distinct: HashSet<&[String]> = words.windows(3).collect();
    (all - distinct.len()) as f64 / all as f64
}
