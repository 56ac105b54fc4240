//! Arithmetic that answers claim.

use nightshift_verify::arithmetic::{claims, wrong};
use proptest::prelude::*;

fn texts(answer: &str) -> Vec<(String, bool)> {
    claims(answer).into_iter().map(|c| (c.text, c.holds)).collect()
}

#[test]
fn right_and_wrong_sums_are_told_apart() {
    assert!(wrong("12 + 30 = 42, and <<16-3=13>>13, so 3 x 4 = 12.").is_empty());
    assert_eq!(claims("12 + 30 = 42, and <<16-3=13>>13, so 3 x 4 = 12.").len(), 3);
    let bad = wrong("First 12 + 30 = 43.");
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].computed, bad[0].claimed), (42.0, 43.0));
    assert_eq!(bad[0].text, "12 + 30 = 43");
    assert!(wrong("2 * (3 + 4) / 7 = 2 and -3 - -5 = 2 and [1 + 1] × 2 = 4").is_empty());
    assert!(wrong("$1,200 - $200 = $1,000").is_empty());
    assert_eq!(wrong("100 − 1 = 98").len(), 1);
    assert_eq!(wrong("6 ÷ 2 = 2").len(), 1);
}

#[test]
fn every_link_of_a_chain_is_judged() {
    assert_eq!(
        texts("2 + 3 = 5 = 10 / 2 = 4 + 2"),
        [
            ("2 + 3 = 5".to_owned(), true),
            ("5 = 10 / 2".to_owned(), true),
            ("10 / 2 = 4 + 2".to_owned(), false)
        ]
    );
    // A chain goes on over a line end only behind its `=`.
    assert_eq!(texts("total:\n3\n4 + 5 =\n9\n7"), [("4 + 5 = 9".to_owned(), true)]);
}

#[test]
fn written_decimals_set_the_precision() {
    assert!(wrong("10 / 3 = 3.33").is_empty());
    assert!(wrong("20 / 3 = 6.66").is_empty(), "cut off");
    assert!(wrong("20 / 3 = 6.67").is_empty(), "rounded");
    assert_eq!(wrong("20 / 3 = 6.7 and 20 / 3 = 6.5").len(), 1);
    assert_eq!(wrong("7 / 2 = 3").len(), 1, "integers are meant");
    assert!(wrong("0.1 + 0.2 = 0.3").is_empty());
}

#[test]
fn what_is_no_plain_sum_is_not_judged() {
    for answer in [
        "x = 5",
        "2x + 30 = 160",
        "y + 143 = 200 - 16",
        "5 = 5",
        "5 apples + 6 apples = 12 apples",
        "3 + 4 = 8%",
        "2^3 = 8",
        "1,5 + 1 = 3",
        "1 / 0 = 4",
        "a[1] = 2",
        "2 + = 3",
        "",
        "= = =",
        "f(3) = 4 + 5",
    ] {
        assert!(wrong(answer).is_empty(), "{answer}: {:?}", claims(answer));
    }
    let nested = format!("{}1{} = 2", "(".repeat(500), ")".repeat(500));
    assert!(claims(&nested).is_empty());
}

proptest! {
    #[test]
    fn generated_sums_are_judged_rightly(a in -999_i64..999, b in 1_i64..999, off in -3_i64..4, op in 0..3) {
        let (sign, value) = [("+", a + b), ("-", a - b), ("*", a * b)][op as usize];
        let found = claims(&format!("so {a} {sign} {b} = {}.", value + off));
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].holds, off == 0);
    }

    #[test]
    fn nothing_panics(answer in "[-+*/x=().,0-9 \\n$a]{0,60}") {
        claims(&answer);
    }
}
