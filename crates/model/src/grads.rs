//! `Grads`: where the backward pass adds up gradients, and which ones it computes at all.

use std::collections::BTreeMap;

use crate::error::{ModelError, Result};
use crate::lora::{Adapter, Factor, LoraModule, ModuleKey, peft_name};
use crate::optim::Parameter;
use crate::params::{Model, Named, Weights, flat, matrix};
use crate::real::Real;
use crate::simd::{Kernel, LANES, vectorised};

/// Gradients of one LoRA module.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraGrad<T = f32> {
    /// As the module's A, `[rank, in]`.
    pub a: Vec<T>,
    /// As the module's B, `[out, rank]`.
    pub b: Vec<T>,
    /// DoRA: as the module's magnitude, `[out]`; else empty.
    pub magnitude: Vec<T>,
    /// Rows of A, columns of B.
    pub rank: usize,
}

/// Gradients of what is trained. Calls of the backward pass add to them until [`Grads::zero`].
#[derive(Debug, Clone, PartialEq)]
pub struct Grads<T = f32> {
    /// Gradients of all base weights; `None` while they are frozen: then no dW is computed.
    pub weights: Option<Weights<T>>,
    /// Gradients of the adapter's modules; empty when no adapter is trained.
    pub lora: BTreeMap<ModuleKey, LoraGrad<T>>,
}

impl<T: Real> Grads<T> {
    /// For training `adapter` over a frozen base. A fresh DoRA adapter has to be prepared first.
    pub fn lora(adapter: &Adapter<T>) -> Self {
        let zeros = |values: &[T]| vec![T::ZERO; values.len()];
        let gradient = |m: &LoraModule<T>| LoraGrad {
            a: zeros(&m.a),
            b: zeros(&m.b),
            magnitude: m.dora.as_ref().map(|dora| zeros(&dora.magnitude)).unwrap_or_default(),
            rank: m.rank,
        };
        let lora = adapter.modules.iter().map(|(key, module)| (*key, gradient(module))).collect();
        Self { weights: None, lora }
    }

    /// For training every base weight.
    pub fn full(model: &Model<T>) -> Self {
        Self { weights: Some(Weights::zeros(&model.config)), lora: BTreeMap::new() }
    }

    /// Back to zero.
    pub fn zero(&mut self) {
        for named in self.iter_mut() {
            named.values.fill(T::ZERO);
        }
    }

    /// Adds the gradients of another backward pass over the same parameters.
    ///
    /// # Panics
    /// When `other` was made for other parameters.
    pub fn add(&mut self, other: &Self) {
        assert!(self.same_shape(other), "gradients of other parameters");
        for (sum, more) in self.iter_mut().into_iter().zip(other.iter()) {
            T::add_to(sum.values, more.values);
        }
    }

