//! A base (or merged) model for llama.cpp: f32, f16 or bf16, one tensor in memory at a time.

use std::path::Path;

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::gguf::file::{GgufType, GgufValue, Layout};
use crate::gguf::names::{architecture, permute_rows, permuted_heads, projection};
use crate::gguf::vocab;
use crate::lora::Target;
use crate::rope;
use crate::shards::Shards;

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseExport {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Tensors in the file.
    pub tensors: usize,
    /// Tokens of the vocabulary; 0 when the file has none.
    pub vocabulary: usize,
    /// Layers that look through a sliding window, which llama.cpp ignores in this architecture.
    pub windowed_layers: usize,
}

/// Where a tensor of the file comes from.
enum Source {
    /// A tensor of the model folder, with its shape and, where rows are reordered, the heads.
    Folder { name: String, shape: Vec<usize>, heads: Option<usize> },
    /// Computed from the config.
    Values(Vec<f32>),
}

/// Writes the model in `dir` to `path`. Matrices get the type `kind`, vectors stay f32. Without
/// `vocabulary` the file computes on token ids only.
///
/// # Errors
/// A tokenizer that llama.cpp would read differently; damaged weights; values too large for `kind`.
pub fn export_base(
    dir: &Path,
    name: &str,
    kind: GgufType,
    vocabulary: bool,
    path: &Path,
) -> Result<BaseExport> {
    let config = ModelConfig::from_dir(dir)?;
    let mut shards = Shards::open(dir)?;
    let mut layout = Layout::default();
    describe(&mut layout, &config, name, kind);
    let tokens = if vocabulary {
        vocab::describe(&mut layout, dir, &config)?
    } else {
        layout.text("tokenizer.ggml.model", "no_vocab");
        0
    };
    let sources = sources(&config);
    for (target, source) in &sources {
        let (shape, kind) = match source {
            Source::Folder { shape, .. } => {
                (shape.clone(), if shape.len() == 1 { GgufType::F32 } else { kind })
            }
            Source::Values(values) => (vec![values.len()], GgufType::F32),
        };
        layout.tensor(target.clone(), &shape, kind);
    }
    layout.write(path, |index| match &sources[index].1 {
        Source::Values(values) => Ok(values.clone()),
        Source::Folder { name, shape, heads } => {
            let values = shards.read_f32(name, shape)?;
            let width = shape.get(1).copied().unwrap_or(1);
            Ok(heads.map_or_else(|| values.clone(), |heads| permute_rows(&values, heads, width)))
        }
    })?;
    Ok(BaseExport {
        architecture: architecture(config.family),
        tensors: sources.len(),
        vocabulary: tokens,
        windowed_layers: config.sliding_window.iter().flatten().count(),
    })
}

/// Shape and constants.
fn describe(layout: &mut Layout, config: &ModelConfig, name: &str, kind: GgufType) {
    let arch = architecture(config.family);
    let key = |part: &str| format!("{arch}.{part}");
    layout.text("general.architecture", arch);
    layout.text("general.type", "model");
    layout.text("general.name", name);
    // `enum llama_ftype`.
    let file_type = match kind {
        GgufType::F16 => 1,
        GgufType::Bf16 => 32,
        _ => 0,
    };
    layout.count("general.file_type", file_type);
    layout.count("general.quantization_version", 2);
    layout.count(key("block_count"), config.num_layers);
    layout.count(key("context_length"), config.max_position_embeddings);
    layout.count(key("embedding_length"), config.hidden_size);
    layout.count(key("feed_forward_length"), config.intermediate_size);
    layout.count(key("attention.head_count"), config.num_heads);
    layout.count(key("attention.head_count_kv"), config.num_kv_heads);
    layout.count(key("attention.key_length"), config.head_dim);
    layout.count(key("attention.value_length"), config.head_dim);
    layout.count(key("rope.dimension_count"), config.head_dim);
    layout.count(key("vocab_size"), config.vocab_size);
    layout.set(key("attention.layer_norm_rms_epsilon"), GgufValue::F32(config.rms_norm_eps as f32));
    layout.set(key("rope.freq_base"), GgufValue::F32(config.rope_theta as f32));
}

/// Every tensor under llama.cpp's name.
fn sources(config: &ModelConfig) -> Vec<(String, Source)> {
    let (hidden, table) = (config.hidden_size, vec![config.vocab_size, config.hidden_size]);
    let plain = |name: String, shape: Vec<usize>| Source::Folder { name, shape, heads: None };
    let mut list =
        vec![("token_embd.weight".to_owned(), plain("model.embed_tokens.weight".into(), table.clone()))];
    if config.rope_scaling.is_some() {
        // llama.cpp divides the plain frequencies by these.
        list.push(("rope_freqs.weight".to_owned(), Source::Values(rope::divisors(config))));
    }
    for layer in 0..config.num_layers {
        let mut vector = |theirs: &str, ours: &str, length: usize| {
            let name = format!("model.layers.{layer}.{ours}.weight");
            list.push((format!("blk.{layer}.{theirs}.weight"), plain(name, vec![length])));
        };
        vector("attn_norm", "input_layernorm", hidden);
        vector("ffn_norm", "post_attention_layernorm", hidden);
        if config.qk_norm {
            vector("attn_q_norm", "self_attn.q_norm", config.head_dim);
            vector("attn_k_norm", "self_attn.k_norm", config.head_dim);
        }
        for target in Target::ALL {
            let (out, input) = target.shape(config);
            let heads = permuted_heads(config, target);
            let mut push = |part: &str, shape: Vec<usize>| {
                let name = format!("model.layers.{layer}.{}.{part}", target.path());
                let theirs = format!("blk.{layer}.{}.{part}", projection(target));
                list.push((theirs, Source::Folder { name, shape, heads }));
            };
            push("weight", vec![out, input]);
            let bias = match target {
                Target::Q | Target::K | Target::V => config.qkv_bias,
                Target::O => config.o_bias,
                Target::Gate | Target::Up | Target::Down => config.mlp_bias,
            };
            if bias {
                push("bias", vec![out]);
            }
        }
    }
    list.push(("output_norm.weight".to_owned(), plain("model.norm.weight".into(), vec![hidden])));
    if !config.tie_word_embeddings {
        list.push(("output.weight".to_owned(), plain("lm_head.weight".into(), table)));
    }
    list
}

/// A vocabulary that llama.cpp would read differently.
pub(crate) fn unsupported(path: &Path, problem: &str) -> ModelError {
    let problem = format!("{problem}; llama.cpp would cut text into other tokens. Leave the vocabulary out");
    ModelError::malformed(path, problem)
}
