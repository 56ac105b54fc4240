//! The quality formula of the original harvester, kept for the record.
//!
//! It decides nothing unless the user asks for `--scorer legacy`. Measured on 3,099 rewrites of known
//! correctness it ranks worse than chance (AUC 0.466): what it rewards is length relative to the failed answer.

/// Words that the original looked for as substrings ("authentic" scores for "then").
const REASONING_WORDS: [&str; 7] =
    ["because", "therefore", "step", "first", "then", "finally", "calculation"];

/// Phrases that made a query a calculation.
const MATH_WORDS: [&str; 3] = ["calculate", "solve", "what is"];

/// Score of the original program: 0.5; +0.2 when the rewrite is more than 1.5 times as long as the failed answer;
/// +0.15 for any reasoning word as a substring; +0.1 for a code fence that the failed answer lacked; +0.1 when
/// the query asks to calculate, solve or "what is" and the rewrite has an `=`; at most 1.
///
/// Lengths count characters. Terms are added in this order, so 0.5 + 0.2 + 0.1 is 0.7999999999999999 as it was.
/// The documents print a shorter form without the last term and with the first four words only; see
/// [`legacy_score_documented`].
pub fn legacy_score(query: &str, failed: &str, rewrite: &str) -> f64 {
    let mut score = common_part(failed, rewrite, &REASONING_WORDS);
    let query = query.to_lowercase();
    if MATH_WORDS.iter().any(|w| query.contains(w)) && rewrite.contains('=') {
        score += 0.1;
    }
    f64::min(score, 1.0)
}

/// The formula as printed in the documents: four reasoning words and no term for calculations.
pub fn legacy_score_documented(failed: &str, rewrite: &str) -> f64 {
    f64::min(common_part(failed, rewrite, &REASONING_WORDS[..4]), 1.0)
}

fn common_part(failed: &str, rewrite: &str, reasoning_words: &[&str]) -> f64 {
    let mut score = 0.5;
    if rewrite.chars().count() as f64 > failed.chars().count() as f64 * 1.5 {
        score += 0.2;
    }
    let lower = rewrite.to_lowercase();
    if reasoning_words.iter().any(|w| lower.contains(w)) {
        score += 0.15;
    }
    if rewrite.contains("```") && !failed.contains("```") {
        score += 0.1;
    }
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_its_terms_in_the_original_order() {
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} instead of {want}");
        close(legacy_score("q", "bad answer", "short"), 0.5);
        // Length alone reaches the documents' threshold.
        close(legacy_score("q", "bad", "a much longer one"), 0.7);
        close(legacy_score("q", "a longer answer here", "authentic"), 0.65);
        // Length and calculation, or length and code: the float that the original prints.
        assert_eq!(legacy_score("Solve x", "b", "x = 12"), 0.7999999999999999);
        assert_eq!(legacy_score("q", "b", "```rust```"), 0.7999999999999999);
        close(legacy_score("What is 2+2", "b", "First, ```2+2 = 4```"), 1.0);
        close(legacy_score_documented("b", "First, ```2+2 = 4```"), 0.95);
        close(legacy_score_documented("b", "and then, finally, the end"), 0.7);
    }

    #[test]
    fn a_fence_counts_only_when_it_is_new_and_length_counts_characters() {
        assert_eq!(legacy_score("q", "```x```", "```y```"), 0.5);
        // Four characters of eight bytes against three characters: 4 <= 4.5.
        assert_eq!(legacy_score("q", "abc", "éééé"), 0.5);
        assert_eq!(legacy_score("q", "ab", "éééé"), 0.7);
    }
}
