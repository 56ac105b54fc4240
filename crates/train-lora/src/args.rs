//! The command line. Every key of the section `train` has a flag of the same name.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use nightshift_core::config::{Dtype, Overlong, Quantize, Schedule};

use crate::control::ControlFlags;
use crate::engine::EngineFlags;
use crate::objective::ObjectiveFlags;
use crate::variant::{self, Names, VariantFlags};

/// Arguments of `train-lora`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Args {
    /// What to do instead of training.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where from and where to.
    #[command(flatten)]
    pub paths: PathFlags,
    /// What of the file becomes what.
    #[command(flatten)]
    pub rows: RowFlags,
    /// What else takes part, and what must not.
    #[command(flatten)]
    pub mix: MixFlags,
    /// What is learned.
    #[command(flatten)]
    pub objective: ObjectiveFlags,
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
    /// Show what a data file becomes: counts, lengths, and examples with their learned parts marked
    Data(DataArgs),
    /// Show what an adapter folder holds, and what is wrong with it
    Inspect(InspectArgs),
    /// Write base + adapter as one model folder
    Merge(MergeArgs),
    /// Write an adapter, or without one a model, as a GGUF file for llama.cpp and Ollama
    Export(ExportArgs),
}

/// Arguments of `merge`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct MergeArgs {
    /// The base model's folder [default: `base` of nightshift.yaml]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The adapter's folder
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Write the model here: a new or empty folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Type of the weights that are written
    #[arg(long, value_name = "TYPE", default_value = "same")]
    pub dtype: MergeType,
    /// Do not hold the result against base + adapter (the check loads the model in f32)
    #[arg(long)]
    pub no_check: bool,
}

/// Types of merged weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MergeType {
    /// Each tensor as it is in the base
    Same,
    /// 32-bit float
    F32,
    /// bfloat16
    Bf16,
    /// IEEE half
    F16,
}

/// Arguments of `export`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ExportArgs {
    /// Form of the file
    #[arg(long, value_name = "FORM", value_parser = ["gguf"], default_value = "gguf")]
    pub format: String,
    /// The base model's folder, or a merged one [default: `base` of nightshift.yaml]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The adapter's folder; without it the model itself is exported
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Write this file
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Type of a model's matrices [default: f32]; adapters are always f32
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<ExportType>,
    /// Leave a model's vocabulary out: it then computes on token ids only
    #[arg(long)]
    pub no_vocabulary: bool,
}

/// Types of exported matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportType {
    /// 32-bit float
    F32,
    /// IEEE half
    F16,
    /// bfloat16
    Bf16,
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
    /// Rows as for training; of preference pairs both answers are measured
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// What of the file becomes what.
    #[command(flatten)]
    pub rows: RowFlags,
    /// Longest example in tokens [default: train.max_length]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Threads; 0 takes every core
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where the arithmetic is done: cpu, cuda or cuda:N [default: cpu]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
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

/// Arguments of `data`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct DataArgs {
    /// The base model's folder [default: `base` of nightshift.yaml]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Rows of any form
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// What of the file becomes what.
    #[command(flatten)]
    pub rows: RowFlags,
    /// Also compare with the questions of this file
    #[arg(long, value_name = "FILE")]
    pub check_against: Vec<PathBuf>,
    /// Longest example in tokens [default: train.max_length]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Tokens in one packed forward pass
    #[arg(long, value_name = "N", default_value = "1024")]
    pub pack_len: usize,
    /// Examples to show
    #[arg(long, value_name = "N", default_value = "3")]
    pub show: usize,
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
    /// Train on this file, outside of any home: JSON Lines or a JSON array, may be gzipped
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

/// Which turns of a conversation are learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LossOn {
    /// The last turn, which must be the assistant's
    #[default]
    LastAnswer,
    /// Every turn of the assistant
    AllAnswers,
}

/// What becomes of rows that match an evaluation item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Contaminated {
    /// Refused
    #[default]
    Error,
    /// Left out, by name
    Drop,
}

/// What of a data file becomes what.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Rows (all but --overlong: direct form)")]
pub struct RowFlags {
    /// Turns that are learned; a row whose turns carry `weight` decides itself [default: last-answer]
    #[arg(long, value_name = "TURNS", requires = "data")]
    pub loss_on: Option<LossOn>,
    /// What becomes of examples longer than --max-length or the model's context [default: drop]
    #[arg(long, value_name = "POLICY")]
    pub overlong: Option<Overlong>,
    /// Leave out rows that say the same as an earlier one; without it they are counted
    #[arg(long, requires = "data")]
    pub dedup: bool,
    /// Jinja chat template instead of the base's own
    #[arg(long, value_name = "FILE", requires = "data")]
    pub chat_template: Option<PathBuf>,
}

/// What else takes part in a training, and what must not.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Mix (all but --replay: direct form)")]
pub struct MixFlags {
    /// Rows to repeat beside those of --data, so that they are not unlearned; drawn anew in each epoch.
    /// Without --data: conversations that join the answers a night replays
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Share of replayed rows in each epoch [default: 0.3]
    #[arg(long, value_name = "P", requires_all = ["data", "replay"])]
    pub replay_share: Option<f64>,
    /// Compare with the questions of this file too; the home's evaluation sets always are
    #[arg(long, value_name = "FILE", requires = "data")]
    pub check_against: Vec<PathBuf>,
    /// What becomes of rows that match an evaluation item [default: error]
    #[arg(long, value_name = "POLICY", requires = "data")]
    pub contaminated: Option<Contaminated>,
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
    /// Adapted modules: names separated by commas, `all-linear`, or one regular expression on the whole
    /// path (`model.layers.0.self_attn.q_proj`) [default: q_proj,k_proj,v_proj,o_proj]
    #[arg(long, value_name = "NAMES", value_parser = variant::names)]
    pub targets: Option<Names>,
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
    /// Where the arithmetic is done: cpu, cuda or cuda:N (a GPU needs a build with the feature `cuda`)
    /// [default: cpu]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
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
    /// Which kind of LoRA.
    #[command(flatten)]
    pub variant: VariantFlags,
    /// How the run is watched and when it ends.
    #[command(flatten)]
    pub control: ControlFlags,
    /// Who trains.
    #[command(flatten)]
    pub engine: EngineFlags,
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
