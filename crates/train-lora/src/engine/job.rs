//! What goes out: the job folder.
//!
//! ```text
//! job/train.jsonl, eval.jsonl   {"id", "messages", "tools"?} or {"id", "prompt", "completion"} a line
//! job/tokens.safetensors        the same rows as ids and labels, cut by offsets
//! job/init_adapter/             the adapter to go on from, if any
//! job/job.json                  everything else; written last
//! ```

use std::path::{Path, PathBuf};

use nightshift_core::random::sha256_hex;
use nightshift_core::release::{ADAPTER_CONFIG, ADAPTER_MODEL};
use nightshift_core::{Failure, OrFail, files};
use nightshift_model::adapter_bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::base::refused;
use crate::data::Encoded;
use crate::engine::{EngineSettings, Request, bad_tensors};
use crate::order::Order;
use crate::variant;

/// Grows when the meaning of a field changes.
pub(crate) const SCHEMA: u64 = 1;
/// Label of a token that is not learned, as PyTorch has it.
const IGNORED: i64 = -100;

/// The folders of one job.
#[derive(Debug)]
pub(crate) struct Places {
    /// Everything.
    pub(crate) root: PathBuf,
    /// What the program reads.
    pub(crate) job: PathBuf,
    /// What it writes.
    pub(crate) out: PathBuf,
}

impl Places {
    /// The places below a folder, made absolute: the program has its own working directory.
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let root =
            std::path::absolute(folder.join("engine")).or_fail(|| "the work folder has no path".into())?;
        Ok(Self { job: root.join("job"), out: root.join("out"), root })
    }

    /// Written last by the program.
    pub(crate) fn result(&self) -> PathBuf {
        self.out.join("result.json")
    }

    /// Where the program may keep its own state between two attempts.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.out.join("checkpoints")
    }
}

/// What the program is asked to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    /// Positions in the request's examples, in training order.
    pub(crate) rows: Vec<usize>,
    /// Passes over them.
    pub(crate) epochs: usize,
    /// Whether the program may mix them.
    shuffle: bool,
    /// Optimiser steps of the whole schedule.
    steps: usize,
}

impl Work {
    /// One epoch as often as it is asked for. Where replay is drawn anew in each epoch they differ: then all of
    /// them, one after the other, are the rows of a single one.
    pub(crate) fn of(order: &Order) -> Self {
        let differ = order.drawn > 0 && order.drawn < order.pool && order.epochs > 1;
        let epochs = if differ { 1 } else { order.epochs };
        let distinct = if differ { order.epochs } else { 1 };
        let rows: Vec<usize> = (0..distinct).flat_map(|epoch| order.epoch(epoch)).collect();
        let steps = rows.len().div_ceil(order.window) * epochs;
        Self { rows, epochs, shuffle: order.shuffle && !differ, steps }
    }
}

/// Writes the job folder anew.
pub(crate) fn write(
    request: &Request<'_>,
    places: &Places,
    work: &Work,
    engine: &EngineSettings,
) -> Result<(), Failure> {
    files::remove_dir(&places.job)?;
    files::create_dir(&places.job)?;
    files::create_dir(&places.out)?;
    let train: Vec<(&Value, &Encoded)> =
        work.rows.iter().map(|&row| (&request.wire[row], &request.examples[row])).collect();
    let eval: Vec<(&Value, &Encoded)> = request.held_out.0.iter().zip(request.held_out.1).collect();
    write_lines(&places.job.join("train.jsonl"), &train)?;
    write_lines(&places.job.join("eval.jsonl"), &eval)?;
    write_tokens(&places.job.join("tokens.safetensors"), &train, &eval)?;
    let init_adapter = request.start.map(|_| places.job.join("init_adapter"));
    if let (Some(adapter), Some(dir)) = (request.start, &init_adapter) {
        files::create_dir(dir)?;
        let base_name = request.base.dir.display().to_string();
        let (config, tensors) =
            adapter_bytes(adapter, &request.base.model.config, &base_name).map_err(refused)?;
        files::write_atomic(&dir.join(ADAPTER_CONFIG), &config)?;
        files::write_atomic(&dir.join(ADAPTER_MODEL), &tensors)?;
    }
    let resume = places.checkpoints();
    let resume_from = (!files::list(&resume)?.is_empty()).then_some(resume);
    let job = describe(request, places, engine, (work, eval.len()), [init_adapter, resume_from])?;
    let text = serde_json::to_vec_pretty(&job).or_fail(|| "job.json cannot be written".into())?;
    Ok(files::write_atomic(&places.job.join("job.json"), &text)?)
}

