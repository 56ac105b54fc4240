//! The only place that reads the environment, and the list of every variable that means something.
//!
//! `<home>/.env` is read when present and never overrides what the environment already has.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Failure;

/// A documented environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The setting it overrides, or what it does.
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($constant:ident = $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = stringify!($constant);)*
        /// Every variable that a Nightshift program reads.
        pub const VARIABLES: &[Variable] =
            &[$(Variable { name: stringify!($constant), meaning: $meaning }),*];
    };
}

variables! {
    NIGHTSHIFT_HOME = "the home folder (flag --home)";
    NIGHTSHIFT_CONFIG = "the config file (flag --config)";
    NIGHTSHIFT_NOW = "pins the wall clock to one RFC 3339 instant, for tests and demos";
    NIGHTSHIFT_CRASH_AT = "name of a crash point at which the process kills itself, for crash tests";
    NIGHTSHIFT_ADMIN_KEY = "key that admin requests from other hosts must carry";
    NIGHTSHIFT_LOG = "log filter, for example info or nightshift_serve=debug (default info)";
    GLIBC_TUNABLES = "settings of the C library; serve and train-lora add glibc.malloc.hugetlb=1 and two limits; hugetlb=0 keeps small pages";
    NO_COLOR = "no colours when set to anything";
    CI = "no progress bars when set to anything";
    SANDBOX_DATA_DIR = "where the stores live (default `sandbox_data` in the home folder)";
    NOTIFICATION_WEBHOOK = "notify.webhook";
    MIN_FAILURES_TO_TRAIN = "train.min_examples";
    LORA_RANK = "train.rank";
    LORA_ALPHA = "train.alpha";
    BATCH_SIZE = "train.batch_size";
    GRADIENT_ACCUMULATION = "train.gradient_accumulation";
    LEARNING_RATE = "train.learning_rate";
    NUM_EPOCHS = "train.num_epochs";
    LORA_DTYPE = "train.dtype";
    LORA_QUANTIZE = "train.quantize";
    ROLLBACK_THRESHOLD_LATENCY = "deploy.max_latency_ms";
    ROLLBACK_THRESHOLD_SUCCESS = "deploy.min_success_rate";
    MONITOR_DURATION = "deploy.watch_s";
    SYNERGY_WEIGHT_FILE = "synergy.weights: the weights file (flag --path)";
    SYNERGY_WEIGHTS_PATH = "the same, where SYNERGY_WEIGHT_FILE is not set";
    SYNERGY_WEIGHT_ROI = "weight of roi, over what the weights file says (0-10); likewise the next six";
    SYNERGY_WEIGHT_EFFICIENCY = "weight of efficiency";
    SYNERGY_WEIGHT_RESILIENCE = "weight of resilience";
    SYNERGY_WEIGHT_ANTIFRAGILITY = "weight of antifragility";
    SYNERGY_WEIGHT_RELIABILITY = "weight of reliability";
    SYNERGY_WEIGHT_MAINTAINABILITY = "weight of maintainability";
    SYNERGY_WEIGHT_THROUGHPUT = "weight of throughput";
    ALIGNMENT_BASELINE_METRICS_PATH = "file (.yml, .yaml, .json) whose `synergy_weights` are the start weights";
    SANDBOX_SETTINGS_PATH = "settings file whose `default_synergy_weights` are the start weights otherwise";
    SANDBOX_SETTINGS_YAML = "the same, where SANDBOX_SETTINGS_PATH is not set";
    DEFAULT_SYNERGY_WEIGHTS = "start weights otherwise, as a JSON object";
    SYNERGY_WEIGHTS_LR = "synergy.learning_rate";
    SYNERGY_LEARNER = "synergy.learner";
    SYNERGY_REPLAY_SIZE = "newest rows that a learner's replays draw from";
    SYNERGY_BATCH_SIZE = "states in one step of a learner's network";
    SYNERGY_GAMMA = "discount of the Q-learners";
    SYNERGY_NOISE = "exploration of the learners, as a share of an action's range";
    SYNERGY_HIDDEN_SIZE = "width of a hidden layer of a learner's networks";
    SYNERGY_LAYERS = "hidden layers of a learner's networks";
    SYNERGY_TARGET_SYNC = "steps between two copies of a Q-network into its target";
    SYNERGY_TRAIN_INTERVAL = "rows between two rounds of a learner's training";
    SYNERGY_OPTIMIZER = "optimiser of a learner's networks: adam or sgd";
    AUTO_TRAIN_INTERVAL = "synergy.interval_s";
    AUTO_TRAIN_SYNERGY = "export-metrics trains as well when 1";
    EXPORT_SYNERGY_METRICS = "auto-train exports the history as well when 1";
    SYNERGY_METRICS_PORT = "synergy.port; also of auto-train, unless it has --metrics-port";
    METRICS_PORT = "port of auto-train where SYNERGY_METRICS_PORT is not set";
    SYNERGY_EXPORTER_CHECK_INTERVAL = "synergy.check_interval_s";
    SYNERGY_TRAINER_CHECK_INTERVAL = "seconds before a trainer that broke down is started again (default 10)";
    SYNERGY_ALERT_THRESHOLD = "restarts above which an alert is sent (default 5)";
    SYNERGY_WEIGHT_ALERT_THRESHOLD = "failed updates in a row from which alerts are errors (default 5)";
    SAVE_SYNERGY_HISTORY = "record writes nothing when 0";
    SANDBOX_CENTRAL_LOGGING = "exporter and trainer write audit lines when 1";
    AUDIT_LOG_PATH = "file of the audit lines (default logs/audit.log)";
    AUDIT_PRIVKEY = "Ed25519 key that audit lines are signed with, in base64 (32 bytes or PKCS#8)";
    AUDIT_PRIVKEY_PATH = "file of that key, where AUDIT_PRIVKEY is not set";
    KAFKA_HOSTS = "audit lines are kept for Kafka in a file beside the audit log as well";
    SANDBOX_SYNERGY_MODEL = "arima: predict uses ARIMA from 11 values on, docs/forecast.md";
    SYNERGY_FORECAST_METHOD = "method of predict: arima, ema, legacy or naive";
    XDG_CACHE_HOME = "where the demo keeps its trained models (default ~/.cache)";
    HOME = "the user's folder, where XDG_CACHE_HOME is not set";
}

