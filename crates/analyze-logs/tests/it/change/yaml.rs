//! The torture file: every form that configs use, one edit each, to the byte, and back.

use nightshift_analyze_logs::change::edit::{Edit, EditError, Edited, Format, edit};
use proptest::prelude::*;
use serde_json::json;

const TORTURE: &str = r#"# Every form that configs use.
tasks:   # comment behind a key
    timeouts: # four blanks a level
        web_search: 30   # seconds
        "odd key.1": 31
        'single': '32 s'
        dq: "33 s" # "quoted" in a comment
    defaults: &defaults
        retries: 3
        backoff: 1.5

    # about fast
    fast:
        <<: *defaults
        retries: 5
    shared: *defaults
anchored: &limit 40 # nobody refers to it
tagged: !secs 50
factor: !!float 1.5 # by its tag
both: &both !secs "51"
flow: {a: 1, "b": 2, c: [1, 2, 3], d: {e: 1}}   # in braces
empty: {}
nothing:
tools:
  - shell
  - file   # kept
# about the texts
home: "${HOME}/x"
prompt: |
  line one # no comment
  line two
folded: >-
  a
  b
yes_no: yes
last: true
"#;

fn yaml(text: &str, path: &str, change: &Edit) -> Result<Edited, EditError> {
    edit(Format::Yaml, text, &path.parse().unwrap(), change, None)
}

/// Makes an edit, expects exactly this text, and takes it back to the very bytes.
#[track_caller]
fn exact(text: &str, path: &str, change: Edit, from: &str, to: &str) {
    let edited = yaml(text, path, &change).unwrap_or_else(|error| panic!("{path}: {error}"));
    let wanted = text.replacen(from, to, 1);
    assert_ne!(wanted, text, "{path}: `{from}` is not in the text");
    assert_eq!(edited.text, wanted, "{path}");
    let inverse = match (&change, &edited.before) {
        (Edit::Append(item), _) => Edit::Take(item.clone()),
        (_, Some(before)) => Edit::Set(before.clone()),
        (_, None) => Edit::Remove,
    };
    let undone = edit(Format::Yaml, &edited.text, &path.parse().unwrap(), &inverse, Some(&edited.raw));
    assert_eq!(undone.unwrap_or_else(|error| panic!("{path}: {error}")).text, text, "{path} taken back");
}