/// `job.json`. It holds no secret and no answer to the check of scored tokens.
fn describe(
    request: &Request<'_>,
    places: &Places,
    engine: &EngineSettings,
    (work, eval_rows): (&Work, usize),
    [init_adapter, resume_from]: [Option<PathBuf>; 2],
) -> Result<Value, Failure> {
    let Request { base, settings, order, .. } = request;
    let train = &settings.train;
    let digest = |name: &str| -> Option<String> {
        files::read(&base.dir.join(name)).ok().map(|bytes| sha256_hex(&bytes))
    };
    let absolute = std::path::absolute(&base.dir).or_fail(|| "the base folder has no path".into())?;
    // Half of what is free: the machine needs room for the rest of the night.
    let disk = files::disk_free(&places.root)? / 2;
    let steps = settings.max_steps.map_or(work.steps, |max| max.min(work.steps));
    Ok(json!({
        "schema": SCHEMA,
        "run_id": request.run_key,
        "base": {
            "path": absolute,
            "revision": null,
            "fingerprint": base.fingerprint,
            "config_sha256": digest("config.json"),
            "tokenizer_sha256": digest("tokenizer.json"),
        },
        "template_sha256": digest("chat_template.jinja").or_else(|| digest("tokenizer_config.json")),
        "data": {
            "train": "train.jsonl",
            "eval": "eval.jsonl",
            "tokens": "tokens.safetensors",
            "train_rows": work.rows.len(),
            "eval_rows": eval_rows,
            "shuffle": work.shuffle,
        },
        "max_length": train.max_length,
        "pack": settings.pack,
        "seed": settings.seed,
        "lora": {
            "r": train.rank,
            "alpha": train.alpha,
            "dropout": train.dropout,
            "targets": variant::module_names(train, &base.model.config)?,
            "rank_pattern": train.rank_pattern,
            "alpha_pattern": train.alpha_pattern,
            "rslora": train.rslora,
            "dora": train.dora,
            "loraplus_lr_ratio": train.loraplus_lr_ratio,
            "neftune_noise_alpha": train.neftune_noise_alpha,
        },
        "optim": {
            "lr": train.learning_rate,
            "schedule": train.schedule,
            "warmup_steps": train.warmup_steps,
            "epochs": work.epochs,
            "max_steps": steps,
            "schedule_steps": work.steps,
            "window": order.window,
            "micro_batch": order.batch,
            "weight_decay": train.weight_decay,
            "clip": train.max_grad_norm,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
        },
        "init_adapter": init_adapter,
        "resume_from": resume_from,
        "checkpoints": places.checkpoints(),
        "limits": {"wall_s": engine.wall_s, "disk_bytes": disk},
    }))
}

fn write_lines(path: &Path, rows: &[(&Value, &Encoded)]) -> Result<(), Failure> {
    let mut text = String::new();
    for (row, _) in rows {
        text.push_str(&row.to_string());
        text.push('\n');
    }
    Ok(files::write_atomic(path, text.as_bytes())?)
}

/// `<part>.ids` and `<part>.labels`, all rows end to end, row i being `offsets[i]..offsets[i + 1]`. Labels are
/// the ids themselves where they are learned, else -100; trainers shift them by one, as transformers does.
fn write_tokens(
    path: &Path,
    train: &[(&Value, &Encoded)],
    eval: &[(&Value, &Encoded)],
) -> Result<(), Failure> {
    let mut tensors: Vec<(String, usize, Vec<u8>)> = Vec::new();
    for (part, rows) in [("train", train), ("eval", eval)] {
        let (mut ids, mut labels, mut offsets) = (Vec::new(), Vec::new(), vec![0_i64]);
        for (_, row) in rows {
            for (position, (&token, &scored)) in
                row.example.tokens.iter().zip(&row.example.scored).enumerate()
            {
                ids.push(i64::from(token));
                // Nothing predicts a first token.
                labels.push(if scored && position > 0 { i64::from(token) } else { IGNORED });
            }
            offsets.push(ids.len() as i64);
        }
        for (name, values) in [("ids", ids), ("labels", labels), ("offsets", offsets)] {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("{part}.{name}"), values.len(), bytes));
        }
    }
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, length, bytes)| Ok((name, TensorView::new(Dtype::I64, vec![*length], bytes)?)))
        .collect();
    let bytes = safetensors::serialize(views.map_err(bad_tensors)?, None).map_err(bad_tensors)?;
    Ok(files::write_atomic(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(drawn: usize) -> Order {
        Order { rows: 10, pool: 6, drawn, epochs: 3, window: 4, batch: 2, pack: None, shuffle: true, seed: 5 }
    }

    #[test]
    fn every_epoch_s_own_draw_is_handed_over() {
        // Nothing drawn, or everything: the epochs are equal but for their order.
        for drawn in [0, 6] {
            let work = Work::of(&order(drawn));
            assert_eq!((work.rows.len(), work.epochs, work.shuffle), (10 + drawn, 3, true));
            assert_eq!(work.steps, order(drawn).total_steps());
        }
        let order = order(4);
        let work = Work::of(&order);
        assert_eq!((work.epochs, work.shuffle, work.steps), (1, false, 42_usize.div_ceil(4)));
        let epochs: Vec<Vec<usize>> = (0..3).map(|epoch| order.epoch(epoch)).collect();
        assert_eq!(work.rows, epochs.concat());
        let drawn = |epoch: &[usize]| -> Vec<usize> {
            let mut drawn: Vec<usize> = epoch.iter().copied().filter(|row| *row >= 10).collect();
            drawn.sort_unstable();
            drawn
        };
        assert!(drawn(&epochs[0]) != drawn(&epochs[1]) || drawn(&epochs[1]) != drawn(&epochs[2]));
    }
}
