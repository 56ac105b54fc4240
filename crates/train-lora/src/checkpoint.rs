//! Checkpoints: everything a killed run needs to end as if nothing had happened.
//!
//! `<folder>/step-00000025/` is a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`) with
//! `optimizer.safetensors` (both moments, f32) and `state.json` (what was done, the digests of both files,
//! and which run it belongs to). `<folder>/best-00000020/` is the PEFT folder of the best state so far.
//! Either is written beside, synced and renamed, so it is there whole or not at all, and what was there
//! before stays when the disk is full. A damaged one is passed over with a note.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nightshift_core::crash::CrashPoint;
use nightshift_core::random::{hex, sha256_hex};
use nightshift_core::release::{ADAPTER_CONFIG, ADAPTER_MODEL};
use nightshift_core::{Failure, OrFail, files};
use nightshift_model::{AdamW, Adapter, ModelConfig, Named, adapter_bytes};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::base::refused;
use crate::evals::{self, EvalMetric};
use crate::report::StepMetric;

const STATE: &str = "state.json";
const MOMENTS: &str = "optimizer.safetensors";
const FORMAT: u32 = 2;
/// Checkpoints that stay: the newest, and one to fall back on.
const KEPT: usize = 2;

/// What was done when a checkpoint was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Version of this layout.
    pub(crate) format_version: u32,
    /// What the run is: base, rows and settings by name. Another one is another run.
    pub(crate) identity: Value,
    /// Optimiser steps done.
    pub(crate) step: usize,
    /// Wall time spent, in all processes.
    pub(crate) seconds: f64,
    /// Every step so far.
    pub(crate) steps: Vec<StepMetric>,
    /// Every evaluation so far.
    pub(crate) evals: Vec<EvalMetric>,
    /// SHA-256 of the best state's tensors, where one is kept.
    pub(crate) best_sha256: Option<String>,
    /// SHA-256 of the adapter's tensors.
    pub(crate) adapter_sha256: String,
    /// SHA-256 of the moments.
    pub(crate) moments_sha256: String,
}

/// Numbers by tensor name.
pub(crate) type Tensors = BTreeMap<String, Vec<f32>>;

/// A checkpoint as it was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What was done.
    pub(crate) state: State,
    /// The adapter's tensors.
    pub(crate) adapter: Tensors,
    /// The optimiser's moments.
    pub(crate) moments: Tensors,
}

/// What was found in the folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest usable checkpoint.
    pub(crate) checkpoint: Option<Loaded>,
    /// What was passed over, and why.
    pub(crate) notes: Vec<String>,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints<'a> {
    /// Where they lie; need not exist.
    pub(crate) folder: PathBuf,
    /// What the run is.
    pub(crate) identity: Value,
    /// Shape of the base, for the adapter's files.
    pub(crate) shape: &'a ModelConfig,
    /// Name of the base, for the adapter's files.
    pub(crate) base_name: String,
    /// A checkpoint of another run is refused (exit 4) instead of passed over.
    pub(crate) refuse_others: bool,
    /// Armed crash point, in tests.
    pub(crate) crash: CrashPoint,
}

