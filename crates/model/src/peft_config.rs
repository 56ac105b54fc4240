//! `adapter_config.json` as PEFT writes it, and which modules it puts which LoRA on.
//!
//! PEFT loads a wrong adapter without a word when `target_modules`, `use_rslora` or `lora_alpha` is
//! missing, because its defaults then stand in for the truth. Here the five keys that decide the
//! numbers must be written in the file, and every form that this crate does not compute (DoRA,
//! biases, saved modules, initialisations that rewrite the base) is refused by key.
//!
//! Matching follows `check_target_module_exists` and `get_pattern_key` of peft 0.21.

use std::path::Path;

use fancy_regex::Regex;
use nightshift_core::release::ADAPTER_CONFIG;
use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::json_file::JsonFile;

/// Matching steps a pattern may take on one module path before it is called pathological.
const BACKTRACK_LIMIT: usize = 100_000;

/// What `adapter_config.json` says, as far as it decides the numbers.
#[derive(Debug)]
pub(crate) struct PeftConfig {
    /// `r`, where no pattern says otherwise.
    pub(crate) rank: usize,
    /// `lora_alpha`, where no pattern says otherwise.
    pub(crate) alpha: f64,
    /// Scale by alpha/sqrt(rank) in place of alpha/rank.
    pub(crate) use_rslora: bool,
    /// Dropout used in training; does not act afterwards.
    pub(crate) dropout: f64,
    /// `base_model_name_or_path`.
    pub(crate) base_model: Option<String>,
    targets: Targets,
    exclude: Option<Targets>,
    layers: Option<Vec<usize>>,
    rank_pattern: Vec<(Regex, usize)>,
    alpha_pattern: Vec<(Regex, f64)>,
}

/// `target_modules` or `exclude_modules`.
#[derive(Debug)]
enum Targets {
    AllLinear,
    Names(Vec<String>),
    Path(Regex),
}

impl PeftConfig {
    /// Reads the config of an adapter folder.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(ADAPTER_CONFIG);
        let file = JsonFile::read(&path, "this is not a PEFT adapter folder")?;
        refuse_unsupported(&file)?;
        let rank = file.required_usize("r")?;
        let alpha = file.f64("lora_alpha")?.ok_or_else(|| file.missing("lora_alpha"))?;
        let use_rslora = file.bool("use_rslora")?.ok_or_else(|| {
            let problem = "missing; PEFT would assume false and scale an rsLoRA adapter wrongly. Write it";
            file.error("use_rslora", problem)
        })?;
        let targets = Targets::parse(&file, "target_modules")?.ok_or_else(|| {
            file.error("target_modules", "missing; PEFT would assume q_proj and v_proj. Write it")
        })?;
        let config = Self {
            rank: checked_rank(&file, "r", rank)?,
            alpha: checked_alpha(&file, "lora_alpha", alpha)?,
            use_rslora,
            dropout: file.f64("lora_dropout")?.unwrap_or(0.0),
            base_model: file.str("base_model_name_or_path")?.map(str::to_owned),
            targets,
            exclude: Targets::parse(&file, "exclude_modules")?,
            layers: parse_layers(&file)?,
            rank_pattern: parse_pattern(&file, "rank_pattern", |value| {
                value.as_u64().and_then(|rank| usize::try_from(rank).ok())
            })?,
            alpha_pattern: parse_pattern(&file, "alpha_pattern", Value::as_f64)?,
        };
        for (pattern, rank) in &config.rank_pattern {
            checked_rank(&file, &format!("rank_pattern.{pattern}"), *rank)?;
        }
        for (pattern, alpha) in &config.alpha_pattern {
            checked_alpha(&file, &format!("alpha_pattern.{pattern}"), *alpha)?;
        }
        for outside in ["lm_head", "model.embed_tokens"] {
            if config.targets_module(outside, None)? {
                let problem =
                    format!("targets `{outside}`; LoRA on embedding or output head is not supported");
                return Err(file.error("target_modules", problem));
            }
        }
        Ok(config)
    }

    /// Whether the module at `path` carries LoRA; `layer` is its layer, if it is in one.
    pub(crate) fn targets_module(&self, path: &str, layer: Option<usize>) -> Result<bool> {
        if let Some(exclude) = &self.exclude
            && exclude.matches(path)?
        {
            return Ok(false);
        }
        if matches!(self.targets, Targets::AllLinear) {
            return Ok(layer.is_some());
        }
        let found = self.targets.matches(path)?;
        let exact = matches!(&self.targets, Targets::Names(names) if names.iter().any(|name| name == path));
        let by_regex = matches!(self.targets, Targets::Path(_));
        match (&self.layers, layer) {
            // PEFT applies layers_to_transform to suffix matches only.
            (Some(layers), Some(layer)) if found && !exact && !by_regex => Ok(layers.contains(&layer)),
            _ => Ok(found),
        }
    }

    /// Rank of the module at `path`.
    pub(crate) fn rank_of(&self, path: &str) -> Result<usize> {
        Ok(first_match(&self.rank_pattern, path)?.copied().unwrap_or(self.rank))
    }

    /// Factor on B·A of the module at `path`.
    pub(crate) fn scale_of(&self, path: &str) -> Result<f64> {
        let alpha = first_match(&self.alpha_pattern, path)?.copied().unwrap_or(self.alpha);
        let rank = self.rank_of(path)? as f64;
        Ok(alpha / if self.use_rslora { rank.sqrt() } else { rank })
    }
}

