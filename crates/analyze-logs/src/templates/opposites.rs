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

/// Of which pairs a word is one side: bits by [`WORDS`] and [`PAIRS`].
struct Sides {
    word: String,
    left: u64,
    right: u64,
}

impl Sides {
    fn of(word: &str) -> Self {
        let word = word.to_ascii_lowercase();
        let inflects = |stem: &str| word.strip_prefix(stem).is_some_and(|rest| rest.len() <= ENDING);
        let words = WORDS.iter().map(|(left, right)| (word == *left, word == *right));
        let pairs = PAIRS.iter().map(|(left, right)| (inflects(left), inflects(right)));
        let (left, right) = words.chain(pairs).fold((0, 0), |(left, right), (is_left, is_right)| {
            (left << 1 | u64::from(is_left), right << 1 | u64::from(is_right))
        });
        Self { word, left, right }
    }

    /// `connected` and `disconnected`, `opened` and `closed`, `up` and `down`.
    fn are_opposite(&self, other: &Self) -> bool {
        let negates = |long: &str, short: &str| {
            short.len() >= 3 && long.strip_suffix(short).is_some_and(|prefix| NEGATIONS.contains(&prefix))
        };
        (self.left & other.right) | (self.right & other.left) != 0
            || negates(&self.word, &other.word)
            || negates(&other.word, &self.word)
    }
}

/// For each of `words` whether its opposite is among them.
pub(super) fn opposed(words: &[&str]) -> Vec<bool> {
    if words.len() >= OPEN_VOCABULARY {
        return vec![false; words.len()];
    }
    let sides: Vec<Sides> = words.iter().map(|word| Sides::of(word)).collect();
    sides.iter().map(|one| sides.iter().any(|other| one.are_opposite(other))).collect()
}
