//! Dialects, odd lines, and the fast path beside the careful one.

use nightshift_core::config::AnalyzeLogs;
use nightshift_core::jiff::tz::TimeZone;
use proptest::prelude::*;

use super::roles::Fields;
use super::*;

fn reader() -> Reader {
    Reader::new(&AnalyzeLogs::default(), &TimeZone::UTC).unwrap()
}

fn read(line: &str) -> Result<(Vec<Entry<'_>>, Vec<Repair>), Bad> {
    let (mut entries, mut repairs) = (Vec::new(), Vec::new());
    let line = line.as_bytes();
    reader().line(line, false, |entry| entries.push(entry.clone()), |repair| repairs.push(repair))?;
    Ok((entries, repairs))
}

#[track_caller]
fn one(line: &str) -> Entry<'_> {
    let (mut entries, _) = read(line).unwrap_or_else(|bad| panic!("{bad:?}: {line}"));
    assert_eq!(entries.len(), 1, "{line}");
    entries.remove(0)
}

/// Operation, milliseconds, failed, timed out, nano-dollars.
type Short = (String, Option<u64>, bool, bool, Option<i64>);

fn short(entry: &Entry<'_>) -> Short {
    let name = entry.kind.map_or(String::new(), |kind| format!("{}{}", kind.prefix(), entry.name));
    (name, entry.duration_us.map(|us| us / 1000), entry.failed, entry.timed_out, entry.cost_nano)
}

#[test]
fn every_dialect() {
    let call = |name: &str, ms, failed, timed_out, cost| (name.to_owned(), ms, failed, timed_out, cost);
    for (line, want) in [
        // The original's lines.
        (
            r#"{"tool_name": "web", "parameters": {"q": 1}, "duration": 1.5, "success": true, "result": null, "error": null, "event": "tool_execution", "timestamp": "2026-02-03T00:15:00Z"}"#,
            call("tool:web", Some(1500), false, false, None),
        ),
        (
            r#"{"event": "task_error", "timestamp": "2026-02-03T00:15:00", "task_id": "e0", "task_name": "db", "error": "Connection timeout", "error_type": "TimeoutError"}"#,
            call("task:db", None, true, true, None),
        ),
        (
            r#"{"event": "llm_interaction", "provider": "o", "model": "gpt-4", "total_tokens": 15, "duration": 2.5, "estimated_cost": 0.15}"#,
            call("llm:gpt-4", Some(2500), false, false, Some(150_000_000)),
        ),
        (
            r#"{"event": "task_start", "task_id": "1", "task_name": "db"}"#,
            call("task:db", None, false, false, None),
        ),
        (
            r#"{"event": "config_loaded", "message": "x", "model": "gpt-4"}"#,
            call("", None, false, false, None),
        ),
        // Flat, with words and units of its own.
        (
            r#"{"ts": 1767225600123, "kind": "tool", "tool": "web", "latency_ms": 12, "status": "error", "err": "HTTP 500"}"#,
            call("tool:web", Some(12), true, false, None),
        ),
        (
            r#"{"time": 1767225600.5, "level": "error", "msg": "gave up after 30s", "tool": {"name": "web"}, "duration_ms": "30000"}"#,
            call("tool:web", Some(30_000), true, true, None),
        ),
        // OpenTelemetry: attributes as an object and as OTLP pairs.
        (
            r#"{"name": "execute_tool web", "startTimeUnixNano": "1767225600000000000", "endTimeUnixNano": "1767225600250000000", "status": {"code": 2, "message": "deadline exceeded"}, "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "web"}}"#,
            call("tool:web", Some(250), true, true, None),
        ),
        (
            r#"{"traceId":"a1","name":"chat gpt-4o","startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225601000000000","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"gen_ai.request.model","value":{"stringValue":"gpt-4o"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":"12"}}],"status":{}}"#,
            call("llm:gpt-4o", Some(1000), false, false, None),
        ),
        // LiteLLM.
        (
            r#"{"id": "x", "call_type": "acompletion", "status": "failure", "model": "m", "response_cost": 0.002, "startTime": 1767225600.0, "endTime": 1767225601.5, "error_str": "litellm.Timeout: x", "error_information": {"error_class": "Timeout"}, "metadata": {"session_id": "s"}}"#,
            call("llm:m", Some(1500), true, true, Some(2_000_000)),
        ),
        // OpenAI-style.
        (
            r#"{"timestamp": 1767225600, "request": {"model": "gpt-4o", "messages": []}, "response": {"id": "r", "model": "gpt-4o-2024-08-06", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, "latency_ms": 800}"#,
            call("llm:gpt-4o", Some(800), false, false, None),
        ),
        // Ours.
        (
            r#"{"id":"0197","ts":"2026-03-01T00:00:00Z","target":"n","model":"base","query":"q","success":false,"failure_class":"timeout","latency_ms":900.5,"cost_usd":0.001,"source":"serve","source_id":"1"}"#,
            call("llm:base", Some(900), true, true, Some(1_000_000)),
        ),
    ] {
        assert_eq!(short(&one(line)), want, "{line}");
    }
}

