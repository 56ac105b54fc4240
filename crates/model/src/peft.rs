//! PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`, read and written so
//! that PEFT, vLLM and this crate compute the same.
//!
//! Reading is strict where PEFT is lenient: a tensor that no target covers, a target without its
//! tensors, half a pair, a wrong prefix or shape are errors here and at best warnings there, after
//! which it runs with the base model's numbers. Writing is deterministic: the folder's digest is the
//! adapter's name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nightshift_core::release::{ADAPTER_MODEL, digest_dir};
use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::dora::Dora;
use crate::error::{ModelError, Result};
use crate::lora::{Adapter, Factor, LoraConfig, LoraModule, ModuleKey, Target, peft_name};
use crate::modules::module_path;
use crate::peft_config::PeftConfig;
use crate::tensor_file::TensorFile;
use crate::weights::tensor_bytes;

/// What a valid adapter folder holds.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFacts {
    /// Largest rank of any module: what vLLM's `--max-lora-rank` must reach.
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// Scaled by alpha/sqrt(rank).
    pub rslora: bool,
    /// Magnitude vectors, which vLLM and llama.cpp refuse: merge such an adapter to serve it there.
    pub dora: bool,
    /// Names of the projections that carry LoRA in at least one layer, sorted.
    pub targets: Vec<String>,
    /// Number of modules.
    pub modules: usize,
    /// Number of LoRA parameters.
    pub parameters: usize,
    /// Every B is zero: the adapter changes nothing.
    pub no_effect: bool,
    /// `base_model_name_or_path`, as written by the trainer.
    pub base_model: Option<String>,
    /// Content digest (`nightshift_core::release::digest_dir`).
    pub digest: String,
}

/// Reads an adapter folder as [`Adapter::load`] does and tells what is in it.
pub fn validate_adapter_dir(dir: &Path, config: &ModelConfig) -> Result<AdapterFacts> {
    let peft = PeftConfig::read(dir)?;
    let adapter = read_adapter(dir, &peft, config)?;
    let mut targets: Vec<_> = adapter.config.targets.iter().map(|target| target.name().to_owned()).collect();
    targets.sort_unstable();
    Ok(AdapterFacts {
        rank: adapter.modules.values().map(|module| module.rank).max().unwrap_or(0),
        alpha: peft.alpha,
        rslora: peft.use_rslora,
        dora: peft.use_dora,
        targets,
        modules: adapter.modules.len(),
        parameters: adapter.parameters(),
        no_effect: !peft.use_dora
            && adapter.modules.values().all(|module| module.b.iter().all(|value| *value == 0.0)),
        base_model: peft.base_model,
        digest: digest_dir(dir).map_err(|failure| ModelError::malformed(dir, failure.chain()))?,
    })
}

/// The two files of an adapter folder, `(adapter_config.json, adapter_model.safetensors)`; equal
/// adapters give equal bytes. `config` is the base model's, `base_name` becomes
/// `base_model_name_or_path`.
pub fn adapter_bytes(adapter: &Adapter, config: &ModelConfig, base_name: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let tensors = tensor_bytes(Path::new(ADAPTER_MODEL), adapter.iter())?;
    let config = format!("{:#}\n", config_json(adapter, config.num_layers, base_name));
    Ok((config.into_bytes(), tensors))
}

impl Adapter<f32> {
    /// Reads a PEFT adapter folder made for a base model of this shape. F16 and BF16 become f32.
    ///
    /// # Errors
    /// Missing or pickled files, keys that are absent or not supported, tensors that are unknown,
    /// missing, of a wrong shape or not finite: each by name.
    pub fn load(dir: &Path, config: &ModelConfig) -> Result<Self> {
        read_adapter(dir, &PeftConfig::read(dir)?, config)
    }
}

