//! The container: version 3, little-endian, metadata, then tensors aligned to 32 bytes
//! (ggml `docs/gguf.md`).
//!
//! Writing streams: the header says every size before the first tensor is asked for. Reading treats
//! every number as a stranger's: counts and lengths are held against the size of the file before
//! anything is allocated by them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use crate::error::{ModelError, Result};

const MAGIC: [u8; 4] = *b"GGUF";
const VERSION: u32 = 3;
/// Tensor data starts at multiples of this (the format's default).
const ALIGNMENT: u64 = 32;
/// Dimensions of a tensor that ggml allows.
const MAX_DIMS: u32 = 4;
/// How deep arrays may nest in a file that is read.
const MAX_DEPTH: usize = 4;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// Unsigned 32-bit.
    U32(u32),
    /// Unsigned 64-bit.
    U64(u64),
    /// Signed; the file's width is 32 bits when written.
    I32(i32),
    /// Signed 64-bit.
    I64(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Values of one type.
    Array(Vec<Self>),
}

/// Element types that are written and read here; others are only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// Any other ggml type, by its number.
    Other(u32),
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Name.
    pub name: String,
    /// Dimensions in ggml's order: the innermost first.
    pub dims: Vec<u64>,
    /// Element type.
    pub kind: GgufType,
    /// First byte, from the start of the data.
    offset: u64,
}

/// An open GGUF file with a checked header.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    /// Metadata in file order.
    pub metadata: Vec<(String, GgufValue)>,
    /// Tensors in file order.
    pub tensors: Vec<GgufTensor>,
    data_start: u64,
}

impl GgufType {
    /// Bytes of one element.
    pub(crate) const fn size(self) -> Option<u64> {
        match self {
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(_) => None,
        }
    }

    /// The number in the file (`enum ggml_type`).
    const fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 30,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::F32,
            1 => Self::F16,
            30 => Self::Bf16,
            other => Self::Other(other),
        }
    }
}

/// Values in the bytes of `kind`; `None` where one is finite in f32 and not in `kind`.
pub(crate) fn to_bytes(values: &[f32], kind: GgufType) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(values.len() * kind.size()? as usize);
    for value in values {
        match kind {
            GgufType::F16 => {
                let half = f16::from_f32(*value);
                if !half.is_finite() {
                    return None;
                }
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            GgufType::Bf16 => {
                let half = bf16::from_f32(*value);
                if !half.is_finite() {
                    return None;
                }
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            _ => bytes.extend_from_slice(&value.to_le_bytes()),
        }
    }
    Some(bytes)
}

/// A file to be written: metadata and the shapes of its tensors.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    metadata: Vec<(String, GgufValue)>,
    tensors: Vec<GgufTensor>,
    end: u64,
}

impl Layout {
    /// Adds a metadata entry.
    pub(crate) fn set(&mut self, key: impl Into<String>, value: GgufValue) {
        self.metadata.push((key.into(), value));
    }

    /// Adds text.
    pub(crate) fn text(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.set(key, GgufValue::Text(value.into()));
    }

    /// Adds a count.
    pub(crate) fn count(&mut self, key: impl Into<String>, value: usize) {
        self.set(key, GgufValue::U32(u32::try_from(value).unwrap_or(u32::MAX)));
    }

    /// Adds a tensor whose `dims` are given outermost first, as everywhere else in this crate.
    pub(crate) fn tensor(&mut self, name: String, shape: &[usize], kind: GgufType) {
        let dims: Vec<u64> = shape.iter().rev().map(|dim| *dim as u64).collect();
        let bytes = dims.iter().product::<u64>() * kind.size().unwrap_or(0);
        self.tensors.push(GgufTensor { name, dims, kind, offset: self.end });
        self.end = (self.end + bytes).next_multiple_of(ALIGNMENT);
    }

