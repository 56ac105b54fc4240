//! How text is cut.

use nightshift_verify::words::{fold, squeeze, tokens, words};
use proptest::prelude::*;

#[test]
fn words_keep_what_belongs_together() {
    assert_eq!(words("It's 3.5 km, or 1,200 m!"), ["it's", "3.5", "km", "or", "1,200", "m"]);
    assert_eq!(
        words("Ana,23 well-known end.Next 2026-01-02 12:30"),
        ["ana", "23", "well-known", "end", "next", "2026-01-02", "12:30"]
    );
    assert_eq!(words("don’t"), words("don't"));
    assert_eq!(words("红色的"), ["红", "色", "的"]);
    assert_eq!(words("cafe\u{301} naïve ﬁne"), ["café", "naïve", "fine"]);
    assert!(words("?! --").is_empty());
}

#[test]
fn tokens_show_signs_and_invisible_marks() {
    assert_eq!(tokens("Why§ now\u{200b}?"), ["why", "§", "now", "\u{200b}", "?"]);
    assert_eq!(tokens("a\u{200b}b"), ["a", "\u{200b}", "b"]);
    assert_eq!(fold("ＡＢＣ"), "abc");
    assert_eq!(squeeze("  a \n b\t"), "a b");
}

proptest! {
    #[test]
    fn no_character_but_white_space_is_lost(text in any::<String>()) {
        let folded: String = fold(&text).chars().filter(|c| !c.is_whitespace()).map(|c| if c == '\u{2019}' { '\'' } else { c }).collect();
        let kept: String = tokens(&text).concat().chars().filter(|c| !c.is_whitespace()).map(|c| if c == '\u{2019}' { '\'' } else { c }).collect();
        prop_assert_eq!(kept, folded);
    }
}
