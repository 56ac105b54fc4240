//! `ModelConfig`: what `config.json` says, in one form for every supported family.
//!
//! Reads the layout of transformers 5 (`rope_parameters`, `dtype`, `layer_types`) and the older one
//! (`rope_theta`, `rope_scaling`, `torch_dtype`). Where a key is absent the default is the one of the
//! transformers class, because that is what the weights were trained with. Whatever would change the
//! numbers and is not implemented (other rope types, mixtures of experts, quantised weights, another
//! activation) is refused by file and key; nothing is guessed.

use std::path::Path;

use serde_json::{Value, json};

use crate::config_read;
use crate::error::Result;
use crate::json_file::JsonFile;

/// Name of the file inside a model folder.
pub const CONFIG_FILE: &str = "config.json";

/// Architectures that this crate computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama 2, 3 and 3.x.
    Llama,
    /// Mistral 7B and Nemo.
    Mistral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3, dense.
    Qwen3,
}

impl Family {
    /// The value of `model_type` in config.json.
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The transformers class, as written under `architectures`.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    pub(crate) fn from_model_type(name: &str) -> Option<Self> {
        [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3].into_iter().find(|f| f.model_type() == name)
    }
}

/// Llama 3.1 rope scaling (transformers `modeling_rope_utils.py`, `_compute_llama3_parameters`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Scaling {
    /// By how much the lowest frequencies are stretched.
    pub factor: f64,
    /// Wavelengths above `original / low_freq_factor` are stretched fully.
    pub low_freq_factor: f64,
    /// Wavelengths below `original / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// Context length of the model before scaling, in tokens.
    pub original_max_position_embeddings: usize,
}

/// Shape and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Architecture.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_layers: usize,
    /// Query heads per layer.
    pub num_heads: usize,
    /// Key/value heads per layer; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head; even. `num_heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square inside every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Llama 3.1 frequency scaling, if any.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention output.
    pub o_bias: bool,
    /// Bias on gate, up and down.
    pub mlp_bias: bool,
    /// RMSNorm over each head of q and k, before rope.
    pub qk_norm: bool,
    /// Per layer: how many keys a query sees, itself included; `None` is all.
    pub sliding_window: Vec<Option<usize>>,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token.
    pub bos_token_id: Option<u32>,
    /// Every token that ends generation: config.json, generation_config.json and tokenizer, sorted.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// A plain Llama with a tied head, 2048 positions and token 0 at the end: for tests, demos and
    /// measurements. `heads` are those of queries and of keys.
    pub fn llama(hidden: usize, inner: usize, layers: usize, heads: [usize; 2], vocab: usize) -> Self {
        Self {
            family: Family::Llama,
            hidden_size: hidden,
            intermediate_size: inner,
            num_layers: layers,
            num_heads: heads[0],
            num_kv_heads: heads[1],
            head_dim: hidden / heads[0],
            vocab_size: vocab,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: vec![None; layers],
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_ids: vec![0],
        }
    }

    /// Reads `config.json` of a model folder, and the end-of-sequence tokens of
    /// `generation_config.json`, `tokenizer_config.json` and `tokenizer.json` where present.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let file = JsonFile::read(&dir.join(CONFIG_FILE), "this is not a Hugging Face model folder")?;
        let mut config = config_read::parse(&file)?;
        config.eos_token_ids = crate::tokenizer::declared_end_tokens(dir)?;
        Ok(config)
    }

    /// Parses the text of a config.json; `path` is only used in errors.
    pub fn from_json(path: &Path, text: &str) -> Result<Self> {
        config_read::parse(&JsonFile::parse(path, text)?)
    }

    /// The text of a config.json that transformers (4 and 5), vLLM and llama.cpp read; ends with a
    /// newline. The older key layout is written because every reader knows it.
    pub fn to_json(&self) -> String {
        self.to_json_as("float32", None)
    }

    /// As [`ModelConfig::to_json`], for weights of another type, or quantised ones.
    pub(crate) fn to_json_as(&self, dtype: &str, quantised: Option<Value>) -> String {
        let window = self.sliding_window.iter().flatten().next().copied();
        let mut out = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.map(|s| json!({
                "rope_type": "llama3",
                "factor": s.factor,
                "low_freq_factor": s.low_freq_factor,
                "high_freq_factor": s.high_freq_factor,
                "original_max_position_embeddings": s.original_max_position_embeddings,
            })),
            "hidden_act": "silu",
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": dtype,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": match self.eos_token_ids.as_slice() {
                [] => Value::Null,
                [one] => json!(one),
                many => json!(many),
            },
        });
        if let Some(quantised) = quantised {
            out["quantization_config"] = quantised;
        }
        match self.family {
            Family::Llama => {
                out["attention_bias"] = json!(self.qkv_bias);
                out["mlp_bias"] = json!(self.mlp_bias);
            }
            Family::Mistral => out["sliding_window"] = json!(window),
            Family::Qwen2 | Family::Qwen3 => {
                if self.family == Family::Qwen3 {
                    out["attention_bias"] = json!(self.qkv_bias);
                }
                let first = self.sliding_window.iter().position(Option::is_some).unwrap_or(self.num_layers);
                out["use_sliding_window"] = json!(window.is_some());
                out["sliding_window"] = json!(window);
                out["max_window_layers"] = json!(first);
                out["layer_types"] = self
                    .sliding_window
                    .iter()
                    .map(|w| if w.is_some() { "sliding_attention" } else { "full_attention" })
                    .collect();
            }
        }
        format!("{out:#}\n")
    }

    /// Width of all query heads together; `o_proj` reads as many.
    pub const fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub const fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }
}