impl Targets {
    fn parse(file: &JsonFile, key: &str) -> Result<Option<Self>> {
        match file.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => Ok(Some(Self::AllLinear)),
            Some(Value::String(text)) => {
                compile(file, key, &format!("^(?:{text})$")).map(|regex| Some(Self::Path(regex)))
            }
            Some(Value::Array(list)) => {
                let name = |entry: &Value| match entry.as_str() {
                    Some(name) if !name.is_empty() => Ok(name.to_owned()),
                    _ => Err(file.wrong(key, "a module name", entry)),
                };
                list.iter().map(name).collect::<Result<_>>().map(|names| Some(Self::Names(names)))
            }
            Some(other) => Err(file.wrong(key, "a list of names or one pattern", other)),
        }
    }

    fn matches(&self, path: &str) -> Result<bool> {
        match self {
            Self::AllLinear => Ok(true),
            Self::Names(names) => Ok(names.iter().any(|name| {
                path == name || path.strip_suffix(name.as_str()).is_some_and(|front| front.ends_with('.'))
            })),
            Self::Path(regex) => is_match(regex, path),
        }
    }
}

fn is_match(regex: &Regex, path: &str) -> Result<bool> {
    regex.is_match(path).map_err(|error| {
        ModelError::Input(format!("the pattern `{regex}` cannot be matched against `{path}`: {error}"))
    })
}

fn first_match<'a, T>(patterns: &'a [(Regex, T)], path: &str) -> Result<Option<&'a T>> {
    for (regex, value) in patterns {
        if is_match(regex, path)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn compile(file: &JsonFile, key: &str, pattern: &str) -> Result<Regex> {
    fancy_regex::RegexBuilder::new(pattern)
        .backtrack_limit(BACKTRACK_LIMIT)
        .build()
        .map_err(|error| file.error(key, format!("`{pattern}` is not a pattern: {error}")))
}

/// `rank_pattern` and `alpha_pattern`: `(.*\.)?(KEY)$`, first match in file order wins.
fn parse_pattern<T>(
    file: &JsonFile,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Regex, T)>> {
    let map = match file.get(key) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(file.wrong(key, "an object", other)),
    };
    map.iter()
        .map(|(pattern, value)| {
            let full = format!("{key}.{pattern}");
            let regex = compile(file, &full, &format!(r"^(?:.*\.)?(?:{pattern})$"))?;
            read(value).map(|value| (regex, value)).ok_or_else(|| file.wrong(full, "a number", value))
        })
        .collect()
}

fn parse_layers(file: &JsonFile) -> Result<Option<Vec<usize>>> {
    const KEY: &str = "layers_to_transform";
    let names_layers = |value: &Value| match value {
        Value::Array(list) => list.iter().all(|entry| entry == "layers"),
        other => other == "layers" || other == "",
    };
    if let Some(other) = file.get("layers_pattern").filter(|value| !names_layers(value)) {
        return Err(file.wrong("layers_pattern", "`layers`", other));
    }
    let layer = |value: &Value| {
        let layer = value.as_u64().and_then(|layer| usize::try_from(layer).ok());
        layer.ok_or_else(|| file.wrong(KEY, "a layer number", value))
    };
    match file.get(KEY) {
        None => Ok(None),
        Some(Value::Array(list)) if list.is_empty() => Ok(None),
        Some(Value::Array(list)) => list.iter().map(layer).collect::<Result<_>>().map(Some),
        Some(one) => layer(one).map(|layer| Some(vec![layer])),
    }
}

fn checked_rank(file: &JsonFile, key: &str, rank: usize) -> Result<usize> {
    const MAX_RANK: usize = 1 << 16;
    if (1..=MAX_RANK).contains(&rank) { Ok(rank) } else { Err(file.error(key, format!("{rank} is no rank"))) }
}

fn checked_alpha(file: &JsonFile, key: &str, alpha: f64) -> Result<f64> {
    if alpha.is_finite() && alpha > 0.0 {
        Ok(alpha)
    } else {
        Err(file.error(key, format!("{alpha} is not a positive number")))
    }
}

/// Forms of LoRA that change the numbers and are not computed here.
fn refuse_unsupported(file: &JsonFile) -> Result<()> {
    match file.str("peft_type")? {
        Some("LORA") => {}
        Some(other) => return Err(file.error("peft_type", format!("`{other}` is not supported; LORA is"))),
        None => return Err(file.missing("peft_type")),
    }
    match file.str("task_type")? {
        None | Some("CAUSAL_LM") => {}
        Some(other) => {
            return Err(file.error("task_type", format!("`{other}` is not supported; CAUSAL_LM is")));
        }
    }
    match file.str("bias")? {
        None | Some("none") => {}
        Some(other) => return Err(file.error("bias", format!("`{other}` is not supported; none is"))),
    }
    for key in ["use_dora", "lora_bias", "fan_in_fan_out", "use_qalora"] {
        if file.bool(key)?.unwrap_or(false) {
            return Err(file.error(key, "is not supported; train or merge without it"));
        }
    }
    let nothing = |value: &Value| match value {
        Value::Bool(flag) => !flag,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    for key in [
        "modules_to_save",
        "layer_replication",
        "trainable_token_indices",
        "target_parameters",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "megatron_config",
        "monteclora_config",
        "use_bdlora",
        "velora_config",
    ] {
        if file.get(key).is_some_and(|value| !nothing(value)) {
            return Err(file.error(key, "is not supported; only plain LoRA on the linear layers is"));
        }
    }
    // These rewrite the base weights, so the saved A and B alone do not describe the model.
    match file.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::String(how)) if ["gaussian", "eva", "orthogonal"].contains(&how.as_str()) => Ok(()),
        Some(Value::String(how)) => {
            let problem = format!("`{how}` changes the base model; convert the adapter to plain LoRA first");
            Err(file.error("init_lora_weights", problem))
        }
        Some(other) => Err(file.wrong("init_lora_weights", "true, false or a name", other)),
    }
}
