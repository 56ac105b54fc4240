//! `inspect`: what an adapter folder holds, and everything that is wrong with it.
//!
//! Needs no base model: without one the shapes are checked against each other only.

use std::path::{Path, PathBuf};

use nightshift_core::release::{self, ADAPTER_CONFIG, ADAPTER_MODEL, MANIFEST, Manifest};
use nightshift_core::{Ctx, Exit, Failure, Outcome, files};
use nightshift_model::{Adapter, Family, LoraModule, ModelConfig, Target, validate_adapter_dir};
use safetensors::SafeTensors;
use serde::Serialize;
use serde_json::Value;

use crate::args::InspectArgs;
use crate::base;

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
    modules: Vec<Module>,
    manifest: Option<Manifest>,
    /// Steps, losses and rows, from `training_metrics.json`.
    training: Option<Value>,
}

/// One adapted matrix.
#[derive(Debug, Serialize)]
struct Module {
    name: String,
    rank: usize,
    scale: f64,
    norm_a: f64,
    norm_b: f64,
    /// Frobenius norm of what is added to the weight: scale · B · A.
    norm_update: f64,
}

/// Runs `inspect`; exit 4 when the folder is not valid.
pub(crate) fn run(ctx: &Ctx, args: &InspectArgs) -> Result<Outcome, Failure> {
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
    let text = describe(&report);
    Ok(Outcome::new(exit, &report, text).status(if report.valid { "valid" } else { "invalid" }))
}

/// Digest, manifest, metrics.
fn check_files(dir: &Path, report: &mut Report) {
    match release::digest_dir(dir) {
        Ok(digest) => report.digest = Some(digest),
        Err(failure) => report.problems.push(failure.chain()),
    }
    report.size_bytes = std::fs::metadata(dir.join(ADAPTER_MODEL)).ok().map(|meta| meta.len());
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
    if let Ok(adapter) = Adapter::load(dir, &shape) {
        report.modules = adapter
            .modules
            .iter()
            .map(|((layer, target), module)| Module {
                name: format!("model.layers.{layer}.{}", target.path()),
                rank: module.rank,
                scale: f64::from(module.scale),
                norm_a: norm(&module.a),
                norm_b: norm(&module.b),
                norm_update: update_norm(module),
            })
            .collect();
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

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// |s B A| by the r x r matrices: |BA|² = tr((BᵀB)(AAᵀ)).
fn update_norm(module: &LoraModule) -> f64 {
    let rank = module.rank;
    let (input, out) = (module.in_features(), module.out_features());
    let mut trace = 0.0;
    for i in 0..rank {
        for j in 0..rank {
            let aa: f64 = (0..input)
                .map(|k| f64::from(module.a[i * input + k]) * f64::from(module.a[j * input + k]))
                .sum();
            let bb: f64 =
                (0..out).map(|k| f64::from(module.b[k * rank + i]) * f64::from(module.b[k * rank + j])).sum();
            trace += aa * bb;
        }
    }
    f64::from(module.scale).abs() * trace.max(0.0).sqrt()
}

fn describe(report: &Report) -> String {
    use std::fmt::Write;
    let mut text = format!("{}: {}\n", report.path, if report.valid { "valid" } else { "NOT valid" });
    for problem in &report.problems {
        let _ = writeln!(text, "  problem: {problem}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    if let (Some(rank), Some(alpha)) = (report.rank, report.alpha) {
        let parameters = report.parameters.unwrap_or_default();
        let _ = writeln!(
            text,
            "  rank {rank}, alpha {alpha}, on {}, {parameters} parameters",
            report.targets.join(" ")
        );
    }
    if let Some(digest) = &report.digest {
        let _ = writeln!(text, "  digest {digest}");
    }
    if let Some(manifest) = &report.manifest {
        let base = base::short(&manifest.base_fingerprint);
        let _ =
            writeln!(text, "  release {}, made {}, base {base}", manifest.adapter_id, manifest.created_at);
    }
    if !report.modules.is_empty() {
        let _ =
            writeln!(text, "  {:<40} {:>5} {:>10} {:>10} {:>10}", "module", "rank", "|A|", "|B|", "|update|");
    }
    for Module { name, rank, norm_a, norm_b, norm_update, .. } in &report.modules {
        let _ = writeln!(text, "  {name:<40} {rank:>5} {norm_a:>10.4} {norm_b:>10.4} {norm_update:>10.4}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_the_update_is_that_of_the_product() {
        // B A for rank 2 written out: [[1, 2], [3, 4]] · [[5, 6, 7], [8, 9, 10]].
        let module = LoraModule {
            a: vec![5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
            b: vec![1.0, 2.0, 3.0, 4.0],
            rank: 2,
            scale: 0.5_f32,
            dora: None,
        };
        let product = [21.0_f32, 24.0, 27.0, 47.0, 54.0, 61.0];
        assert!((update_norm(&module) - 0.5 * norm(&product)).abs() < 1e-9);
    }
}
