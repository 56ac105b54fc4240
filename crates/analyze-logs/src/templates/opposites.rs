//! Words that say the opposite of each other: a position that holds both says what happened, not to whom.

/// Fewer values than this beside a pair of opposites, and the position stays constant.
pub(super) const OPEN_VOCABULARY: usize = 12;

/// Stems; up to [`ENDING`] letters may follow.
const PAIRS: [(&str, &str); 44] = [
    ("accept", "reject"),
    ("accept", "refus"),
    ("accept", "den"),
    ("acquir", "releas"),
    ("add", "remov"),
    ("allow", "den"),
    ("allow", "block"),
    ("attach", "detach"),
    ("begin", "end"),
    ("connect", "disconnect"),
    ("creat", "delet"),
    ("creat", "destroy"),
    ("creat", "remov"),
    ("encrypt", "decrypt"),
    ("enabl", "disabl"),
    ("enter", "exit"),
    ("enter", "leav"),
    ("expand", "collaps"),
    ("grant", "revok"),
    ("grant", "den"),
    ("import", "export"),
    ("increas", "decreas"),
    ("join", "leav"),
    ("load", "unload"),
    ("login", "logout"),
    ("online", "offline"),
    ("open", "clos"),
    ("pass", "fail"),
    ("push", "pop"),
    ("read", "writ"),
    ("resum", "suspend"),
    ("resum", "paus"),
    ("send", "receiv"),
    ("sent", "receiv"),
    ("start", "stop"),
    ("start", "finish"),
    ("start", "end"),
    ("start", "fail"),
    ("succe", "fail"),
    ("complet", "fail"),
    ("upload", "download"),
    ("inbound", "outbound"),
    ("healthy", "failing"),
    ("found", "missing"),
];
const ENDING: usize = 5;
/// Whole words.
const WORDS: [(&str, &str); 10] = [
    ("true", "false"),
    ("yes", "no"),
    ("on", "off"),
    ("in", "out"),
    ("up", "down"),
    ("ok", "error"),
    ("ok", "failed"),
    ("before", "after"),
    ("hit", "miss"),
    ("first", "last"),
];
const NEGATIONS: [&str; 8] = ["un", "in", "im", "dis", "non", "non-", "not-", "de"];

/// `connected` and `disconnected`, `opened` and `closed`, `up` and `down`.
pub(super) fn are_opposite(left: &str, right: &str) -> bool {
    let (left, right) = (left.to_ascii_lowercase(), right.to_ascii_lowercase());
    let negates = |long: &str, short: &str| {
        short.len() >= 3 && long.strip_suffix(short).is_some_and(|prefix| NEGATIONS.contains(&prefix))
    };
    let inflects = |word: &str, stem: &str| word.strip_prefix(stem).is_some_and(|rest| rest.len() <= ENDING);
    let either = |(one, other): &(&str, &str), same: &dyn Fn(&str, &str) -> bool| {
        same(&left, one) && same(&right, other) || same(&left, other) && same(&right, one)
    };
    negates(&left, &right)
        || negates(&right, &left)
        || WORDS.iter().any(|pair| either(pair, &|word, one| word == one))
        || PAIRS.iter().any(|pair| either(pair, &inflects))
}

/// For each of `words` whether its opposite is among them.
pub(super) fn opposed(words: &[&str]) -> Vec<bool> {
    if words.len() >= OPEN_VOCABULARY {
        return vec![false; words.len()];
    }
    words.iter().map(|word| words.iter().any(|other| are_opposite(word, other))).collect()
}
