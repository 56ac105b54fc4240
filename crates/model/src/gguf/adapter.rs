//! A LoRA adapter for llama.cpp (`--lora`) and Ollama (`ADAPTER`).
//!
//! llama.cpp knows one alpha for the whole file and scales by alpha / rank; whatever rsLoRA or a
//! pattern makes of a module's scale is folded into its B, so that every module computes the same.

use std::path::Path;

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::gguf::file::{GgufType, GgufValue, Layout};
use crate::gguf::names::{architecture, permute_rows, permuted_heads, projection};
use crate::lora::{Adapter, LoraModule, ModuleKey};

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterExport {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// `adapter.lora.alpha`.
    pub alpha: f32,
    /// Tensors in the file.
    pub tensors: usize,
    /// Modules whose scale had to be folded into B.
    pub folded: usize,
    /// Layers whose base looks through a sliding window, which llama.cpp ignores in this architecture.
    pub windowed_layers: usize,
}

/// Writes `path`: the adapter with factors in f32. `config` is the base model's, `name` becomes
/// `general.name`.
///
/// # Errors
/// A DoRA adapter; a scale or factor that is not finite after folding; a file that cannot be written.
pub fn export_adapter(
    adapter: &Adapter,
    config: &ModelConfig,
    name: &str,
    path: &Path,
) -> Result<AdapterExport> {
    if adapter.config.dora {
        let problem = "llama.cpp has no DoRA: merge the adapter and export the merged model";
        return Err(ModelError::Input(problem.to_owned()));
    }
    let alpha = adapter.config.alpha as f32;
    let architecture = architecture(config.family);
    let mut layout = Layout::default();
    layout.text("general.architecture", architecture);
    layout.text("general.type", "adapter");
    layout.text("general.name", name);
    layout.text("adapter.type", "lora");
    layout.set("adapter.lora.alpha", GgufValue::F32(alpha));
    layout.count("general.quantization_version", 2);
    let modules: Vec<(&ModuleKey, &LoraModule)> = adapter.modules.iter().collect();
    for ((layer, target), module) in &modules {
        let base = format!("blk.{layer}.{}.weight", projection(*target));
        layout.tensor(format!("{base}.lora_a"), &[module.rank, module.in_features()], GgufType::F32);
        layout.tensor(format!("{base}.lora_b"), &[module.out_features(), module.rank], GgufType::F32);
    }
    layout.write(path, |index| {
        let ((layer, target), module) = modules[index / 2];
        if index % 2 == 0 {
            return Ok(module.a.clone());
        }
        let factor = folding(module, alpha);
        let b: Vec<f32> = module.b.iter().map(|value| (f64::from(*value) * factor) as f32).collect();
        if let Some(bad) = b.iter().find(|value| !value.is_finite()) {
            let name = format!("blk.{layer}.{}.weight.lora_b", projection(*target));
            let problem = format!("is {bad} once the scale is folded into it");
            return Err(ModelError::tensor(path, name, problem));
        }
        Ok(permuted_heads(config, *target)
            .map_or_else(|| b.clone(), |heads| permute_rows(&b, heads, module.rank)))
    })?;
    Ok(AdapterExport {
        architecture,
        alpha,
        tensors: layout.tensor_count(),
        folded: modules.iter().filter(|(_, module)| folding(module, alpha) != 1.0).count(),
        windowed_layers: config.sliding_window.iter().flatten().count(),
    })
}

/// What B must be multiplied by so that llama.cpp's alpha / rank gives the module's own scale. Exactly
/// 1 for plain LoRA.
fn folding(module: &LoraModule, alpha: f32) -> f64 {
    let theirs = f64::from(alpha) / module.rank as f64;
    if theirs as f32 == module.scale { 1.0 } else { f64::from(module.scale) / theirs }
}
