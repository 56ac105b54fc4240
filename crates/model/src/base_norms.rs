//! How large the base's own matrices are: what an adapter's update is held against.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::lora::{ModuleKey, Target};
use crate::shards::Shards;

/// Frobenius norms of the adapted matrices of a model folder, read one at a time.
///
/// # Errors
/// Weights that are missing, damaged, quantised or of another shape.
pub fn base_norms(dir: &Path, keys: impl IntoIterator<Item = ModuleKey>) -> Result<BTreeMap<ModuleKey, f64>> {
    let config = ModelConfig::from_dir(dir)?;
    let mut shards = Shards::open(dir)?;
    let mut norm = |(layer, target): (usize, Target)| -> Result<f64> {
        let name = format!("model.layers.{layer}.{}.weight", target.path());
        let (out, input) = target.shape(&config);
        let values = shards.read_f32(&name, &[out, input])?;
        Ok(values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt())
    };
    keys.into_iter().map(|key| Ok((key, norm(key)?))).collect()
}
