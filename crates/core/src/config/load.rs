//! Reading the file, laying the environment over it, checking the values.

use std::path::Path;
use std::str::FromStr;

use crate::config::{Config, Objectives};
use crate::env::{self, Env};
use crate::error::Failure;
use crate::files;

/// The settings from `path` (when given it must exist; `optional` need not) and the environment.
pub fn load(path: Option<&Path>, optional: &Path, environment: &Env) -> Result<Config, Failure> {
    let (path, text) = match path {
        Some(path) => {
            let text = files::read_text(path)
                .map_err(|error| Failure::from(error).with_exit(crate::exit::Exit::Config))?;
            (path, Some(text))
        }
        None => (
            optional,
            files::read_text_if_any(optional)
                .map_err(|error| Failure::from(error).with_exit(crate::exit::Exit::Config))?,
        ),
    };
    let mut config = match text {
        Some(text) => parse(path, &text)?,
        None => Config::default(),
    };
    apply_environment(&mut config, environment)?;
    check(&config)?;
    Ok(config)
}

/// Parses the text of a config file. Relative paths in it are taken from the file's folder.
pub fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Config::default());
    }
    let mut config: Config = serde_yaml::from_str(text).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(":{}:{}", at.line(), at.column()));
        let message = error.to_string();
        let failure = Failure::config(format!("{}{place}: {message}", path.display()));
        match suggestion(&message) {
            Some(name) => failure.hint(format!("did you mean `{name}`?")),
            None => failure,
        }
    })?;
    if let (Some(base), Some(folder)) = (&config.base, path.parent())
        && base.is_relative()
    {
        config.base = Some(folder.join(base));
    }
    Ok(config)
}

/// The expected name nearest to an unknown one, read from serde's own message.
fn suggestion(message: &str) -> Option<&str> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.find("unknown ").map(|_| names.first().copied())??;
    nearest(unknown, names.iter().skip(1).filter(|name| !name.is_empty()).copied())
}

/// The known name nearest to an unknown one, if any is near: for "did you mean".
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(unknown, name), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 2).max(2))
        .map(|(_, name)| name)
}

/// Levenshtein distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn number<T: FromStr>(environment: &Env, name: &str) -> Result<Option<T>, Failure> {
    let Some(text) = environment.get(name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| {
        Failure::config(format!("environment variable {name}: `{text}` is not a valid number"))
            .hint(format!("unset {name} or correct it"))
    })
}

/// One of the names that the setting knows.
fn named<T: clap::ValueEnum>(environment: &Env, name: &str) -> Result<Option<T>, Failure> {
    let Some(text) = environment.get(name) else { return Ok(None) };
    T::from_str(text.trim(), true).map(Some).map_err(|_| {
        let known = T::value_variants().iter().filter_map(T::to_possible_value);
        let known: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
        Failure::config(format!("environment variable {name}: `{text}` is none of {}", known.join(", ")))
            .hint(format!("unset {name} or correct it"))
    })
}

