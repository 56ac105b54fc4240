//! `export`: an adapter, or a base or merged model, as a GGUF file for llama.cpp and Ollama.

use std::path::Path;

use nightshift_core::{Ctx, Failure, Outcome};
use nightshift_model::{Adapter, GgufType, export_adapter, export_base};
use serde::Serialize;

use crate::args::{ExportArgs, ExportType};
use crate::base::{self, refused};
use crate::servers::Form;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    /// `adapter` or `model`.
    kind: &'static str,
    architecture: &'static str,
    tensors: usize,
    size_bytes: u64,
    /// Adapter: `adapter.lora.alpha`.
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f32>,
    /// Adapter: modules whose scale had to be folded into B.
    #[serde(skip_serializing_if = "Option::is_none")]
    folded_modules: Option<usize>,
    /// Model: tokens of the vocabulary in the file; 0 without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    vocabulary: Option<usize>,
    warnings: Vec<String>,
}

/// Runs `export`.
pub(crate) fn run(ctx: &Ctx, args: &ExportArgs) -> Result<Outcome, Failure> {
    if std::fs::symlink_metadata(&args.out).is_ok() {
        let message = format!("{} exists", args.out.display());
        return Err(Failure::usage(message).hint("name another file with --out, or remove this one"));
    }
    let base_dir = args.base.clone().map_or_else(|| ctx.base(), Ok)?;
    let report = match &args.adapter {
        Some(dir) => adapter(args, &base_dir, dir)?,
        None => model(args, &base_dir)?,
    };
    for warning in &report.warnings {
        ctx.printer.note(&format!("warning: {warning}"));
    }
    let text = format!(
        "wrote {}: {} of architecture {}, {} tensors, {:.1} MB",
        report.path,
        report.kind,
        report.architecture,
        report.tensors,
        report.size_bytes as f64 / 1e6
    );
    Ok(Outcome::done(&report, text))
}

fn adapter(args: &ExportArgs, base_dir: &Path, dir: &Path) -> Result<Report, Failure> {
    if args.dtype.is_some() || args.no_vocabulary {
        return Err(Failure::usage("an adapter is exported in f32 and has no vocabulary")
            .hint("--dtype and --no-vocabulary go with a model: leave out --adapter"));
    }
    let form = Form::declared(dir);
    if let Some(why) = form.as_ref().and_then(Form::refused_by_llama_cpp) {
        return Err(Failure::refused(format!("{} cannot become a GGUF adapter: {why}", dir.display())));
    }
    let shape = base::shape(base_dir)?;
    let adapter = Adapter::load(dir, &shape).map_err(refused)?;
    base::check_made_for(dir, base_dir, None)?;
    let mut warnings: Vec<String> = base::trained_on_nf4(dir)?.into_iter().collect();
    if base::is_quantised(base_dir) {
        warnings.push(format!(
            "llama.cpp does not read {}: export the base it was made from, and quantise that with llama-quantize",
            base_dir.display()
        ));
    }
    let name = name_of(dir);
    let made = export_adapter(&adapter, &shape, &name, &args.out).map_err(refused)?;
    warnings.extend(window_warning(made.windowed_layers));
    Ok(Report {
        path: args.out.display().to_string(),
        kind: "adapter",
        architecture: made.architecture,
        tensors: made.tensors,
        size_bytes: size(&args.out),
        alpha: Some(made.alpha),
        folded_modules: Some(made.folded),
        vocabulary: None,
        warnings,
    })
}

fn model(args: &ExportArgs, base_dir: &Path) -> Result<Report, Failure> {
    if base::is_quantised(base_dir) {
        let message =
            format!("{} is quantised by bitsandbytes, whose form GGUF does not have", base_dir.display());
        return Err(Failure::refused(message)
            .hint("export the base it was made from, and quantise that file with llama-quantize"));
    }
    let kind = match args.dtype.unwrap_or(ExportType::F32) {
        ExportType::F32 => GgufType::F32,
        ExportType::F16 => GgufType::F16,
        ExportType::Bf16 => GgufType::Bf16,
    };
    let name = name_of(base_dir);
    let made = export_base(base_dir, &name, kind, !args.no_vocabulary, &args.out).map_err(refused)?;
    Ok(Report {
        path: args.out.display().to_string(),
        kind: "model",
        architecture: made.architecture,
        tensors: made.tensors,
        size_bytes: size(&args.out),
        alpha: None,
        folded_modules: None,
        vocabulary: Some(made.vocabulary),
        warnings: window_warning(made.windowed_layers),
    })
}

/// llama.cpp computes full attention in these architectures, whatever the base was trained with.
fn window_warning(layers: usize) -> Vec<String> {
    let sentence = |layers| {
        format!(
            "the base looks through a sliding window in {layers} layers and llama.cpp does not: beyond the window \
             its answers differ from those the adapter was trained for"
        )
    };
    (layers > 0).then(|| sentence(layers)).into_iter().collect()
}

fn name_of(dir: &Path) -> String {
    let real = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    real.file_name().map_or_else(|| "nightshift".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}
