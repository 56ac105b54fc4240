//! `merge`: base and adapter as one model folder, checked against the two it came from.

use std::path::{Path, PathBuf};

use nightshift_core::{Ctx, Failure, Outcome, files, process, random};
use nightshift_model::{
    Adapter, Model, ModelConfig, ModelError, Target, Threads, WeightType, base_fingerprint, logits, merge,
};
use rand::RngExt;
use serde::Serialize;

use crate::args::{MergeArgs, MergeType};
use crate::base::{self, refused};

/// Largest difference of a logit that f32 rounding explains.
const F32_LIMIT: f64 = 1e-4;
/// Mean divergence in nats above which a merge in half precision is worth a warning.
const KL_LIMIT: f64 = 1e-3;
/// Sequences and their length in the check.
const SEQUENCES: usize = 2;
const SEQUENCE_TOKENS: usize = 48;
/// What belongs to a model folder beside weights and config.json.
const ENDINGS: [&str; 5] = ["json", "jinja", "model", "txt", "tiktoken"];

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    /// Matrices that the adapter changed.
    changed: usize,
    tensors: usize,
    files: usize,
    size_bytes: u64,
    /// Types of the changed matrices.
    dtypes: Vec<String>,
    /// Tokenizer, template and other files that were copied.
    copied: Vec<String>,
    base_fingerprint: String,
    merged_fingerprint: String,
    adapter_digest: String,
    /// Merged against base + adapter; absent when it was not checked.
    check: Option<Check>,
    warnings: Vec<String>,
}

/// Merged and unmerged on the same random tokens.
#[derive(Debug, Serialize)]
struct Check {
    tokens: usize,
    max_abs_logit_difference: f64,
    /// KL(unmerged || merged), nats per token.
    mean_kl: f64,
    /// Share of positions with the same likeliest token.
    top1_agreement: f64,
    /// Largest change that the adapter itself makes to a logit.
    adapter_effect: f64,
}

