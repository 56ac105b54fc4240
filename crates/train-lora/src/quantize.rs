//! `quantize`: a base model's folder quantised to NF4, as bitsandbytes stores it.
//!
//! Reads `--base`, writes `--out` (a new folder): the weights, `config.json` with its
//! `quantization_config`, written last, and copies of the tokenizer's and template's files. Layers go
//! through a few at a time, so it needs the memory of embedding and head at most, or of half a gigabyte. transformers with bitsandbytes reads the folder, and so does every
//! `--base` here.

use std::path::Path;

use nightshift_core::{Ctx, Failure, Outcome, files};
use nightshift_model::{Dtype, ModelConfig, ModelError, QuantisedFolder, base_fingerprint, quantise_folder};
use serde::Serialize;

use crate::args::QuantizeArgs;
use crate::base::{self, HeldBase, QUANTIZED_FROM, refused};

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
    ModelConfig::from_dir(&dir).map_err(refused)?;
    if base::is_quantised(&dir) {
        // It would lose more and gain nothing.
        return Err(Failure::refused(format!("{} is quantised already", dir.display())));
    }
    let dtype = match args.dtype {
        Some(dtype) => base::storage(dtype, nightshift_core::config::Quantize::None).dtype,
        None => Dtype::of_folder(&dir).map_err(refused)?,
    };
    files::create_dir(out)?;
    let written = write(ctx, &dir, out, dtype);
    if written.is_err() {
        // It was empty before. The first error is the one to tell.
        let _ = files::remove_dir(out);
    }
    let (made, base_fingerprint) = written?;
    let report = Report {
        base: dir.display().to_string(),
        base_held: HeldBase::nf4(dtype, made.bytes),
        base_fingerprint,
        path: out.display().to_string(),
        parameters: made.parameters,
        seconds: (ctx.clock.elapsed() - started).as_secs_f64(),
        peak_rss_bytes: nightshift_core::process::peak_rss_bytes(),
    };
    let text =
        format!("wrote {}: {} numbers as NF4, {:.1} s", report.path, report.parameters, report.seconds);
    Ok(Outcome::done(&report, text))
}

/// Everything that belongs into the folder; what was written, and the base's fingerprint.
fn write(ctx: &Ctx, dir: &Path, out: &Path, dtype: Dtype) -> Result<(QuantisedFolder, String), Failure> {
    for file in files::list(dir)?.iter().filter(|path| path.is_file() && belongs_to_text(path)) {
        if let Some(name) = file.file_name() {
            files::copy(file, &out.join(name))?;
        }
    }
    // Both read the whole folder; one of two cores each.
    let (made, fingerprint) = std::thread::scope(|scope| {
        let fingerprint = scope.spawn(|| base_fingerprint(dir));
        let stop = || ctx.stop.check().map_err(|_| ModelError::Input("it was stopped".to_owned()));
        (quantise_folder(dir, out, dtype, stop), fingerprint.join())
    });
    ctx.stop.check()?;
    let made = made.map_err(refused)?;
    let fingerprint = fingerprint.map_err(|_| Failure::failed("the base's fingerprint was not computed"))?;
    let fingerprint = fingerprint.map_err(refused)?;
    let origin = serde_json::json!({"base": dir, "base_fingerprint": fingerprint});
    files::write_atomic(&out.join(QUANTIZED_FROM), origin.to_string().as_bytes())?;
    Ok((made, fingerprint))
}

/// Tokenizer, template, generation settings, licence: neither weights nor what is written anew.
fn belongs_to_text(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let weights =
        [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pth", ".pt", ".gguf"];
    name != "config.json" && !name.starts_with('.') && !weights.iter().any(|end| name.ends_with(end))
}