    /// Tensors added so far.
    pub(crate) const fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Writes everything; `fill` gives the f32 values of tensor number `i`, in order.
    pub(crate) fn write(&self, path: &Path, mut fill: impl FnMut(usize) -> Result<Vec<f32>>) -> Result<()> {
        let mut failed = None;
        let written = nightshift_core::files::write_atomic_with(path, |out| {
            out.write_all(&self.header())?;
            for (index, tensor) in self.tensors.iter().enumerate() {
                match fill(index).and_then(|values| tensor_bytes(path, tensor, &values)) {
                    Ok(bytes) => out.write_all(&bytes)?,
                    Err(error) => {
                        failed = Some(error);
                        return Err(io::Error::other("a tensor could not be made"));
                    }
                }
            }
            Ok(())
        });
        match (failed, written) {
            (Some(error), _) => Err(error),
            (None, written) => Ok(written?),
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            push_text(&mut out, key);
            out.extend_from_slice(&type_number(value).to_le_bytes());
            push_value(&mut out, value);
        }
        for tensor in &self.tensors {
            push_text(&mut out, &tensor.name);
            out.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                out.extend_from_slice(&dim.to_le_bytes());
            }
            out.extend_from_slice(&tensor.kind.number().to_le_bytes());
            out.extend_from_slice(&tensor.offset.to_le_bytes());
        }
        out.resize((out.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
        out
    }
}

/// The bytes of one tensor, padded to the alignment.
fn tensor_bytes(path: &Path, tensor: &GgufTensor, values: &[f32]) -> Result<Vec<u8>> {
    let wanted: u64 = tensor.dims.iter().product();
    if values.len() as u64 != wanted {
        let problem = format!("{} values for the shape {:?}", values.len(), tensor.dims);
        return Err(ModelError::tensor(path, tensor.name.as_str(), problem));
    }
    let mut bytes = to_bytes(values, tensor.kind).ok_or_else(|| {
        let problem = format!("a value is too large for {:?}; write f32 or bf16", tensor.kind);
        ModelError::tensor(path, tensor.name.as_str(), problem)
    })?;
    bytes.resize((bytes.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
    Ok(bytes)
}

const fn type_number(value: &GgufValue) -> u32 {
    match value {
        GgufValue::U32(_) => 4,
        GgufValue::I32(_) => 5,
        GgufValue::F32(_) => 6,
        GgufValue::Bool(_) => 7,
        GgufValue::Text(_) => 8,
        GgufValue::Array(_) => 9,
        GgufValue::U64(_) => 10,
        GgufValue::I64(_) => 11,
        GgufValue::F64(_) => 12,
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U32(value) => out.extend_from_slice(&value.to_le_bytes()),
        GgufValue::U64(value) => out.extend_from_slice(&value.to_le_bytes()),
        GgufValue::I32(value) => out.extend_from_slice(&value.to_le_bytes()),
        GgufValue::I64(value) => out.extend_from_slice(&value.to_le_bytes()),
        GgufValue::F32(value) => out.extend_from_slice(&value.to_le_bytes()),
        GgufValue::F64(value) => out.extend_from_slice(&value.to_le_bytes()),
        GgufValue::Bool(value) => out.push(u8::from(*value)),
        GgufValue::Text(text) => push_text(out, text),
        GgufValue::Array(values) => {
            let kind = values.first().map_or(8, type_number);
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&(values.len() as u64).to_le_bytes());
            for value in values {
                push_value(out, value);
            }
        }
    }
}

impl GgufFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// Another format or version, counts or lengths that the file cannot hold, tensors outside it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| ModelError::io(path, error))?;
        let size = file.metadata().map_err(|error| ModelError::io(path, error))?.len();
        let mut reader = Reader { input: io::BufReader::new(file), path, at: 0, size };
        if reader.bytes::<4>()? != MAGIC {
            return Err(reader.bad("does not begin with `GGUF`"));
        }
        let version = reader.u32()?;
        if !(2..=VERSION).contains(&version) {
            return Err(reader.bad(&format!("version {version} is not read; 2 and 3 are")));
        }
        // A tensor takes at least 24 bytes of header, an entry 13: more are a lie.
        let (tensors, entries) = (reader.count(24)?, reader.count(13)?);
        let mut metadata = Vec::new();
        for _ in 0..entries {
            let key = reader.text()?;
            let kind = reader.u32()?;
            metadata.push((key, reader.value(kind, 0)?));
        }
        let mut list = Vec::new();
        for _ in 0..tensors {
            list.push(reader.tensor()?);
        }
        let alignment = metadata.iter().find(|(key, _)| key == "general.alignment");
        let alignment = match alignment {
            Some((_, GgufValue::U32(bytes))) if bytes.is_power_of_two() => u64::from(*bytes),
            Some(_) => return Err(reader.bad("general.alignment is no power of two")),
            None => ALIGNMENT,
        };
        let data_start = reader.at.next_multiple_of(alignment);
        for tensor in &list {
            let end =
                length(tensor).and_then(|bytes| data_start.checked_add(tensor.offset)?.checked_add(bytes));
            if tensor.kind.size().is_some() && end.is_none_or(|end| end > size) {
                let problem = "reaches beyond the end of the file; it is cut short";
                return Err(ModelError::tensor(path, tensor.name.as_str(), problem));
            }
        }
        let file = reader.input.into_inner();
        Ok(Self { path: path.to_owned(), file, metadata, tensors: list, data_start })
    }

