//! English words that hold sentences together and say nothing about the topic.
//!
//! Other languages need no list where a background shows which words frame its questions; without one, their
//! function words relate questions, and the scan stays silent rather than wrong.

/// Sorted, for the binary search.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "answer", "any", "are", "as", "ask", "asked",
    "at", "be", "because", "been", "before", "being", "between", "both", "but", "by", "called", "can",
    "could", "did", "do", "does", "each", "either", "every", "exactly", "few", "following", "for", "from",
    "get", "give", "given", "gives", "had", "has", "have", "having", "he", "her", "here", "his", "how", "i",
    "if", "in", "into", "is", "it", "its", "just", "know", "least", "let", "like", "made", "make", "makes",
    "many", "may", "me", "more", "most", "much", "must", "my", "no", "nor", "not", "of", "on", "one",
    "only", "or", "other", "our", "out", "over", "please", "put", "question", "say", "says", "shall", "she",
    "should", "show", "so", "some", "such", "tell", "than", "that", "the", "their", "them", "then", "there",
    "these", "they", "this", "those", "through", "to", "too", "under", "up", "us", "use", "using", "very",
    "want", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whose", "why", "will",
    "with", "without", "would", "you", "your", "yours",
];

/// Whether a word, in lower case, is one of them.
pub fn is_function_word(word: &str) -> bool {
    WORDS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(WORDS.is_sorted_by(|a, b| a < b));
        assert!(is_function_word("which") && !is_function_word("river"));
    }
}
