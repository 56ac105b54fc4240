//! How large an adapter's update is: by module, by layer, and against the base's own matrices.

use std::collections::BTreeMap;

use nightshift_model::{Adapter, LoraModule, ModuleKey};
use serde::Serialize;

/// One adapted matrix.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) layer: usize,
    /// `[outputs, inputs]` of the matrix.
    pub(super) shape: [usize; 2],
    pub(super) rank: usize,
    /// The factor on B A, patterns and rsLoRA included.
    pub(super) scale: f64,
    pub(super) norm_a: f64,
    pub(super) norm_b: f64,
    /// Frobenius norm of what is added to the weight: scale · B · A.
    pub(super) norm_update: f64,
    /// Frobenius norm of the weight itself, where a base is at hand.
    pub(super) norm_weight: Option<f64>,
    /// Update over weight.
    pub(super) relative: Option<f64>,
}

/// The modules of one layer together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Layer {
    pub(super) layer: usize,
    pub(super) modules: usize,
    /// Root of the sum of squares over its modules.
    pub(super) norm_update: f64,
    /// Against the same matrices of the base.
    pub(super) relative: Option<f64>,
}

/// Every module with its norms; `weights` are the norms of the base's matrices.
pub(super) fn modules(adapter: &Adapter, weights: Option<&BTreeMap<ModuleKey, f64>>) -> Vec<Module> {
    let module = |(key, module): (&ModuleKey, &LoraModule)| {
        let norm_update = update_norm(module);
        let norm_weight = weights.and_then(|weights| weights.get(key)).copied();
        Module {
            name: format!("model.layers.{}.{}", key.0, key.1.path()),
            layer: key.0,
            shape: [module.out_features(), module.in_features()],
            rank: module.rank,
            scale: f64::from(module.scale),
            norm_a: norm(&module.a),
            norm_b: norm(&module.b),
            norm_update,
            norm_weight,
            relative: norm_weight.filter(|norm| *norm > 0.0).map(|norm| norm_update / norm),
        }
    };
    adapter.modules.iter().map(module).collect()
}

/// The same by layer.
pub(super) fn layers(modules: &[Module]) -> Vec<Layer> {
    let mut layers: BTreeMap<usize, (usize, f64, Option<f64>)> = BTreeMap::new();
    for module in modules {
        let (count, update, weight) = layers.entry(module.layer).or_insert((0, 0.0, Some(0.0)));
        *count += 1;
        *update += module.norm_update.powi(2);
        *weight = weight.zip(module.norm_weight).map(|(sum, norm)| sum + norm * norm);
    }
    let layer = |(layer, (modules, update, weight)): (usize, (usize, f64, Option<f64>))| Layer {
        layer,
        modules,
        norm_update: update.sqrt(),
        relative: weight.filter(|weight| *weight > 0.0).map(|weight| (update / weight).sqrt()),
    };
    layers.into_iter().map(layer).collect()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// |s B A| by the r x r matrices: |BA|² = tr((BᵀB)(AAᵀ)).
fn update_norm(module: &LoraModule) -> f64 {
    let rank = module.rank;
    let (input, out) = (module.in_features(), module.out_features());
    let mut trace = 0.0;
    for i in 0..rank {
        for j in 0..rank {
            let aa: f64 = (0..input)
                .map(|k| f64::from(module.a[i * input + k]) * f64::from(module.a[j * input + k]))
                .sum();
            let bb: f64 =
                (0..out).map(|k| f64::from(module.b[k * rank + i]) * f64::from(module.b[k * rank + j])).sum();
            trace += aa * bb;
        }
    }
    f64::from(module.scale).abs() * trace.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_the_update_is_that_of_the_product() {
        // B A for rank 2 written out: [[1, 2], [3, 4]] · [[5, 6, 7], [8, 9, 10]].
        let module = LoraModule {
            a: vec![5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
            b: vec![1.0, 2.0, 3.0, 4.0],
            rank: 2,
            scale: 0.5_f32,
            dora: None,
        };
        let product = [21.0_f32, 24.0, 27.0, 47.0, 54.0, 61.0];
        assert!((update_norm(&module) - 0.5 * norm(&product)).abs() < 1e-9);
    }
}
