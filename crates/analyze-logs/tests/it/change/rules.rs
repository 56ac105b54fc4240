//! Rules: which key, which value, how far, and when there is nothing to do.

use std::path::Path;

use nightshift_analyze_logs::change::rules::Kind;
use nightshift_analyze_logs::change::{Planned, Rules, Target, Verdict, plan};
use nightshift_core::{Ctx, files};
use serde_json::{Value, json};

use super::{CONFIG, advice};

fn planned(config: &str, rules: Option<&str>, asked: &Value) -> Planned {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Ctx::for_test(dir.path());
    let file = dir.path().join("config.yaml");
    files::write_atomic(&file, config.as_bytes()).unwrap();
    let rules = rules.map(|text| {
        let path = dir.path().join("rules.yaml");
        files::write_atomic(&path, text.as_bytes()).unwrap();
        path
    });
    let target = Target::open(&ctx, &file, rules.as_deref()).unwrap();
    let advice = serde_json::from_value(asked.clone()).unwrap();
    let planned = plan(&ctx, None, &target, &[advice]).unwrap().remove(0);
    assert_eq!(files::read_text(&file).unwrap(), config, "a plan changes nothing");
    planned
}

#[track_caller]
fn value(planned: &Planned) -> (String, Value) {
    let change = planned.change.as_ref().unwrap_or_else(|| panic!("{planned:?}"));
    (change.key_path.to_string(), change.after.clone())
}

fn timeout(operation: &str, parameters: Value) -> Value {
    advice("r", "raise_timeout", "config_update", operation, parameters)
}

#[test]
fn the_original_s_config() {
    let alpha = |asked: Value| planned(CONFIG, None, &asked);
    let of_task = alpha(timeout("task:index", json!({"suggested_timeout_s": 34.2})));
    assert_eq!(value(&of_task), ("tasks.timeouts.index".into(), json!(35)));
    assert!(of_task.diff.contains("-    index: 20\n+    index: 35\n"), "{}", of_task.diff);
    let new = alpha(timeout("task:re port", json!({"suggested_timeout_s": 50})));
    assert_eq!(value(&new), ("tasks.timeouts.\"re port\"".into(), json!(50)));
    assert!(new.diff.ends_with("     index: 20\n+    re port: 50\n"), "{}", new.diff);
    let of_tool = alpha(timeout("tool:python", json!({})));
    assert_eq!(value(&of_tool), ("code_execution.defaults.timeout".into(), json!(45)));
    let model = alpha(advice("r", "route_to_cheaper_model", "model_routing", "llm:gpt-4", json!({})));
    assert_eq!(value(&model), ("llm.providers.deepseek.auto_select_model".into(), json!(true)));
    let tool =
        alpha(advice("r", "prefer_tool", "tool_strategy", "tool:shell", json!({"alternative": "search"})));
    assert_eq!(value(&tool), ("tools.enabled".into(), json!(["shell", "file", "search"])));
    let known =
        alpha(advice("r", "prefer_tool", "tool_strategy", "tool:shell", json!({"alternative": "file"})));
    assert_eq!(known.verdict, Verdict::Unchanged);
}

#[test]
fn nothing_is_applied_where_no_rule_or_key_is() {
    let alpha = |asked: Value| planned(CONFIG, None, &asked);
    for asked in [
        advice("r", "add_retry", "error_handling", "tool:web", json!({"error_type": "x"})),
        advice("r", "cache_calls", "tool_strategy", "tool:skill", json!({})),
        timeout("llm:gpt-4", json!({"suggested_timeout_s": 9})),
    ] {
        let planned = alpha(asked.clone());
        assert_eq!(planned.verdict, Verdict::NotApplicable, "{asked}");
        assert!(
            planned.reason.contains("no applicable action") && planned.change.is_none(),
            "{}",
            planned.reason
        );
    }
    let hostile = timeout("task:a\u{7}b", json!({"suggested_timeout_s": 9}));
    assert_eq!(planned("tasks: {timeouts: {}}\n", None, &hostile).verdict, Verdict::NotApplicable);
    // Without the section, the key would be read by nobody.
    let bare =
        planned("llm:\n  providers: {}\n", None, &timeout("task:index", json!({"suggested_timeout_s": 9})));
    assert!(bare.reason.contains("the config has no tasks.timeouts.index"), "{}", bare.reason);
}

#[test]
fn nightshift_s_own_config() {
    let own = |asked: Value| planned("harvest:\n  council:\n    concurrency: 6\n", None, &asked);
    let timeout = own(timeout("llm:judge", json!({"suggested_timeout_s": 75.5})));
    assert_eq!(value(&timeout), ("harvest.council.timeout_s".into(), json!(76)));
    let fewer = own(advice("r", "break_circuit", "error_handling", "llm:judge", json!({})));
    assert_eq!(value(&fewer), ("harvest.council.concurrency".into(), json!(3)));
    let retry = own(advice("r", "add_retry", "error_handling", "llm:judge", json!({})));
    assert_eq!(value(&retry), ("harvest.council.attempts".into(), json!(5)));
}