/// The overrides of single synergy weights, in the order of [`crate::synergy::METRICS`].
pub const SYNERGY_WEIGHTS: [&str; 7] = [
    SYNERGY_WEIGHT_ROI,
    SYNERGY_WEIGHT_EFFICIENCY,
    SYNERGY_WEIGHT_RESILIENCE,
    SYNERGY_WEIGHT_ANTIFRAGILITY,
    SYNERGY_WEIGHT_RELIABILITY,
    SYNERGY_WEIGHT_MAINTAINABILITY,
    SYNERGY_WEIGHT_THROUGHPUT,
];

/// A snapshot of the environment, with `.env` underneath.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets: only the names are shown.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Env {
    /// The environment of this process. Names or values that are not UTF-8 are left out.
    pub fn read() -> Self {
        let pairs =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self(pairs.collect())
    }

    /// Exactly these pairs.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Every name and value, in order of names.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds the pairs of `<home>/.env` that the environment does not have.
    pub fn overlay_file(&mut self, path: &Path) -> Result<(), Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(Failure::config(format!("cannot read {}", path.display())).because(error));
            }
        };
        for (number, line) in text.lines().enumerate() {
            if let Some((name, value)) = parse_line(line).map_err(|why| {
                Failure::config(format!("{}:{}: {why}", path.display(), number + 1)).hint("write NAME=value")
            })? {
                self.0.entry(name).or_insert(value);
            }
        }
        Ok(())
    }
}

/// One `.env` line: `NAME=value`, `export NAME="value"`, comment or blank.
fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("no `=` in this line")?;
    let name = name.trim();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("this is not a variable name");
    }
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let rest = &value[1..];
            &rest[..rest.find(quote).ok_or("the quote is not closed")?]
        }
        _ => value.split(" #").next().unwrap_or_default().trim_end(),
    };
    Ok(Some((name.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_lines() {
        let pair = |line| parse_line(line).unwrap();
        assert_eq!(pair("A=1"), Some(("A".into(), "1".into())));
        assert_eq!(pair("export A=\"x # y\" # z"), Some(("A".into(), "x # y".into())));
        assert_eq!(pair("A=x # comment"), Some(("A".into(), "x".into())));
        assert_eq!(pair("# A=1"), None);
        assert!(parse_line("A").is_err() && parse_line("A='x").is_err() && parse_line("a b=1").is_err());
    }

    #[test]
    fn the_file_never_overrides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        crate::files::write_atomic(&path, b"A=file\nB=file\n").unwrap();
        let mut env = Env::from_pairs([("A", "environment")]);
        env.overlay_file(&path).unwrap();
        assert_eq!((env.get("A"), env.get("B")), (Some("environment"), Some("file")));
        assert!(!format!("{env:?}").contains("environment"), "values stay out of debug output");
    }
}
