//! Examples longer than the limit: what is cut away, and what cannot be.
//!
//! Cutting takes tokens from the left of the prompt, behind the tokens that open every text (BOS). The last
//! answer is never touched. An earlier answer that the cut reaches into is no longer learned: its rest
//! would begin in the middle of a sentence.

use nightshift_model::{Example, ModelError, Preference};

/// Cuts an example down to `limit` tokens; how many were taken, or `None` when the answer leaves no room
/// for a single token of its prompt.
pub(super) fn cut(example: &mut Example, limit: usize, opening: &[u32]) -> Option<usize> {
    let excess = example.tokens.len().saturating_sub(limit);
    (excess == 0 || cut_by(example, excess, opening)).then_some(excess)
}

/// As [`cut`] for both answers of a pair: the same tokens go, so that the prompt stays shared.
pub(super) fn cut_pair(
    pair: &mut Preference,
    limit: usize,
    opening: &[u32],
) -> Result<Option<usize>, ModelError> {
    let excess = pair.chosen.tokens.len().max(pair.rejected.tokens.len()).saturating_sub(limit);
    if excess == 0 {
        return Ok(Some(0));
    }
    let (mut chosen, mut rejected) = (pair.chosen.clone(), pair.rejected.clone());
    if !cut_by(&mut chosen, excess, opening) || !cut_by(&mut rejected, excess, opening) {
        return Ok(None);
    }
    *pair = Preference::new(chosen, rejected)?;
    Ok(Some(excess))
}

fn cut_by(example: &mut Example, excess: usize, opening: &[u32]) -> bool {
    let Example { tokens, scored } = example;
    let keep = if tokens.starts_with(opening) { opening.len() } else { 0 };
    // The last answer: the last run of scored tokens.
    let answer = scored.iter().rposition(|scored| !scored).map_or(0, |last| last + 1);
    let end = keep + excess;
    if end > answer || end == answer && keep == 0 {
        return false;
    }
    let inside = scored[end - 1] && scored[end];
    tokens.drain(keep..end);
    scored.drain(keep..end);
    if inside {
        scored[keep..].iter_mut().take_while(|scored| **scored).for_each(|scored| *scored = false);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capital letter is scored.
    fn example(text: &str) -> Example {
        Example {
            tokens: text.bytes().map(|byte| u32::from(byte.to_ascii_lowercase())).collect(),
            scored: text.bytes().map(|byte| byte.is_ascii_uppercase()).collect(),
        }
    }

    fn text(example: &Example) -> String {
        let letter = |(token, scored): (&u32, &bool)| {
            let byte = *token as u8;
            char::from(if *scored { byte.to_ascii_uppercase() } else { byte })
        };
        example.tokens.iter().zip(&example.scored).map(letter).collect()
    }

    fn cut_text(from: &str, limit: usize) -> Option<String> {
        let mut example = example(from);
        cut(&mut example, limit, &[u32::from(b'.')]).map(|_| text(&example))
    }

    #[test]
    fn the_prompt_is_cut_from_the_left_and_never_the_answer() {
        assert_eq!(cut_text("abcdEF", 6).as_deref(), Some("abcdEF"));
        assert_eq!(cut_text("abcdEF", 4).as_deref(), Some("cdEF"));
        assert_eq!(cut_text(".abcdEF", 5).as_deref(), Some(".cdEF"), "what opens a text stays");
        assert_eq!(cut_text("abcdEF", 2), None, "one token must stand before the answer");
        assert_eq!(cut_text(".abcdEF", 3).as_deref(), Some(".EF"));
        assert_eq!(cut_text(".abcdEF", 2), None);
    }

    #[test]
    fn an_earlier_answer_that_is_cut_into_is_not_learned() {
        assert_eq!(cut_text("aBCDefGH", 7).as_deref(), Some("BCDefGH"), "whole, though nothing is before it");
        assert_eq!(cut_text("aBCDefGH", 6).as_deref(), Some("cdefGH"));
        assert_eq!(cut_text("aBCDefGH", 4).as_deref(), Some("efGH"));
    }

    #[test]
    fn a_pair_loses_the_same_tokens() {
        let mut pair = Preference::new(example("abcD"), example("abcEFG")).unwrap();
        let whole = pair.clone();
        assert_eq!(cut_pair(&mut pair, 3, &[]).unwrap(), None);
        assert_eq!(pair, whole, "what cannot be cut stays as it is");
        assert_eq!(cut_pair(&mut pair, 4, &[]).unwrap(), Some(2));
        assert_eq!(
            (text(&pair.chosen), text(&pair.rejected), pair.prompt_len),
            ("cD".into(), "cEFG".into(), 1)
        );
    }
}
