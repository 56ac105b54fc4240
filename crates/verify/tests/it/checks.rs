//! Checks of evaluation items, and their schemas.

use nightshift_verify::Check;
use nightshift_verify::check::run;
use serde_json::{Value, json};

fn check(value: Value) -> Check {
    serde_json::from_value(value).expect("a valid check")
}

fn refused(value: Value) -> String {
    serde_json::from_value::<Check>(value).expect_err("an invalid check").to_string()
}

#[track_caller]
fn judge(check: &Check, reference: Option<&str>, right: &[&str], wrong: &[&str]) {
    for answer in right {
        let outcome = check.run(reference, answer);
        assert!(outcome.right, "{answer:?} should be right: {}", outcome.reason);
    }
    for answer in wrong {
        let outcome = check.run(reference, answer);
        assert!(!outcome.right, "{answer:?} should be wrong: {}", outcome.reason);
        assert!(!outcome.reason.is_empty());
    }
}

#[test]
fn exact_compares_forms_or_characters() {
    let loose = check(json!({"kind": "exact"}));
    judge(
        &loose,
        Some("12000 m"),
        &["12000 m", "12,000 m.", "The answer is 12000 m"],
        &["12 km", "12000", ""],
    );
    let strict = check(json!({"kind": "exact", "strict": true}));
    judge(&strict, Some("12000 m"), &["12000 m", " 12000 m\n"], &["12,000 m", "12000 M"]);
}

#[test]
fn numbers_with_and_without_tolerance() {
    let exact = check(json!({"kind": "number"}));
    judge(&exact, Some("#### 1,080"), &["1080", "so it is $1,080.00", "A: 1080"], &["1081", "none", ""]);
    let near = check(json!({"kind": "number", "tolerance": 0.01}));
    judge(&near, Some("1/3"), &["0.333", "1/3"], &["0.3", "3"]);
    assert_eq!(near.run(Some("no digits"), "1").reason, "the reference holds no number");
}

#[test]
fn choices() {
    let choice = check(json!({"kind": "choice"}));
    judge(
        &choice,
        Some("B"),
        &[
            "B",
            "(B)",
            "b",
            "B) Paris",
            "The answer is (B) Paris.",
            "**B**",
            "It must be (B), I think",
            "Answer: B, because",
        ],
        &["C", "(A) or (B)", "Berlin", "", "A good question: maybe"],
    );
}

#[test]
fn json_contains_and_regex() {
    let valid = check(json!({"kind": "json"}));
    judge(&valid, None, &["{}", "[1]", "12", "```json\n{\"a\":1}\n```"], &["{", "{'a':1}", ""]);
    judge(&valid, Some("{\"a\":1,\"b\":2}"), &["{\"b\":2.0,\"a\":1}"], &["{\"a\":1}", "{\"a\":1,\"b\":3}"]);
    let contains = check(json!({"kind": "contains", "text": "River  Lumbra"}));
    judge(&contains, None, &["the river lumbra flows"], &["lumbra"]);
    let by_reference = check(json!({"kind": "contains"}));
    judge(&by_reference, Some("Lum"), &["a lumbra"], &["none"]);
    judge(&by_reference, Some(""), &[], &["anything"]);
    let pattern = check(json!({"kind": "regex", "pattern": "^\\d{4}-\\d\\d-\\d\\d$"}));
    judge(&pattern, None, &["2026-01-02"], &["2026-1-2", "on 2026-01-02"]);
}

#[test]
fn schemas() {
    let schema = check(json!({"kind": "json_schema", "schema": {
        "title": "a person", "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
            "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
            "id": {"anyOf": [{"const": 1}, {"type": "string"}]},
        }
    }}));
    judge(
        &schema,
        None,
        &[
            "{\"name\":\"Ana\"}",
            "{\"name\":\"Ana\",\"age\":23.0,\"tags\":[\"a\"],\"id\":1.0}",
            "{\"name\":\"Ana\",\"age\":null}",
        ],
        &[
            "{}",
            "[]",
            "not json",
            "{\"name\":\"\"}",
            "{\"name\":\"ana\"}",
            "{\"name\":\"Ana\",\"age\":2.5}",
            "{\"name\":\"Ana\",\"age\":-1}",
            "{\"name\":\"Ana\",\"tags\":[\"c\"]}",
            "{\"name\":\"Ana\",\"tags\":[\"a\",\"b\",\"a\"]}",
            "{\"name\":\"Ana\",\"id\":2}",
            "{\"name\":\"Ana\",\"extra\":1}",
        ],
    );
    let why = |answer: &str| schema.run(None, answer).reason;
    assert_eq!(why("{}"), "/name is missing");
    assert_eq!(why("{\"name\":\"Ana\",\"extra\":1}"), "/extra is not allowed");
    assert_eq!(why("{\"name\":\"Ana\",\"tags\":[\"c\"]}"), "/tags/0 is none of the allowed values");
    assert_eq!(why("[]"), "the value is array, not object");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    assert!(refused(json!({"kind": "vibes"})).contains("vibes"));
    assert!(refused(json!({"kind": "exact", "stric": true})).contains("stric"));
    assert!(refused(json!({"kind": "choice", "letter": "A"})).contains("letter"));
    assert!(refused(json!({"tolerance": 1})).contains("kind"));
    assert!(refused(json!({"kind": "regex", "pattern": "(a"})).contains("(a"));
    assert!(refused(json!({"kind": "regex", "pattern": "(a{1000}){1000}"})).contains("does not compile"));
    let keyword = refused(json!({"kind": "json_schema", "schema": {"properties": {"x": {"$ref": "#/y"}}}}));
    assert!(keyword.contains("/properties/x/$ref") && keyword.contains("not supported"), "{keyword}");
    assert!(
        refused(json!({"kind": "json_schema", "schema": {"type": "text"}}))
            .contains("\"text\" is not a type")
    );
    assert!(refused(json!({"kind": "json_schema", "schema": 3})).contains("must be an object"));
    let mut deep = json!(true);
    for _ in 0..100 {
        deep = json!({"items": deep});
    }
    assert!(refused(json!({"kind": "json_schema", "schema": deep})).contains("nested deeper"));
}

#[test]
fn checks_survive_storing_and_say_when_a_reference_is_missing() {
    let all = [
        json!({"kind": "exact", "strict": false}),
        json!({"kind": "number", "tolerance": 0.5}),
        json!({"kind": "choice"}),
        json!({"kind": "json"}),
        json!({"kind": "json_schema", "schema": {"type": "array", "items": false}}),
        json!({"kind": "contains", "text": "x"}),
        json!({"kind": "regex", "pattern": "x+"}),
    ];
    for value in all {
        let parsed = check(value.clone());
        assert_eq!(serde_json::to_value(&parsed).unwrap(), value);
        assert_eq!(check(value), parsed);
    }
    let number = check(json!({"kind": "number"}));
    assert!(number.needs_reference() && !check(json!({"kind": "json"})).needs_reference());
    let outcome = run(&number, None, "12");
    assert!(!outcome.right && outcome.reason.contains("no reference"));
    let empty = check(json!({"kind": "json_schema", "schema": {"type": "array", "items": false}}));
    judge(&empty, None, &["[]"], &["[1]"]);
}
