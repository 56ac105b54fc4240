//! Canonical forms.

use nightshift_verify::canonical::{canonical_json, stated_answer};
use nightshift_verify::{Kind, canonical, final_number, is_closed_form, same_answer};
use proptest::prelude::*;

#[track_caller]
fn form(answer: &str, kind: Kind, text: &str) {
    let got = canonical(answer);
    assert_eq!((got.kind, got.text.as_str()), (kind, text), "canonical form of {answer:?}");
}

#[test]
fn numbers_lose_their_dress() {
    for same in [
        "1234.5",
        "1,234.50",
        "$1,234.5",
        " 1234.5. ",
        "\"1,234.5\"",
        "+1234.500",
        "1.2345e3",
        "**1234.5**",
        "１２３４.5",
    ] {
        form(same, Kind::Number, "1234.5");
    }
    for (answer, want) in [
        ("007", "7"),
        ("-0.0", "0"),
        (".5", "0.5"),
        ("5.", "5"),
        ("−3", "-3"),
        ("-$4", "-4"),
        ("$-4", "-4"),
        ("2e-3", "0.002"),
        ("12 000", "12000"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1/2", "0.5"),
        ("2/6", "1/3"),
        ("-6/4", "-1.5"),
        ("10/5", "2"),
    ] {
        form(answer, Kind::Number, want);
    }
    for not in ["1,23", "1,2345", "1.2.3", "2026-01-02", "12:30", "1/0", "3/4/2024", "1e999", "", "-", "$"] {
        assert_ne!(canonical(not).kind, Kind::Number, "{not:?}");
    }
}

#[test]
fn units_stay_and_keep_answers_apart() {
    form("12 km", Kind::Quantity, "12 km");
    form("12km.", Kind::Quantity, "12 km");
    form("1,200.0 Dollars", Kind::Quantity, "1200 dollars");
    form("50%", Kind::Quantity, "50 %");
    form("€5", Kind::Quantity, "5 €");
    form("90 km/h", Kind::Quantity, "90 km/h");
    form("12 miles per hour", Kind::Quantity, "12 miles per hour");
    assert!(!same_answer("12 km", "12000 m"));
    assert!(!same_answer("12 km", "12"));
    assert!(!same_answer("5 mW", "5 MW"));
    assert!(!same_answer("50%", "0.5"));
    assert!(same_answer("12 km", "12.0 km"));
    assert!(same_answer("12 Apples", "12 apples"));
}

#[test]
fn choices_lists_and_json() {
    for same in
        ["B", "(B)", "b", "B.", "[B]", "B)", "Option B", "(B) Paris", "B) Paris", "The answer is (B)."]
    {
        form(same, Kind::Choice, "B");
    }
    form("Ana, 23", Kind::List, "ana,23");
    form("\"Ana\" , 23.0", Kind::List, "ana,23");
    form("name,age\nAna,23\n", Kind::List, "name,age\nana,23");
    form("- red\n- Blue", Kind::List, "red\nblue");
    form("\"Doe, Jane\", 5", Kind::List, "doe, jane,5");
    assert!(!same_answer("Ana,23", "23,Ana"));
    assert_eq!(canonical("In the morning, when the sun rises over the hills, we go").kind, Kind::Text);
    form("{\"b\": 1.0, \"a\": [1, 2.50]}", Kind::Json, "{\"a\":[1,2.5],\"b\":1}");
    assert!(same_answer("```json\n{\"a\": 1, \"b\": 2}\n```", "{\"b\":2,\"a\":1}"));
    assert!(!same_answer("{\"a\": \"X\"}", "{\"a\": \"x\"}"));
    assert!(!same_answer("{\"a\": 1}", "{\"a\": \"1\"}"));
    assert_ne!(canonical("{\"a\": 1").kind, Kind::Json);
    assert_eq!(canonical_json("12"), None);
    // A bare first letter and a choice letter have the same form: two members still compare alike.
    assert!(same_answer("b", "B"));
}

#[test]
fn stated_answers_win_over_the_text_around_them() {
    form("She has 3 + 4 apples.\n#### 7", Kind::Number, "7");
    form("REASONING: 3 + 4\nANSWER: 7", Kind::Number, "7");
    form("First the answer is 6. No: the final answer is 7. Done.", Kind::Number, "7");
    form("So $x = \\boxed{\\frac{1}{2}}$.", Kind::Text, "\\frac{1}{2}");
    form("A: 18", Kind::Number, "18");
    form("**Answer:** Lumbra", Kind::Text, "lumbra");
    form(
        "ANSWER:\n{\"city\": \"Lum\",\n \"name\": \"Ana\"}",
        Kind::Json,
        "{\"city\":\"Lum\",\"name\":\"Ana\"}",
    );
    assert_eq!(stated_answer("nothing stated"), None);
    assert_eq!(stated_answer("the answer is"), None);
    // Prose without a stated answer is not reduced to its last number.
    assert_eq!(
        canonical("There were 3 kings and 12 queens in the long and strange history of it").kind,
        Kind::Text
    );
}

#[test]
fn texts_are_folded() {
    form("  The  River\tLumbra. ", Kind::Text, "the river lumbra");
    form("“Lumbra”", Kind::Text, "lumbra");
    form("ﬁne café", Kind::Text, "fine café");
    assert!(same_answer("Cafe\u{301}", "caf\u{e9}"));
    assert!(!same_answer("\"a\", \"b\"", "a"));
    form("", Kind::Empty, "");
    form(" \"\" ", Kind::Empty, "");
    assert!(!same_answer("", ""), "two empty answers agree on nothing");
    form("2026-01-02", Kind::Text, "2026-01-02");
}

#[test]
fn final_numbers_of_solutions() {
    for (answer, want) in [
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.\nA: 18", "18"),
        ("#### 1,080", "1080"),
        ("It costs $1,200.50 in all.", "1200.5"),
        ("16-3", "3"),
        ("the change is -5 degrees", "-5"),
        ("= −5", "-5"),
        ("The answer is 18 dollars because 20 - 2 = 18. It took 3 days.", "18"),
        ("about 3/4 of it", "0.75"),
        ("version v2", "2"),
        ("5.", "5"),
    ] {
        assert_eq!(final_number(answer).as_deref(), Some(want), "{answer:?}");
    }
    assert_eq!(final_number("none at all"), None);
}

#[test]
fn closed_form_is_short_or_structured() {
    let closed = |answer: &str, question| is_closed_form(&canonical(answer), question);
    for answer in ["12", "12 km", "B", "{\"a\":1}", "Ana,23", "Lumbra", "the river Lumbra"] {
        assert!(closed(answer, None), "{answer}");
    }
    let prose = "A river is a natural flowing watercourse that moves towards an ocean or a lake";
    assert!(!closed(prose, None) && !closed("", None));
    assert!(closed("Lumbra", Some("What is the river of Brin?")));
    for open in [
        "Write a story about a river",
        "Why is the sky blue?",
        "Explain tides",
        "Suggest a name",
        "How do I cook rice?",
    ] {
        assert!(!closed("because", Some(open)), "{open}");
        assert!(closed("42", Some(open)), "{open}");
    }
    assert!(closed("ana,23", Some("Write CSV for name Ana and age 23.")));
    assert!(!closed(&format!("[{}1]", "1,".repeat(2000)), None), "a long document is not one value");
}

proptest! {
    /// Bringing a form into canonical form changes nothing more.
    #[test]
    fn canonical_is_idempotent_on_values(answer in "[a-z0-9 .,$%-]{0,24}") {
        let once = canonical(&answer);
        if once.kind == Kind::Number || once.kind == Kind::Quantity {
            prop_assert_eq!(canonical(&once.text), once);
        }
    }

    #[test]
    fn nothing_panics(answer in any::<String>(), question in any::<String>()) {
        let form = canonical(&answer);
        is_closed_form(&form, Some(&question));
        final_number(&answer);
        prop_assert_eq!(form.kind == Kind::Empty, form.text.is_empty());
    }

    #[test]
    fn decimals_agree_with_the_float_they_denote(whole in 0_u32..1_000_000, part in 0_u32..1000, exponent in -6_i32..7) {
        let text = format!("{whole}.{part:03}e{exponent}");
        let got = canonical(&text);
        prop_assert_eq!(got.kind, Kind::Number);
        let (a, b): (f64, f64) = (got.text.parse().unwrap(), text.parse().unwrap());
        prop_assert!((a - b).abs() <= 1e-12 * b.abs());
        prop_assert!(!got.text.contains('.') || !got.text.ends_with('0'));
    }

    #[test]
    fn thousands_separators_mean_nothing(n in 0_u64..10_u64.pow(15)) {
        let digits = n.to_string();
        let mut grouped = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(c);
        }
        prop_assert!(same_answer(&digits, &grouped));
        let dollars = format!("${grouped}.00");
        prop_assert!(same_answer(&digits, &dollars));
    }
}
