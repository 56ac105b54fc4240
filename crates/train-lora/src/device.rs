//! `train.device`: on which device the passes of a training are computed.
//!
//! Optimiser, checkpoints and files stay on the host, so a run is the same run wherever its passes are
//! computed: one that was begun on a GPU can be finished without. What is not computed on a device is
//! refused before anything is read.

use std::path::Path;
use std::sync::Arc;

use nightshift_core::Failure;
use nightshift_core::config::{Engine, Train};
use nightshift_model::{DeviceModel, Place, Storage};

use crate::base::{Base, refused};

/// What to do about a device that failed at its work, most often for want of memory.
pub(crate) const HINT: &str = "out of memory: --gradient-checkpointing, a smaller --batch-size with more \
     --gradient-accumulation, --max-length or --quantize nf4 need less; --device cpu does without, and goes \
     on from the last checkpoint";

/// The place of this name; exit 2 when there is none, or this build cannot compute there.
pub(crate) fn named(name: &str) -> Result<Place, Failure> {
    let place: Place =
        name.parse().map_err(|why| Failure::usage(format!("train.device is `{name}`: {why}")))?;
    if place.is_built() {
        return Ok(place);
    }
    let message = format!("train.device is `{place}`, but this build computes on the processor only");
    Err(Failure::usage(message).hint(
        "build it where nvcc and a C++17 compiler are: cargo build --release -p nightshift-train-lora \
         --features cuda",
    ))
}

/// The place that the settings of a training name; exit 2 also when others ask for what is not computed
/// there.
pub(crate) fn place(train: &Train) -> Result<Place, Failure> {
    let place = named(&train.device)?;
    if place != Place::Host {
        check(train, place)?;
    }
    Ok(place)
}

/// Refuses by name what is computed on the processor only.
fn check(train: &Train, place: Place) -> Result<(), Failure> {
    if train.engine != Engine::Builtin {
        let message = format!("train.device is `{place}`, but train.engine is `command`");
        return Err(Failure::usage(message)
            .hint("an external trainer chooses its own device: leave out --device, or --engine"));
    }
    if train.dropout > 0.0 {
        let message = format!(
            "train.dropout is {}, but dropout is computed on the processor only, and train.device is `{place}`",
            train.dropout
        );
        return Err(Failure::usage(message).hint("--dropout 0, or --device cpu"));
    }
    Ok(())
}

/// Reads a base and copies it to the device that is asked for, which is opened first: without one (exit 4)
/// nothing is read.
pub(crate) fn load(dir: &Path, storage: Storage, place: Place) -> Result<Base, Failure> {
    let device = place.open().map_err(|error| {
        Failure::refused(format!("train.device is `{place}`, but it cannot be used: {error}"))
            .hint("nvidia-smi lists the GPUs that the driver sees; --device cpu does without")
    })?;
    let mut base = Base::load(dir, storage)?;
    if let Some(device) = device {
        base.device = Some(Arc::new(DeviceModel::new(&base.model, &device).map_err(refused)?));
    }
    Ok(base)
}

/// What a report says of the device; nothing of the processor.
pub(crate) fn said(place: Place) -> Option<String> {
    (place != Place::Host).then(|| place.to_string())
}

#[cfg(test)]
mod tests;
