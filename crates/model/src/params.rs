//! The numbers of a model: base weights, their names and shapes.
//!
//! Matrices are row-major `[out, in]` as in Hugging Face files; how their numbers are held is
//! [`Weight`]'s matter. Loading and saving live elsewhere; nothing here does I/O.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::lora::Target;
use crate::real::Real;
use crate::weight::Weight;

/// A linear layer: y = x Wᵀ + b.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear<T = f32> {
    /// `[out_features, in_features]`.
    pub weight: Weight<T>,
    /// `[out_features]`.
    pub bias: Option<Vec<T>>,
}

/// One decoder layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights<T = f32> {
    /// RMSNorm before attention, `[hidden]`.
    pub input_norm: Vec<T>,
    /// Query projection, `[heads * head_dim, hidden]`.
    pub q: Linear<T>,
    /// Key projection, `[kv_heads * head_dim, hidden]`.
    pub k: Linear<T>,
    /// Value projection, `[kv_heads * head_dim, hidden]`.
    pub v: Linear<T>,
    /// Output projection, `[hidden, heads * head_dim]`.
    pub o: Linear<T>,
    /// RMSNorm over each query head before rope, `[head_dim]`.
    pub q_norm: Option<Vec<T>>,
    /// RMSNorm over each key head before rope, `[head_dim]`.
    pub k_norm: Option<Vec<T>>,
    /// RMSNorm before the MLP, `[hidden]`.
    pub post_norm: Vec<T>,
    /// Gate projection, `[intermediate, hidden]`.
    pub gate: Linear<T>,
    /// Up projection, `[intermediate, hidden]`.
    pub up: Linear<T>,
    /// Down projection, `[hidden, intermediate]`.
    pub down: Linear<T>,
}

/// Every base weight of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights<T = f32> {
    /// Token embedding, `[vocab, hidden]`.
    pub embed: Weight<T>,
    /// Decoder layers, first to last.
    pub layers: Vec<LayerWeights<T>>,
    /// RMSNorm before the head, `[hidden]`.
    pub final_norm: Vec<T>,
    /// Output head, `[vocab, hidden]`; `None` when it is the embedding (tied).
    pub head: Option<Weight<T>>,
}

/// A base model: shape and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Model<T = f32> {
    /// Shape and constants.
    pub config: ModelConfig,
    /// The numbers.
    pub weights: Weights<T>,
}

/// One tensor of a model, as it is held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Held<'a, T> {
    /// A norm or a bias: always dense.
    Vector(&'a [T]),
    /// A matrix, dense or packed.
    Matrix(&'a Weight<T>),
}

/// A named parameter: Hugging Face (or PEFT) tensor name, shape, values.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<S> {
    /// Tensor name as in the file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub values: S,
}

impl<T: Real> Linear<T> {
    /// All zeros.
    pub fn zeros(out_features: usize, in_features: usize, bias: bool) -> Self {
        Self {
            weight: Weight::zeros(out_features, in_features),
            bias: bias.then(|| vec![T::ZERO; out_features]),
        }
    }

    /// Width of y.
    pub const fn out_features(&self) -> usize {
        self.weight.rows()
    }

    /// Width of x.
    pub const fn in_features(&self) -> usize {
        self.weight.cols()
    }

    fn cast<U: Real>(&self) -> Linear<U> {
        Linear { weight: self.weight.cast(), bias: self.bias.as_deref().map(cast) }
    }
}

impl<T: Real> LayerWeights<T> {
    /// The projection that a LoRA target names.
    pub const fn linear(&self, target: Target) -> &Linear<T> {
        match target {
            Target::Q => &self.q,
            Target::K => &self.k,
            Target::V => &self.v,
            Target::O => &self.o,
            Target::Gate => &self.gate,
            Target::Up => &self.up,
            Target::Down => &self.down,
        }
    }

    /// The projection that a LoRA target names.
    pub const fn linear_mut(&mut self, target: Target) -> &mut Linear<T> {
        match target {
            Target::Q => &mut self.q,
            Target::K => &mut self.k,
            Target::V => &mut self.v,
            Target::O => &mut self.o,
            Target::Gate => &mut self.gate,
            Target::Up => &mut self.up,
            Target::Down => &mut self.down,
        }
    }

    fn zeros(config: &ModelConfig) -> Self {
        let linear = |target: Target| {
            let (out, input) = target.shape(config);
            let bias = match target {
                Target::Q | Target::K | Target::V => config.qkv_bias,
                Target::O => config.o_bias,
                Target::Gate | Target::Up | Target::Down => config.mlp_bias,
            };
            Linear::zeros(out, input, bias)
        };
        let head_norm = || config.qk_norm.then(|| vec![T::ZERO; config.head_dim]);
        Self {
            input_norm: vec![T::ZERO; config.hidden_size],
            q: linear(Target::Q),
            k: linear(Target::K),
            v: linear(Target::V),
            o: linear(Target::O),
            q_norm: head_norm(),
            k_norm: head_norm(),
            post_norm: vec![T::ZERO; config.hidden_size],
            gate: linear(Target::Gate),
            up: linear(Target::Up),
            down: linear(Target::Down),
        }
    }
}

