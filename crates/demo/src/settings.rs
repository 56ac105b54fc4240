//! The demo's `nightshift.yaml`, and why each setting differs from the product's default.

use std::fmt::Write;
use std::path::Path;

use nightshift_core::config::Config;
use serde_json::Value;

/// A setting that is not the product's default.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its place in `nightshift.yaml`.
    pub key: &'static str,
    /// Its value as YAML.
    pub value: String,
    /// The product's default.
    pub default: String,
    /// Why.
    pub reason: &'static str,
}

/// Where things are, and who sits in the council.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    /// The student's folder.
    pub base: &'a Path,
    /// Address and port of the served student.
    pub listen: String,
    /// Base URLs of the council members, in order.
    pub council: Vec<String>,
    /// Seconds of watching after a switch.
    pub watch_s: f64,
}

/// Every setting that differs, in the order of `nightshift.yaml`: key, value, reason.
const TABLE: [(&str, &str, &str); 20] = [
    (
        "harvest.flag_below",
        "0.999",
        "a student this small is overconfident; what replay does not trust, the council confirms or corrects",
    ),
    ("harvest.max_items", "2000", "no day exceeds the limit"),
    ("harvest.council.max_tokens", "64", "answers are short"),
    (
        "harvest.council.min_vote_confidence",
        "0.8",
        "the members share one base and fall back on the same guess where they know nothing; a guess is unsure",
    ),
    (
        "train.targets",
        "[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]",
        "facts sit in the MLP: attention alone learns half of them",
    ),
    ("train.batch_size", "16", "rows are 20 tokens long"),
    ("train.gradient_accumulation", "1", "nights have tens of rows: 32 rows a step would be too few steps"),
    ("train.learning_rate", "0.002", "a model thousands of times smaller than those the default is made for"),
    ("train.num_epochs", "15", "few rows, a small model"),
    ("train.schedule", "cosine", "measured with it"),
    ("train.warmup_steps", "10", "the higher learning rate needs it"),
    ("train.replay_ratio", "2", "a small model forgets more: without replay 4 to 15 points are lost"),
    (
        "train.replay_above",
        "0.999",
        "of this student's answers above 0.9 only four in five are right, above 0.999 99 %",
    ),
    ("serve.workers", "2", "two users ask at once"),
    ("serve.threads", "1", "the matrices are too small to be worth a second thread"),
    ("serve.max_tokens", "64", "answers are short"),
    ("deploy.gate_max_tokens", "64", "answers are short"),
    (
        "deploy.latency_tolerance",
        "4",
        "beside so small a model the adapter's own arithmetic takes up to as long again; beside a large one a few percent",
    ),
    ("deploy.watch_s", "WATCH", "shortened so that the demo ends in minutes; requests come faster instead"),
    ("nightly.min_disk_gb", "1", "the demo writes less than 0.1 GB"),
];

/// The table with this machine's watch.
pub fn settings(watch_s: f64) -> Vec<Setting> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let row = |(key, value, reason): (&'static str, &str, &'static str)| {
        let default = match defaults.pointer(&format!("/{}", key.replace('.', "/"))) {
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        Setting { key, value: value.replace("WATCH", &watch_s.to_string()), default, reason }
    };
    TABLE.into_iter().map(row).collect()
}

/// The text of `nightshift.yaml`.
pub fn yaml(places: &Places<'_>) -> String {
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    let mut put = |key: &str, line: String| {
        let section = key.split('.').next().unwrap_or_default();
        match sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, lines)) => lines.push(line),
            None => sections.push((section.to_owned(), vec![line])),
        }
    };
    let mut council = Vec::new();
    for setting in settings(places.watch_s) {
        if let Some(name) = setting.key.strip_prefix("harvest.council.") {
            council.push(format!("    {name}: {}", setting.value));
        } else {
            let name = setting.key.split('.').nth(1).unwrap_or_default();
            put(setting.key, format!("  {name}: {}", setting.value));
        }
    }
    put("harvest.council", "  council:".into());
    for line in council {
        put("harvest.council", line);
    }
    put("harvest.council", "    members:".into());
    for (index, url) in places.council.iter().enumerate() {
        let name = crate::models::MEMBERS[index];
        put("harvest.council", format!("      - {{name: {name}, base_url: \"{url}\", model: {name}}}"));
    }
    put("serve.listen", format!("  listen: \"{}\"", places.listen));
    let mut text = format!("base: {:?}\n", places.base.display().to_string());
    for (section, lines) in sections {
        let _ = write!(text, "{section}:\n{}\n", lines.join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yaml_is_a_valid_config_that_says_what_the_table_says() {
        let council = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];
        let places = Places {
            base: Path::new("/models/student"),
            listen: "127.0.0.1:8123".into(),
            council: council.map(String::from).to_vec(),
            watch_s: 8.0,
        };
        let config = nightshift_core::config::parse(Path::new("nightshift.yaml"), &yaml(&places)).unwrap();
        assert_eq!(config.harvest.flag_below, Some(0.999));
        assert_eq!(config.harvest.council.members.len(), 3);
        assert_eq!(config.harvest.council.min_vote_confidence, Some(0.8));
        assert_eq!((config.train.learning_rate, config.train.targets.len()), (2e-3, 7));
        assert_eq!((config.deploy.watch_s, config.serve.listen.as_str()), (8.0, "127.0.0.1:8123"));
        assert!(settings(8.0).iter().all(|setting| setting.value != setting.default), "a default is listed");
    }
}