fn read_adapter(dir: &Path, peft: &PeftConfig, config: &ModelConfig) -> Result<Adapter> {
    let path = dir.join(ADAPTER_MODEL);
    if !path.exists() {
        return Err(no_tensors(dir, &path));
    }
    let mut file = TensorFile::open(&path)?;
    let names = known_names(&file, config)?;
    let mut adapter = Adapter {
        config: LoraConfig {
            rank: peft.rank,
            alpha: peft.alpha,
            targets: Vec::new(),
            rslora: peft.use_rslora,
            dropout: peft.dropout as f32,
            dora: peft.use_dora,
        },
        modules: BTreeMap::new(),
    };
    for layer in 0..config.num_layers {
        for target in Target::ALL {
            let key = (layer, target);
            let module_path = module_path(key);
            let parts = [Factor::A, Factor::B, Factor::Magnitude].map(|factor| names.get(&(key, factor)));
            if !peft.rules.covers(&module_path, Some(layer))? {
                if let Some(name) = parts.into_iter().flatten().next() {
                    let problem =
                        "belongs to a module that target_modules does not cover; PEFT would ignore it";
                    return Err(ModelError::tensor(&path, name.as_str(), problem));
                }
                continue;
            }
            adapter.modules.insert(key, read_module(&mut file, peft, key, config, parts)?);
        }
    }
    let covered: BTreeSet<Target> = adapter.modules.keys().map(|(_, target)| *target).collect();
    adapter.config.targets = covered.into_iter().collect();
    if adapter.modules.is_empty() {
        return Err(ModelError::adapter(dir, "target_modules matches no module of the base model"));
    }
    Ok(adapter)
}

/// One module from its tensors (A, B, magnitude), which must be those that the config promises.
fn read_module(
    file: &mut TensorFile,
    peft: &PeftConfig,
    key: ModuleKey,
    config: &ModelConfig,
    parts: [Option<&String>; 3],
) -> Result<LoraModule> {
    let path = module_path(key);
    let missing = |factor: Factor, why: &str| {
        Err(ModelError::tensor(file.path(), peft_name(key, factor), format!("missing, but {why}")))
    };
    let [Some(a), Some(b), magnitude] = parts else {
        let factor = if parts[0].is_none() { Factor::A } else { Factor::B };
        return missing(factor, "target_modules covers its module");
    };
    let rank = peft.rank_of(&path)?;
    let (out, input) = key.1.shape(config);
    let dora = match magnitude {
        None if peft.use_dora => return missing(Factor::Magnitude, "use_dora is true"),
        Some(name) if !peft.use_dora => {
            let problem = "is a DoRA magnitude, but use_dora is not true; PEFT would ignore it";
            return Err(ModelError::tensor(file.path(), name.as_str(), problem));
        }
        None => None,
        Some(name) => Some(Dora { magnitude: read_factor(file, name, &[out])?, norms: Vec::new() }),
    };
    Ok(LoraModule {
        a: read_factor(file, a, &[rank, input])?,
        b: read_factor(file, b, &[out, rank])?,
        rank,
        scale: peft.scale_of(&path)? as f32,
        dora,
    })
}

fn read_factor(file: &mut TensorFile, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let found = file.entries().get(name).map(|entry| entry.shape.clone());
    if found.as_deref() != Some(shape) {
        let found = found.unwrap_or_default();
        let problem = format!(
            "shape {found:?}, but rank and base model ask for {shape:?}; wrong rank, or another base model"
        );
        return Err(ModelError::tensor(file.path(), name, problem));
    }
    file.read_f32(name)
}

/// Which tensor of the file is which factor; every name must be understood.
fn known_names(file: &TensorFile, config: &ModelConfig) -> Result<BTreeMap<(ModuleKey, Factor), String>> {
    let mut names = BTreeMap::new();
    for name in file.entries().keys() {
        let refuse = |problem: &str| Err(ModelError::tensor(file.path(), name.as_str(), problem));
        let Some(inner) = name.strip_prefix("base_model.model.") else {
            return refuse("has no prefix `base_model.model.`; PEFT would ignore it and run the base model");
        };
        let Some((key, factor)) = parse_name(inner) else {
            return refuse(explain(inner));
        };
        if key.0 >= config.num_layers {
            let problem = format!("names layer {}, but the base model has {}", key.0, config.num_layers);
            return refuse(&problem);
        }
        if names.insert((key, factor), name.clone()).is_some() {
            return refuse("is there twice, with and without `.default`");
        }
    }
    Ok(names)
}

/// `model.layers.N.self_attn.q_proj.lora_A[.default].weight`
fn parse_name(inner: &str) -> Option<(ModuleKey, Factor)> {
    let (layer, rest) = inner.strip_prefix("model.layers.")?.split_once('.')?;
    // Only the canonical spelling, so that no two names mean one tensor.
    let number: usize = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
    let (module, factor) = rest.split_once(".lora_")?;
    let target = Target::ALL.into_iter().find(|target| target.path() == module)?;
    let factor = match factor {
        "A.weight" | "A.default.weight" => Factor::A,
        "B.weight" | "B.default.weight" => Factor::B,
        "magnitude_vector" | "magnitude_vector.default.weight" => Factor::Magnitude,
        _ => return None,
    };
    Some(((number, target), factor))
}

