//! TOML and JSON: the bytes around stay, and edits can be taken back.

use nightshift_analyze_logs::change::edit::{Edit, Format, edit};
use serde_json::json;

#[track_caller]
fn exact(format: Format, text: &str, path: &str, change: Edit, from: &str, to: &str) {
    let key = path.parse().unwrap();
    let edited = edit(format, text, &key, &change, None).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(edited.text, text.replacen(from, to, 1), "{path}");
    assert_ne!(edited.text, text, "{path}");
    let inverse = match (&change, &edited.before) {
        (Edit::Append(item), _) => Edit::Take(item.clone()),
        (_, Some(before)) => Edit::Set(before.clone()),
        (_, None) => Edit::Remove,
    };
    let undone = edit(format, &edited.text, &key, &inverse, Some(&edited.raw));
    assert_eq!(undone.unwrap_or_else(|error| panic!("{path}: {error}")).text, text, "{path} taken back");
}

const TOML: &str = r#"# top
name = 'app' # single
limit = 30   # seconds
when = 2026-03-01T02:00:00Z
list = [
    "a", # first
    "b",
]
short = ["a"]
inline = { a = 1, b = 2 }

[tasks.timeouts]
index = 20
"odd key" = 1.50

[[members]]
name = "one"
tokens = 1_000
"#;

#[test]
fn toml() {
    let toml = |path, change, from, to| exact(Format::Toml, TOML, path, change, from, to);
    toml("limit", Edit::Set(json!(45)), "30", "45");
    toml("name", Edit::Set(json!("x y")), "'app'", "'x y'");
    toml("inline.a", Edit::Set(json!(9)), "a = 1", "a = 9");
    toml("tasks.timeouts.\"odd key\"", Edit::Set(json!(2.5)), "1.50", "2.5");
    toml("members.0.tokens", Edit::Set(json!(2000)), "1_000", "2000");
    toml("tasks.timeouts.slow", Edit::Insert(json!(60)), "1.50\n", "1.50\nslow = 60\n");
    toml("list", Edit::Append(json!("c")), "\"b\",", "\"b\",\n    \"c\",");
    toml("short", Edit::Append(json!("c")), "[\"a\"]", "[\"a\", \"c\"]");
    let crlf = TOML.replace('\n', "\r\n");
    exact(Format::Toml, &crlf, "limit", Edit::Set(json!(45)), "30", "45");
    exact(
        Format::Toml,
        &crlf,
        "tasks.timeouts.slow",
        Edit::Insert(json!(6)),
        "1.50\r\n",
        "1.50\r\nslow = 6\r\n",
    );
    let twice = edit(Format::Toml, "a = 1\na = 2\n", &"a".parse().unwrap(), &Edit::Set(json!(1)), None);
    assert!(twice.unwrap_err().to_string().contains("duplicate"));
}

const JSON: &str = r#"{
    "limit": 30,  "name" : "app",
    "tasks": {"timeouts": {"index":20,"b.c":1}},
    "list": ["a",
             "b"], "empty": {}, "none": []
}
"#;

#[test]
fn json_text() {
    let json = |path, change, from, to| exact(Format::Json, JSON, path, change, from, to);
    json("limit", Edit::Set(json!(45)), "30", "45");
    json("name", Edit::Set(json!("\"x\"")), "\"app\"", "\"\\\"x\\\"\"");
    json("tasks.timeouts.index", Edit::Set(json!(2.5)), ":20", ":2.5");
    json("tasks.timeouts.\"b.c\"", Edit::Set(json!(false)), ":1", ":false");
    json("tasks.timeouts.slow", Edit::Insert(json!(60)), ":1}", ":1,\"slow\":60}");
    json("list", Edit::Append(json!("c")), "\"b\"]", "\"b\",\n             \"c\"]");
    json("empty.x.y", Edit::Insert(json!(1)), "{}", "{\"x\": {\"y\":1}}");
    json("none", Edit::Append(json!(1)), "[]", "[1]");
    for (text, told) in [
        ("{\"a\": 1, \"a\": 2}", "twice"),
        ("{\"a\": 1,}", "double quotes"),
        ("{\"a\": 1} x", "follows"),
        ("{\"a\": nope}", "cannot be read"),
        ("", "missing"),
        (&format!("{}1{}", "[".repeat(500), "]".repeat(500)), "deeply"),
    ] {
        let error = edit(Format::Json, text, &"a".parse().unwrap(), &Edit::Set(json!(3)), None).unwrap_err();
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
}