    /// Whether `other` was made for parameters of the same names and shapes.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        let lengths = |grads: &Self| {
            let weights = grads.weights.as_ref().map(|weights| {
                let layer = weights
                    .layers
                    .first()
                    .map(|l| [&l.q, &l.k, &l.gate].map(|l| (l.weight.rows(), l.weight.cols())));
                let optional = weights.layers.first().map(|l| (l.q.bias.is_some(), l.q_norm.is_some()));
                (weights.embed.rows(), weights.layers.len(), weights.head.is_some(), layer, optional)
            });
            let lora: Vec<_> =
                grads.lora.iter().map(|(key, g)| (*key, g.a.len(), g.b.len(), g.magnitude.len())).collect();
            (weights, lora)
        };
        lengths(self) == lengths(other)
    }

    /// Every gradient under the name of its parameter, in the order of [`Weights::iter`], then that of
    /// [`Adapter::iter`].
    pub fn iter(&self) -> Vec<Named<&[T]>> {
        let mut list = self.weights.as_ref().map(Weights::iter).unwrap_or_default();
        for (key, LoraGrad { a, b, magnitude, rank }) in &self.lora {
            list.push(matrix(peft_name(*key, Factor::A), a.as_slice(), a.len() / rank));
            list.push(matrix(peft_name(*key, Factor::B), b.as_slice(), *rank));
            if !magnitude.is_empty() {
                list.push(flat(peft_name(*key, Factor::Magnitude), magnitude.as_slice()));
            }
        }
        list
    }

    /// As [`Grads::iter`], to write into.
    pub fn iter_mut(&mut self) -> Vec<Named<&mut [T]>> {
        let mut list = self.weights.as_mut().map(Weights::iter_mut).unwrap_or_default();
        for (key, LoraGrad { a, b, magnitude, rank }) in &mut self.lora {
            let columns = a.len() / *rank;
            list.push(matrix(peft_name(*key, Factor::A), a.as_mut_slice(), columns));
            list.push(matrix(peft_name(*key, Factor::B), b.as_mut_slice(), *rank));
            if !magnitude.is_empty() {
                list.push(flat(peft_name(*key, Factor::Magnitude), magnitude.as_mut_slice()));
            }
        }
        list
    }

    /// The parameters of `adapter` beside their gradients, for the optimiser. `ratio_b` is how much
    /// faster B (and DoRA's magnitude, as PEFT has it) learns than A: 1, or the ratio of LoRA+ (Hayou et
    /// al. 2024, arXiv 2402.12354). A DoRA adapter has to be prepared again after the step.
    pub fn with_adapter<'a>(&'a self, adapter: &'a mut Adapter<T>, ratio_b: f64) -> Vec<Parameter<'a, T>> {
        adapter.forget_norms();
        let mut list = Vec::with_capacity(2 * self.lora.len());
        for (module, grad) in adapter.modules.values_mut().zip(self.lora.values()) {
            list.push(Parameter { values: &mut module.a, gradient: &grad.a, rate: 1.0 });
            list.push(Parameter { values: &mut module.b, gradient: &grad.b, rate: ratio_b });
            let dora = module.dora.as_mut();
            list.extend(dora.map(|dora| Parameter {
                values: dora.magnitude.as_mut_slice(),
                gradient: grad.magnitude.as_slice(),
                rate: ratio_b,
            }));
        }
        list
    }

    /// The weights of `model` beside their gradients, for the optimiser; empty for a base that is
    /// frozen or held packed.
    pub fn with_model<'a>(&'a self, model: &'a mut Model<T>) -> Vec<Parameter<'a, T>> {
        let Some(gradients) = self.weights.as_ref().filter(|_| model.weights.packed().is_none()) else {
            return Vec::new();
        };
        let parameters = model.weights.iter_mut().into_iter().zip(gradients.iter());
        parameters.map(|(p, g)| Parameter { values: p.values, gradient: g.values, rate: 1.0 }).collect()
    }

    /// Square root of the sum of squares of all gradients, added up in f64. NaN or infinity is an
    /// error that names the first tensor holding one.
    pub fn norm(&self) -> Result<f64> {
        let gradients = self.iter();
        let total: f64 = gradients.iter().map(|named| T::sum_of_squares(named.values)).sum();
        if total.is_finite() {
            return Ok(total.sqrt());
        }
        let bad = gradients.iter().find(|named| !T::all_finite(named.values));
        let name = bad.map_or("the norm of all gradients", |named| named.name.as_str());
        Err(ModelError::non_finite(format!("gradient of `{name}`")))
    }

    /// Scales all gradients down so that their norm is at most `max`, as torch's `clip_grad_norm_`
    /// does (factor max / (norm + 1e-6)). Returns the norm before. Non-finite as [`Grads::norm`].
    pub fn clip_global_norm(&mut self, max: f64) -> Result<f64> {
        let norm = self.norm()?;
        let factor = max / (norm + 1e-6);
        if factor < 1.0 {
            let factor = T::from_f64(factor);
            for named in self.iter_mut() {
                T::scale(named.values, factor);
            }
        }
        Ok(norm)
    }
}

pub(crate) fn compute_sum_of_squares<T: Real>(values: &[T]) -> f64 {
    vectorised(SumOfSquares, values)
}

struct SumOfSquares;

impl<T: Real> Kernel<&[T]> for SumOfSquares {
    type Output = f64;

    #[inline(always)]
    fn run(values: &[T]) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let value = chunk[lane].to_f64();
                lanes[lane] += value * value;
            }
        }
        let rest: f64 = rest.iter().map(|x| x.to_f64() * x.to_f64()).sum();
        lanes.iter().sum::<f64>() + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    #[test]
    fn clipping_equals_torch() {
        let model = Model::<f64>::random(tiny::config(), 1);
        let mut grads = Grads::full(&model);
        let embed = grads.weights.as_mut().unwrap().embed.dense_mut().unwrap();
        (embed[0], embed[5]) = (3.0, -4.0);
        assert_eq!(grads.clip_global_norm(10.0).unwrap(), 5.0);
        let first = |grads: &Grads<f64>| grads.weights.as_ref().unwrap().embed.dense().unwrap()[5];
        assert_eq!(first(&grads), -4.0);
        assert_eq!(grads.clip_global_norm(1.0).unwrap(), 5.0);
        let expected = -4.0 / 5.000_001;
        assert!((first(&grads) - expected).abs() < 1e-15);
        grads.zero();
        assert_eq!(grads.norm().unwrap(), 0.0);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named() {
        let model = Model::<f32>::random(tiny::config(), 1);
        let mut grads = Grads::full(&model);
        grads.weights.as_mut().unwrap().layers[1].up.weight.dense_mut().unwrap()[7] = f32::NAN;
        let error = grads.clip_global_norm(1.0).unwrap_err();
        assert!(error.to_string().contains("model.layers.1.mlp.up_proj.weight"), "{error}");
    }
}
