//! Reports as files: every form, hostile text, and a page that a parser accepts.

use nightshift_core::files;
use nightshift_testkit::Home;

/// Ten calls of a tool over two hours, two of them failed, one line that is none; some of it hostile.
pub(crate) fn log() -> String {
    let mut log = String::new();
    for call in 0..10 {
        let minute = call * 7;
        let (hour, minute) = (minute / 60, minute % 60);
        let error = if call % 5 == 0 { r#""<script>alert(1)</script> \u001b[31m"# } else { "null" };
        let error = if error == "null" { error.to_owned() } else { format!("{error}\"") };
        log.push_str(&format!(
            "{{\"event\":\"tool_execution\",\"timestamp\":\"2026-02-03T0{hour}:{minute:02}:00Z\",\"tool_name\":\"web\",\
             \"duration\":{}.5,\"success\":{},\"error\":{error}}}\n",
            call,
            error == "null"
        ));
    }
    log.push_str(
        "{\"event\":\"tool_execution\",\"timestamp\":\"2026-02-03T01:00:00Z\",\"tool_name\":\"<img src=x onerror=alert(1)>|`x`\",\
         \"duration\":1,\"success\":true}\n",
    );
    log.push_str("<b>not \u{1b}]0;json\u{7} line</b>\n");
    log
}

fn reports(names: &[&str]) -> (Home, serde_json::Value) {
    let home = Home::new();
    home.write("a.jsonl", &log());
    let mut arguments = vec!["analyze", "a.jsonl", "--json"];
    for name in names {
        arguments.extend(["--report", name]);
    }
    let report = home.run("analyze-logs", &arguments).expect(0).json();
    (home, report)
}

#[test]
fn the_page_is_well_formed_and_holds_nothing_hostile() {
    let (home, report) = reports(&["out.html"]);
    assert_eq!(report["reports"], serde_json::json!(["out.html"]));
    let page = home.read("out.html");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).unwrap();
    let names: Vec<&str> = document
        .descendants()
        .filter(roxmltree::Node::is_element)
        .map(|node| node.tag_name().name())
        .collect();
    assert!(!names.iter().any(|name| ["script", "img", "b", "iframe", "link"].contains(name)), "{names:?}");
    assert!(names.contains(&"svg") && names.contains(&"style"));
    for node in document.descendants() {
        assert!(node.attributes().all(|attribute| !attribute.name().starts_with("on")), "{node:?}");
        assert!(
            node.attribute("src").is_none() && node.attribute("href").is_none(),
            "nothing from elsewhere"
        );
    }
    assert!(!page.contains('\u{1b}') && !page.contains('\u{7}'));
    assert!(page.contains("&lt;img src=x"), "the text itself is shown");
    assert!(page.contains("2026-02-03 00:00"));
}

#[test]
fn markdown_and_tables() {
    let (home, report) = reports(&["out.md", "out.csv"]);
    assert_eq!(report["reports"], serde_json::json!(["out.md", "out.csv", "out.operations.csv"]));
    let page = home.read("out.md");
    assert!(page.starts_with("# Log report\n"), "{page}");
    assert!(!page.contains("<img") && !page.contains("<b>") && !page.contains('\u{1b}'), "{page}");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;\\|\\`x\\`"), "{page}");
    let mut rows = csv::Reader::from_path(home.path().join("out.operations.csv")).unwrap();
    let header = rows.headers().unwrap().clone();
    assert_eq!(&header[0], "name");
    let calls: Vec<(String, String)> =
        rows.records().map(|row| row.unwrap()).map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    assert!(calls.contains(&("tool:web".into(), "10".into())), "{calls:?}");
    let findings = home.read("out.csv");
    assert!(
        findings.starts_with("pattern_id,pattern_type,operation,occurrences,impact_score,"),
        "{findings}"
    );
}