/// Runs `merge`.
pub(crate) fn run(ctx: &Ctx, args: &MergeArgs) -> Result<Outcome, Failure> {
    let base_dir = args.base.clone().map_or_else(|| ctx.base(), Ok)?;
    check_out(&args.out)?;
    let shape = base::shape(&base_dir)?;
    if base::is_quantised(&base_dir) {
        let message = format!("{} is quantised: its numbers cannot take an update", base_dir.display());
        return Err(Failure::refused(message).hint(
            "name the base it was made from with --base; an adapter trained on the quantised folder goes with it",
        ));
    }
    let adapter = Adapter::load(&args.adapter, &shape).map_err(refused)?;
    let fingerprint = base_fingerprint(&base_dir).map_err(refused)?;
    base::check_made_for(&args.adapter, &base_dir, Some(&fingerprint))?;
    let staged = staging(&args.out)?;
    let made = write(ctx, args, &base_dir, &adapter, &staged).and_then(|mut report| {
        report.base_fingerprint = fingerprint;
        if files::list(&args.out)?.is_empty() {
            files::remove_dir(&args.out)?;
        }
        files::publish_dir(&staged, &args.out)?;
        Ok(report)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = files::remove_dir(&staged);
    }
    let report = made?;
    for warning in &report.warnings {
        ctx.printer.note(&format!("warning: {warning}"));
    }
    let checked = report.check.as_ref().map_or_else(
        || "not checked".to_owned(),
        |check| {
            format!(
                "largest logit difference {:.1e}, mean KL {:.1e}, top-1 agreement {:.1} %",
                check.max_abs_logit_difference,
                check.mean_kl,
                100.0 * check.top1_agreement
            )
        },
    );
    let text = format!(
        "wrote {}: {} matrices merged, {} ({:.1} MB); {checked}",
        report.path,
        report.changed,
        report.dtypes.join(" "),
        report.size_bytes as f64 / 1e6
    );
    Ok(Outcome::done(&report, text))
}

/// A folder with anything in it is not written into.
fn check_out(out: &Path) -> Result<(), Failure> {
    if out.is_file() || !files::list(out)?.is_empty() {
        let message = format!("{} is not empty", out.display());
        return Err(Failure::usage(message).hint("name a new folder with --out"));
    }
    Ok(())
}

/// A folder beside `out`: the merge becomes visible in one rename.
fn staging(out: &Path) -> Result<PathBuf, Failure> {
    let name = out.file_name().ok_or_else(|| Failure::usage("--out names no folder"))?;
    let staged = out.with_file_name(format!(".tmp-merge-{}", name.to_string_lossy()));
    // What a merge that was killed left.
    files::remove_dir(&staged)?;
    files::create_dir(&staged)?;
    Ok(staged)
}

fn write(
    ctx: &Ctx,
    args: &MergeArgs,
    base_dir: &Path,
    adapter: &Adapter,
    staged: &Path,
) -> Result<Report, Failure> {
    let kind = match args.dtype {
        MergeType::Same => None,
        MergeType::F32 => Some(WeightType::F32),
        MergeType::Bf16 => Some(WeightType::Bf16),
        MergeType::F16 => Some(WeightType::F16),
    };
    let copied = copy_files(base_dir, staged)?;
    let bar = ctx.printer.bar(adapter.modules.len() as u64, "merging");
    let merged = merge(base_dir, adapter, staged, kind, |name| {
        ctx.stop.check().map_err(|_| ModelError::Input("the merge was stopped".to_owned()))?;
        if name.contains("_proj.") {
            bar.inc(1);
        }
        Ok(())
    });
    ctx.stop.check()?;
    bar.finish_and_clear();
    let merged = merged.map_err(refused)?;
    let mut warnings: Vec<String> = base::trained_on_nf4(&args.adapter)?.into_iter().collect();
    let check = if args.no_check { None } else { check(ctx, base_dir, staged, adapter, &mut warnings)? };
    let only_f32 = merged.types == ["F32"];
    if let Some(check) = &check {
        gate(check, only_f32, &mut warnings)?;
    }
    Ok(Report {
        path: args.out.display().to_string(),
        changed: merged.changed,
        tensors: merged.tensors,
        files: merged.files,
        size_bytes: merged.bytes,
        dtypes: merged.types,
        copied,
        base_fingerprint: String::new(),
        merged_fingerprint: base_fingerprint(staged).map_err(refused)?,
        adapter_digest: nightshift_core::release::digest_dir(&args.adapter)?,
        check,
        warnings,
    })
}

/// Tokenizer, template, generation settings: everything of a model folder that is neither weights nor a
/// picture of them. Never a pickle.
fn copy_files(base: &Path, out: &Path) -> Result<Vec<String>, Failure> {
    let mut copied = Vec::new();
    for path in files::list(base)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let known = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        let ours = name == "config.json"
            || name.ends_with(".safetensors.index.json")
            || name.ends_with(".bin.index.json");
        let licence = name.starts_with("LICENSE") || name.starts_with("NOTICE");
        if path.is_file() && (known || licence) && !ours && !name.starts_with('.') {
            files::copy(&path, &out.join(name))?;
            copied.push(name.to_owned());
        }
    }
    Ok(copied)
}

/// Merged against unmerged, one model in memory after the other.
fn check(
    ctx: &Ctx,
    base_dir: &Path,
    merged: &Path,
    adapter: &Adapter,
    warnings: &mut Vec<String>,
) -> Result<Option<Check>, Failure> {
    let shape = base::shape(base_dir)?;
    let needed = 4 * parameters(&shape) as u64;
    if let Some(free) = process::available_memory_bytes().filter(|free| *free < needed + needed / 4) {
        warnings.push(format!(
            "not checked against base + adapter: that takes {:.1} GB of memory, {:.1} GB are free",
            1.25 * needed as f64 / 1e9,
            free as f64 / 1e9
        ));
        return Ok(None);
    }
    let mut rng = random::rng(ctx.seed.unwrap_or(0), "merge check");
    let length = SEQUENCE_TOKENS.min(shape.max_position_embeddings.max(1));
    let sequences: Vec<Vec<u32>> = (0..SEQUENCES)
        .map(|_| (0..length).map(|_| rng.random_range(0..shape.vocab_size as u32)).collect())
        .collect();
    let run = |model: &Model, adapter: Option<&Adapter>| -> Result<Vec<f32>, Failure> {
        let parts: Result<Vec<_>, _> =
            sequences.iter().map(|tokens| logits(model, adapter, tokens)).collect();
        Ok(parts.map_err(refused)?.concat())
    };
    let base = Model::load(base_dir).map_err(refused)?;
    let mut adapter = adapter.clone();
    adapter.prepare(&base, Threads::ONE);
    let (plain, unmerged) = (run(&base, None)?, run(&base, Some(&adapter))?);
    drop(base);
    let ours = run(&Model::load(merged).map_err(refused)?, None)?;
    Ok(Some(compare(&unmerged, &ours, &plain, shape.vocab_size)))
}

