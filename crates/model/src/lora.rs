//! The numbers of an adapter: LoRA factors, where they sit, their names and shapes.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::dora::Dora;
use crate::error::Result;
use crate::modules::{ModuleForm, ModuleRules};
use crate::params::{Named, cast, flat, matrix};
use crate::real::Real;

/// A linear layer that LoRA can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// `self_attn.q_proj`
    Q,
    /// `self_attn.k_proj`
    K,
    /// `self_attn.v_proj`
    V,
    /// `self_attn.o_proj`
    O,
    /// `mlp.gate_proj`
    Gate,
    /// `mlp.up_proj`
    Up,
    /// `mlp.down_proj`
    Down,
}

impl Target {
    /// All seven, in the order in which a layer uses them.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];
    /// The attention projections: the product's default targets.
    pub const ATTENTION: [Self; 4] = [Self::Q, Self::K, Self::V, Self::O];

    /// Name of the module, as in PEFT's `target_modules`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Path of the module inside its layer, e.g. `self_attn.q_proj`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Whether it is behind the attention, where the last layer computes scored rows only.
    pub(crate) const fn follows_attention(self) -> bool {
        matches!(self, Self::O | Self::Gate | Self::Up | Self::Down)
    }

    /// The target with this module name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// `(out_features, in_features)` of the module in a model of this shape.
    pub const fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        match self {
            Self::Q => (config.q_width(), hidden),
            Self::K | Self::V => (config.kv_width(), hidden),
            Self::O => (hidden, config.q_width()),
            Self::Gate | Self::Up => (config.intermediate_size, hidden),
            Self::Down => (hidden, config.intermediate_size),
        }
    }
}

/// Settings of an adapter. Patterns per module are resolved by the PEFT reader into the rank and
/// scale of each [`LoraModule`]; what is here is the general rule.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of A and B unless a module says otherwise.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Modules that carry LoRA, in every layer.
    pub targets: Vec<Target>,
    /// Scale is alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023, arXiv 2312.03732).
    pub rslora: bool,
    /// Probability of dropping an input of A while training, 0 to below 1.
    pub dropout: f32,
    /// Each output has a magnitude of its own; see [`Dora`].
    pub dora: bool,
}

impl LoraConfig {
    /// The factor before B A x for a module of this rank and alpha.
    pub fn scale(&self, rank: usize, alpha: f64) -> f64 {
        if self.rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }
    }
}

/// LoRA on one linear layer: y += scale * (x Aᵀ) Bᵀ (Hu et al. 2021, arXiv 2106.09685).
#[derive(Debug, Clone, PartialEq)]
pub struct LoraModule<T = f32> {
    /// `[rank, in_features]`.
    pub a: Vec<T>,
    /// `[out_features, rank]`.
    pub b: Vec<T>,
    /// Rows of A, columns of B; at least 1.
    pub rank: usize,
    /// Factor on the product.
    pub scale: T,
    /// What DoRA adds.
    pub dora: Option<Dora<T>>,
}

/// Where a LoRA module sits: layer index and projection.
pub type ModuleKey = (usize, Target);

/// LoRA modules for a base model.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter<T = f32> {
    /// General settings.
    pub config: LoraConfig,
    /// The modules, by layer and projection.
    pub modules: BTreeMap<ModuleKey, LoraModule<T>>,
}

impl<T: Real> LoraModule<T> {
    /// Width of its input.
    pub const fn in_features(&self) -> usize {
        self.a.len() / self.rank
    }

    /// Width of its output.
    pub const fn out_features(&self) -> usize {
        self.b.len() / self.rank
    }
}

impl<T: Real> Adapter<T> {
    /// A fresh adapter on the config's targets in every layer that changes nothing yet: A uniform within
    /// ±1/sqrt(in) (PEFT's default, Kaiming with a = sqrt(5)), B zero.
    pub fn init(config: LoraConfig, model: &ModelConfig, seed: u64) -> Self {
        let form = ModuleForm { rank: config.rank, alpha: config.alpha };
        let layers = 0..model.num_layers;
        let keys = layers.flat_map(|layer| config.targets.iter().map(move |target| (layer, *target)));
        let forms = keys.map(|key| (key, form)).collect();
        Self::with_forms(config, &forms, model, seed)
    }

