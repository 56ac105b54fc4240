//! The command line. Every key of the section `train` has a flag of the same name.

use std::path::PathBuf;

use clap::{ArgAction, Subcommand, ValueEnum};
use nightshift_core::config::{Dtype, Quantize, Schedule};

use crate::control::ControlFlags;

/// Arguments of `train-lora`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Args {
    /// What to do instead of training.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where from and where to.
    #[command(flatten)]
    pub paths: PathFlags,
    /// How.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// What `train-lora` does besides training.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Print the mean loss on the answers of a file
    Evaluate(EvaluateArgs),
    /// Write a base quantised to NF4, as bitsandbytes stores it
    Quantize(QuantizeArgs),
    /// Show what an adapter folder holds, and what is wrong with it
    Inspect(InspectArgs),
}

/// Arguments of `evaluate`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct EvaluateArgs {
    /// The base model's folder [default: `base` of nightshift.yaml]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The adapter's folder; without it the base is measured
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Rows as for training
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Longest example in tokens; longer ones are left out and counted
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Threads; 0 takes every core
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Type in which the base's matrices are held [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Quantisation of the base's linear layers [default: none, as the server holds them]
    #[arg(long, value_name = "KIND")]
    pub quantize: Option<Quantize>,
}

/// Arguments of `quantize`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct QuantizeArgs {
    /// The base model's folder [default: `base` of nightshift.yaml]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// A new folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Type of embedding, head and what else stays unquantised [default: bf16 if the base is bf16, else f32]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
}

/// Arguments of `inspect`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct InspectArgs {
    /// The adapter's folder, or the name of a release
    #[arg(value_name = "DIR")]
    pub adapter: PathBuf,
    /// Check the shapes against this base model [default: `base` of nightshift.yaml, if any]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
}

/// Where from and where to.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct PathFlags {
    /// The base model's folder [default: `base` of nightshift.yaml]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Train on this file, outside of any home: harvest, alpaca or messages rows
    #[arg(long, value_name = "FILE", requires = "out", help_heading = "Direct form")]
    pub data: Option<PathBuf>,
    /// Write the PEFT folder here
    #[arg(long, value_name = "DIR", requires = "data", help_heading = "Direct form")]
    pub out: Option<PathBuf>,
    /// Go on from this adapter; its rank, alpha and targets hold
    #[arg(long, value_name = "DIR", requires = "data", help_heading = "Direct form")]
    pub init_adapter: Option<PathBuf>,
    /// Keep the order of the file
    #[arg(long, requires = "data", help_heading = "Direct form")]
    pub no_shuffle: bool,
}

/// Schedules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleName {
    /// To zero
    Linear,
    /// Half a cosine to zero
    Cosine,
    /// No change
    Constant,
}

impl From<ScheduleName> for Schedule {
    fn from(name: ScheduleName) -> Self {
        match name {
            ScheduleName::Linear => Self::Linear,
            ScheduleName::Cosine => Self::Cosine,
            ScheduleName::Constant => Self::Constant,
        }
    }
}

/// How to train. What is absent comes from the environment, the config file, the defaults.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Settings (section `train`)")]
pub struct SettingFlags {
    /// LoRA rank [default: 16]
    #[arg(long, value_name = "N")]
    pub rank: Option<usize>,
    /// LoRA alpha; the update is scaled by alpha / rank [default: 32]
    #[arg(long, value_name = "X")]
    pub alpha: Option<f64>,
    /// Adapted matrices, separated by commas, or `all-linear` [default: q_proj,k_proj,v_proj,o_proj]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', action = ArgAction::Set, num_args = 1)]
    pub targets: Option<Vec<String>>,
    /// Rows in one forward pass [default: 4]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Forward passes in one optimiser step [default: 8]
    #[arg(long, value_name = "N", visible_alias = "accumulation")]
    pub gradient_accumulation: Option<usize>,
    /// Peak learning rate [default: 5e-5]
    #[arg(long, value_name = "X", visible_alias = "lr")]
    pub learning_rate: Option<f64>,
    /// Passes over the data [default: 3]
    #[arg(long, value_name = "N", visible_alias = "epochs")]
    pub num_epochs: Option<usize>,
    /// Learning rate after warm-up [default: linear]
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<ScheduleName>,
    /// Warm-up steps [default: 0]
    #[arg(long, value_name = "N", visible_alias = "warmup")]
    pub warmup_steps: Option<usize>,
    /// Decoupled weight decay [default: 0]
    #[arg(long, value_name = "X")]
    pub weight_decay: Option<f64>,
    /// L2 norm that gradients are clipped to [default: 1]
    #[arg(long, value_name = "X")]
    pub max_grad_norm: Option<f64>,
    /// Fewest rows for a nightly training [default: 5]
    #[arg(long, value_name = "N")]
    pub min_examples: Option<usize>,
    /// Nightly form: minutes it is planned for [default: 30]; with --data: the run ends after them
    #[arg(long, value_name = "X")]
    pub max_minutes: Option<f64>,
    /// Longest example in tokens; longer ones are left out and named [default: 2048]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Replayed answers for each accepted row [default: 1]
    #[arg(long, value_name = "X")]
    pub replay_ratio: Option<f64>,
    /// Least smallest-token probability of a replayed answer [default: 0.9]
    #[arg(long, value_name = "P")]
    pub replay_above: Option<f64>,
    /// Optimiser steps between checkpoints; 0 writes only the last one [default: 25]
    #[arg(long, value_name = "N")]
    pub checkpoint_steps: Option<usize>,
    /// Threads; 0 takes every core [default: 0]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Fill forward passes by tokens instead of counting rows; the numbers stay the same
    #[arg(long)]
    pub packing: bool,
    /// Tokens in one packed forward pass
    #[arg(long, value_name = "N", default_value = "1024")]
    pub pack_len: Option<usize>,
    /// Stop after this many optimiser steps; the schedule stays that of the whole run
    #[arg(long, value_name = "N")]
    pub max_steps: Option<usize>,
    /// Type in which the base's matrices are held; arithmetic is f32 [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Quantisation of the base's linear layers, nf4 for QLoRA [default: none]
    #[arg(long, value_name = "KIND")]
    pub quantize: Option<Quantize>,
    /// How the run is watched and when it ends.
    #[command(flatten)]
    pub control: ControlFlags,
}

#[cfg(test)]
mod tests {
    use nightshift_core::config::Train;

    use super::Args;

    #[test]
    fn every_key_of_the_section_has_a_flag_and_every_flag_is_on_the_page() {
        let page = include_str!("../../../docs/train-lora.md");
        let command = nightshift_core::cli::command::<Args>(crate::TOOL);
        let global =
            ["home", "config", "json", "dry-run", "seed", "quiet", "verbose", "log-format", "no-progress"];
        let flags: Vec<&str> = command.get_arguments().filter_map(|flag| flag.get_long()).collect();
        for flag in flags.iter().filter(|flag| !global.contains(flag)) {
            assert!(page.contains(&format!("`--{flag}")) || page.contains(&format!("--{flag} ")), "--{flag}");
        }
        let section = serde_json::to_value(Train::default()).unwrap();
        for key in section.as_object().unwrap().keys() {
            assert!(flags.contains(&key.replace('_', "-").as_str()), "train.{key} has no flag");
        }
    }
}