impl Checkpoints<'_> {
    /// Writes a checkpoint and removes what is no longer needed. Version, digests and
    /// identity are filled in.
    pub(crate) fn save(&self, mut state: State, adapter: &Adapter, optimiser: &AdamW) -> Result<(), Failure> {
        files::create_dir(&self.folder)?;
        files::sweep(&self.folder)?;
        let staged = self.folder.join(format!(".tmp-{}", state.step));
        let place = self.step_folder(state.step);
        files::create_dir(&staged)?;
        state.format_version = FORMAT;
        state.identity.clone_from(&self.identity);
        state.adapter_sha256 = self.write_adapter(&staged, adapter)?;
        let names: Vec<String> = adapter.iter().into_iter().map(|tensor| tensor.name).collect();
        state.moments_sha256 = write_tensors(&staged.join(MOMENTS), &optimiser.moments(&names))?;
        let text = serde_json::to_vec(&state).or_fail(|| "the checkpoint cannot be written".into())?;
        files::write_atomic(&staged.join(STATE), &text)?;
        self.crash.reach("train.checkpoint_staged", &state.step.to_string());
        // An unusable one of the same step may be in the way.
        files::remove_dir(&place)?;
        files::publish_dir(&staged, &place)?;
        self.prune(&state.evals)
    }

    /// Keeps the adapter after `step` steps as the best one; its digest.
    pub(crate) fn save_best(&self, step: usize, adapter: &Adapter) -> Result<String, Failure> {
        files::create_dir(&self.folder)?;
        let staged = self.folder.join(format!(".tmp-best-{step}"));
        files::remove_dir(&staged)?;
        files::create_dir(&staged)?;
        let digest = self.write_adapter(&staged, adapter)?;
        let place = self.best_folder(step);
        files::remove_dir(&place)?;
        files::publish_dir(&staged, &place)?;
        Ok(digest)
    }

    /// The tensors of the best state, which was reached after `step` steps.
    pub(crate) fn load_best(&self, step: usize, sha256: &str) -> Result<Tensors, String> {
        let place = self.best_folder(step);
        read_tensors(&place.join(ADAPTER_MODEL), sha256).map_err(|why| format!("{}: {why}", place.display()))
    }

    /// The newest checkpoint that is whole and belongs to this run.
    ///
    /// # Errors
    /// Exit 4 for one of another run, where those are refused: it says what differs.
    pub(crate) fn newest(&self) -> Result<Found, Failure> {
        let mut found = Found::default();
        for path in self.list("step-")?.into_iter().rev() {
            match self.load(&path) {
                Ok(checkpoint) => {
                    found.checkpoint = Some(checkpoint);
                    break;
                }
                Err(Unusable::Other { step, differs }) if self.refuse_others => {
                    let message = format!(
                        "{} holds step {step} of another run: {}",
                        self.folder.display(),
                        differs.join("; ")
                    );
                    return Err(Failure::refused(message)
                        .hint("give the same base, rows and settings to go on with it")
                        .hint(
                            "--fresh throws it away and starts over; another --out leaves it where it is",
                        ));
                }
                Err(Unusable::Other { differs, .. }) => {
                    let why = format!("it belongs to another run ({})", differs.join("; "));
                    found.notes.push(format!("checkpoint {} is passed over: {why}", path.display()));
                }
                Err(Unusable::Damaged(why)) => {
                    found.notes.push(format!("checkpoint {} is passed over: {why}", path.display()));
                }
            }
        }
        Ok(found)
    }

    fn step_folder(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    fn best_folder(&self, step: usize) -> PathBuf {
        self.folder.join(format!("best-{step:08}"))
    }

    /// Folders of a kind, oldest first.
    fn list(&self, kind: &str) -> Result<Vec<PathBuf>, Failure> {
        let mut list = files::list(&self.folder)?;
        list.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)));
        Ok(list)
    }

    /// Removes all checkpoints but the newest, and best states that none of those needs.
    fn prune(&self, evals: &[EvalMetric]) -> Result<(), Failure> {
        let steps = self.list("step-")?;
        let (old, kept) = steps.split_at(steps.len().saturating_sub(KEPT));
        old.iter().try_for_each(|old| files::remove_dir(old))?;
        let needed = |kept: &PathBuf| -> Option<PathBuf> {
            let step: usize = kept.file_name()?.to_string_lossy().strip_prefix("step-")?.parse().ok()?;
            let known = evals.iter().take_while(|eval| eval.step <= step).count();
            Some(self.best_folder(evals::best(&evals[..known])?.step))
        };
        let needed: Vec<PathBuf> = kept.iter().filter_map(needed).collect();
        for best in self.list("best-")?.iter().filter(|best| !needed.contains(best)) {
            files::remove_dir(best)?;
        }
        Ok(())
    }

    /// Writes the two files of a PEFT folder; the digest of the tensors.
    fn write_adapter(&self, folder: &Path, adapter: &Adapter) -> Result<String, Failure> {
        let (config, tensors) = adapter_bytes(adapter, self.shape, &self.base_name).map_err(refused)?;
        files::write_atomic(&folder.join(ADAPTER_CONFIG), &config)?;
        files::write_atomic(&folder.join(ADAPTER_MODEL), &tensors)?;
        Ok(sha256_hex(&tensors))
    }

    fn load(&self, path: &Path) -> Result<Loaded, Unusable> {
        let damaged = |why: String| Unusable::Damaged(why);
        let text = files::read(&path.join(STATE)).map_err(|error| damaged(error.to_string()))?;
        let raw: Value =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("{STATE}: {error}")))?;
        if raw["format_version"] != FORMAT {
            return Err(damaged(format!("its format is {}, not {FORMAT}", raw["format_version"])));
        }
        let state: State =
            serde_json::from_value(raw).map_err(|error| damaged(format!("{STATE}: {error}")))?;
        if state.identity != self.identity {
            let differs = differences(&state.identity, &self.identity);
            return Err(Unusable::Other { step: state.step, differs });
        }
        let read = |name: &str, sha256: &str| {
            read_tensors(&path.join(name), sha256).map_err(|why| damaged(format!("{name}: {why}")))
        };
        let adapter = read(ADAPTER_MODEL, &state.adapter_sha256)?;
        let moments = read(MOMENTS, &state.moments_sha256)?;
        if let (Some(best), Some(sha256)) = (evals::best(&state.evals), &state.best_sha256) {
            self.load_best(best.step, sha256).map_err(|why| damaged(format!("its best state: {why}")))?;
        }
        Ok(Loaded { state, adapter, moments })
    }
}

