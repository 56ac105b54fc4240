//! `inspect`: what an adapter folder holds, everything that is wrong with it, and who takes it.
//!
//! Needs no base model: without one the shapes are checked against each other only. `norms` measures,
//! `text` prints, `gguf` is the same for an exported file.

mod gguf;
mod norms;
mod text;

use std::path::{Path, PathBuf};

use nightshift_core::release::{self, ADAPTER_CONFIG, ADAPTER_MODEL, MANIFEST, Manifest};
use nightshift_core::{Ctx, Exit, Failure, Outcome, files};
use nightshift_model::{Adapter, Family, ModelConfig, Target, validate_adapter_dir};
use safetensors::SafeTensors;
use serde::Serialize;
use serde_json::Value;

use crate::args::InspectArgs;
use crate::base;
use crate::inspect::norms::{Layer, Module};
use crate::servers::{Form, Verdict};

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    path: String,
    valid: bool,
    /// What is wrong, each with file and key or tensor.
    problems: Vec<String>,
    /// What is legal and yet worth knowing.
    notes: Vec<String>,
    rank: Option<usize>,
    alpha: Option<f64>,
    rslora: Option<bool>,
    dora: Option<bool>,
    targets: Vec<String>,
    parameters: Option<usize>,
    /// `base_model_name_or_path`.
    base: Option<String>,
    /// The base folder whose shapes it was checked against.
    checked_against: Option<String>,
    digest: Option<String>,
    size_bytes: Option<u64>,
    /// The same in MB (10^6 bytes).
    size_mb: Option<f64>,
    modules: Vec<Module>,
    /// The modules of each layer together.
    layers: Vec<Layer>,
    /// Every server: whether it takes the adapter, and how or why not.
    servers: Vec<Verdict>,
    manifest: Option<Manifest>,
    /// What it was trained on.
    trained_on: Option<TrainedOn>,
    /// Steps, losses and rows, from `training_metrics.json`.
    training: Option<Value>,
}

/// The rows behind an adapter.
#[derive(Debug, Default, Serialize)]
struct TrainedOn {
    /// Rows by class, as the training reported them.
    examples: Value,
    /// Accepted rows of each harvest date.
    nights: Value,
    dataset_sha256: Option<String>,
    base_fingerprint: Option<String>,
    /// Releases it was continued from.
    parents: Vec<String>,
}

/// Runs `inspect`; exit 4 when the folder is not valid.
pub(crate) fn run(ctx: &Ctx, args: &InspectArgs) -> Result<Outcome, Failure> {
    if args.adapter.extension().is_some_and(|ending| ending == "gguf") {
        return gguf::run(&args.adapter);
    }
    let dir = if args.adapter.is_dir() {
        args.adapter.clone()
    } else {
        release::resolve(&ctx.paths, &args.adapter.display().to_string())?
    };
    let mut report = Report { path: dir.display().to_string(), ..Report::default() };
    check_files(&dir, &mut report);
    check_tensors(ctx, args, &dir, &mut report);
    report.valid = report.problems.is_empty();
    let exit = if report.valid { Exit::Done } else { Exit::Refused };
    let text = text::describe(&report);
    Ok(Outcome::new(exit, &report, text).status(if report.valid { "valid" } else { "invalid" }))
}

/// Digest, manifest, metrics.
fn check_files(dir: &Path, report: &mut Report) {
    match release::digest_dir(dir) {
        Ok(digest) => report.digest = Some(digest),
        Err(failure) => report.problems.push(failure.chain()),
    }
    report.size_bytes = std::fs::metadata(dir.join(ADAPTER_MODEL)).ok().map(|meta| meta.len());
    report.size_mb = report.size_bytes.map(|bytes| bytes as f64 / 1e6);
    report.servers = Form::declared(dir).map(|form| form.verdicts(&report.path)).unwrap_or_default();
    if dir.join(MANIFEST).exists() {
        report.manifest = release::load_manifest(dir).ok();
        if let Err(failure) = release::verify(dir) {
            report.problems.push(failure.chain());
        }
    }
    let metrics = files::read_text_if_any(&dir.join(crate::publish::TRAINING_METRICS)).ok().flatten();
    report.training = metrics.and_then(|text| serde_json::from_str(&text).ok()).map(|mut metrics: Value| {
        if let Some(map) = metrics.as_object_mut() {
            map.remove("steps");
        }
        metrics
    });
    report.trained_on = trained_on(report);
}

