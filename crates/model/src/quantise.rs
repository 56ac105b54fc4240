//! A model folder quantised to NF4 as another folder, a few layers in memory at a time.
//!
//! The new folder has one file for every group of layers and one for what is not in a layer, or a single
//! `model.safetensors` where all of it is small. `config.json` is written last. Numbers and names are those
//! of [`Model::load_as`] followed by [`Model::save`].

use std::collections::BTreeMap;
use std::path::Path;

use nightshift_core::files;
use serde_json::{Value, json};

use crate::config::{CONFIG_FILE, ModelConfig};
use crate::error::Result;
use crate::lora::Target;
use crate::nf4;
use crate::params::{Held, LayerWeights, Model, Named, layer_tensors, outer_tensors};
use crate::shards::INDEX_FILE;
use crate::storage::{Dtype, Quantise, Storage};
use crate::tensor_write;
use crate::weights::{Reader, file_tensors};

/// Bytes of layers that one file may hold, and so about the memory that is needed.
const FILE_BYTES: usize = 512 << 20;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuantisedFolder {
    /// Numbers of the model.
    pub parameters: usize,
    /// Bytes of its weights.
    pub bytes: usize,
    /// Weights files.
    pub files: usize,
}

/// Quantises the folder `dir` into the existing folder `out`; `dtype` is that of embedding and head. `step`
/// is called before each file; its error ends the work.
///
/// # Errors
/// As [`Model::load_as`] and [`Model::save`].
pub fn quantise_folder(
    dir: &Path,
    out: &Path,
    dtype: Dtype,
    step: impl FnMut() -> Result<()>,
) -> Result<QuantisedFolder> {
    in_files(dir, out, dtype, FILE_BYTES, step)
}

fn in_files(
    dir: &Path,
    out: &Path,
    dtype: Dtype,
    file_bytes: usize,
    mut step: impl FnMut() -> Result<()>,
) -> Result<QuantisedFolder> {
    let config = ModelConfig::from_dir(dir)?;
    let storage = Storage { dtype, quantise: Quantise::Nf4 };
    let per_file = (file_bytes / layer_bytes(&config)).clamp(1, config.num_layers);
    if per_file == config.num_layers {
        step()?;
        let model = Model::load_as(dir, storage)?;
        model.save(out)?;
        let bytes = model.weights.bytes();
        return Ok(QuantisedFolder { parameters: model.parameters(), bytes, files: 1 });
    }
    let name = match dtype {
        Dtype::Bf16 => "bfloat16",
        Dtype::F32 => "float32",
    };
    let groups = config.num_layers.div_ceil(per_file);
    let file = |number: usize| format!("model-{number:05}-of-{:05}.safetensors", groups + 1);
    let mut reader = Reader::open(dir, storage)?;
    let mut made = Made { out, dtype: name, folder: QuantisedFolder::default(), map: BTreeMap::new() };
    let mut quantisation = None;
    for group in 0..groups {
        step()?;
        let range = group * per_file..((group + 1) * per_file).min(config.num_layers);
        let layers: Vec<(usize, LayerWeights)> =
            range.map(|index| Ok((index, reader.layer(index, &config)?))).collect::<Result<_>>()?;
        let numbers = layers.first().and_then(|(_, layer)| layer.q.weight.nf4());
        quantisation = quantisation.or_else(|| numbers.map(|numbers| nf4::file::config(numbers, name)));
        let tensors = layers.iter().flat_map(|(index, layer)| layer_tensors(*index, layer)).collect();
        made.file(&file(group + 1), tensors)?;
    }
    step()?;
    let (embed, norm, head) = reader.outer(&config)?;
    made.file(&file(groups + 1), outer_tensors(&embed, &norm, head.as_ref()))?;
    reader.refuse_leftovers(dir, &config)?;
    let index = json!({"metadata": {"total_size": made.folder.bytes}, "weight_map": made.map});
    files::write_atomic(&out.join(INDEX_FILE), format!("{index:#}\n").as_bytes())?;
    files::write_atomic(&out.join(CONFIG_FILE), config.to_json_as(name, quantisation).as_bytes())?;
    Ok(made.folder)
}

/// About the bytes of one layer's matrices as NF4.
fn layer_bytes(config: &ModelConfig) -> usize {
    let shapes = Target::ALL.into_iter().map(|target| target.shape(config));
    shapes.map(|(out, input)| out * input).sum::<usize>().div_ceil(2).max(1)
}

/// The folder as far as it is written.
struct Made<'a> {
    out: &'a Path,
    dtype: &'a str,
    folder: QuantisedFolder,
    map: BTreeMap<String, Value>,
}

impl Made<'_> {
    fn file(&mut self, name: &str, tensors: Vec<Named<Held<'_, f32>>>) -> Result<()> {
        self.folder.parameters +=
            tensors.iter().map(|named| named.shape.iter().product::<usize>()).sum::<usize>();
        let list: Vec<_> = tensors.into_iter().flat_map(|named| file_tensors(named, self.dtype)).collect();
        for tensor in &list {
            self.folder.bytes += tensor.bytes();
            self.map.insert(tensor.name().to_owned(), name.into());
        }
        self.folder.files += 1;
        Ok(files::write_atomic_with(&self.out.join(name), |out| tensor_write::write(out, list))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_many_files_it_is_the_same_model() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model");
        for (family, dtype) in [("qwen3", Dtype::Bf16), ("qwen2", Dtype::F32), ("llama3", Dtype::F32)] {
            let dir = fixtures.join(family);
            let [many, one, again] = [(); 3].map(|()| tempfile::tempdir().unwrap());
            let (mut steps, mut single) = (0, 0);
            let made = in_files(&dir, many.path(), dtype, 1, || {
                steps += 1;
                Ok(())
            });
            let made = made.unwrap();
            assert_eq!((made.files, steps), (3, 3), "a file for each layer, and one for the rest");
            let whole = in_files(&dir, one.path(), dtype, FILE_BYTES, || {
                single += 1;
                Ok(())
            });
            let whole = whole.unwrap();
            assert_eq!((whole.files, single, whole.parameters), (1, 1, made.parameters), "{family}");
            let read = Model::load_as(many.path(), Storage { dtype, quantise: Quantise::None }).unwrap();
            read.save(again.path()).unwrap();
            for file in ["model.safetensors", CONFIG_FILE] {
                let bytes = |folder: &Path| files::read(&folder.join(file)).unwrap();
                assert!(bytes(one.path()) == bytes(again.path()), "{family}: {file}");
            }
            let config = files::read(&many.path().join(CONFIG_FILE)).unwrap();
            assert!(config == files::read(&one.path().join(CONFIG_FILE)).unwrap(), "{family}");
        }
    }
}