    /// As [`Adapter::init`], on the modules that `rules` choose, each with its own rank and alpha; the
    /// config's targets become those that carry LoRA somewhere.
    ///
    /// # Errors
    /// As [`ModuleRules::resolve`].
    pub fn init_by(config: LoraConfig, rules: &ModuleRules, model: &ModelConfig, seed: u64) -> Result<Self> {
        let forms = rules.resolve(model, config.rank, config.alpha)?;
        let targets: BTreeSet<Target> = forms.keys().map(|(_, target)| *target).collect();
        let config = LoraConfig { targets: targets.into_iter().collect(), ..config };
        Ok(Self::with_forms(config, &forms, model, seed))
    }

    fn with_forms(
        config: LoraConfig,
        forms: &BTreeMap<ModuleKey, ModuleForm>,
        model: &ModelConfig,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut module = |(&key, &ModuleForm { rank, alpha }): (&ModuleKey, &ModuleForm)| {
            let (out, input) = key.1.shape(model);
            let bound = 1.0 / (input as f64).sqrt();
            let a = (0..rank * input).map(|_| T::from_f64(rng.random_range(-bound..bound))).collect();
            let scale = T::from_f64(config.scale(rank, alpha));
            (
                key,
                LoraModule {
                    a,
                    b: vec![T::ZERO; out * rank],
                    rank,
                    scale,
                    dora: config.dora.then(Dora::default),
                },
            )
        };
        let modules = forms.iter().map(&mut module).collect();
        Self { config, modules }
    }

    /// The module on this projection, if it has one.
    pub fn module(&self, layer: usize, target: Target) -> Option<&LoraModule<T>> {
        self.modules.get(&(layer, target))
    }

    /// Every tensor under its PEFT name, by layer, then projection, A before B before the magnitude.
    pub fn iter(&self) -> Vec<Named<&[T]>> {
        let mut list = Vec::with_capacity(2 * self.modules.len());
        for (key, module) in &self.modules {
            list.push(matrix(peft_name(*key, Factor::A), module.a.as_slice(), module.in_features()));
            list.push(matrix(peft_name(*key, Factor::B), module.b.as_slice(), module.rank));
            let magnitude = module.dora.as_ref().map(|dora| dora.magnitude.as_slice());
            list.extend(magnitude.map(|values| flat(peft_name(*key, Factor::Magnitude), values)));
        }
        list
    }

    /// As [`Adapter::iter`], to write into. A DoRA adapter has to be prepared again afterwards.
    pub fn iter_mut(&mut self) -> Vec<Named<&mut [T]>> {
        self.forget_norms();
        let mut list = Vec::with_capacity(2 * self.modules.len());
        for (key, module) in &mut self.modules {
            let (input, rank) = (module.in_features(), module.rank);
            list.push(matrix(peft_name(*key, Factor::A), module.a.as_mut_slice(), input));
            list.push(matrix(peft_name(*key, Factor::B), module.b.as_mut_slice(), rank));
            let magnitude = module.dora.as_mut().map(|dora| dora.magnitude.as_mut_slice());
            list.extend(magnitude.map(|values| flat(peft_name(*key, Factor::Magnitude), values)));
        }
        list
    }

    /// Number of trainable numbers.
    pub fn parameters(&self) -> usize {
        let magnitude = |module: &LoraModule<T>| module.dora.as_ref().map_or(0, |dora| dora.magnitude.len());
        self.modules.values().map(|module| module.a.len() + module.b.len() + magnitude(module)).sum()
    }

    /// The same adapter in another precision.
    pub fn cast<U: Real>(&self) -> Adapter<U> {
        let module = |module: &LoraModule<T>| LoraModule {
            a: cast(&module.a),
            b: cast(&module.b),
            rank: module.rank,
            scale: U::from_f64(module.scale.to_f64()),
            dora: module
                .dora
                .as_ref()
                .map(|dora| Dora { magnitude: cast(&dora.magnitude), norms: cast(&dora.norms) }),
        };
        Adapter {
            config: self.config.clone(),
            modules: self.modules.iter().map(|(key, value)| (*key, module(value))).collect(),
        }
    }
}

/// One tensor of a LoRA module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Factor {
    /// `lora_A`, `[rank, in]`.
    A,
    /// `lora_B`, `[out, rank]`.
    B,
    /// `lora_magnitude_vector` of DoRA, `[out]`.
    Magnitude,
}

/// PEFT's name of a tensor of a LoRA module.
pub fn peft_name((layer, target): ModuleKey, factor: Factor) -> String {
    let ending = match factor {
        Factor::A => "lora_A.weight",
        Factor::B => "lora_B.weight",
        Factor::Magnitude => "lora_magnitude_vector",
    };
    format!("base_model.model.model.layers.{layer}.{}.{ending}", target.path())
}