    /// The value under a metadata key.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The values of a tensor as f32, in file order.
    ///
    /// # Errors
    /// No such tensor, or a quantised one.
    pub fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensors.iter().find(|tensor| tensor.name == name);
        let tensor = tensor.ok_or_else(|| ModelError::tensor(&self.path, name, "missing"))?;
        let bytes = length(tensor).ok_or_else(|| {
            ModelError::tensor(&self.path, name, format!("type {:?} is not read", tensor.kind))
        })?;
        let io = |error| ModelError::io(&self.path, error);
        self.file.seek(SeekFrom::Start(self.data_start + tensor.offset)).map_err(io)?;
        let mut raw = vec![0_u8; bytes as usize];
        self.file.read_exact(&mut raw).map_err(io)?;
        let pairs = || raw.as_chunks::<2>().0.iter();
        Ok(match tensor.kind {
            GgufType::F16 => pairs().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect(),
            GgufType::Bf16 => pairs().map(|pair| bf16::from_le_bytes(*pair).to_f32()).collect(),
            _ => raw.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        })
    }
}

/// Bytes of a tensor of a known type.
fn length(tensor: &GgufTensor) -> Option<u64> {
    tensor.dims.iter().try_fold(tensor.kind.size()?, |bytes, dim| bytes.checked_mul(*dim))
}

struct Reader<'a> {
    input: io::BufReader<File>,
    path: &'a Path,
    at: u64,
    size: u64,
}

impl Reader<'_> {
    fn bad(&self, problem: &str) -> ModelError {
        ModelError::malformed(self.path, format!("damaged GGUF file: {problem} (at byte {})", self.at))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.size - self.at < N as u64 {
            return Err(self.bad("it is cut short"));
        }
        self.input.read_exact(&mut bytes).map_err(|error| ModelError::io(self.path, error))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, least: u64) -> Result<u64> {
        let count = self.u64()?;
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.size - self.at) {
            return Err(self.bad(&format!("a count of {count} does not fit into the file")));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String> {
        let mut bytes = vec![0; self.count(1)? as usize];
        self.input.read_exact(&mut bytes).map_err(|error| ModelError::io(self.path, error))?;
        self.at += bytes.len() as u64;
        String::from_utf8(bytes).map_err(|_| self.bad("text that is not UTF-8"))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<GgufValue> {
        Ok(match kind {
            0 => GgufValue::U32(u32::from(u8::from_le_bytes(self.bytes()?))),
            1 => GgufValue::I32(i32::from(i8::from_le_bytes(self.bytes()?))),
            2 => GgufValue::U32(u32::from(u16::from_le_bytes(self.bytes()?))),
            3 => GgufValue::I32(i32::from(i16::from_le_bytes(self.bytes()?))),
            4 => GgufValue::U32(self.u32()?),
            5 => GgufValue::I32(i32::from_le_bytes(self.bytes()?)),
            6 => GgufValue::F32(f32::from_le_bytes(self.bytes()?)),
            7 => GgufValue::Bool(self.bytes::<1>()? != [0]),
            8 => GgufValue::Text(self.text()?),
            9 if depth < MAX_DEPTH => {
                let kind = self.u32()?;
                let count = self.count(1)?;
                GgufValue::Array((0..count).map(|_| self.value(kind, depth + 1)).collect::<Result<_>>()?)
            }
            10 => GgufValue::U64(self.u64()?),
            11 => GgufValue::I64(i64::from_le_bytes(self.bytes()?)),
            12 => GgufValue::F64(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.bad(&format!("a value of the unknown type {other}"))),
        })
    }

    fn tensor(&mut self) -> Result<GgufTensor> {
        let name = self.text()?;
        let count = self.u32()?;
        if count > MAX_DIMS {
            return Err(self.bad(&format!("tensor `{name}` has {count} dimensions")));
        }
        let dims = (0..count).map(|_| self.u64()).collect::<Result<_>>()?;
        let kind = GgufType::from_number(self.u32()?);
        Ok(GgufTensor { name, dims, kind, offset: self.u64()? })
    }
}
