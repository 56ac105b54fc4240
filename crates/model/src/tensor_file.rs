//! One safetensors file: its header checked before anything else is believed, its tensors read one
//! at a time.
//!
//! Header and offsets come from strangers. The header length is held against the size of the file
//! before it is read, every shape against its byte range, and the ranges must tile the rest of the
//! file without hole or overlap, as the format demands. Nothing is allocated by a number that has
//! not passed these checks. Files are read, not mapped: a mapped file that is replaced while in use
//! kills the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value};

use crate::error::{ModelError, Result};
use crate::simd::all_finite;

/// Bytes read and converted at a time: what stays in the level-2 cache from the one to the other.
const CHUNK: usize = 1 << 18;

/// The largest header that other readers of the format accept.
const MAX_HEADER: u64 = 100_000_000;

/// Where one tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Element type.
    pub(crate) dtype: Dtype,
    /// Dimensions, outermost first.
    pub(crate) shape: Vec<usize>,
    /// First byte, counted from the end of the header.
    begin: u64,
    /// Length in bytes.
    length: u64,
}

/// An open safetensors file with a checked header.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    entries: BTreeMap<String, Entry>,
}

impl TensorFile {
    /// Opens a file and checks its header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |error| ModelError::io(path, error);
        let bad =
            |problem: String| ModelError::malformed(path, format!("damaged safetensors file: {problem}"));
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size < 8 {
            return Err(bad(format!("{size} bytes cannot hold a header")));
        }
        let mut length = [0_u8; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > size - 8 || length > MAX_HEADER {
            return Err(bad(format!("the header claims {length} bytes, the file has {}", size - 8)));
        }
        let mut header = vec![0_u8; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Map<String, Value> = serde_json::from_slice(&header)
            .map_err(|error| bad(format!("the header is not JSON: {error}")))?;
        let data_start = 8 + length;
        let entries = parse_entries(path, header)?;
        check_tiling(path, &entries, size - data_start)?;
        Ok(Self { path: path.to_owned(), file, data_start, entries })
    }

    /// The file this was read from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor, by name.
    pub(crate) const fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The values of a tensor as f32, row-major. F32, F16 and BF16 are converted exactly; NaN and
    /// infinity are refused.
    pub(crate) fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.entry(name)?.shape.iter().product());
        self.for_each_f32(name, |chunk| values.extend_from_slice(chunk))?;
        Ok(values)
    }

    /// As [`TensorFile::read_f32`], piece by piece, in order.
    pub(crate) fn for_each_f32(&mut self, name: &str, mut take: impl FnMut(&[f32])) -> Result<()> {
        let dtype = self.entry(name)?.dtype;
        let path = self.path.clone();
        let (mut before, mut values) = (0, Vec::new());
        self.for_each_chunk(name, |chunk| {
            values.clear();
            match dtype {
                Dtype::F32 => convert(chunk, f32::from_le_bytes, &mut values),
                Dtype::F16 => convert(chunk, |bytes| f16::from_le_bytes(bytes).to_f32(), &mut values),
                Dtype::BF16 => convert(chunk, |bytes| bf16::from_le_bytes(bytes).to_f32(), &mut values),
                other => {
                    let problem = format!("type {other:?} is not read; F32, F16 and BF16 are");
                    return Err(ModelError::tensor(&path, name, problem));
                }
            }
            if !all_finite(&values) {
                let at = values.iter().position(|value| !value.is_finite()).unwrap_or_default();
                let problem = format!("element {} is {}", before + at, values[at]);
                return Err(ModelError::tensor(&path, name, problem));
            }
            before += values.len();
            take(&values);
            Ok(())
        })
    }

    /// Hands the raw bytes of a tensor to `take`, in order, in pieces of whole elements.
    pub(crate) fn for_each_chunk(
        &mut self,
        name: &str,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Entry { begin, length, .. } = *self.entry(name)?;
        let io = |error| ModelError::io(&self.path, error);
        self.file.seek(SeekFrom::Start(self.data_start + begin)).map_err(io)?;
        let mut buffer = vec![0_u8; CHUNK.min(length as usize)];
        let mut left = length;
        while left > 0 {
            let piece = &mut buffer[..CHUNK.min(left as usize)];
            self.file.read_exact(piece).map_err(io)?;
            take(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| ModelError::tensor(&self.path, name, "missing"))
    }
}

/// Appends the numbers of a piece, `SIZE` bytes each.
fn convert<const SIZE: usize>(chunk: &[u8], number: impl Fn([u8; SIZE]) -> f32, values: &mut Vec<f32>) {
    values.extend(chunk.as_chunks().0.iter().map(|bytes| number(*bytes)));
}

fn parse_entries(path: &Path, header: Map<String, Value>) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for (name, value) in header {
        if name == "__metadata__" {
            continue;
        }
        let entry =
            parse_entry(&value).map_err(|problem| ModelError::tensor(path, name.as_str(), problem))?;
        entries.insert(name, entry);
    }
    Ok(entries)
}

fn parse_entry(value: &Value) -> std::result::Result<Entry, String> {
    let dtype = value.get("dtype").ok_or("has no dtype in the header")?;
    let dtype: Dtype =
        serde_json::from_value(dtype.clone()).map_err(|_| format!("unknown dtype {dtype} in the header"))?;
    let numbers =
        |key: &str| -> Option<Vec<u64>> { value.get(key)?.as_array()?.iter().map(Value::as_u64).collect() };
    let dims = numbers("shape").ok_or("has no valid shape in the header")?;
    let Some(&[begin, end]) = numbers("data_offsets").as_deref() else {
        return Err("has no valid data_offsets in the header".to_owned());
    };
    let bits = dims.iter().try_fold(dtype.bitsize() as u64, |bits, dim| bits.checked_mul(*dim));
    let wanted = bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
    let length =
        end.checked_sub(begin).ok_or_else(|| format!("data_offsets {begin}..{end} run backwards"))?;
    if wanted != Some(length) {
        return Err(format!("shape {dims:?} of {dtype:?} does not fit into {length} bytes"));
    }
    let shape = dims.into_iter().map(|dim| usize::try_from(dim).map_err(|_| "shape too large".to_owned()));
    Ok(Entry { dtype, shape: shape.collect::<std::result::Result<_, _>>()?, begin, length })
}

/// The tensors must fill the `available` bytes exactly, in some order.
fn check_tiling(path: &Path, entries: &BTreeMap<String, Entry>, available: u64) -> Result<()> {
    let mut by_place: Vec<_> = entries.iter().collect();
    by_place.sort_by_key(|(_, entry)| (entry.begin, entry.length));
    let mut reached = 0;
    for (name, entry) in by_place {
        let end = entry.begin.saturating_add(entry.length);
        let problem = if entry.begin < reached {
            format!(
                "data_offsets start at {}, inside the tensor before it (which ends at {reached})",
                entry.begin
            )
        } else if entry.begin > reached {
            format!("data_offsets start at {}, leaving a hole from {reached}", entry.begin)
        } else if end > available {
            format!("ends at byte {end}, but the file holds only {available} bytes of data; it is cut short")
        } else {
            reached = end;
            continue;
        };
        return Err(ModelError::tensor(path, name.as_str(), problem));
    }
    if reached == available {
        return Ok(());
    }
    let problem = format!("damaged safetensors file: {} bytes after the last tensor", available - reached);
    Err(ModelError::malformed(path, problem))
}
