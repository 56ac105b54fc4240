//! `adapter_config.json` as PEFT writes it, and which modules it puts which LoRA on.
//!
//! PEFT loads a wrong adapter without a word when `target_modules`, `use_rslora` or `lora_alpha` is
//! missing, because its defaults then stand in for the truth. Here the five keys that decide the
//! numbers must be written in the file, and every form that this crate does not compute
//! (biases, saved modules, initialisations that rewrite the base) is refused by key.
//!
//! Which modules it means is decided in [`crate::modules`].

use std::path::Path;

use nightshift_core::release::ADAPTER_CONFIG;
use serde_json::Value;

use crate::error::Result;
use crate::json_file::JsonFile;
use crate::modules::{ModuleRules, Names, Pattern};

/// What `adapter_config.json` says, as far as it decides the numbers.
#[derive(Debug)]
pub(crate) struct PeftConfig {
    /// `r`, where no pattern says otherwise.
    pub(crate) rank: usize,
    /// `lora_alpha`, where no pattern says otherwise.
    pub(crate) alpha: f64,
    /// Scale by alpha/sqrt(rank) in place of alpha/rank.
    pub(crate) use_rslora: bool,
    /// Every module has a magnitude vector.
    pub(crate) use_dora: bool,
    /// Dropout used in training; does not act afterwards.
    pub(crate) dropout: f64,
    /// `base_model_name_or_path`.
    pub(crate) base_model: Option<String>,
    /// Which modules carry it.
    pub(crate) rules: ModuleRules,
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
        let targets = parse_names(&file, "target_modules")?.ok_or_else(|| {
            file.error("target_modules", "missing; PEFT would assume q_proj and v_proj. Write it")
        })?;
        let config = Self {
            rank: checked_rank(&file, "r", rank)?,
            alpha: checked_alpha(&file, "lora_alpha", alpha)?,
            use_rslora,
            use_dora: file.bool("use_dora")?.unwrap_or(false),
            dropout: file.f64("lora_dropout")?.unwrap_or(0.0),
            base_model: file.str("base_model_name_or_path")?.map(str::to_owned),
            rules: ModuleRules {
                targets,
                exclude: parse_names(&file, "exclude_modules")?,
                layers: parse_layers(&file)?,
                ranks: parse_pattern(&file, "rank_pattern", |value| {
                    value.as_u64().and_then(|rank| usize::try_from(rank).ok())
                })?,
                alphas: parse_pattern(&file, "alpha_pattern", Value::as_f64)?,
            },
        };
        for Pattern { text, value, .. } in &config.rules.ranks {
            checked_rank(&file, &format!("rank_pattern.{text}"), *value)?;
        }
        for Pattern { text, value, .. } in &config.rules.alphas {
            checked_alpha(&file, &format!("alpha_pattern.{text}"), *value)?;
        }
        for outside in ["lm_head", "model.embed_tokens"] {
            if config.rules.covers(outside, None)? {
                let problem =
                    format!("targets `{outside}`; LoRA on embedding or output head is not supported");
                return Err(file.error("target_modules", problem));
            }
        }
        Ok(config)
    }

    /// Rank of the module at `path`.
    pub(crate) fn rank_of(&self, path: &str) -> Result<usize> {
        self.rules.rank_of(path, self.rank)
    }

    /// Factor on B·A of the module at `path`.
    pub(crate) fn scale_of(&self, path: &str) -> Result<f64> {
        let alpha = self.rules.alpha_of(path, self.alpha)?;
        let rank = self.rank_of(path)? as f64;
        Ok(alpha / if self.use_rslora { rank.sqrt() } else { rank })
    }
}

fn parse_names(file: &JsonFile, key: &str) -> Result<Option<Names>> {
    match file.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => {
            Names::from_text(text).map(Some).map_err(|problem| file.error(key, problem))
        }
        Some(Value::Array(list)) => {
            let name = |entry: &Value| match entry.as_str() {
                Some(name) if !name.is_empty() => Ok(name.to_owned()),
                _ => Err(file.wrong(key, "a module name", entry)),
            };
            list.iter().map(name).collect::<Result<_>>().map(|names| Some(Names::List(names)))
        }
        Some(other) => Err(file.wrong(key, "a list of names or one pattern", other)),
    }
}

/// `rank_pattern` and `alpha_pattern`, in file order.
fn parse_pattern<V>(
    file: &JsonFile,
    key: &str,
    read: impl Fn(&Value) -> Option<V>,
) -> Result<Vec<Pattern<V>>> {
    let map = match file.get(key) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(file.wrong(key, "an object", other)),
    };
    map.iter()
        .map(|(pattern, value)| {
            let full = format!("{key}.{pattern}");
            let number = read(value).ok_or_else(|| file.wrong(full.as_str(), "a number", value))?;
            Pattern::new(pattern, number).map_err(|problem| file.error(full, problem))
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
    for key in ["lora_bias", "fan_in_fan_out", "use_qalora"] {
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
