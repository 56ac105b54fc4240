//! Writing safetensors files: the header from names, types and shapes, then each tensor's bytes,
//! streamed. The same tensors give the same bytes, those of the `safetensors` crate: sorted by
//! width of element (widest first), then by name; header padded with spaces to whole words.

use std::borrow::Cow;
use std::io::{self, Write};

use half::bf16;
use safetensors::Dtype;
use serde_json::{Map, Value, json};

/// Numbers turned into bytes at a time.
const CHUNK: usize = 1 << 14;

/// A tensor to be written.
#[derive(Debug)]
pub(crate) struct Tensor<'a> {
    name: String,
    shape: Vec<usize>,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    F32(Cow<'a, [f32]>),
    Bf16(&'a [bf16]),
    U8(Cow<'a, [u8]>),
}

impl<'a> Tensor<'a> {
    /// Of 32-bit floats.
    pub(crate) const fn f32(name: String, shape: Vec<usize>, values: Cow<'a, [f32]>) -> Self {
        Self { name, shape, values: Values::F32(values) }
    }

    /// Of bf16.
    pub(crate) const fn bf16(name: String, shape: Vec<usize>, values: &'a [bf16]) -> Self {
        Self { name, shape, values: Values::Bf16(values) }
    }

    /// Of bytes.
    pub(crate) const fn u8(name: String, shape: Vec<usize>, values: Cow<'a, [u8]>) -> Self {
        Self { name, shape, values: Values::U8(values) }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    const fn dtype(&self) -> Dtype {
        match &self.values {
            Values::F32(_) => Dtype::F32,
            Values::Bf16(_) => Dtype::BF16,
            Values::U8(_) => Dtype::U8,
        }
    }

    /// Bytes of its values.
    pub(crate) fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => size_of_val::<[f32]>(values),
            Values::Bf16(values) => size_of_val::<[bf16]>(*values),
            Values::U8(values) => values.len(),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.values {
            Values::F32(values) => numbers(out, values, f32::to_le_bytes),
            Values::Bf16(values) => numbers(out, values, bf16::to_le_bytes),
            Values::U8(values) => out.write_all(values),
        }
    }
}

/// Writes a file of these tensors.
pub(crate) fn write(out: &mut impl Write, mut tensors: Vec<Tensor<'_>>) -> io::Result<()> {
    tensors.sort_by(|a, b| {
        let width = |tensor: &Tensor<'_>| std::cmp::Reverse(tensor.dtype().bitsize());
        width(a).cmp(&width(b)).then_with(|| a.name.cmp(&b.name))
    });
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut begin = 0;
    for tensor in &tensors {
        let end = begin + tensor.bytes();
        let dtype = serde_json::to_value(tensor.dtype()).map_err(io::Error::other)?;
        let entry: Value = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end]});
        header.insert(tensor.name.clone(), entry);
        begin = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    tensors.iter().try_for_each(|tensor| tensor.write(out))
}

fn numbers<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK * N);
    for chunk in values.chunks(CHUNK) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|value| bytes(*value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}
