//! `inspect FILE.gguf`: what an exported file says of itself.

use std::path::Path;

use nightshift_core::{Failure, Outcome};
use nightshift_model::{GgufFile, GgufValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::base::refused;

/// Entries of a list that are shown.
const SHOWN: usize = 4;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    metadata: Map<String, Value>,
    tensors: Vec<Tensor>,
}

/// One tensor; dimensions innermost first, as ggml has them.
#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dims: Vec<u64>,
    #[serde(rename = "type")]
    kind: String,
}

/// Reads the header; a damaged file is exit 4.
pub(super) fn run(path: &Path) -> Result<Outcome, Failure> {
    let file = GgufFile::open(path).map_err(refused)?;
    let tensors = file.tensors.iter().map(|tensor| Tensor {
        name: tensor.name.clone(),
        dims: tensor.dims.clone(),
        kind: format!("{:?}", tensor.kind).to_uppercase(),
    });
    let report = Report {
        path: path.display().to_string(),
        metadata: file.metadata.iter().map(|(key, value)| (key.clone(), show(value))).collect(),
        tensors: tensors.collect(),
    };
    let mut text = format!("{}: {} tensors", report.path, report.tensors.len());
    for (key, value) in &report.metadata {
        text.push_str(&format!("\n  {key} = {value}"));
    }
    for Tensor { name, dims, kind } in &report.tensors {
        text.push_str(&format!("\n  {name:<36} {kind:>5} {dims:?}"));
    }
    Ok(Outcome::done(&report, text).status("valid"))
}

/// A value as JSON; of long lists the first entries and the length.
fn show(value: &GgufValue) -> Value {
    match value {
        GgufValue::U32(value) => json!(value),
        GgufValue::U64(value) => json!(value),
        GgufValue::I32(value) => json!(value),
        GgufValue::I64(value) => json!(value),
        GgufValue::F32(value) => json!(value),
        GgufValue::F64(value) => json!(value),
        GgufValue::Bool(value) => json!(value),
        GgufValue::Text(text) => json!(text),
        GgufValue::Array(list) => {
            let first: Vec<Value> = list.iter().take(SHOWN).map(show).collect();
            json!({"length": list.len(), "first": first})
        }
    }
}