#[test]
fn a_terminal_is_not_obeyed() {
    let home = Home::new();
    home.write("a.jsonl", &log());
    let ran = home.run("analyze-logs", &["analyze", "a.jsonl"]).expect(0);
    assert!(ran.stdout.contains("not \u{fffd}]0;json\u{fffd} line"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stdout.contains('\u{7}'));
}

#[test]
fn forms_on_stdout_and_names_that_ask_for_none() {
    let home = Home::new();
    home.write("a.jsonl", &log());
    let stdout =
        |form: &str| home.run("analyze-logs", &["analyze", "a.jsonl", "--format", form]).expect(0).stdout;
    assert!(stdout("html").starts_with("<!DOCTYPE html>"));
    assert!(stdout("md").starts_with("# Log report"));
    assert!(stdout("csv").starts_with("pattern_id,"));
    assert!(stdout("csv-operations").starts_with("name,calls,"));
    home.run("analyze-logs", &["analyze", "a.jsonl", "--format", "html", "--json"]).expect(2);
    let ran = home.run("analyze-logs", &["analyze", "a.jsonl", "--report", "out.pdf"]).expect(2);
    assert!(ran.stderr.contains(".html, .md, .csv"), "{}", ran.stderr);
    home.run("analyze-logs", &["analyze", "a.jsonl", "--report", "no/such/folder/out.md"]).expect(1);
}

#[test]
fn a_log_of_odd_times_makes_a_page_of_usual_size() {
    let home = Home::new();
    let line = |time: &str| format!("{{\"tool_name\":\"web\",\"duration\":1,\"timestamp\":\"{time}\"}}\n");
    let mut log = line("1970-01-01T00:00:00Z");
    log.push_str(&line("9999-12-31T23:00:00Z"));
    log.push_str(&line("never"));
    log.push_str(&line("2026-02-03T00:00:00Z").repeat(3000));
    home.write("a.jsonl", &log);
    home.run("analyze-logs", &["analyze", "a.jsonl", "--report", "out.html"]).expect(0);
    let page = home.read("out.html");
    assert!(page.len() < 100_000, "{}", page.len());
    home.write("empty.jsonl", "");
    home.run("analyze-logs", &["analyze", "empty.jsonl", "--report", "none.html"]).expect(3);
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_it_would() {
    let home = Home::new();
    home.write("a.jsonl", &log());
    let before = files::list(home.path()).unwrap();
    let arguments =
        ["analyze", "a.jsonl", "--json", "--dry-run", "--incremental", "--store", "--state-out", "a.state"];
    let ran =
        home.run("analyze-logs", &[&arguments[..], &["--report", "a.html", "--report", "a.csv"]].concat());
    let ran = ran.expect(0);
    let report = ran.json();
    assert_eq!(report["would_write"], serde_json::json!(["a.state", "a.html", "a.csv", "a.operations.csv"]));
    assert_eq!((&report["entries"], &report["reports"]), (&serde_json::json!(11), &serde_json::Value::Null));
    assert_eq!(files::list(home.path()).unwrap(), before, "nothing, no store either");
    let ran = home.run("analyze-logs", &["templates", "a.jsonl", "--out", "a.csv", "--dry-run"]).expect(0);
    assert!(ran.stdout.contains("rows would be in a.csv"), "{}", ran.stdout);
    assert_eq!(files::list(home.path()).unwrap(), before);
}

#[test]
fn what_cannot_be_answered_is_refused_before_reading() {
    let home = Home::new();
    home.write("a.jsonl", &log());
    let run = |arguments: &[&str], code| {
        let arguments = [&["analyze", "a.jsonl"], arguments].concat();
        home.run("analyze-logs", &arguments).expect(code).stderr.clone()
    };
    assert!(run(&["--report", "gone/a.html"], 1).contains("there is no folder gone"));
    assert!(run(&["--state-out", "gone/a.state"], 1).contains("there is no folder gone"));
    assert!(run(&["--report", "a.pdf"], 2).contains("name the file .html, .md, .csv or .txt"));
    assert!(run(&["--since", "2026-02-04", "--until", "2026-02-03"], 2).contains("nothing lies between"));
    // Without a path and without the home's folder of logs there is nothing to do.
    let ran = home.run("analyze-logs", &["analyze"]).expect(3);
    assert!(ran.stdout.contains("name files or folders"), "{}", ran.stdout);
    let ran = home.run("analyze-logs", &["merge", "a.jsonl"]).expect(1);
    assert!(ran.stderr.contains("analyze --state-out"), "{}", ran.stderr);
}