#[test]
fn twelve_edits_are_right_to_the_byte_and_can_be_taken_back() {
    let set = |value| Edit::Set(value);
    let table = [
        ("tasks.timeouts.web_search", set(json!(45)), "web_search: 30 ", "web_search: 45 "),
        (r#"tasks.timeouts."odd key.1""#, set(json!(62)), ": 31", ": 62"),
        ("tasks.timeouts.single", set(json!("it's")), "'32 s'", "'it''s'"),
        ("tasks.timeouts.dq", set(json!("a \"b\" # c")), "\"33 s\"", r#""a \"b\" # c""#),
        ("factor", set(json!(2.5)), "!!float 1.5", "!!float 2.5"),
        ("anchored", set(json!(60)), "&limit 40 #", "&limit 60 #"),
        ("tagged", set(json!(75)), "!secs 50", "!secs 75"),
        ("flow.a", set(json!(20)), "{a: 1,", "{a: 20,"),
        ("flow.d.e", set(json!("x y")), "{e: 1}", "{e: x y}"),
        (
            "prompt",
            set(json!("one\n\nthree\n")),
            "  line one # no comment\n  line two\n",
            "  one\n\n  three\n",
        ),
        ("tools", Edit::Append(json!("search")), "- file   # kept\n", "- file   # kept\n  - search\n"),
        (
            "tasks.timeouts.slow_task",
            Edit::Insert(json!(60)),
            "in a comment\n",
            "in a comment\n        slow_task: 60\n",
        ),
    ];
    // These reach through a sequence of edits too: each is made in the file as the last one left it.
    let mut all = TORTURE.to_owned();
    for (path, change, from, to) in table {
        all = yaml(&all, path, &change).unwrap_or_else(|error| panic!("{path}: {error}")).text;
        exact(TORTURE, path, change, from, to);
    }
    assert_eq!(all.lines().count(), TORTURE.lines().count() + 3);
}

#[test]
fn further_forms() {
    let set = |value| Edit::Set(value);
    exact(TORTURE, "both", set(json!("52")), "\"51\"", "\"52\"");
    exact(TORTURE, "flow.b", set(json!(3)), "\"b\": 2", "\"b\": 3");
    exact(TORTURE, "flow.f", Edit::Insert(json!(true)), "{e: 1}}", "{e: 1}, f: true}");
    exact(TORTURE, "flow.d.g.h", Edit::Insert(json!(1)), "{e: 1}}", "{e: 1, g: {h: 1}}}");
    exact(TORTURE, "flow.c", Edit::Append(json!("x: y")), "2, 3]", "2, 3, \"x: y\"]");
    exact(TORTURE, "empty.k", Edit::Insert(json!("v")), "{}", "{k: \"v\"}");
    exact(TORTURE, "nothing", set(json!(7)), "nothing:\n", "nothing: 7\n");
    exact(TORTURE, "nothing.a.b", Edit::Insert(json!(7)), "nothing:\n", "nothing:\n  a:\n    b: 7\n");
    exact(TORTURE, "new.a", Edit::Insert(json!("true")), "last: true\n", "last: true\nnew:\n  a: \"true\"\n");
    exact(TORTURE, "tools.1", set(json!("browser")), "- file ", "- browser ");
    exact(TORTURE, "tasks.fast.retries", set(json!(6)), "retries: 5", "retries: 6");
    exact(
        TORTURE,
        "tasks.fast.more",
        Edit::Insert(json!(1)),
        "retries: 5\n",
        "retries: 5\n        more: 1\n",
    );
    exact(TORTURE, "tasks.shared", set(json!(1)), "shared: *defaults", "shared: 1");
    exact(TORTURE, "last", set(json!(false)), "last: true", "last: false");
    exact(TORTURE, "folded", set(json!("c")), "  a\n  b\nyes", "  c\nyes");
}

#[test]
fn what_other_keys_share_is_refused() {
    let refused = |path: &str, change: &Edit| yaml(TORTURE, path, change).unwrap_err().to_string();
    assert!(refused("tasks.defaults.retries", &Edit::Set(json!(4))).contains("more than this key"));
    assert!(refused("tasks.shared.retries", &Edit::Set(json!(4))).contains("alias"));
    assert!(refused("tasks.nowhere", &Edit::Set(json!(4))).contains("there is no tasks.nowhere"));
    assert!(refused("last.deeper", &Edit::Insert(json!(4))).contains("there is no"));
    assert!(refused("last", &Edit::Append(json!(4))).contains("there is no"));
    let twice = yaml("a: 1\na: 2\n", "a", &Edit::Set(json!(3))).unwrap_err().to_string();
    assert!(twice.contains("duplicate"), "{twice}");
    let tabs = yaml("a:\n\tb: 1\n", "a.b", &Edit::Set(json!(3))).unwrap_err().to_string();
    assert!(tabs.contains("cannot be read"), "{tabs}");
}

#[test]
fn line_endings_marks_documents_and_missing_newlines_stay() {
    let crlf = TORTURE.replace('\n', "\r\n");
    let number = Edit::Set(json!(45));
    exact(&crlf, "tasks.timeouts.web_search", number.clone(), "web_search: 30 ", "web_search: 45 ");
    exact(
        &crlf,
        "tasks.timeouts.slow",
        Edit::Insert(json!(6)),
        "comment\r\n    def",
        "comment\r\n        slow: 6\r\n    def",
    );
    exact(&crlf, "tools", Edit::Append(json!("web")), "# kept\r\n", "# kept\r\n  - web\r\n");
    exact("a: 1", "a", Edit::Set(json!(2)), "1", "2");
    exact("a: 1", "b", Edit::Insert(json!(2)), "a: 1", "a: 1\nb: 2");
    exact("\u{feff}a: 1\n", "a", Edit::Set(json!(2)), "1", "2");
    exact("a: 1\t# tab\n", "a", Edit::Set(json!(2)), "1", "2");
    let two = "%YAML 1.2\n---\n# first\na: 1\n...\n---\nb: 1 # second\n---\nc: {}\n";
    exact(two, "b", Edit::Set(json!(2)), "b: 1", "b: 2");
    exact(two, "c.d", Edit::Insert(json!(2)), "{}", "{d: 2}");
    let both = yaml("a: 1\n---\na: 1\n", "a", &Edit::Set(json!(2))).unwrap_err();
    assert!(both.to_string().contains("several documents"), "{both}");
}

#[test]
fn a_key_whose_lines_were_reformatted_is_still_taken_out_alone() {
    let made = yaml("a:\n  x: 1\n", "a.b", &Edit::Insert(json!(2))).unwrap();
    let touched = made.text.replace("  b: 2", "    b:   2 # mine").replace("  x: 1", "    x: 1");
    let undone =
        edit(Format::Yaml, &touched, &"a.b".parse().unwrap(), &Edit::Remove, Some(&made.raw)).unwrap();
    assert_eq!(undone.text, "a:\n    x: 1\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Setting what is there already is the same bytes, whatever the layout.
    #[test]
    fn a_value_set_to_itself_changes_no_byte(
        keys in prop::collection::btree_map("[a-z][a-z0-9_]{0,8}", 0..100_000i64, 1..8),
        blanks in 1..4usize, comment in "[ -~]{0,20}", ending in prop::bool::ANY, last in prop::bool::ANY,
    ) {
        let ending = if ending { "\r\n" } else { "\n" };
        let lines: Vec<String> = keys.iter()
            .map(|(key, value)| format!("{}k{key}:{}{value} # {comment}", " ".repeat(blanks), " ".repeat(blanks)))
            .collect();
        let text = format!("# {comment}{ending}top:{ending}{}{}", lines.join(ending), if last { ending } else { "" });
        for (key, value) in &keys {
            let path = format!("top.k{key}");
            prop_assert_eq!(&yaml(&text, &path, &Edit::Set(json!(value))).unwrap().text, &text);
            let there = yaml(&text, &path, &Edit::Set(json!(value + 1))).unwrap();
            let back = edit(Format::Yaml, &there.text, &path.parse().unwrap(), &Edit::Set(json!(value)), Some(&there.raw));
            prop_assert_eq!(&back.unwrap().text, &text);
        }
    }

    /// Texts of any kind arrive as they are, in any quotes, or are refused.
    #[test]
    fn texts_arrive_as_they_are(text in "\\PC{0,30}", quotes in prop::sample::select(vec!["x", "'x'", "\"x\""])) {
        let config = format!("a: {quotes} # c\nb: [{quotes}]\n");
        for path in ["a", "b.0"] {
            let edited = yaml(&config, path, &Edit::Set(json!(text))).unwrap();
            prop_assert_eq!(edited.after, Some(json!(text)));
            prop_assert!(edited.text.ends_with('\n') && edited.text.contains(" # c\n"));
        }
    }

    /// No input makes the editor panic or change what it should not.
    #[test]
    fn hostile_texts_are_refused_or_right(text in "[a-c:\\-\\[\\]{},&*!|>'\"# \n\t]{0,60}") {
        if let Ok(edited) = yaml(&text, "a", &Edit::Set(json!(7))) {
            prop_assert_eq!(edited.after, Some(json!(7)));
        }
        let _ = yaml(&text, "a.b", &Edit::Insert(json!(7)));
        let _ = yaml(&text, "a", &Edit::Append(json!(7)));
    }
}
