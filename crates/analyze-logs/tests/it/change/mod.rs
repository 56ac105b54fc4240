//! Config changes: edits of texts, rules, applying and taking back, crashes.

mod applying;
mod crashes;
mod edits;
mod rules;
mod trouble;
mod yaml;

use nightshift_testkit::Home;
use serde_json::{Value, json};

/// A config like the original's.
const CONFIG: &str = "\
# Alpha
alpha:
  name: \"Alpha Assistant\"   # shown
llm:
  providers:
    deepseek:
      api_key: \"${DEEPSEEK_API_KEY}\"
      # by difficulty
      auto_select_model: false
tools:
  enabled:
    - shell
    - file
code_execution:
  defaults:
    timeout: 30   # seconds
tasks:
  timeouts:
    index: 20
";

/// A recommendation.
fn advice(id: &str, action: &str, kind: &str, operation: &str, parameters: Value) -> Value {
    json!({
        "id": id, "title": format!("{action} of {operation}"), "description": "because", "pattern_ids": ["pat_1"],
        "action_type": kind, "action": action, "operation": operation, "parameters": parameters,
        "confidence": 0.9, "priority": "HIGH",
        "saving": {"seconds_per_day": 60.0, "usd_per_day": 0.0, "failures_per_day": 3.0}, "score": 1.0,
    })
}

/// Raises the time-out of the task `index` to 35 s.
fn raise() -> Value {
    advice("rec_1", "raise_timeout", "config_update", "task:index", json!({"suggested_timeout_s": 34.2}))
}

/// A home with a config and a report.
fn world(advice: &[Value]) -> Home {
    let home = Home::new();
    home.write("app/config.yaml", CONFIG);
    home.write("report.json", &json!({"recommendations": advice}).to_string());
    home
}

const APPLY: [&str; 6] = ["apply", "--from", "report.json", "--target-config", "app/config.yaml", "--json"];

/// The only change of a run.
fn change(report: &Value) -> &Value {
    &report["items"][0]["change"]
}