/// Why a checkpoint cannot be gone on from.
enum Unusable {
    Damaged(String),
    Other { step: usize, differs: Vec<String> },
}

/// What two runs differ in, by name; long values are cut.
fn differences(there: &Value, here: &Value) -> Vec<String> {
    let (Value::Object(there), Value::Object(here)) = (there, here) else {
        return vec!["its settings cannot be read".into()];
    };
    let mut names: Vec<&String> = there.keys().chain(here.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let show = |map: &Map<String, Value>, name: &str| {
        let text = match map.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "nothing".into(),
        };
        if name.ends_with("_sha256") || name.ends_with("_fingerprint") {
            text.chars().take(12).collect()
        } else {
            text
        }
    };
    names
        .into_iter()
        .filter(|name| there.get(*name) != here.get(*name))
        .map(|name| format!("{name} is {} there and {} here", show(there, name), show(here, name)))
        .collect()
}

/// Writes tensors as safetensors, straight from where they lie; the file's digest.
fn write_tensors(path: &Path, tensors: &[Named<&[f32]>]) -> Result<String, Failure> {
    let mut header = Map::new();
    let mut end = 0;
    for Named { name, shape, values } in tensors {
        let begin = end;
        end += size_of_val(*values);
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The data of a safetensors file begins at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut hash = Sha256::new();
    let mut digest = String::new();
    files::write_atomic_with(path, |file| {
        let mut put = |bytes: &[u8]| -> io::Result<()> {
            hash.update(bytes);
            file.write_all(bytes)
        };
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        let mut piece = Vec::with_capacity(1 << 16);
        for values in tensors.iter().flat_map(|tensor| tensor.values.chunks(1 << 14)) {
            piece.clear();
            piece.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            put(&piece)?;
        }
        digest = hex(&hash.finalize_reset());
        Ok(())
    })?;
    Ok(digest)
}

/// Reads tensors that have this digest.
fn read_tensors(path: &Path, sha256: &str) -> Result<Tensors, String> {
    let bytes = files::read(path).map_err(|error| error.to_string())?;
    if sha256_hex(&bytes) != sha256 {
        return Err("it is damaged".into());
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("`{name}` is not f32"));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensors.insert(name.to_owned(), values);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests;
