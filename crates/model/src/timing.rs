//! Where the time of a training goes: a stopwatch for each part of a step, off unless asked for.
//!
//! The watches are process-wide and add up what all threads spend. Parts never overlap; what is on no
//! watch is norms, rotations, SwiGLU and copies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Products with the weights of linear layers.
    Linear,
    /// Products with LoRA factors, and their gradients.
    Lora,
    /// Attention, softmax and its backward included.
    Attention,
    /// Output head and cross-entropy.
    Head,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Lora, Self::Attention, Self::Head];

    /// For a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear layers",
            Self::Lora => "LoRA",
            Self::Attention => "attention",
            Self::Head => "head and loss",
        }
    }
}

static ON: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; Part::ALL.len()] = [const { AtomicU64::new(0) }; Part::ALL.len()];

/// Sets all watches to zero and lets them run from now on.
pub fn start() {
    for part in &NANOSECONDS {
        part.store(0, Ordering::Relaxed);
    }
    ON.store(true, Ordering::Relaxed);
}

/// Stops the watches; what each part took since [`start`], added up over threads.
pub fn stop() -> [(Part, Duration); Part::ALL.len()] {
    ON.store(false, Ordering::Relaxed);
    let read = |part: Part| Duration::from_nanos(NANOSECONDS[part as usize].load(Ordering::Relaxed));
    Part::ALL.map(|part| (part, read(part)))
}

/// Lets the watch of `part` run until the result is dropped.
#[inline(always)]
pub(crate) fn watch(part: Part) -> Running {
    Running(ON.load(Ordering::Relaxed).then(|| (part, Instant::now())))
}

/// A running watch.
#[derive(Debug)]
pub(crate) struct Running(Option<(Part, Instant)>);

impl Drop for Running {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((part, start)) = self.0 {
            NANOSECONDS[part as usize].fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_watch_counts_nothing() {
        let _ = stop();
        let before = stop();
        drop(watch(Part::Head));
        assert_eq!(stop(), before);
    }
}