fn apply_environment(config: &mut Config, environment: &Env) -> Result<(), Failure> {
    fn set<T>(slot: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *slot = value;
        }
    }
    let train = &mut config.train;
    set(&mut train.min_examples, number(environment, env::MIN_FAILURES_TO_TRAIN)?);
    set(&mut train.rank, number(environment, env::LORA_RANK)?);
    set(&mut train.alpha, number(environment, env::LORA_ALPHA)?);
    set(&mut train.batch_size, number(environment, env::BATCH_SIZE)?);
    set(&mut train.gradient_accumulation, number(environment, env::GRADIENT_ACCUMULATION)?);
    set(&mut train.learning_rate, number(environment, env::LEARNING_RATE)?);
    set(&mut train.num_epochs, number(environment, env::NUM_EPOCHS)?);
    set(&mut train.dtype, named(environment, env::LORA_DTYPE)?);
    set(&mut train.quantize, named(environment, env::LORA_QUANTIZE)?);
    let deploy = &mut config.deploy;
    set(&mut deploy.watch_s, number(environment, env::MONITOR_DURATION)?);
    if let Some(limit) = number(environment, env::ROLLBACK_THRESHOLD_LATENCY)? {
        deploy.max_latency_ms = Some(limit);
    }
    if let Some(limit) = number(environment, env::ROLLBACK_THRESHOLD_SUCCESS)? {
        deploy.min_success_rate = Some(limit);
    }
    let synergy = &mut config.synergy;
    set(&mut synergy.interval_s, number(environment, env::AUTO_TRAIN_INTERVAL)?);
    set(&mut synergy.port, number(environment, env::SYNERGY_METRICS_PORT)?);
    set(&mut synergy.check_interval_s, number(environment, env::SYNERGY_EXPORTER_CHECK_INTERVAL)?);
    if let Some(rate) = number(environment, env::SYNERGY_WEIGHTS_LR)? {
        synergy.learning_rate = Some(rate);
    }
    if let Some(learner) = environment.get(env::SYNERGY_LEARNER) {
        synergy.learner = Some(learner.to_owned());
    }
    if let Some(path) =
        environment.get(env::SYNERGY_WEIGHT_FILE).or(environment.get(env::SYNERGY_WEIGHTS_PATH))
    {
        synergy.weights = Some(path.into());
    }
    if let Some(url) = environment.get(env::NOTIFICATION_WEBHOOK) {
        config.notify.webhook = Some(url.to_owned());
    }
    Ok(())
}