#[test]
fn a_whole_otlp_batch_in_a_line() {
    let span = |name: &str| {
        format!(
            r#"{{"name":"execute_tool {name}","startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225600002000000","attributes":[{{"key":"gen_ai.tool.name","value":{{"stringValue":"{name}"}}}}]}}"#
        )
    };
    let line = format!(
        r#"{{"resourceSpans":[{{"resource":{{}},"scopeSpans":[{{"spans":[{},{}]}}]}}]}}"#,
        span("a"),
        span("b")
    );
    let (entries, _) = read(&line).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.name.as_ref()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((entries[0].kind, entries[0].duration_us), (Some(Kind::Tool), Some(2000)));
}

#[test]
fn the_group_and_the_task_of_a_call() {
    let entry = one(
        r#"{"event":"tool_execution","tool_name":"a","task_name":"t","session":{"id":"s1"},"trace_id":"x","params":{"a":1}}"#,
    );
    assert_eq!(entry.group, Some(&b"\"s1\""[..]));
    assert_eq!(entry.task.as_deref(), Some("t"));
    assert_eq!(entry.params, Some(&b"{\"a\":1}"[..]));
}

#[test]
fn what_counts_as_an_error() {
    let failed =
        |rest: &str| one(format!(r#"{{"event":"tool_execution","tool_name":"a",{rest}}}"#).leak()).failed;
    for rest in [
        r#""success":false"#,
        r#""error":"x""#,
        r#""error":{"type":"E"}"#,
        r#""status":500"#,
        r#""error":true"#,
        r#""status":"failed""#,
        r#""level":"ERROR""#,
        r#""error.type":"E""#,
        r#""timed_out":true"#,
        r#""status":{"code":2}"#,
    ] {
        assert!(failed(rest), "{rest}");
    }
    for rest in [
        r#""success":true,"error":"retried""#,
        r#""error":null"#,
        r#""error":"""#,
        r#""error":{}"#,
        r#""error":false"#,
        r#""status":"ok""#,
        r#""status":200"#,
        r#""level":"info""#,
        r#""timeout":30"#,
        r#""status":{"code":1}"#,
        r#""status":"completed""#,
    ] {
        assert!(!failed(rest), "{rest}");
    }
}

#[test]
fn an_error_that_is_no_call() {
    let entry = one(r#"{"event":"disk watch","level":"error","message":"no space left"}"#);
    assert_eq!((entry.kind, entry.failed, entry.error.as_deref()), (None, true, Some("no space left")));
    let entry = one(r#"{"event":"cache miss","level":"info"}"#);
    assert!(!entry.failed);
}

#[test]
fn bad_lines_have_classes() {
    for (line, bad) in [
        (r#"{"a": 1"#, Bad::Truncated),
        (r#"{"event": "tool_exec"#, Bad::Truncated),
        (r#"{"a":1} {"b":2}"#, Bad::TwoObjects),
        (r#"{"a":1}{"b":2}"#, Bad::TwoObjects),
        (r#"{"a":1} tail"#, Bad::TrailingText),
        ("[1,2]", Bad::NotAnObject),
        ("12", Bad::NotAnObject),
        ("\"text\"", Bad::NotAnObject),
        ("not json line", Bad::NotJson),
        ("Traceback (most recent call last):", Bad::NotJson),
        (r#"{"a": NaN}"#, Bad::NotANumber),
        (r#"{"a": [1, -Infinity]}"#, Bad::NotANumber),
        (r#"{"a": oops}"#, Bad::NotJson),
        ("{\"a\": \"x\0y\"}", Bad::Nul),
        ("\0\0\0", Bad::Nul),
    ] {
        assert_eq!(read(line).unwrap_err(), bad, "{line:?}");
    }
    let mut entries = 0;
    let mut invalid = |line: &[u8]| reader().line(line, false, |_| entries += 1, |_| ()).unwrap_err();
    assert_eq!(invalid(b"{\"a\": \"\xff\"}"), Bad::InvalidUtf8);
    assert_eq!(invalid(b"\xff\xfe"), Bad::InvalidUtf8);
}

#[test]
fn odd_lines_are_used() {
    assert_eq!(read("\u{feff}{\"event\":\"x\"}\r").unwrap().1, [Repair::Bom]);
    assert_eq!(read("\0\0{\"event\":\"x\"}").unwrap().1, [Repair::NulPadding]);
    assert_eq!(read("  \t{\"event\":\"x\"}  ").unwrap().0.len(), 1);
    assert_eq!(
        read("").unwrap().0.len() + read(" \r").unwrap().0.len() + read("\u{feff}").unwrap().0.len(),
        0
    );
    let (entries, repairs) = read(r#"{"tool_name":"a\ud83d","success":true}"#).unwrap();
    assert_eq!((entries[0].name.as_ref(), &repairs[..]), ("a\u{fffd}", &[Repair::LoneSurrogate][..]));
    assert_eq!(read(r#"{"tool_name":"\ud83d\ude00","ok":true}"#).unwrap().1, []);
    let (entries, repairs) = read(r#"{"tool_name":"a","success":true,"timestamp":"soon"}"#).unwrap();
    assert_eq!((entries[0].at, &repairs[..]), (None, &[Repair::BadTime][..]));
    assert_eq!(one(r#"{"\u0074ool_name":"a","success":true}"#).name, "a", "an escaped key");
    assert_eq!(one(r#"{"tool_name":"a","tool_name":"b","success":true}"#).name, "b", "the last of two");
    assert_eq!(one(r#"{"tool_name":"a","tool_name":null,"success":true}"#).kind, None);
    let deep = format!(r#"{{"tool_name":"a","success":true,"x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(one(&deep).name, "a");
}

/// JSON texts built from keys that mean something, keys that do not, and values of every kind.
fn value(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1.5".to_owned()),
        Just("-3e2".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"a\\\"b\"".to_owned()),
        Just("\"error\"".to_owned()),
        Just("\"x\\ud83d\"".to_owned()),
        Just("1767225600".to_owned()),
        Just("\"2026-02-03T00:15:00Z\"".to_owned()),
        Just("\"execute_tool\"".to_owned()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let list =
        proptest::collection::vec(value(depth - 1), 0..3).prop_map(|items| format!("[{}]", items.join(", ")));
    let pair = (key(), value(0))
        .prop_map(|(key, value)| format!(r#"[{{"key": {key}, "value": {{"stringValue": {value}}}}}]"#));
    prop_oneof![4 => leaf, 2 => object(depth - 1), 1 => list, 1 => pair].boxed()
}

fn key() -> impl Strategy<Value = String> {
    proptest::sample::select(&[
        "event", "timestamp", "tool_name", "tool", "model", "task", "duration", "latency_ms", "success", "status", "error", "usage",
        "attributes", "gen_ai.tool.name", "code", "message", "type", "session", "id", "metadata", "request", "response", "other", "x",
    ])
    .prop_flat_map(|key| prop_oneof![20 => Just(format!("\"{key}\"")), 1 => Just(format!("\"\\u{:04x}{}\"", key.as_bytes()[0], &key[1..]))])
}

fn object(depth: u32) -> BoxedStrategy<String> {
    let member = (key(), prop_oneof![Just(":"), Just(": "), Just(" : ")], value(depth))
        .prop_map(|(k, c, v)| format!("{k}{c}{v}"));
    proptest::collection::vec(member, 0..7).prop_map(|members| format!("{{{}}}", members.join(", "))).boxed()
}

proptest! {
    #[test]
    fn both_paths_give_the_same(lines in proptest::collection::vec((object(2), 0_usize..400), 1..6)) {
        // One scanner for all lines, so that its guesses are tried too; some lines are cut or garbled.
        let mut fast = reader();
        for (line, cut) in &lines {
            let line = if *cut < line.len() && cut % 3 == 0 { &line[..line.floor_char_boundary(*cut)] } else { line };
            let mut fields = Fields::default();
            if fast.scanner.scan(&fast.roles, line.as_bytes(), fast.stops.of(line.as_bytes()), &mut fields).is_some() {
                let careful = whole::scan(&fast.roles, line);
                prop_assert!(careful.is_ok(), "only the fast path takes {line}");
                prop_assert_eq!(&careful.unwrap()[0], &fields, "{}", line);
            }
        }
    }
}