impl<T: Real> Weights<T> {
    /// All zeros, in the shapes that `config` asks for.
    pub fn zeros(config: &ModelConfig) -> Self {
        let table = || Weight::zeros(config.vocab_size, config.hidden_size);
        Self {
            embed: table(),
            layers: (0..config.num_layers).map(|_| LayerWeights::zeros(config)).collect(),
            final_norm: vec![T::ZERO; config.hidden_size],
            head: (!config.tie_word_embeddings).then(table),
        }
    }

    /// A fresh model to train from scratch: matrices and embeddings normal with standard deviation
    /// 0.02 (the initialisation of the transformers classes), norms one, biases zero.
    pub fn random(config: &ModelConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = Self::zeros(config);
        for parameter in weights.iter_mut() {
            if parameter.name.ends_with("norm.weight") {
                parameter.values.fill(T::ONE);
            } else if parameter.name.ends_with(".weight") {
                fill_normal(&mut rng, parameter.values, 0.02);
            }
        }
        weights
    }

    /// The output head, `[vocab, hidden]`: its own or the embedding.
    pub fn head(&self) -> &Weight<T> {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// Every tensor under its Hugging Face name, in one fixed order: embedding, layers from the first
    /// to the last (inside a layer in the order in which it uses them), final norm, head.
    pub fn tensors(&self) -> Vec<Named<Held<'_, T>>> {
        let mut list = outer_tensors(&self.embed, &self.final_norm, self.head.as_ref());
        let behind = list.split_off(1);
        list.extend(self.layers.iter().enumerate().flat_map(|(index, layer)| layer_tensors(index, layer)));
        list.extend(behind);
        list
    }

    /// The tensors of [`Weights::tensors`] that are held dense: all of them unless the model was
    /// loaded packed.
    pub fn iter(&self) -> Vec<Named<&[T]>> {
        let dense = self.tensors().into_iter().filter_map(|Named { name, shape, values }| {
            let values = match values {
                Held::Vector(values) => values,
                Held::Matrix(weight) => weight.dense()?,
            };
            Some(Named { name, shape, values })
        });
        dense.collect()
    }

    /// As [`Weights::iter`], to write into.
    pub fn iter_mut(&mut self) -> Vec<Named<&mut [T]>> {
        let labels: Vec<_> = self.iter().into_iter().map(|named| (named.name, named.shape)).collect();
        let mut slices: Vec<&mut [T]> = self.embed.dense_mut().into_iter().collect();
        for layer in &mut self.layers {
            let LayerWeights { input_norm, q, k, v, o, q_norm, k_norm, post_norm, gate, up, down } = layer;
            slices.push(input_norm);
            for linear in [q, k, v, o] {
                push_slices(&mut slices, linear);
            }
            slices.extend(q_norm.as_deref_mut());
            slices.extend(k_norm.as_deref_mut());
            slices.push(post_norm);
            for linear in [gate, up, down] {
                push_slices(&mut slices, linear);
            }
        }
        slices.push(&mut self.final_norm);
        slices.extend(self.head.as_mut().and_then(Weight::dense_mut));
        let named = labels.into_iter().zip(slices);
        named.map(|((name, shape), values)| Named { name, shape, values }).collect()
    }

    /// The first tensor that is held packed, if any: such a model can be trained through an adapter
    /// only.
    pub fn packed(&self) -> Option<Named<&Weight<T>>> {
        self.tensors().into_iter().find_map(|Named { name, shape, values }| match values {
            Held::Matrix(weight) if weight.dense().is_none() => Some(Named { name, shape, values: weight }),
            _ => None,
        })
    }

    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        let tensors = self.tensors();
        tensors
            .iter()
            .map(|named| match named.values {
                Held::Vector(values) => size_of_val(values),
                Held::Matrix(weight) => weight.bytes(),
            })
            .sum()
    }

    /// The names of [`Weights::iter`].
    pub fn names(&self) -> Vec<String> {
        self.iter().into_iter().map(|named| named.name).collect()
    }

    /// The same numbers in another precision; packed matrices stay as they are.
    pub fn cast<U: Real>(&self) -> Weights<U> {
        let layer = |layer: &LayerWeights<T>| LayerWeights {
            input_norm: cast(&layer.input_norm),
            q: layer.q.cast(),
            k: layer.k.cast(),
            v: layer.v.cast(),
            o: layer.o.cast(),
            q_norm: layer.q_norm.as_deref().map(cast),
            k_norm: layer.k_norm.as_deref().map(cast),
            post_norm: cast(&layer.post_norm),
            gate: layer.gate.cast(),
            up: layer.up.cast(),
            down: layer.down.cast(),
        };
        Weights {
            embed: self.embed.cast(),
            layers: self.layers.iter().map(layer).collect(),
            final_norm: cast(&self.final_norm),
            head: self.head.as_ref().map(Weight::cast),
        }
    }
}

