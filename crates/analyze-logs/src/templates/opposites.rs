//! Words that say the opposite of each other: a position that holds both says what happened, not to whom.

/// Fewer values than this beside a pair of opposites, and the position stays constant.
pub(super) const OPEN_VOCABULARY: usize = 12;

const PAIRS: [(&str, &str); 40] = [
    ("accept", "reject"),
    ("accept", "refus"),
    ("accept", "den"),
    ("acquir", "releas"),
    ("activ", "deactiv"),
    ("add", "remov"),
    ("allow", "den"),
    ("allow", "block"),
    ("attach", "detach"),
    ("begin", "end"),
    ("connect", "disconnect"),
    ("creat", "delet"),
    ("creat", "destroy"),
    ("enabl", "disabl"),
    ("enter", "exit"),
    ("enter", "leav"),
    ("first", "last"),
    ("grant", "revok"),
    ("grant", "den"),
    ("healthy", "unhealthy"),
    ("hit", "miss"),
    ("join", "leav"),
    ("load", "unload"),
    ("lock", "unlock"),
    ("login", "logout"),
    ("mount", "unmount"),
    ("open", "clos"),
    ("pass", "fail"),
    ("push", "pop"),
    ("register", "unregister"),
    ("resum", "suspend"),
    ("resum", "paus"),
    ("start", "stop"),
    ("start", "finish"),
    ("start", "end"),
    ("succe", "fail"),
    ("success", "failure"),
    ("increas", "decreas"),
    ("valid", "invalid"),
    ("up", "down"),
];
const WORDS: [(&str, &str); 8] = [
    ("true", "false"),
    ("yes", "no"),
    ("on", "off"),
    ("in", "out"),
    ("up", "down"),
    ("ok", "error"),
    ("ok", "failed"),
    ("before", "after"),
];
const NEGATIONS: [&str; 8] = ["un", "in", "im", "dis", "non", "non-", "not-", "de"];
const ENDINGS: [&str; 10] = ["", "e", "ed", "es", "s", "ing", "y", "ied", "ation", "ion"];

/// `connected` and `disconnected`, `opened` and `closed`, `up` and `down`.
pub(super) fn are_opposite(left: &str, right: &str) -> bool {
    let (left, right) = (left.to_ascii_lowercase(), right.to_ascii_lowercase());
    let negates = |long: &str, short: &str| {
        short.len() >= 3 && long.strip_suffix(short).is_some_and(|prefix| NEGATIONS.contains(&prefix))
    };
    let of = |word: &str, stem: &str| word.strip_prefix(stem).is_some_and(|rest| is_ending(stem, rest));
    let either = |(one, other): &(&str, &str), same: &dyn Fn(&str, &str) -> bool| {
        same(&left, one) && same(&right, other) || same(&left, other) && same(&right, one)
    };
    negates(&left, &right)
        || negates(&right, &left)
        || WORDS.iter().any(|pair| either(pair, &|word, one| word == one))
        || PAIRS.iter().any(|pair| either(pair, &of))
}

/// `stopp-ed` doubles its consonant.
fn is_ending(stem: &str, rest: &str) -> bool {
    let doubled = stem.chars().last().and_then(|last| rest.strip_prefix(last)).unwrap_or(rest);
    ENDINGS.contains(&rest)
        || ENDINGS.contains(&doubled)
        || matches!(rest, "eeded" | "eds" | "led" | "ure" | "ded" | "ed.")
}

/// For each of `words` whether its opposite is among them.
pub(super) fn opposed(words: &[&str]) -> Vec<bool> {
    if words.len() >= OPEN_VOCABULARY {
        return vec![false; words.len()];
    }
    words.iter().map(|word| words.iter().any(|other| are_opposite(word, other))).collect()
}
