//! NF4 in safetensors files: the tensors that bitsandbytes keeps beside a packed weight.
//!
//! Beside `X.weight` (two indices a byte) stand `.absmax`, `.quant_map`, for double quantisation
//! `.nested_absmax` and `.nested_quant_map`, and the JSON text `.quant_state.bitsandbytes__nf4`.
//! Every one of them is held against the others before a number is believed; another quantisation
//! (FP4) is refused by its name.

use std::borrow::Cow;
use std::sync::Arc;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::error::{ModelError, Result};
use crate::nf4::double::{self, DYNAMIC};
use crate::nf4::{CODEBOOK, Double, Nf4, Scales};
use crate::shards::Shards;
use crate::tensor_write::Tensor;

/// Length of a `quant_state` text that nobody exceeds.
const STATE_LIMIT: usize = 1 << 16;
/// Lengths of a block that bitsandbytes has.
const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];
const STATE: &str = "quant_state.bitsandbytes__";

/// Whether a weight is stored in a quantised form.
pub(crate) fn is_packed(shards: &Shards, name: &str) -> Result<bool> {
    Ok(matches!(shards.entry(name)?.dtype, Dtype::U8 | Dtype::I8))
}

/// Reads the NF4 matrix `name` of this shape; the names of the tensors it consists of are added to
/// `used`.
pub(crate) fn read(
    shards: &mut Shards,
    name: &str,
    [rows, cols]: [usize; 2],
    mut used: impl FnMut(String),
) -> Result<Nf4> {
    let part = |part: &str| format!("{name}.{part}");
    let refused = |shards: &Shards, problem: String| ModelError::tensor(shards.path_of(name), name, problem);
    let len = rows * cols;
    let state_name = find_state(shards, name)?;
    let state = read_state(shards, &state_name)?;
    let field = |key: &str| state.get(key).and_then(Value::as_u64).map(|n| n as usize);
    let quoted: Vec<usize> = state.get("shape").and_then(shape).unwrap_or_default();
    if quoted != [rows, cols] {
        let problem =
            format!("was quantised from shape {quoted:?}, but the config asks for [{rows}, {cols}]");
        return Err(refused(shards, problem));
    }
    let block = field("blocksize").filter(|block| BLOCKS.contains(block));
    let Some(block) = block else {
        return Err(refused(shards, "`blocksize` in its quant_state is none of bitsandbytes'".to_owned()));
    };
    if shards.read_f32(&part("quant_map"), &[CODEBOOK.len()])? != CODEBOOK {
        return Err(refused(shards, "its quant_map is not that of NF4".to_owned()));
    }
    let codes = shards.read_bytes(name, &[len.div_ceil(2), 1])?;
    let blocks = len.div_ceil(block);
    let nested = shards.names_contain(&part("nested_absmax"));
    let scales = if nested {
        let bad = |what: &str| refused(shards, format!("{what} in its quant_state is missing or malformed"));
        let nested_block =
            field("nested_blocksize").filter(|n| *n > 0).ok_or_else(|| bad("nested_blocksize"))?;
        let offset = state.get("nested_offset").and_then(Value::as_f64).map(|x| x as f32);
        let offset = offset.filter(|x| x.is_finite()).ok_or_else(|| bad("nested_offset"))?;
        let map = shards.read_f32(&part("nested_quant_map"), &[256])?;
        let map: [f32; 256] = map.try_into().expect("256 values were read");
        let map = if map == **DYNAMIC { Arc::clone(&DYNAMIC) } else { Arc::new(map) };
        let absmax = shards.read_f32(&part("nested_absmax"), &[blocks.div_ceil(nested_block)])?;
        let codes = shards.read_bytes(&part("absmax"), &[blocks])?;
        Scales::Double(Double { codes, block: nested_block, absmax, map, offset })
    } else {
        Scales::Plain(shards.read_f32(&part("absmax"), &[blocks])?)
    };
    let parts: &[&str] = if nested { &["nested_absmax", "nested_quant_map"] } else { &[] };
    ["absmax", "quant_map"].iter().chain(parts).for_each(|name| used(part(name)));
    used(state_name);
    used(name.to_owned());
    Nf4::from_parts(len, block, codes, scales)
        .ok_or_else(|| refused(shards, "its parts do not fit each other".to_owned()))
}

