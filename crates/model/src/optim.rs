//! AdamW and the learning-rate schedules, as torch and transformers compute them.

use crate::error::{ModelError, Result};
use crate::params::Named;
use crate::real::Real;
use crate::simd::{Kernel, vectorised};

/// AdamW with decoupled decay (Loshchilov & Hutter 2019, arXiv 1711.05101); the arithmetic of
/// `torch.optim.AdamW`: p -= lr * decay * p, then p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW<T = f32> {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    steps: u64,
    first: Vec<Vec<T>>,
    second: Vec<Vec<T>>,
}

/// One trained tensor beside its gradient.
#[derive(Debug)]
pub struct Parameter<'a, T = f32> {
    /// The numbers that are moved.
    pub values: &'a mut [T],
    /// Same length.
    pub gradient: &'a [T],
    /// Factor on the learning rate: 1, or LoRA+'s ratio.
    pub rate: f64,
}

/// Ends of the names under which moments are kept in a checkpoint, as torch calls them.
const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";

impl<T: Real> Default for AdamW<T> {
    /// 0.9, 0.999, 1e-8, no decay.
    fn default() -> Self {
        Self::new(0.9, 0.999, 1e-8, 0.0)
    }
}

impl<T: Real> AdamW<T> {
    /// An optimiser that has made no step.
    pub const fn new(beta1: f64, beta2: f64, eps: f64, weight_decay: f64) -> Self {
        Self { beta1, beta2, eps, weight_decay, steps: 0, first: Vec::new(), second: Vec::new() }
    }

    /// Steps made so far.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// One step: each parameter is moved along its gradient. The list must be the same, in the same
    /// order, at every step ([`crate::Grads::with_adapter`], [`crate::Grads::with_model`]).
    ///
    /// # Errors
    /// [`ModelError::Input`] when the list does not match the moments.
    pub fn step(&mut self, parameters: &mut [Parameter<'_, T>], lr: f64) -> Result<()> {
        T::step(self, parameters, lr)
    }

    /// Both moments of every parameter, named `<parameter>.exp_avg` and `<parameter>.exp_avg_sq`;
    /// `names` are those of the parameters in the order of [`AdamW::step`]. Empty before the first step.
    pub fn moments(&self, names: &[String]) -> Vec<Named<&[T]>> {
        let both = names.iter().zip(self.first.iter().zip(&self.second));
        both.flat_map(|(name, (first, second))| {
            [(FIRST, first), (SECOND, second)].map(|(suffix, values)| Named {
                name: format!("{name}.{suffix}"),
                shape: vec![values.len()],
                values: values.as_slice(),
            })
        })
        .collect()
    }

    /// Puts back what [`AdamW::moments`] gave; `take` finds a moment by its name.
    ///
    /// # Errors
    /// [`ModelError::Input`] naming the moment that `take` does not find.
    pub fn restore(
        &mut self,
        steps: u64,
        names: &[String],
        mut take: impl FnMut(&str) -> Option<Vec<T>>,
    ) -> Result<()> {
        let mut all = |suffix: &str| -> Result<Vec<Vec<T>>> {
            let one = |name: &String| {
                let name = format!("{name}.{suffix}");
                take(&name).ok_or_else(|| ModelError::Input(format!("checkpoint: `{name}` is missing")))
            };
            names.iter().map(one).collect()
        };
        let (first, second) = (all(FIRST)?, all(SECOND)?);
        if !first.iter().map(Vec::len).eq(second.iter().map(Vec::len)) {
            return Err(ModelError::Input("checkpoint: moments of different lengths".to_owned()));
        }
        (self.steps, self.first, self.second) = (steps, first, second);
        Ok(())
    }
}

/// The numbers of one step, in the parameters' precision.
struct Factors<T> {
    keep: T,
    beta1: T,
    rest1: T,
    beta2: T,
    rest2: T,
    size: T,
    root: T,
    eps: T,
}

impl<T: Real> Factors<T> {
    /// For the `steps`-th step of a tensor whose learning rate is `lr`.
    fn new((beta1, beta2, eps): (f64, f64, f64), steps: u64, lr: f64, weight_decay: f64) -> Self {
        let t = steps as f64;
        Self {
            keep: T::from_f64(1.0 - lr * weight_decay),
            beta1: T::from_f64(beta1),
            rest1: T::from_f64(1.0 - beta1),
            beta2: T::from_f64(beta2),
            rest2: T::from_f64(1.0 - beta2),
            size: T::from_f64(lr / (1.0 - beta1.powf(t))),
            root: T::from_f64((1.0 - beta2.powf(t)).sqrt()),
            eps: T::from_f64(eps),
        }
    }
}

struct Step;

impl<T: Real> Kernel<(&Factors<T>, &mut [T], &[T], &mut [T], &mut [T])> for Step {
    type Output = ();

    #[inline(always)]
    fn run((f, values, gradient, first, second): (&Factors<T>, &mut [T], &[T], &mut [T], &mut [T])) {
        for (((p, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            *m = f.beta1 * *m + f.rest1 * g;
            *v = f.beta2 * *v + f.rest2 * g * g;
            *p = *p * f.keep - f.size * (*m / (v.sqrt() / f.root + f.eps));
        }
    }
}

/// The work of [`AdamW::step`].
pub(crate) fn compute_step<T: Real>(
    adam: &mut AdamW<T>,
    parameters: &mut [Parameter<'_, T>],
    lr: f64,
) -> Result<()> {
    if adam.steps == 0 && adam.first.is_empty() {
        let zeros = |parameter: &Parameter<'_, T>| vec![T::ZERO; parameter.values.len()];
        adam.first = parameters.iter().map(zeros).collect();
        adam.second = parameters.iter().map(zeros).collect();
    }
    let lengths = adam.first.iter().map(Vec::len);
    if !lengths.eq(parameters.iter().map(|parameter| parameter.values.len())) {
        return Err(ModelError::Input("the optimiser's moments belong to other parameters".to_owned()));
    }
    adam.steps += 1;
    for ((parameter, first), second) in parameters.iter_mut().zip(&mut adam.first).zip(&mut adam.second) {
        let factors = Factors::new(
            (adam.beta1, adam.beta2, adam.eps),
            adam.steps,
            lr * parameter.rate,
            adam.weight_decay,
        );
        let values = &mut *parameter.values;
        vectorised(Step, (&factors, values, parameter.gradient, first.as_mut_slice(), second.as_mut_slice()));
    }
    Ok(())
}

/// Shape of the learning rate behind the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScheduleKind {
    /// Straight down to 0 at the last step.
    Linear,
    /// Half a cosine down to `floor` times the peak.
    Cosine {
        /// Share of the peak that is left at the end, 0 to 1.
        floor: f64,
    },
    /// The peak throughout.
    Constant,
}

/// Learning rate over the optimiser steps, as a factor on its peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Shape behind the warm-up.
    pub kind: ScheduleKind,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub total: usize,
}

impl Schedule {
    /// Factor of step `step`, counted from 0. During warm-up step / warmup, so the very first step has
    /// factor 0, as the schedulers of transformers have it. Stays at the final value after `total`.
    pub fn factor(&self, step: usize) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let length = self.total.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / length as f64).min(1.0);
        match self.kind {
            ScheduleKind::Linear => 1.0 - done,
            ScheduleKind::Cosine { floor } => {
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            ScheduleKind::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests;