/// Values that parse and yet make no sense.
fn check(config: &Config) -> Result<(), Failure> {
    let rate = |name: &str, value: f64| {
        if (0.0..=1.0).contains(&value) {
            Ok(())
        } else {
            Err(Failure::config(format!("{name} is {value}, but it is a share from 0 to 1")))
        }
    };
    let positive = |name: &str, value: f64| {
        if value.is_finite() && value > 0.0 {
            Ok(())
        } else {
            Err(Failure::config(format!("{name} is {value}, but it must be above 0")))
        }
    };
    rate("memory.success_above", config.memory.success_above)?;
    rate("harvest.flag_below", config.harvest.flag_below.unwrap_or(0.0))?;
    rate("harvest.flag_share", config.harvest.flag_share.unwrap_or(0.0))?;
    rate("harvest.council.min_vote_confidence", config.harvest.council.min_vote_confidence.unwrap_or(0.0))?;
    rate("train.replay_above", config.train.replay_above)?;
    rate("train.eval_share", config.train.eval_share)?;
    rate("deploy.max_lost_share", config.deploy.max_lost_share)?;
    rate("deploy.min_success_rate", config.deploy.min_success_rate.unwrap_or(0.0))?;
    positive("train.rank", config.train.rank as f64)?;
    positive("train.alpha", config.train.alpha)?;
    positive("train.batch_size", config.train.batch_size as f64)?;
    positive("train.gradient_accumulation", config.train.gradient_accumulation as f64)?;
    positive("train.learning_rate", config.train.learning_rate)?;
    positive("train.num_epochs", config.train.num_epochs as f64)?;
    positive("serve.workers", config.serve.workers as f64)?;
    positive("analyze_logs.max_line_mib", config.analyze_logs.max_line_mib as f64)?;
    positive("analyze_logs.min_error_occurrences", config.analyze_logs.min_error_occurrences as f64)?;
    positive("analyze_logs.slow_operation_threshold", config.analyze_logs.slow_operation_threshold)?;
    positive("analyze_logs.high_cost_threshold", config.analyze_logs.high_cost_threshold)?;
    positive("analyze_logs.timeout_threshold", config.analyze_logs.timeout_threshold)?;
    super::improve::check(&config.analyze_logs.cycle, &config.analyze_logs.judge)?;
    let Objectives { time, money, failures } = config.analyze_logs.objectives;
    for (name, weight) in [("time", time), ("money", money), ("failures", failures)] {
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(Failure::config(format!(
                "analyze_logs.objectives.{name} is {weight}, but it must be 0 or more"
            )));
        }
    }
    positive("analyze_logs.reload.timeout_s", config.analyze_logs.reload.timeout_s)?;
    positive("analyze_logs.error_budget", config.analyze_logs.error_budget)?;
    positive("analyze_logs.forecast_days", config.analyze_logs.forecast_days)?;
    positive("synergy.interval_s", config.synergy.interval_s)?;
    positive("synergy.check_interval_s", config.synergy.check_interval_s)?;
    positive("synergy.learning_rate", config.synergy.learning_rate.unwrap_or(1.0))?;
    positive("deploy.lease_s", config.deploy.lease_s)?;
    positive("deploy.latency_tolerance", config.deploy.latency_tolerance)?;
    for (name, alpha) in [
        ("analyze_logs.false_discovery_rate", config.analyze_logs.false_discovery_rate),
        ("deploy.gate_alpha", config.deploy.gate_alpha),
        ("deploy.alpha_failures", config.deploy.alpha_failures),
        ("deploy.alpha_latency", config.deploy.alpha_latency),
    ] {
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err(Failure::config(format!(
                "{name} is {alpha}, but it must be strictly between 0 and 1"
            )));
        }
    }
    if !(config.deploy.watch_s.is_finite() && config.deploy.watch_s >= 0.0) {
        return Err(Failure::config(format!(
            "deploy.watch_s is {}, but it is seconds",
            config.deploy.watch_s
        )));
    }
    let mut names: Vec<&str> = config.harvest.council.members.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::config(format!("two council members are called `{}`", pair[0])));
    }
    if config.target.is_empty() || config.target.contains(['/', ':', ' ']) {
        return Err(Failure::config("target must be a plain name without spaces, `/` or `:`"));
    }
    crate::clock::zone(&config.time_zone)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Failure {
        parse(Path::new("nightshift.yaml"), text).unwrap_err()
    }

    #[test]
    fn an_unknown_key_names_the_place_and_the_neighbour() {
        let failure = failure("harvest:\n  flag_belwo: 0.5\n");
        assert_eq!(failure.exit().code(), 9);
        assert!(failure.chain().contains("nightshift.yaml:2:"), "{}", failure.chain());
        assert_eq!(failure.hints(), ["did you mean `flag_below`?"]);
    }

    #[test]
    fn an_unknown_section_and_a_wrong_type() {
        assert_eq!(failure("harvset: {}\n").hints(), ["did you mean `harvest`?"]);
        assert!(failure("train:\n  rank: many\n").chain().contains("nightshift.yaml:2:"));
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nightshift.yaml");
        files::write_atomic(&path, b"train: {rank: 4, alpha: 8}\n").unwrap();
        let env = Env::from_pairs([("LORA_RANK", "2"), ("ROLLBACK_THRESHOLD_SUCCESS", "0.9")]);
        let config = load(Some(&path), &path, &env).unwrap();
        assert_eq!((config.train.rank, config.train.alpha), (2, 8.0));
        assert_eq!(config.deploy.min_success_rate, Some(0.9));
    }

    #[test]
    fn bad_values_are_refused_with_their_name() {
        let load_env = |pairs: [(&str, &str); 1]| {
            load(None, Path::new("/nonexistent/nightshift.yaml"), &Env::from_pairs(pairs)).unwrap_err()
        };
        assert!(load_env([("LORA_RANK", "0")]).chain().contains("train.rank"));
        assert!(load_env([("NUM_EPOCHS", "x")]).chain().contains("NUM_EPOCHS"));
        assert!(load_env([("LORA_QUANTIZE", "fp4")]).chain().contains("`fp4` is none of none, nf4"));
        assert!(load_env([("ROLLBACK_THRESHOLD_SUCCESS", "85")]).chain().contains("min_success_rate"));
    }

    #[test]
    fn distances() {
        assert_eq!((distance("kitten", "sitting"), distance("", "ab"), distance("ab", "ab")), (3, 2, 0));
    }
}
