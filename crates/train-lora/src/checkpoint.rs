//! Checkpoints: everything a killed run needs to end as if nothing had happened.
//!
//! `<folder>/step-00000025/` holds `state.safetensors` (adapter and moments, f32) and `state.json` (what was
//! done, and the digests of tensors, rows and settings). A checkpoint is written beside, synced and renamed,
//! so it is there whole or not at all; one that does not fit this run is passed over with a note.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nightshift_core::random::sha256_hex;
use nightshift_core::{Failure, OrFail, files};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::report::StepMetric;

const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";
const FORMAT: u32 = 1;
/// Checkpoints that stay: the newest, and one to fall back on.
const KEPT: usize = 2;

/// Named numbers with their shape.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What was done when a checkpoint was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Version of this layout.
    pub(crate) format_version: u32,
    /// Digest of base, rows and settings; another one is another run.
    pub(crate) run_key: String,
    /// Optimiser steps done.
    pub(crate) step: usize,
    /// Epoch of the next step, from 0.
    pub(crate) epoch: usize,
    /// Rows of that epoch that are done.
    pub(crate) position: usize,
    /// Seed from which order and draw of every epoch follow.
    pub(crate) seed: u64,
    /// SHA-256 of the tensor file.
    pub tensors_sha256: String,
    /// Every step so far.
    pub(crate) steps: Vec<StepMetric>,
}

impl State {
    /// The state after `step` steps; digests are filled in when it is saved.
    pub(crate) fn new(step: usize, epoch: usize, position: usize, seed: u64, steps: Vec<StepMetric>) -> Self {
        let (run_key, tensors_sha256) = (String::new(), String::new());
        Self { format_version: FORMAT, run_key, step, epoch, position, seed, tensors_sha256, steps }
    }
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    run_key: String,
}

/// What was found in the folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest usable checkpoint.
    pub(crate) checkpoint: Option<(State, Tensors)>,
    /// What was passed over, and why.
    pub(crate) notes: Vec<String>,
}

impl Checkpoints {
    /// The checkpoints of the run with this key in `folder`, which need not exist.
    pub(crate) fn new(folder: &Path, run_key: &str) -> Self {
        Self { folder: folder.to_owned(), run_key: run_key.to_owned() }
    }

    /// Writes a checkpoint and removes all but the newest two.
    pub(crate) fn save(&self, mut state: State, tensors: &Tensors) -> Result<(), Failure> {
        let bytes = to_bytes(tensors)?;
        state.run_key.clone_from(&self.run_key);
        state.tensors_sha256 = sha256_hex(&bytes);
        let text = serde_json::to_vec(&state).or_fail(|| "the checkpoint cannot be written".into())?;
        files::create_dir(&self.folder)?;
        files::sweep(&self.folder)?;
        let staged = self.folder.join(format!(".tmp-{}", state.step));
        let place = self.folder.join(format!("step-{:08}", state.step));
        files::create_dir(&staged)?;
        files::write_atomic(&staged.join(TENSORS), &bytes)?;
        files::write_atomic(&staged.join(STATE), &text)?;
        // An unusable one of the same step may be in the way.
        files::remove_dir(&place)?;
        files::publish_dir(&staged, &place)?;
        for old in self.list()?.iter().rev().skip(KEPT) {
            files::remove_dir(old)?;
        }
        Ok(())
    }

    /// The newest checkpoint that is whole and belongs to this run.
    pub(crate) fn newest(&self) -> Result<Found, Failure> {
        let mut found = Found::default();
        for path in self.list()?.into_iter().rev() {
            match self.load(&path) {
                Ok(checkpoint) => {
                    found.checkpoint = Some(checkpoint);
                    break;
                }
                Err(why) => found.notes.push(format!("checkpoint {} is passed over: {why}", path.display())),
            }
        }
        Ok(found)
    }

    fn list(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut list = files::list(&self.folder)?;
        list.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")));
        Ok(list)
    }

    fn load(&self, path: &Path) -> Result<(State, Tensors), String> {
        let text = files::read(&path.join(STATE)).map_err(|error| error.to_string())?;
        let state: State = serde_json::from_slice(&text).map_err(|error| format!("{STATE}: {error}"))?;
        if state.format_version != FORMAT {
            return Err(format!("its format is {}, not {FORMAT}", state.format_version));
        }
        if state.run_key != self.run_key {
            return Err("it belongs to another base, other rows or other settings".into());
        }
        let bytes = files::read(&path.join(TENSORS)).map_err(|error| error.to_string())?;
        if sha256_hex(&bytes) != state.tensors_sha256 {
            return Err(format!("{TENSORS} is damaged"));
        }
        let tensors = from_bytes(&bytes).map_err(|error| format!("{TENSORS}: {error}"))?;
        Ok((state, tensors))
    }
}

fn to_bytes(tensors: &Tensors) -> Result<Vec<u8>, Failure> {
    let unwritable = || "the checkpoint's tensors cannot be written".to_owned();
    let raw: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name.as_str(), shape.as_slice(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let mut views = Vec::with_capacity(raw.len());
    for (name, shape, bytes) in &raw {
        views.push((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).or_fail(unwritable)?));
    }
    safetensors::serialize(views, None).or_fail(unwritable)
}

fn from_bytes(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("`{name}` is not f32"));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensors.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(step: usize) -> State {
        let metric = StepMetric {
            step,
            epoch: 0,
            loss: 0.1 + 0.2,
            lr: 1e-3,
            grad_norm: 1.0,
            tokens: 3,
            answer_tokens: 1,
            seconds: 0.5,
            gflop: 7.5,
            peak_gflops: None,
        };
        State::new(step, 1, 2, 3, vec![metric])
    }

    fn tensors(value: f32) -> Tensors {
        Tensors::from([("a".into(), (vec![2, 1], vec![value, f32::MIN_POSITIVE / 4.0]))])
    }

    #[test]
    fn the_newest_whole_one_comes_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path(), "key");
        for step in [5, 10, 15] {
            checkpoints.save(state(step), &tensors(step as f32)).unwrap();
        }
        assert_eq!(files::list(dir.path()).unwrap().len(), KEPT);
        let (found, numbers) = checkpoints.newest().unwrap().checkpoint.unwrap();
        assert_eq!((found.step, found.steps[0].loss), (15, 0.1 + 0.2));
        assert_eq!(numbers, tensors(15.0));
    }

    #[test]
    fn a_half_written_one_and_a_foreign_one_are_passed_over_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path(), "key");
        checkpoints.save(state(5), &tensors(5.0)).unwrap();
        Checkpoints::new(dir.path(), "other").save(state(10), &tensors(1.0)).unwrap();
        let found = checkpoints.newest().unwrap();
        assert_eq!(found.checkpoint.unwrap().0.step, 5);
        assert!(found.notes[0].contains("another base"), "{:?}", found.notes);

        let half = dir.path().join("step-00000010").join(TENSORS);
        files::write_atomic(&half, &files::read(&half).unwrap()[..20]).unwrap();
        let found = Checkpoints::new(dir.path(), "other").newest().unwrap();
        assert!(found.checkpoint.is_none());
        assert!(found.notes[0].contains("damaged"), "{:?}", found.notes);
    }

    #[test]
    fn a_stray_of_a_crash_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        files::create_dir(&dir.path().join(".tmp-5")).unwrap();
        let checkpoints = Checkpoints::new(dir.path(), "key");
        assert!(checkpoints.newest().unwrap().checkpoint.is_none());
        checkpoints.save(state(5), &tensors(5.0)).unwrap();
        assert_eq!(files::list(dir.path()).unwrap().len(), 1, "the stray is swept");
    }
}