/// Why a tensor name is not understood.
fn explain(inner: &str) -> &'static str {
    const KNOWN: [(&str, &str); 5] = [
        ("lora_embedding_", "is LoRA on the embedding, which is not supported"),
        ("lm_head.", "is LoRA on (or a copy of) the output head, which is not supported"),
        ("embed_tokens.", "is a copy of the embedding (modules_to_save), which is not supported"),
        (".bias", "is a trained bias, which is not supported"),
        (".base_layer.", "is a saved base weight, which is not supported"),
    ];
    let found = KNOWN.iter().find(|(part, _)| inner.contains(part));
    found.map_or("is not a LoRA tensor of this base model; nothing would use it", |(_, why)| why)
}

fn no_tensors(dir: &Path, path: &Path) -> ModelError {
    let pickled = dir.join("adapter_model.bin");
    if pickled.exists() {
        let problem = "pickled adapters can run code when opened and are not read; save it as safetensors";
        return ModelError::malformed(&pickled, problem);
    }
    ModelError::MissingFile { path: path.to_owned(), hint: "the adapter folder has no tensors".to_owned() }
}

fn config_json(adapter: &Adapter, num_layers: usize, base_name: &str) -> Value {
    let general = &adapter.config;
    let ranks = pattern(adapter, |module| (module.rank != general.rank).then(|| json!(module.rank)));
    let alphas = pattern(adapter, |module| {
        let plain = general.scale(module.rank, general.alpha) as f32;
        (module.scale != plain).then(|| number(alpha_of(module, general)))
    });
    // The keys that decide the numbers, and those that other readers ask for; PEFT fills in the rest.
    json!({
        "alpha_pattern": alphas,
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(general.alpha),
        "lora_dropout": decimal(general.dropout),
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": general.rank,
        "rank_pattern": ranks,
        "target_modules": target_modules(adapter, num_layers),
        "task_type": "CAUSAL_LM",
        "use_dora": general.dora,
        "use_rslora": general.rslora,
    })
}

/// What `of` says of the modules that differ from the general rule: by short name where every module of
/// a projection differs in the same way, else by full path.
fn pattern(adapter: &Adapter, of: impl Fn(&LoraModule) -> Option<Value>) -> Map<String, Value> {
    let mut map = Map::new();
    for &target in &adapter.config.targets {
        let modules = adapter.modules.iter().filter(|((_, other), _)| *other == target);
        let values: Vec<_> = modules.map(|(key, module)| (*key, of(module))).collect();
        match values.first() {
            Some((_, first)) if values.iter().all(|(_, value)| value == first) => {
                map.extend(first.clone().map(|value| (target.name().to_owned(), value)));
            }
            _ => {
                let own = values.into_iter().filter_map(|(key, value)| Some((module_path(key), value?)));
                map.extend(own);
            }
        }
    }
    map
}

/// Short names where a projection carries LoRA in every layer or none, else full paths; sorted.
fn target_modules(adapter: &Adapter, num_layers: usize) -> Vec<String> {
    let targets: BTreeSet<Target> = adapter.modules.keys().map(|(_, target)| *target).collect();
    let complete = adapter.modules.len() == num_layers * targets.len();
    let mut names: Vec<String> = if complete {
        targets.iter().map(|target| target.name().to_owned()).collect()
    } else {
        adapter.modules.keys().copied().map(module_path).collect()
    };
    names.sort_unstable();
    names
}

/// The alpha that gives this module its scale: the shortest decimal that does.
fn alpha_of(module: &LoraModule, general: &LoraConfig) -> f64 {
    let rank = module.rank as f64;
    let exact = f64::from(module.scale) * if general.rslora { rank.sqrt() } else { rank };
    let rounded = (0..=9).filter_map(|digits| format!("{exact:.digits$}").parse().ok());
    let fits = |alpha: &f64| general.scale(module.rank, *alpha) as f32 == module.scale;
    rounded.into_iter().find(fits).unwrap_or(exact)
}

/// An f32 as the decimal it was written as, not as the nearest f64.
fn decimal(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(value)))
}

/// A JSON integer when integral: Ollama parses `lora_alpha` as one.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}
