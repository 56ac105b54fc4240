//! How a run is watched and when it ends: evaluation, early stop, checkpoints, limits.
//!
//! The flags, and what they mean together with the section `train`. Nothing here changes a step; what
//! decides which state is published (evaluation, early stop, `keep`) is part of the run's identity.

use std::path::PathBuf;

use clap::ValueEnum;
use nightshift_core::Failure;
use nightshift_core::config::{self, Train};
use serde_json::{Value, json};

/// Flags of the control of a run. Those that are absent come from the config file.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Control of the run (section `train`)")]
pub struct ControlFlags {
    /// Evaluate on these rows while training; equal questions are left out of the training
    #[arg(long, value_name = "FILE", conflicts_with = "eval_share")]
    pub eval_data: Option<PathBuf>,
    /// Hold out this share of the questions, by a hash of each question, and evaluate on them
    #[arg(long, value_name = "SHARE")]
    pub eval_share: Option<f64>,
    /// Optimiser steps between evaluations; 0 evaluates after each epoch [default: 0]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// Stop after this many evaluations without gain; 0 never stops [default: 0]
    #[arg(long, value_name = "N")]
    pub early_stop: Option<usize>,
    /// A lower evaluation loss is a gain when it is lower by more than this [default: 0]
    #[arg(long, value_name = "NATS")]
    pub early_stop_delta: Option<f64>,
    /// Which state is written when there is an evaluation [default: best]
    #[arg(long, value_name = "WHICH")]
    pub keep: Option<KeepName>,
    /// Checkpoint after so many steps (`25`) or so much time (`10m`, `90s`), and by nothing else
    #[arg(long, value_name = "N|TIME", value_parser = every, conflicts_with_all = ["checkpoint_steps", "checkpoint_minutes"])]
    pub checkpoint_every: Option<Every>,
    /// Minutes between checkpoints; 0 counts no minutes [default: 10]
    #[arg(long, value_name = "X")]
    pub checkpoint_minutes: Option<f64>,
    /// Most memory that the training may take, such as 6GiB [default: what the machine has free]
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<String>,
    /// Write TensorBoard events below this folder
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Start over: throw away the checkpoints of an earlier run in the same place
    #[arg(long)]
    pub fresh: bool,
}

/// `--keep` by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeepName {
    /// The state with the lowest evaluation loss
    Best,
    /// The last state
    Last,
}

/// A distance between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Every {
    /// Optimiser steps.
    Steps(usize),
    /// Minutes.
    Minutes(f64),
}

/// Reads `25`, `90s`, `10m` or `2h`.
fn every(text: &str) -> Result<Every, String> {
    if let Ok(steps) = text.parse::<usize>() {
        return Ok(Every::Steps(steps));
    }
    let unit = |unit: char| match unit {
        's' => Some(1.0 / 60.0),
        'm' => Some(1.0),
        'h' => Some(60.0),
        _ => None,
    };
    let minutes = text.chars().last().and_then(unit).and_then(|factor| {
        let number: f64 = text[..text.len() - 1].parse().ok()?;
        (number.is_finite() && number > 0.0).then_some(Every::Minutes(number * factor))
    });
    minutes.ok_or_else(|| "write a number of steps (25) or a time (90s, 10m, 2h)".into())
}

/// The control of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Control {
    /// Rows to evaluate on.
    pub(crate) eval_data: Option<PathBuf>,
    /// Share of the questions that is held out instead.
    pub(crate) eval_share: f64,
    /// Steps between evaluations; 0 evaluates after each epoch.
    pub(crate) eval_every: usize,
    /// Evaluations without gain that end the run; 0 is no limit.
    pub(crate) early_stop: usize,
    /// What counts as a gain, in nats.
    pub(crate) early_stop_delta: f64,
    /// Publish the best state, not the last one.
    pub(crate) keep_best: bool,
    /// Steps between checkpoints, if steps count.
    pub(crate) checkpoint_steps: Option<usize>,
    /// Minutes between checkpoints, if minutes count.
    pub(crate) checkpoint_minutes: Option<f64>,
    /// Bytes of memory that may be taken.
    pub(crate) max_memory: Option<u64>,
    /// `--max-minutes` of the direct form: there it ends the run.
    pub(crate) stop_after_minutes: Option<f64>,
    /// Where TensorBoard events go.
    pub(crate) tensorboard: Option<PathBuf>,
    /// Throw away older checkpoints.
    pub(crate) fresh: bool,
}

