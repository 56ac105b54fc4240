//! An adapter merged into its base: W' = W + s B A in f32, cast once; for DoRA the rows of W + s B A
//! scaled to the lengths in its magnitude.
//!
//! Streams: one adapted matrix is in memory at a time, everything else goes through in pieces. Tensors
//! keep the files they came in. The fold is linear, so a merged model computes what base and adapter
//! computed up to rounding: about 1e-5 in the logits for f32, about 0.1 for bf16.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use half::{bf16, f16};
use nightshift_core::files;
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::config::CONFIG_FILE;
use crate::dora;
use crate::error::{ModelError, Result};
use crate::json_file::read_text;
use crate::lora::{Adapter, LoraModule, Target};
use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::shards::{INDEX_FILE, Shards};
use crate::threads::Threads;

/// Type of the weights that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half; values above 65504 are refused.
    F16,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Weights files.
    pub files: usize,
    /// Tensors in them.
    pub tensors: usize,
    /// Matrices that the adapter changed.
    pub changed: usize,
    /// Bytes of all weights.
    pub bytes: u64,
    /// The types of the adapted matrices as they were written, sorted.
    pub types: Vec<String>,
}

impl WeightType {
    const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    /// As config.json names it.
    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

/// Writes the weights files (and their index) and `config.json` of base + adapter into the existing
/// folder `out`. `kind` is the type of every weight; `None` leaves each tensor its own. `step` is told
/// the name of each tensor before it is written; its error ends the merge.
///
/// # Errors
/// An adapter of another shape, quantised weights, values that the type cannot hold, files that cannot
/// be read or written: each by name.
pub fn merge(
    base: &Path,
    adapter: &Adapter,
    out: &Path,
    kind: Option<WeightType>,
    mut step: impl FnMut(&str) -> Result<()>,
) -> Result<Merged> {
    let mut shards = Shards::open(base)?;
    let modules = by_weight_name(adapter);
    let mut weight_map = BTreeMap::new();
    let mut merged = Merged { files: 0, tensors: 0, changed: 0, bytes: 0, types: Vec::new() };
    for (name, tensors) in plan(&shards, kind)? {
        for tensor in &tensors {
            weight_map.insert(tensor.name.clone(), name.clone());
            merged.bytes += tensor.bytes;
            if modules.contains_key(&tensor.name) {
                merged.changed += 1;
                merged.types.push(format!("{:?}", tensor.to));
            }
        }
        merged.files += 1;
        merged.tensors += tensors.len();
        write_file(&out.join(&name), &tensors, &mut shards, &modules, &mut step)?;
    }
    merged.types.sort_unstable();
    merged.types.dedup();
    if merged.changed != adapter.modules.len() {
        let problem = format!(
            "{} of its modules are no weights of {}",
            adapter.modules.len() - merged.changed,
            base.display()
        );
        return Err(ModelError::Input(format!("the adapter does not fit: {problem}")));
    }
    if base.join(INDEX_FILE).exists()
        && merged.files > 0
        && weight_map.values().any(|file| file != "model.safetensors")
    {
        let index = json!({"metadata": {"total_size": merged.bytes}, "weight_map": weight_map});
        files::write_atomic(&out.join(INDEX_FILE), format!("{index:#}\n").as_bytes())?;
    }
    write_config(base, out, kind)?;
    Ok(merged)
}

/// One tensor on its way.
struct Planned {
    name: String,
    shape: Vec<usize>,
    from: Dtype,
    to: Dtype,
    bytes: u64,
}

/// The files to write with their tensors, largest elements first so that every tensor stays aligned.
fn plan(shards: &Shards, kind: Option<WeightType>) -> Result<Vec<(String, Vec<Planned>)>> {
    let mut files = Vec::new();
    for (path, names) in shards.files() {
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let entry = shards.entry(name)?;
            if matches!(entry.dtype, Dtype::U8 | Dtype::I8) {
                let problem = "is quantised; merge into the unquantised base";
                return Err(ModelError::tensor(path, name, problem));
            }
            let float = matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
            let to = kind.filter(|_| float).map_or(entry.dtype, WeightType::dtype);
            let count: usize = entry.shape.iter().product();
            let bytes = (count * to.bitsize() / 8) as u64;
            tensors.push(Planned {
                name: name.to_owned(),
                shape: entry.shape.clone(),
                from: entry.dtype,
                to,
                bytes,
            });
        }
        tensors.sort_by(|a, b| b.to.bitsize().cmp(&a.to.bitsize()).then_with(|| a.name.cmp(&b.name)));
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.push((file, tensors));
    }
    Ok(files)
}

type Modules<'a> = BTreeMap<String, &'a LoraModule>;

fn by_weight_name(adapter: &Adapter) -> Modules<'_> {
    let name = |layer: usize, target: Target| format!("model.layers.{layer}.{}.weight", target.path());
    adapter.modules.iter().map(|((layer, target), module)| (name(*layer, *target), module)).collect()
}