impl<T: Real> Model<T> {
    /// A fresh model to train from scratch; see [`Weights::random`].
    pub fn random(config: ModelConfig, seed: u64) -> Self {
        let weights = Weights::random(&config, seed);
        Self { config, weights }
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.weights.tensors().iter().map(|named| named.shape.iter().product::<usize>()).sum()
    }

    /// The same model with every matrix held as bf16, and so computed in bf16 arithmetic.
    pub fn to_bf16(&self) -> Self {
        let mut model = self.clone();
        let Weights { embed, layers, head, .. } = &mut model.weights;
        for layer in layers {
            for target in Target::ALL {
                let linear = layer.linear_mut(target);
                linear.weight = linear.weight.to_bf16();
            }
        }
        *embed = embed.to_bf16();
        *head = head.as_ref().map(Weight::to_bf16);
        model
    }

    /// The same model in another precision.
    pub fn cast<U: Real>(&self) -> Model<U> {
        Model { config: self.config.clone(), weights: self.weights.cast() }
    }
}

pub(crate) fn cast<T: Real, U: Real>(values: &[T]) -> Vec<U> {
    values.iter().map(|value| U::from_f64(value.to_f64())).collect()
}

fn vector<T>(name: String, values: &[T]) -> Named<Held<'_, T>> {
    Named { name, shape: vec![values.len()], values: Held::Vector(values) }
}

fn matrix_of<T: Real>(name: String, weight: &Weight<T>) -> Named<Held<'_, T>> {
    Named { name, shape: vec![weight.rows(), weight.cols()], values: Held::Matrix(weight) }
}

pub(crate) fn flat<T, S: std::ops::Deref<Target = [T]>>(name: String, values: S) -> Named<S> {
    Named { name, shape: vec![values.len()], values }
}

pub(crate) fn matrix<T, S: std::ops::Deref<Target = [T]>>(
    name: String,
    values: S,
    columns: usize,
) -> Named<S> {
    Named { name, shape: vec![values.len() / columns, columns], values }
}

/// The tensors of one layer, in the order in which it uses them.
pub(crate) fn layer_tensors<T: Real>(index: usize, layer: &LayerWeights<T>) -> Vec<Named<Held<'_, T>>> {
    let LayerWeights { input_norm, q, k, v, o, q_norm, k_norm, post_norm, gate, up, down } = layer;
    let name = |part: &str| format!("model.layers.{index}.{part}.weight");
    let mut list = vec![vector(name("input_layernorm"), input_norm)];
    for (target, linear) in [(Target::Q, q), (Target::K, k), (Target::V, v), (Target::O, o)] {
        push_linear(&mut list, index, target, linear);
    }
    list.extend(q_norm.as_deref().map(|norm| vector(name("self_attn.q_norm"), norm)));
    list.extend(k_norm.as_deref().map(|norm| vector(name("self_attn.k_norm"), norm)));
    list.push(vector(name("post_attention_layernorm"), post_norm));
    for (target, linear) in [(Target::Gate, gate), (Target::Up, up), (Target::Down, down)] {
        push_linear(&mut list, index, target, linear);
    }
    list
}

/// The tensors outside the layers: embedding, final norm, head.
pub(crate) fn outer_tensors<'a, T: Real>(
    embed: &'a Weight<T>,
    norm: &'a [T],
    head: Option<&'a Weight<T>>,
) -> Vec<Named<Held<'a, T>>> {
    let mut list = vec![
        matrix_of("model.embed_tokens.weight".to_owned(), embed),
        vector("model.norm.weight".to_owned(), norm),
    ];
    list.extend(head.map(|head| matrix_of("lm_head.weight".to_owned(), head)));
    list
}

fn push_linear<'a, T: Real>(
    list: &mut Vec<Named<Held<'a, T>>>,
    layer: usize,
    target: Target,
    linear: &'a Linear<T>,
) {
    let name = |part: &str| format!("model.layers.{layer}.{}.{part}", target.path());
    list.push(matrix_of(name("weight"), &linear.weight));
    list.extend(linear.bias.as_deref().map(|bias| vector(name("bias"), bias)));
}

fn push_slices<'a, T: Real>(slices: &mut Vec<&'a mut [T]>, linear: &'a mut Linear<T>) {
    slices.extend(linear.weight.dense_mut());
    slices.extend(linear.bias.as_deref_mut());
}

/// Normal numbers by Box and Muller's transform, drawn in f64 so that f32 and f64 models agree.
fn fill_normal<T: Real>(rng: &mut ChaCha8Rng, values: &mut [T], deviation: f64) {
    for pair in values.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * deviation;
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        for (value, part) in pair.iter_mut().zip([cos, sin]) {
            *value = T::from_f64(radius * part);
        }
    }
}