impl Control {
    /// Lays the flags over the section.
    pub(crate) fn new(train: &Train, flags: &ControlFlags) -> Result<Self, Failure> {
        let eval_share = match &flags.eval_data {
            Some(_) => 0.0,
            None => flags.eval_share.unwrap_or(train.eval_share),
        };
        let early_stop_delta = flags.early_stop_delta.unwrap_or(train.early_stop_delta);
        if !(0.0..1.0).contains(&eval_share) {
            let message = format!("train.eval_share is {eval_share}, but it is a share from 0 to below 1");
            return Err(Failure::usage(message).hint("--eval-share 0.05 holds out one question of twenty"));
        }
        let minutes = flags.checkpoint_minutes.unwrap_or(train.checkpoint_minutes);
        for (name, value) in [("early_stop_delta", early_stop_delta), ("checkpoint_minutes", minutes)] {
            if !value.is_finite() || value < 0.0 {
                return Err(Failure::usage(format!("train.{name} is {value}, but it must not be below 0")));
            }
        }
        let max_memory = flags.max_memory.as_ref().or(train.max_memory.as_ref());
        let (checkpoint_steps, checkpoint_minutes) = match flags.checkpoint_every {
            Some(Every::Steps(steps)) => (steps, 0.0),
            Some(Every::Minutes(minutes)) => (0, minutes),
            None => (train.checkpoint_steps, minutes),
        };
        let control = Self {
            eval_data: flags.eval_data.clone(),
            eval_share,
            eval_every: flags.eval_every.unwrap_or(train.eval_every),
            early_stop: flags.early_stop.unwrap_or(train.early_stop),
            early_stop_delta,
            keep_best: flags.keep.map_or(train.keep == config::Keep::Best, |keep| keep == KeepName::Best),
            checkpoint_steps: Some(checkpoint_steps).filter(|steps| *steps > 0),
            checkpoint_minutes: Some(checkpoint_minutes).filter(|minutes| *minutes > 0.0),
            max_memory: max_memory.map(|text| bytes(text)).transpose()?,
            stop_after_minutes: None,
            tensorboard: flags.tensorboard.clone(),
            fresh: flags.fresh,
        };
        if control.early_stop > 0 && !control.evaluates() {
            return Err(Failure::usage("--early-stop needs an evaluation")
                .hint("add --eval-data FILE or --eval-share 0.05"));
        }
        Ok(control)
    }

    /// Whether the run is asked to evaluate.
    pub(crate) const fn evaluates(&self) -> bool {
        self.eval_data.is_some() || self.eval_share > 0.0
    }

    /// What has a say in the adapter's bytes.
    pub(crate) fn identity(&self) -> Value {
        if !self.evaluates() {
            return Value::Null;
        }
        json!({
            "eval_share": self.eval_share,
            "eval_every": self.eval_every,
            "early_stop": self.early_stop,
            "early_stop_delta": self.early_stop_delta,
            "keep": if self.keep_best { "best" } else { "last" },
        })
    }
}

/// Reads `6GiB`, `6G`, `512MB` or a plain number of bytes.
fn bytes(text: &str) -> Result<u64, Failure> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "k" | "kib" => Some(1024.0),
        "kb" => Some(1e3),
        "m" | "mib" => Some(1048576.0),
        "mb" => Some(1e6),
        "g" | "gib" => Some(1073741824.0),
        "gb" => Some(1e9),
        _ => None,
    };
    let number: Option<f64> = text[..digits].parse().ok();
    match unit.zip(number) {
        Some((unit, number)) if number > 0.0 => Ok((unit * number) as u64),
        _ => Err(Failure::usage(format!("`{text}` is no amount of memory"))
            .hint("write --max-memory 6GiB, or train.max_memory in nightshift.yaml")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(flags: &ControlFlags) -> Result<Control, Failure> {
        Control::new(&Train::default(), flags)
    }

    #[test]
    fn sizes_and_distances_are_read_or_refused() {
        assert_eq!(bytes("6GiB").unwrap(), 6 << 30);
        assert_eq!(bytes(" 1.5 G ").unwrap(), 3 << 29);
        assert_eq!(bytes("512MB").unwrap(), 512_000_000);
        assert_eq!(bytes("4096").unwrap(), 4096);
        for bad in ["", "lots", "-1G", "0", "5 parsecs"] {
            assert_eq!(bytes(bad).unwrap_err().exit().code(), 2, "{bad}");
        }
        assert_eq!((every("25"), every("90s")), (Ok(Every::Steps(25)), Ok(Every::Minutes(1.5))));
        assert_eq!(every("2h"), Ok(Every::Minutes(120.0)));
        for bad in ["", "m", "10x", "-5m", "é"] {
            assert!(every(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_distance_switches_the_other_off() {
        let both = control(&ControlFlags::default()).unwrap();
        assert_eq!((both.checkpoint_steps, both.checkpoint_minutes), (Some(25), Some(10.0)));
        let flags = ControlFlags { checkpoint_every: Some(Every::Minutes(3.0)), ..ControlFlags::default() };
        let time = control(&flags).unwrap();
        assert_eq!((time.checkpoint_steps, time.checkpoint_minutes), (None, Some(3.0)));
    }

    #[test]
    fn settings_of_an_evaluation_matter_only_with_one() {
        let plain = control(&ControlFlags::default()).unwrap();
        let every = ControlFlags { eval_every: Some(3), ..ControlFlags::default() };
        assert_eq!(control(&every).unwrap().identity(), plain.identity());
        let share = ControlFlags { eval_share: Some(0.1), ..every.clone() };
        assert_ne!(control(&share).unwrap().identity(), plain.identity());
        let stop = ControlFlags { early_stop: Some(2), ..ControlFlags::default() };
        assert!(control(&stop).unwrap_err().chain().contains("needs an evaluation"));
        let share = ControlFlags { eval_share: Some(1.0), ..ControlFlags::default() };
        assert!(control(&share).unwrap_err().chain().contains("eval_share"));
    }
}