/// The name of the `quant_state` of an NF4 matrix; anything else that is quantised is refused.
fn find_state(shards: &Shards, name: &str) -> Result<String> {
    let wanted = format!("{name}.{STATE}nf4");
    if shards.names_contain(&wanted) {
        return Ok(wanted);
    }
    let prefix = format!("{name}.{STATE}");
    let other = shards.names().into_iter().find_map(|name| name.strip_prefix(&prefix).map(str::to_owned));
    let problem = match other {
        Some(kind) => format!("is quantised as {}, which is not read; NF4 is", kind.to_uppercase()),
        None => format!("is stored as {:?} without a quant_state of NF4", shards.entry(name)?.dtype),
    };
    Err(ModelError::tensor(shards.path_of(name), name, problem))
}

fn read_state(shards: &mut Shards, name: &str) -> Result<Value> {
    let length = shards.entry(name)?.shape.iter().product::<usize>();
    let bad = |shards: &Shards, problem: &str| ModelError::tensor(shards.path_of(name), name, problem);
    if length > STATE_LIMIT {
        return Err(bad(shards, "is too long for a quant_state"));
    }
    let text = shards.read_bytes(name, &[length])?;
    let state: Value = serde_json::from_slice(&text).map_err(|_| bad(shards, "is not JSON"))?;
    match state.get("quant_type").and_then(Value::as_str) {
        Some("nf4") => Ok(state),
        other => {
            let kind = other.unwrap_or("nothing known");
            Err(bad(shards, &format!("says that the weight is quantised as {kind}; NF4 is read")))
        }
    }
}

fn shape(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|dim| dim.as_u64().map(|dim| dim as usize)).collect()
}

/// The tensors of the NF4 matrix `name`, as bitsandbytes writes them. `dtype` is what a reader is told
/// to dequantise to.
pub(crate) fn tensors<'a>(
    name: &str,
    [rows, cols]: [usize; 2],
    values: &'a Nf4,
    dtype: &str,
) -> Vec<Tensor<'a>> {
    let part = |part: &str| format!("{name}.{part}");
    // Spaced and ordered as Python's json has it.
    let mut state = format!(
        r#"{{"quant_type": "nf4", "blocksize": {}, "dtype": "{dtype}", "shape": [{rows}, {cols}]"#,
        values.block()
    );
    let mut list = vec![
        Tensor::u8(name.to_owned(), vec![values.codes().len(), 1], Cow::Borrowed(values.codes())),
        Tensor::f32(part("quant_map"), vec![CODEBOOK.len()], Cow::Borrowed(&CODEBOOK)),
    ];
    match values.scales() {
        Scales::Plain(scales) => {
            list.push(Tensor::f32(part("absmax"), vec![scales.len()], Cow::Borrowed(scales)));
        }
        Scales::Double(Double { codes, block, absmax, map, offset }) => {
            let offset = f64::from(*offset);
            state += &format!(
                r#", "nested_blocksize": {block}, "nested_dtype": "float32", "nested_offset": {offset:?}"#
            );
            list.push(Tensor::u8(part("absmax"), vec![codes.len()], Cow::Borrowed(codes)));
            list.push(Tensor::f32(part("nested_absmax"), vec![absmax.len()], Cow::Borrowed(absmax)));
            list.push(Tensor::f32(part("nested_quant_map"), vec![map.len()], Cow::Borrowed(&map[..])));
        }
    }
    state.push('}');
    let text = state.into_bytes();
    list.push(Tensor::u8(part(&format!("{STATE}nf4")), vec![text.len()], Cow::Owned(text)));
    list
}

/// `quantization_config` of a config.json whose linear layers are written by [`tensors`].
pub(crate) fn config(values: &Nf4, dtype: &str) -> Value {
    json!({
        "quant_method": "bitsandbytes",
        "load_in_4bit": true,
        "load_in_8bit": false,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": matches!(values.scales(), Scales::Double(_)),
        "bnb_4bit_compute_dtype": dtype,
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": ["lm_head"],
    })
}

const _: () = assert!(double::BLOCK == 256, "bitsandbytes' nested_blocksize");