/// Weights of a model, norms and biases aside.
fn parameters(shape: &ModelConfig) -> usize {
    let linear = Target::ALL.into_iter().map(|target| target.shape(shape)).map(|(out, input)| out * input);
    let tables = if shape.tie_word_embeddings { 1 } else { 2 };
    shape.num_layers * linear.sum::<usize>() + tables * shape.vocab_size * shape.hidden_size
}

/// Differences over all rows of `vocab` logits.
fn compare(unmerged: &[f32], merged: &[f32], plain: &[f32], vocab: usize) -> Check {
    let largest = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, f64::max)
    };
    let rows = unmerged.len() / vocab;
    let (mut kl, mut same) = (0.0, 0);
    for (p, q) in unmerged.chunks_exact(vocab).zip(merged.chunks_exact(vocab)) {
        kl += divergence(p, q);
        same += usize::from(likeliest(p) == likeliest(q));
    }
    Check {
        tokens: rows,
        max_abs_logit_difference: largest(unmerged, merged),
        mean_kl: kl / rows as f64,
        top1_agreement: same as f64 / rows as f64,
        adapter_effect: largest(unmerged, plain),
    }
}

/// KL(p || q) of the softmax of two rows of logits, in nats.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |row: &[f32]| {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        f64::from(top) + row.iter().map(|x| f64::from(x - top).exp()).sum::<f64>().ln()
    };
    let (sum_p, sum_q) = (log_sum(p), log_sum(q));
    let terms = p.iter().zip(q).map(|(p, q)| {
        let (log_p, log_q) = (f64::from(*p) - sum_p, f64::from(*q) - sum_q);
        log_p.exp() * (log_p - log_q)
    });
    terms.sum::<f64>().max(0.0)
}

fn likeliest(row: &[f32]) -> Option<usize> {
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index)
}

/// f32 must agree to rounding; half precision is told, not judged: the cast is what was asked for.
fn gate(check: &Check, only_f32: bool, warnings: &mut Vec<String>) -> Result<(), Failure> {
    if only_f32 && check.max_abs_logit_difference > F32_LIMIT {
        let message = format!(
            "the merged model differs from base + adapter by {:.2e} in a logit (at most {F32_LIMIT:.0e}); nothing was written",
            check.max_abs_logit_difference
        );
        return Err(Failure::refused(message).hint("serve the adapter unmerged and report this"));
    }
    if check.mean_kl > KL_LIMIT {
        warnings.push(format!(
            "rounding to half precision moves the answers: mean KL {:.1e}, top-1 agreement {:.1} %; --dtype f32 does not",
            check.mean_kl,
            100.0 * check.top1_agreement
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_known_distributions() {
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 + (ln 1/2 - ln 3/4)/2 - ... = 0.5 ln(4/3).
        let (p, q) = ([0.0, 0.0], [0.0, 3.0_f32.ln()]);
        assert!((divergence(&p, &q) - 0.5 * (4.0_f64 / 3.0).ln()).abs() < 1e-7);
        assert_eq!(divergence(&q, &q), 0.0);
    }

    #[test]
    fn f32_is_gated_and_half_precision_is_told() {
        let check = |difference, mean_kl| Check {
            tokens: 1,
            max_abs_logit_difference: difference,
            mean_kl,
            top1_agreement: 0.9,
            adapter_effect: 1.0,
        };
        let mut warnings = Vec::new();
        assert_eq!(gate(&check(2e-4, 0.0), true, &mut warnings).unwrap_err().exit().code(), 4);
        gate(&check(9e-5, 0.0), true, &mut warnings).unwrap();
        gate(&check(0.1, 1e-4), false, &mut warnings).unwrap();
        assert!(warnings.is_empty());
        gate(&check(0.3, 2e-3), false, &mut warnings).unwrap();
        assert!(warnings[0].contains("--dtype f32"));
    }
}