/// Every key of the shipped rules for `nightshift.yaml` is one that Nightshift reads, within its bounds.
#[test]
fn the_keys_for_nightshift_yaml_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/change/rules/nightshift.yaml");
    for rule in Rules::read(&path).unwrap().rules {
        let value = json!(rule.max.unwrap());
        let value = if rule.kind == Kind::Integer { json!(value.as_f64().unwrap() as i64) } else { value };
        let nested = rule.key.keys().iter().rev().fold(value, |value, key| json!({key: value}));
        nightshift_core::config::parse(Path::new("nightshift.yaml"), &nested.to_string())
            .unwrap_or_else(|failure| panic!("{}: {}", rule.key, failure.chain()));
        let shown = serde_json::to_value(nightshift_core::config::Config::default()).unwrap();
        let own = rule.key.keys().iter().fold(&shown, |value, key| &value[key]);
        assert_eq!(
            own.as_f64(),
            rule.default.as_ref().and_then(Value::as_f64),
            "the default of {}",
            rule.key
        );
    }
}

const RULES: &str = "
name: own
rules:
  - {action: [a, b], key: n, value: {from: v}, type: number, min: 10, max: 100, step: 20, max_factor: 1.5, direction: up}
  - {action: down, key: n, value: {times: 0.1}, type: integer, min: 10, max: 100, direction: down}
  - {action: flag, key: s, value: {set: true}, type: boolean}
  - {action: text, key: t, value: {from: v}, type: text, allowed: ['gpt-*']}
  - {action: when, when: {kind: 'x*'}, key: n, value: {add: 1}, type: integer, min: 0, max: 100}
";

#[test]
fn bounds_types_and_forms() {
    let own = |config: &str, action: &str, parameters: Value| {
        planned(config, Some(RULES), &advice("r", action, "config_update", "tool:x", parameters))
    };
    let ask = |config: &str, v: Value| own(config, "a", json!({"v": v}));
    assert_eq!(value(&ask("n: 40\n", json!(50))).1, json!(50));
    let far = ask("n: 40\n", json!(500));
    assert_eq!(value(&far).1, json!(60));
    assert!(far.reason.contains("500 is asked for, the rule allows step 20"), "{}", far.reason);
    assert_eq!(value(&ask("n: 40.0\n", json!(50))).1, json!(50.0), "a float stays one");
    let text = ask("n: \"40\"\n", json!(50));
    assert!(text.diff.contains("+n: \"50\"\n"), "a number in quotes stays in quotes: {}", text.diff);
    assert_eq!(ask("n: 100\n", json!(500)).verdict, Verdict::Unchanged, "the ratchet ends at max");
    assert_eq!(ask("n: 120\n", json!(130)).verdict, Verdict::Unchanged, "what a person set beyond max stays");
    assert_eq!(ask("n: 60\n", json!(50)).verdict, Verdict::Unchanged, "never down");
    assert_eq!(ask("n: 50\n", json!(50)).verdict, Verdict::Unchanged);
    assert_eq!(ask("n: many\n", json!(50)).verdict, Verdict::Refused);
    assert_eq!(ask("n: ${LIMIT}\n", json!(50)).verdict, Verdict::Refused, "set elsewhere");
    assert_eq!(ask("n: 40\n", json!("x")).verdict, Verdict::NotApplicable);
    assert_eq!(ask("m: 40\n", json!(50)).verdict, Verdict::NotApplicable);
    assert_eq!(value(&own("n: 80\n", "down", json!({}))).1, json!(10));
    assert!(own("s: no # c\n", "flag", json!({})).diff.contains("+s: \"yes\" # c\n"));
    assert_eq!(own("s: true\n", "flag", json!({})).verdict, Verdict::Unchanged);
    assert_eq!(value(&own("t: gpt-4\n", "text", json!({"v": "gpt-4-mini"}))).1, json!("gpt-4-mini"));
    assert_eq!(own("t: gpt-4\n", "text", json!({"v": "evil"})).verdict, Verdict::Refused);
    assert_eq!(own("n: 1\n", "when", json!({"kind": "y"})).verdict, Verdict::NotApplicable);
    assert_eq!(value(&own("n: 1\n", "when", json!({"kind": "xy"}))).1, json!(2));
}

#[test]
fn wrong_rules_are_said_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Ctx::for_test(dir.path());
    let (file, rules) = (dir.path().join("c.yaml"), dir.path().join("r.yaml"));
    files::write_atomic(&file, b"a: 1\n").unwrap();
    let rule = |text: &str| format!("name: x\nrules:\n  - {{action: a, key: k, {text}}}\n");
    for (text, told) in [
        (rule("value: {times: 2}, type: integer"), "needs min and max"),
        (rule("value: {times: 2, add: 1}, type: integer, min: 1, max: 2"), "is one of from"),
        (rule("value: {times: 2}, type: integer, min: 3, max: 2"), "leave no value"),
        (rule("value: {append: x}, type: text"), "append is for type list"),
        (rule("value: {set: 1}, type: boolean, min: 3"), "are for numbers"),
        (rule("value: {set: 1}, type: boolean, operation: 'a['"), "no pattern"),
        (rule("value: {set: 1}, type: boolean, create_under: z"), "not above"),
        (rule("value: {set: 1}, type: boolean, typo: 1"), "unknown field `typo`"),
    ] {
        files::write_atomic(&rules, text.as_bytes()).unwrap();
        let failure = Target::open(&ctx, &file, Some(&rules)).unwrap_err();
        assert_eq!(failure.exit().code(), 9, "{text}");
        assert!(failure.chain().contains(told), "{told}: {}", failure.chain());
    }
    let unknown = Target::open(&ctx, &file, None).unwrap_err();
    assert_eq!(unknown.exit().code(), 4);
    assert!(unknown.chain().contains("no shipped rules fit"));
}