/// Rows, nights and parents, from the manifest and the training's own report.
fn trained_on(report: &Report) -> Option<TrainedOn> {
    let fact = |key: &str| report.training.as_ref().map(|training| training[key].clone()).unwrap_or_default();
    let text = |key: &str| fact(key).as_str().map(str::to_owned);
    let manifest = report.manifest.as_ref();
    let digest =
        manifest.and_then(|manifest| manifest.dataset_sha256.clone()).or_else(|| text("dataset_sha256"));
    let base =
        manifest.map(|manifest| manifest.base_fingerprint.clone()).or_else(|| text("base_fingerprint"));
    (digest.is_some() || base.is_some()).then(|| TrainedOn {
        examples: fact("examples"),
        nights: fact("nights"),
        dataset_sha256: digest,
        base_fingerprint: base,
        parents: manifest.map(|manifest| manifest.parents.clone()).unwrap_or_default(),
    })
}

/// Config and tensors, as a server would read them.
fn check_tensors(ctx: &Ctx, args: &InspectArgs, dir: &Path, report: &mut Report) {
    let shape = if let Some(base) = find_base(ctx, args, dir) {
        report.checked_against = Some(base.display().to_string());
        base::shape(&base)
    } else {
        report.notes.push("no base model at hand: shapes are checked against each other only".into());
        infer_shape(dir)
    };
    let shape = match shape {
        Ok(shape) => shape,
        Err(failure) => return report.problems.push(failure.chain()),
    };
    match validate_adapter_dir(dir, &shape) {
        Ok(facts) => {
            report.rank = Some(facts.rank);
            report.alpha = Some(facts.alpha);
            report.rslora = Some(facts.rslora);
            report.dora = Some(facts.dora);
            report.targets = facts.targets;
            report.parameters = Some(facts.parameters);
            report.base = facts.base_model;
            if facts.dora {
                report.notes.push("a DoRA adapter: |update| leaves out what its magnitudes scale".into());
            }
            if facts.no_effect {
                report.notes.push("every B is zero: the adapter changes nothing".into());
            }
        }
        Err(error) => return report.problems.push(error.to_string()),
    }
    let Ok(adapter) = Adapter::load(dir, &shape) else { return };
    let base = report.checked_against.as_ref().map(PathBuf::from);
    let weights = base.map(|base| nightshift_model::base_norms(&base, adapter.modules.keys().copied()));
    let weights = weights.transpose().unwrap_or_else(|error| {
        report.notes.push(format!("norms are not held against the base: {error}"));
        None
    });
    report.modules = norms::modules(&adapter, weights.as_ref());
    report.layers = norms::layers(&report.modules);
    if report.checked_against.is_some() {
        // The window of the base decides what llama.cpp computes.
        let windowed_layers = shape.sliding_window.iter().flatten().count();
        let form = Form::declared(dir).map(|form| Form { windowed_layers, ..form });
        report.servers = form.map(|form| form.verdicts(&report.path)).unwrap_or_default();
    }
}

/// The base to check against: the flag, the config, or what the adapter itself names.
fn find_base(ctx: &Ctx, args: &InspectArgs, dir: &Path) -> Option<PathBuf> {
    if args.base.is_some() {
        return args.base.clone();
    }
    let named = files::read_text(&dir.join(ADAPTER_CONFIG))
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .and_then(|config| config["base_model_name_or_path"].as_str().map(PathBuf::from));
    let local = |path: &PathBuf| path.join("config.json").is_file();
    let named = named.map(|name| ctx.paths.home().join(name));
    named.filter(local).or_else(|| ctx.config.base.clone().filter(local))
}

/// A shape that the tensors would fit, read from their own header.
fn infer_shape(dir: &Path) -> Result<ModelConfig, Failure> {
    let path = dir.join(ADAPTER_MODEL);
    let bytes = files::read(&path)?;
    let damaged = |error: String| Failure::refused(format!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let (mut layers, mut hidden, mut q, mut kv, mut mlp) = (0, 2, 2, 2, 2);
    for (name, view) in tensors.iter() {
        let Some((layer, rest)) = name.split_once(".layers.").and_then(|(_, rest)| rest.split_once('.'))
        else {
            continue;
        };
        layers = layers.max(layer.parse::<usize>().map_or(0, |layer| layer.min(1 << 12) + 1));
        let Some(target) = Target::ALL.into_iter().find(|target| rest.starts_with(target.path())) else {
            continue;
        };
        let &[rows, columns] = view.shape() else { continue };
        let is_a = rest.contains(".lora_A.");
        let width = if is_a { columns } else { rows };
        match (target, is_a) {
            (Target::O, true) | (Target::Q, false) => q = width,
            (Target::K | Target::V, false) => kv = width,
            (Target::Down, true) | (Target::Gate | Target::Up, false) => mlp = width,
            _ => hidden = width,
        }
    }
    if layers == 0 {
        return Err(damaged("holds no LoRA tensor".into()));
    }
    // Heads of width one: only the products matter here.
    Ok(ModelConfig {
        family: Family::Llama,
        hidden_size: hidden,
        intermediate_size: mlp,
        num_layers: layers,
        num_heads: q,
        num_kv_heads: kv,
        head_dim: 1,
        vocab_size: 1,
        max_position_embeddings: 1,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: vec![None; layers],
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    })
}
