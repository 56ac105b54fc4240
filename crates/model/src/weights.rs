//! Model folders: reading every weight into memory, and writing a folder back.
//!
//! Reading checks each tensor's shape against the config before its numbers are read, so a config
//! that asks for more than the files hold costs nothing. A missing tensor, one that belongs to
//! nothing, and NaN or infinity anywhere are errors that name file and tensor.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use half::bf16;
use nightshift_core::files;

use crate::config::{CONFIG_FILE, ModelConfig};
use crate::error::{ModelError, Result};
use crate::lora::Target;
use crate::nf4::{self, Quantiser};
use crate::params::{Held, LayerWeights, Linear, Model, Named, Weights};
use crate::shards::{Shards, WEIGHTS_FILE};
use crate::storage::{Dtype, Quantise, Storage};
use crate::tensor_write::{self, Tensor};
use crate::weight::{Numbers, Weight};

impl Model<f32> {
    /// Reads a Hugging Face model folder: `config.json` and `model.safetensors` (or the files of
    /// `model.safetensors.index.json`). F16 and BF16 become f32; a folder quantised to NF4 by
    /// bitsandbytes stays NF4.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::load_as(dir, Storage::default())
    }

    /// As [`Model::load`], holding the matrices as `storage` says. Each matrix is converted piece by
    /// piece while it is read: the memory needed is that of the result and a few megabytes.
    pub fn load_as(dir: &Path, storage: Storage) -> Result<Self> {
        let config = ModelConfig::from_dir(dir)?;
        let mut reader = Reader::open(dir, storage)?;
        let weights = reader.weights(&config)?;
        reader.refuse_leftovers(dir, &config)?;
        Ok(Self { config, weights })
    }

    /// Writes `model.safetensors` and, last, `config.json` into an existing folder; transformers
    /// reads it (with bitsandbytes, when it is NF4). Matrices are written as they are held.
    /// Tokenizer and template are the caller's to copy. Same model, same bytes.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let dtype = match self.weights.embed.numbers() {
            Numbers::Bf16(_) => "bfloat16",
            Numbers::Dense(_) | Numbers::Nf4(_) => "float32",
        };
        let tensors = self.weights.tensors();
        let quantised = tensors.iter().find_map(|named| match named.values {
            Held::Matrix(weight) => weight.nf4(),
            Held::Vector(_) => None,
        });
        let config = self.config.to_json_as(dtype, quantised.map(|values| nf4::file::config(values, dtype)));
        let list = tensors.into_iter().flat_map(|named| file_tensors(named, dtype)).collect();
        let path = dir.join(WEIGHTS_FILE);
        files::write_atomic_with(&path, |out| tensor_write::write(out, list))?;
        files::write_atomic(&dir.join(CONFIG_FILE), config.as_bytes())?;
        Ok(())
    }
}

/// One tensor of a model as the tensors of a file.
pub(crate) fn file_tensors<'a>(named: Named<Held<'a, f32>>, dtype: &str) -> Vec<Tensor<'a>> {
    let Named { name, shape, values } = named;
    let weight = match values {
        Held::Vector(values) => return vec![Tensor::f32(name, shape, Cow::Borrowed(values))],
        Held::Matrix(weight) => weight,
    };
    match weight.numbers() {
        Numbers::Dense(values) => vec![Tensor::f32(name, shape, Cow::Borrowed(values))],
        Numbers::Bf16(values) => vec![Tensor::bf16(name, shape, values)],
        Numbers::Nf4(values) => nf4::file::tensors(&name, [weight.rows(), weight.cols()], values, dtype),
    }
}

/// A safetensors file of f32 tensors with the header that PyTorch tools expect; the same tensors
/// give the same bytes. `path` is used in errors.
pub(crate) fn tensor_bytes(path: &Path, tensors: Vec<Named<&[f32]>>) -> Result<Vec<u8>> {
    let tensor = |Named { name, shape, values }| Tensor::f32(name, shape, Cow::Borrowed(values));
    let mut bytes = Vec::new();
    tensor_write::write(&mut bytes, tensors.into_iter().map(tensor).collect())
        .map_err(|error| ModelError::malformed(path, format!("cannot be written: {error}")))?;
    Ok(bytes)
}

/// A model folder that is being read.
pub(crate) struct Reader {
    shards: Shards,
    used: BTreeSet<String>,
    storage: Storage,
}

impl Reader {
    /// Opens the files of a folder.
    pub(crate) fn open(dir: &Path, storage: Storage) -> Result<Self> {
        Ok(Self { shards: Shards::open(dir)?, used: BTreeSet::new(), storage })
    }

    fn weights(&mut self, config: &ModelConfig) -> Result<Weights> {
        let layers = (0..config.num_layers).map(|layer| self.layer(layer, config)).collect::<Result<_>>()?;
        let (embed, final_norm, head) = self.outer(config)?;
        Ok(Weights { embed, layers, final_norm, head })
    }

    /// Embedding, final norm and, unless it is tied, the head.
    pub(crate) fn outer(&mut self, config: &ModelConfig) -> Result<(Weight, Vec<f32>, Option<Weight>)> {
        let table = [config.vocab_size, config.hidden_size];
        let embed = self.plain_matrix("model.embed_tokens.weight", table)?;
        let norm = self.tensor("model.norm.weight", &[config.hidden_size])?;
        let tied = config.tie_word_embeddings;
        let head = (!tied).then(|| self.plain_matrix("lm_head.weight", table)).transpose()?;
        Ok((embed, norm, head))
    }

    /// One layer.
    pub(crate) fn layer(&mut self, layer: usize, config: &ModelConfig) -> Result<LayerWeights> {
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

    /// A matrix of a linear layer.
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        let [rows, cols] = shape;
        if nf4::file::is_packed(&self.shards, name)? {
            let used = &mut self.used;
            let values = nf4::file::read(&mut self.shards, name, shape, |name| {
                used.insert(name);
            })?;
            return Ok(Weight::from_nf4(values, rows, cols));
        }
        match self.storage.quantise {
            Quantise::None => self.plain_matrix(name, shape),
            Quantise::Nf4 => {
                let mut quantiser = Quantiser::new(rows * cols);
                self.shards.for_each_f32(name, &shape, |values| quantiser.push(values))?;
                self.used.insert(name.to_owned());
                Ok(Weight::from_nf4(quantiser.finish(true), rows, cols))
            }
        }
    }

    /// A matrix that is not quantised: of a linear layer, the embedding or the head.
    fn plain_matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        let [rows, cols] = shape;
        match self.storage.dtype {
            Dtype::F32 => Ok(Weight::new(self.tensor(name, &shape)?, rows, cols)),
            Dtype::Bf16 => {
                let mut values = Vec::new();
                self.shards.for_each_f32(name, &shape, |chunk| {
                    // Not before the shape has been held against the file.
                    values.reserve_exact(if values.is_empty() { rows * cols } else { 0 });
                    values.extend(chunk.iter().map(|value| bf16::from_f32(*value)));
                })?;
                self.used.insert(name.to_owned());
                Ok(Weight::from_bf16(values, rows, cols))
            }
        }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.shards.read_f32(name, shape)?;
        self.used.insert(name.to_owned());
        Ok(values)
    }

    /// A tensor that nothing used means that the config describes another model.
    pub(crate) fn refuse_leftovers(&self, dir: &Path, config: &ModelConfig) -> Result<()> {
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