fn write_file(
    path: &Path,
    tensors: &[Planned],
    shards: &mut Shards,
    modules: &Modules<'_>,
    step: &mut impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let written = files::write_atomic_with(path, |out| {
        out.write_all(&header(tensors))?;
        for tensor in tensors {
            let done = step(&tensor.name).and_then(|()| match modules.get(&tensor.name) {
                Some(module) => write_merged(out, tensor, shards, module),
                None => write_through(out, tensor, shards),
            });
            if let Err(error) = done {
                failed = Some(error);
                return Err(io::Error::other("a tensor could not be made"));
            }
        }
        Ok(())
    });
    match (failed, written) {
        // A full disk is told by the writer, with the path of the file.
        (Some(ModelError::Io { source, .. }), Err(_)) if source.kind() == io::ErrorKind::StorageFull => {
            Err(ModelError::io(path, source))
        }
        (Some(error), _) => Err(error),
        (None, written) => Ok(written?),
    }
}

/// Length and text of a safetensors header.
fn header(tensors: &[Planned]) -> Vec<u8> {
    let mut map = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut begin = 0;
    for tensor in tensors {
        let end = begin + tensor.bytes;
        map.insert(
            tensor.name.clone(),
            json!({"dtype": tensor.to, "shape": tensor.shape, "data_offsets": [begin, end]}),
        );
        begin = end;
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(&text);
    header
}

fn write_merged(
    out: &mut impl Write,
    tensor: &Planned,
    shards: &mut Shards,
    module: &LoraModule,
) -> Result<()> {
    let mut weight = shards.read_f32(&tensor.name, &[module.out_features(), module.in_features()])?;
    module.merge_into(&mut weight, Threads::ONE);
    if let Some(bad) = weight.iter().find(|value| !value.is_finite()) {
        return Err(ModelError::non_finite(format!("`{}` after the merge ({bad})", tensor.name)));
    }
    let path = shards.path_of(&tensor.name).to_owned();
    // Converted in pieces: only the matrix itself is held whole.
    for piece in weight.chunks(1 << 18) {
        let bytes = encode(piece, tensor.to).ok_or_else(|| too_large(&path, tensor))?;
        out.write_all(&bytes).map_err(|error| ModelError::io(&path, error))?;
    }
    Ok(())
}

fn write_through(out: &mut impl Write, tensor: &Planned, shards: &mut Shards) -> Result<()> {
    let path = shards.path_of(&tensor.name).to_owned();
    let write = |out: &mut dyn Write, bytes: &[u8]| {
        out.write_all(bytes).map_err(|error| ModelError::io(&path, error))
    };
    shards.for_each_chunk(&tensor.name, |chunk| {
        if tensor.from == tensor.to {
            return write(out, chunk);
        }
        let bytes = encode(&decode(chunk, tensor.from), tensor.to).ok_or_else(|| too_large(&path, tensor))?;
        write(out, &bytes)
    })
}

fn too_large(path: &Path, tensor: &Planned) -> ModelError {
    let problem = format!("holds a value that {:?} cannot; write f32 or bf16", tensor.to);
    ModelError::tensor(path, tensor.name.as_str(), problem)
}

fn decode(bytes: &[u8], from: Dtype) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match from {
        Dtype::F16 => pairs().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|pair| bf16::from_le_bytes(*pair).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
    }
}

/// Bytes of the values; `None` where one does not fit.
fn encode(values: &[f32], to: Dtype) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(values.len() * to.bitsize() / 8);
    for value in values {
        match to {
            Dtype::F16 => {
                bytes.extend(Some(f16::from_f32(*value)).filter(|half| half.is_finite())?.to_le_bytes());
            }
            Dtype::BF16 => {
                bytes.extend(Some(bf16::from_f32(*value)).filter(|half| half.is_finite())?.to_le_bytes());
            }
            _ => bytes.extend(value.to_le_bytes()),
        }
    }
    Some(bytes)
}

/// The base's own config.json, with the type of the weights where that changed.
fn write_config(base: &Path, out: &Path, kind: Option<WeightType>) -> Result<()> {
    let path = base.join(CONFIG_FILE);
    let mut text = read_text(&path)?.unwrap_or_default();
    if let Some(kind) = kind {
        let mut config: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| ModelError::malformed(&path, format!("not JSON: {error}")))?;
        let keys: Vec<&str> =
            ["dtype", "torch_dtype"].into_iter().filter(|key| config.contains_key(*key)).collect();
        for key in if keys.is_empty() { vec!["torch_dtype"] } else { keys } {
            config.insert(key.to_owned(), kind.name().into());
        }
        text = format!("{:#}\n", Value::Object(config));
    }
    Ok(files::write_atomic(&out.join(CONFIG_FILE), text.as_bytes())?)
}

impl LoraModule {
    /// Makes of a weight, `[out, in]`, what the module makes of it: weight += scale B A, and DoRA's scaling
    /// of the rows.
    ///
    /// # Panics
    /// When `weight` is not of the module's shape.
    pub(crate) fn merge_into(&self, weight: &mut [f32], threads: Threads) {
        let (out, input) = (self.out_features(), self.in_features());
        assert_eq!(weight.len(), out * input, "the weight has the module's shape");
        let (b, a) = (Mat::new(&self.b, out, self.rank), Mat::new(&self.a, self.rank, input));
        matmul(threads, MatMut::new(weight, input), Store::Add, self.scale, b, a);
        let Some(dora) = &self.dora else { return };
        assert_eq!(dora.magnitude.len(), out, "a magnitude for each row");
        for (row, magnitude) in weight.chunks_exact_mut(input).zip(&dora.magnitude) {
            crate::simd::scale(row, magnitude / dora::norm(row));
        }
    }
}
