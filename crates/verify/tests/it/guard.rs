//! Evaluation items stay out of training.

use nightshift_verify::similarity::{EvalGuard, EvalMatch, MatchKind};

const LONG: &str = "A farmer has twelve cows and sells three of them on Monday for forty dollars each, \
    then buys five goats on Tuesday for eight dollars each. How much money does the farmer have left?";

fn guard() -> EvalGuard {
    EvalGuard::new(["What is the river of Brin?", LONG, "Convert 5 km to m."])
}

fn kind(text: &str) -> Option<(usize, MatchKind)> {
    guard().check(text).map(|EvalMatch { item, kind }| (item, kind))
}

#[test]
fn the_same_words_are_the_same_item() {
    assert_eq!(kind("What is the river of Brin?"), Some((0, MatchKind::Exact)));
    assert_eq!(kind("  what is  the RIVER of “Brin”"), Some((0, MatchKind::Exact)));
    assert_eq!(kind(LONG), Some((1, MatchKind::Exact)));
    assert_eq!((guard().len(), guard().is_empty()), (3, false));
    assert!(EvalGuard::default().check(LONG).is_none() && EvalGuard::default().is_empty());
}

#[test]
fn short_templated_questions_are_different_items() {
    assert_eq!(kind("What is the river of Dor?"), None);
    assert_eq!(kind("What is the currency of Brin?"), None);
    assert_eq!(kind("Convert 6 km to m."), None);
    assert_eq!(kind("Convert 5.0 km to m."), None);
    assert_eq!(kind(""), None);
    assert_eq!(kind("?!"), None);
}

#[test]
fn long_texts_are_compared_by_runs_and_shingles() {
    // A new ending: thirteen words in a row are the same.
    let run = LONG.replace("How much money does the farmer have left?", "Count the animals.");
    assert_eq!(kind(&run), Some((1, MatchKind::WordRun)));
    // A word changed in every dozen: no run of thirteen, but most shingles.
    let near = LONG.replace("Monday", "Friday").replace("eight dollars", "eight euros");
    assert_eq!(kind(&near), Some((1, MatchKind::NearDuplicate)));
    // Another story altogether, of the same length.
    let other = "A baker makes twenty loaves each morning and gives seven of them to the neighbours, then sells \
        the rest at the market for two dollars each. How many dollars does the baker earn in a week?";
    assert_eq!(kind(other), None);
}
