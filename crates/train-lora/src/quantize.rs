//! `quantize`: a base model's folder quantised to NF4, as bitsandbytes stores it.
//!
//! Reads `--base`, writes `--out` (a new folder): the weights, `config.json` with its
//! `quantization_config`, written last, and copies of the tokenizer's and template's files. Needs the
//! memory of the quantised model. transformers with bitsandbytes reads the folder, and so does every
//! `--base` here.

use std::path::Path;

use nightshift_core::{Ctx, Failure, Outcome, files};
use nightshift_model::{Dtype, ModelConfig, Quantise, Storage};
use serde::Serialize;

use crate::args::QuantizeArgs;
use crate::base::{self, Base, HeldBase, refused};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The folder that was read.
    base: String,
    /// Its fingerprint.
    base_fingerprint: String,
    /// The folder that was written.
    path: String,
    /// Numbers of the model.
    parameters: usize,
    /// How they are held, here and in the folder.
    base_held: HeldBase,
    /// Wall time.
    seconds: f64,
    /// Peak resident memory.
    peak_rss_bytes: u64,
}

/// Runs `quantize`.
pub(crate) fn run(ctx: &Ctx, args: &QuantizeArgs) -> Result<Outcome, Failure> {
    let started = ctx.clock.elapsed();
    let dir = args.base.clone().map_or_else(|| ctx.base(), Ok)?;
    let out = &args.out;
    if !files::list(out)?.is_empty() {
        return Err(
            Failure::usage(format!("{} is not empty", out.display())).hint("name a new folder with --out")
        );
    }
    refuse_quantised(&dir)?;
    let dtype = match args.dtype {
        Some(dtype) => base::storage(dtype, nightshift_core::config::Quantize::None).dtype,
        None => Dtype::of_folder(&dir).map_err(refused)?,
    };
    let base = Base::load(&dir, Storage { dtype, quantise: Quantise::Nf4 })?;
    ctx.stop.check()?;
    files::create_dir(out)?;
    for file in files::list(&dir)?.iter().filter(|path| path.is_file() && belongs_to_text(path)) {
        if let Some(name) = file.file_name() {
            files::copy(file, &out.join(name))?;
        }
    }
    base.model.save(out).map_err(refused)?;
    let report = Report {
        base: dir.display().to_string(),
        base_held: base.held(),
        base_fingerprint: base.fingerprint,
        path: out.display().to_string(),
        parameters: base.model.parameters(),
        seconds: (ctx.clock.elapsed() - started).as_secs_f64(),
        peak_rss_bytes: nightshift_core::process::peak_rss_bytes(),
    };
    let text =
        format!("wrote {}: {} numbers as NF4, {:.1} s", report.path, report.parameters, report.seconds);
    Ok(Outcome::done(&report, text))
}

/// Quantising what is quantised would lose more and gain nothing.
fn refuse_quantised(dir: &Path) -> Result<(), Failure> {
    ModelConfig::from_dir(dir).map_err(refused)?;
    let text = files::read_text(&dir.join("config.json"))?;
    let config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if config.get("quantization_config").is_some_and(|config| !config.is_null()) {
        return Err(Failure::refused(format!("{} is quantised already", dir.display())));
    }
    Ok(())
}

/// Tokenizer, template, generation settings, licence: neither weights nor what is written anew.
fn belongs_to_text(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let weights =
        [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pth", ".pt", ".gguf"];
    name != "config.json" && !name.starts_with('.') && !weights.iter().any(|end| name.ends_with(end))
}
