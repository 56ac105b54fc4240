//! Model folders: reading every weight into memory as f32, and writing a folder back.
//!
//! Reading checks each tensor's shape against the config before its numbers are read, so a config
//! that asks for more than the files hold costs nothing. A missing tensor, one that belongs to
//! nothing, and NaN or infinity anywhere are errors that name file and tensor.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use nightshift_core::files;
use safetensors::{Dtype, View};

use crate::config::{CONFIG_FILE, ModelConfig};
use crate::error::{ModelError, Result};
use crate::lora::Target;
use crate::params::{LayerWeights, Linear, Model, Named, Weights};
use crate::shards::{Shards, WEIGHTS_FILE};
use crate::weight::Weight;

impl Model<f32> {
    /// Reads a Hugging Face model folder: `config.json` and `model.safetensors` (or the files of
    /// `model.safetensors.index.json`). F16 and BF16 become f32.
    pub fn load(dir: &Path) -> Result<Self> {
        let config = ModelConfig::from_dir(dir)?;
        let mut reader = Reader { shards: Shards::open(dir)?, used: BTreeSet::new() };
        let weights = reader.weights(&config)?;
        reader.refuse_leftovers(dir, &config)?;
        Ok(Self { config, weights })
    }

    /// Writes `model.safetensors` and, last, `config.json` into an existing folder; transformers
    /// reads it. Tokenizer and template are the caller's to copy. Same model, same bytes.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let bytes = tensor_bytes(&dir.join(WEIGHTS_FILE), self.weights.iter())?;
        files::write_atomic(&dir.join(WEIGHTS_FILE), &bytes)?;
        files::write_atomic(&dir.join(CONFIG_FILE), self.config.to_json().as_bytes())?;
        Ok(())
    }
}

/// A safetensors file of f32 tensors with the header that PyTorch tools expect; the same tensors
/// give the same bytes. `path` is used in errors.
pub(crate) fn tensor_bytes(path: &Path, tensors: Vec<Named<&[f32]>>) -> Result<Vec<u8>> {
    let views = tensors.into_iter().map(|Named { name, shape, values }| (name, F32View { shape, values }));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| ModelError::malformed(path, format!("cannot be written: {error}")))
}

struct F32View<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for F32View<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

struct Reader {
    shards: Shards,
    used: BTreeSet<String>,
}

impl Reader {
    fn weights(&mut self, config: &ModelConfig) -> Result<Weights> {
        let table = [config.vocab_size, config.hidden_size];
        Ok(Weights {
            embed: self.matrix("model.embed_tokens.weight", table)?,
            layers: (0..config.num_layers).map(|layer| self.layer(layer, config)).collect::<Result<_>>()?,
            final_norm: self.tensor("model.norm.weight", &[config.hidden_size])?,
            head: if config.tie_word_embeddings { None } else { Some(self.matrix("lm_head.weight", table)?) },
        })
    }

    fn layer(&mut self, layer: usize, config: &ModelConfig) -> Result<LayerWeights> {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let mut linear = |target: Target, bias: bool| self.linear(layer, target, bias, config);
        let (q, k) = (linear(Target::Q, config.qkv_bias)?, linear(Target::K, config.qkv_bias)?);
        let (v, o) = (linear(Target::V, config.qkv_bias)?, linear(Target::O, config.o_bias)?);
        let (gate, up) = (linear(Target::Gate, config.mlp_bias)?, linear(Target::Up, config.mlp_bias)?);
        let down = linear(Target::Down, config.mlp_bias)?;
        let mut head_norm =
            |part: &str| config.qk_norm.then(|| self.tensor(&name(part), &[config.head_dim])).transpose();
        let (q_norm, k_norm) = (head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?);
        let input_norm = self.tensor(&name("input_layernorm"), &[config.hidden_size])?;
        let post_norm = self.tensor(&name("post_attention_layernorm"), &[config.hidden_size])?;
        Ok(LayerWeights { input_norm, q, k, v, o, q_norm, k_norm, post_norm, gate, up, down })
    }

    fn linear(&mut self, layer: usize, target: Target, bias: bool, config: &ModelConfig) -> Result<Linear> {
        let (out_features, in_features) = target.shape(config);
        let name = |part: &str| format!("model.layers.{layer}.{}.{part}", target.path());
        Ok(Linear {
            weight: self.matrix(&name("weight"), [out_features, in_features])?,
            bias: bias.then(|| self.tensor(&name("bias"), &[out_features])).transpose()?,
        })
    }

    fn matrix(&mut self, name: &str, [rows, cols]: [usize; 2]) -> Result<Weight> {
        Ok(Weight::new(self.tensor(name, &[rows, cols])?, rows, cols))
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.shards.read_f32(name, shape)?;
        self.used.insert(name.to_owned());
        Ok(values)
    }

    /// A tensor that nothing used means that the config describes another model.
    fn refuse_leftovers(&self, dir: &Path, config: &ModelConfig) -> Result<()> {
        let harmless = |name: &str| {
            // Old Llama files carry the rope table; tied models may carry a copy of the embedding.
            name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight")
        };
        let names = self.shards.names();
        let Some(first) = names.iter().find(|name| !self.used.contains(*name) && !harmless(name)) else {
            return Ok(());
        };
        let family = config.family.model_type();
        let problem =
            format!("is not part of the {family} model that {} describes", dir.join(CONFIG_FILE).display());
        Err(ModelError::tensor(self.shards.path_of(first), first.as_str(), problem))
    }
}
