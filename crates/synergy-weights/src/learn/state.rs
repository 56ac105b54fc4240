//! A session as a safetensors file: numbers as tensors (F64, those of networks F32), the rest as one JSON text under the
//! metadata key `session`. Reading and writing again is exact.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::change::Detector;
use super::critic::Moments;
use super::deep::Deep;
use super::linear::Vector;
use super::{COUNT, LearnError, Levels, Options, Sample, Session};

/// The layout below.
const VERSION: u32 = 1;
/// Key of the metadata.
const KEY: &str = "session";
/// Numbers of one row: metrics, reward.
const ROW: usize = COUNT + 1;

/// What is no tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    learner: String,
    rows: u64,
    detector_rows: u64,
    since: u64,
    changes: Vec<u64>,
    levels: Option<Levels>,
    deep: Option<DeepHeader>,
}

#[derive(Serialize, Deserialize)]
struct DeepHeader {
    due: u64,
    adopted: bool,
    answered: bool,
    steps: Vec<u64>,
    /// Bits of the logarithm of the temperature.
    temperature: Option<u32>,
}

pub(super) fn write(session: &Session) -> Vec<u8> {
    let mut deep = session.deep.clone();
    let header = Header {
        version: VERSION,
        learner: session.options.kind.name().to_owned(),
        rows: session.rows,
        detector_rows: session.detector.rows,
        since: session.detector.since,
        changes: session.changes.clone(),
        levels: session.levels.clone(),
        deep: deep.as_mut().map(|deep| {
            let (due, adopted, answered) = (deep.due, deep.adopted, deep.answer.is_some());
            let (steps, temperature) = deep.counters();
            let steps = steps.into_iter().map(|steps| *steps).collect();
            DeepHeader { due, adopted, answered, steps, temperature: temperature.map(|t| t.to_bits()) }
        }),
    };
    let recent = session.recent.iter().flat_map(|s| s.deltas.into_iter().chain([s.roi_delta])).collect();
    let doubles = [
        ("start", session.start.to_vec()),
        ("weights", session.weights.to_vec()),
        ("critic", flat(&session.critic)),
        ("quick", flat(&session.detector.quick)),
        ("cusum", vec![session.detector.sum]),
        ("recent", recent),
        ("answer", session.deep.as_ref().and_then(|deep| deep.answer).unwrap_or_default().to_vec()),
    ];
    let mut tensors: Vec<(&str, Dtype, Vec<u8>)> = doubles
        .iter()
        .map(|(name, values)| (*name, Dtype::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    if let Some(deep) = &mut deep {
        tensors.extend(deep.vectors().into_iter().map(|(name, values)| {
            (name, Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
        }));
    }
    let views = tensors.iter().map(|(name, dtype, bytes)| {
        let length = bytes.len() * 8 / dtype.bitsize();
        (*name, TensorView::new(*dtype, vec![length], bytes).expect("the length counts the bytes"))
    });
    let text = serde_json::to_string(&header).expect("plain numbers and names are JSON");
    let metadata = HashMap::from([(KEY.to_owned(), text)]);
    safetensors::serialize(views, Some(metadata)).expect("distinct names and matching lengths")
}

pub(super) fn read(bytes: &[u8], options: &Options) -> Result<Session, LearnError> {
    let damaged = |what: &dyn std::fmt::Display| LearnError::Damaged(what.to_string());
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let text =
        metadata.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| damaged(&"no session in it"))?;
    let header: Header = serde_json::from_str(text).map_err(|e| damaged(&e))?;
    if header.version != VERSION {
        return Err(damaged(&format!("version {}, {VERSION} is understood", header.version)));
    }
    if header.learner != options.kind.name() {
        return Err(LearnError::OtherLearner { found: header.learner, asked: options.kind });
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let recent = numbers(&file, "recent")?;
    if recent.len() % ROW != 0 {
        return Err(damaged(&"a row is cut off"));
    }
    let sum = fixed::<1>(&file, "cusum")?[0];
    let mut session = Session {
        options: options.clone(),
        start: fixed(&file, "start")?,
        weights: fixed(&file, "weights")?,
        critic: unflat(&fixed(&file, "critic")?),
        detector: Detector {
            quick: unflat(&fixed(&file, "quick")?),
            sum,
            since: header.since,
            rows: header.detector_rows,
        },
        recent: recent
            .chunks_exact(ROW)
            .map(|row| Sample { deltas: std::array::from_fn(|i| row[i]), roi_delta: row[COUNT] })
            .collect(),
        rows: header.rows,
        changes: header.changes,
        levels: header.levels,
        deep: Deep::new(options),
    };
    if let Some(deep) = &mut session.deep {
        let header = header.deep.ok_or_else(|| damaged(&"no networks in it"))?;
        networks(deep, &header, &file)?;
    }
    let excess = session.recent.len().saturating_sub(options.replay);
    session.recent.drain(..excess);
    Ok(session)
}

/// Fills networks of the shape asked for.
fn networks(deep: &mut Deep, header: &DeepHeader, file: &SafeTensors<'_>) -> Result<(), LearnError> {
    (deep.due, deep.adopted) = (header.due, header.adopted);
    deep.answer = if header.answered { Some(fixed(file, "answer")?) } else { None };
    for (name, values) in deep.vectors() {
        let tensor = file.tensor(name).map_err(|e| LearnError::Damaged(e.to_string()))?;
        let bytes = tensor.data();
        if tensor.dtype() != Dtype::F32 || bytes.len() != 4 * values.len() {
            let got = bytes.len() / 4;
            return Err(LearnError::OtherShape(format!(
                "{name} has {got} numbers, {} are needed",
                values.len()
            )));
        }
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
            if !value.is_finite() {
                return Err(LearnError::Damaged(format!("{name} holds {value}")));
            }
        }
    }
    let (steps, temperature) = deep.counters();
    if steps.len() != header.steps.len() {
        return Err(LearnError::Damaged("the counters of the networks are cut off".to_owned()));
    }
    steps.into_iter().zip(&header.steps).for_each(|(mine, saved)| *mine = *saved);
    if let (Some(mine), Some(saved)) = (temperature, header.temperature) {
        *mine = f32::from_bits(saved);
    }
    Ok(())
}

/// The numbers of a tensor, all finite.
fn numbers(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f64>, LearnError> {
    let damaged = |what: String| LearnError::Damaged(what);
    let tensor = file.tensor(name).map_err(|e| damaged(e.to_string()))?;
    if tensor.dtype() != Dtype::F64 {
        return Err(damaged(format!("{name} is {:?}, F64 is needed", tensor.dtype())));
    }
    let values: Vec<f64> = tensor
        .data()
        .chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes")))
        .collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(damaged(format!("{name} holds {value}"))),
        None => Ok(values),
    }
}

fn fixed<const N: usize>(file: &SafeTensors<'_>, name: &str) -> Result<[f64; N], LearnError> {
    let values = numbers(file, name)?;
    let length = values.len();
    values.try_into().map_err(|_| LearnError::Damaged(format!("{name} has {length} numbers, {N} are needed")))
}

/// Numbers of one [`Moments`].
const MOMENTS: usize = 4 + 2 * COUNT + COUNT * COUNT;

fn flat(m: &Moments) -> Vec<f64> {
    let mut out = vec![m.weight, m.weight2, m.mean_y, m.yy];
    out.extend(m.mean_x);
    out.extend(m.xy);
    out.extend(m.xx.as_flattened());
    out
}

fn unflat(values: &[f64; MOMENTS]) -> Moments {
    let vector = |at: usize| -> Vector { std::array::from_fn(|i| values[at + i]) };
    Moments {
        weight: values[0],
        weight2: values[1],
        mean_y: values[2],
        yy: values[3],
        mean_x: vector(4),
        xy: vector(4 + COUNT),
        xx: std::array::from_fn(|i| vector(4 + (2 + i) * COUNT)),
    }
}
