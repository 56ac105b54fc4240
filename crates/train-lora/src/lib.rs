//! `train-lora`: training rows in, an immutable PEFT adapter out.
//!
//! Reads `training_data/harvest_*.jsonl`, the interactions (for replay) and the base model; writes a release
//! under `loras/`, `logs/training_*.log`, metrics, and checkpoints while it runs. The direct form reads and
//! writes what it is told and opens no home. Only this program, `serve` and `demo` link the model.
//!
//! Exits: 0 published · 1 the loss ran away, or disk and memory failed · 3 too few rows · 4 base or adapter
//! refused · 7 another training runs · 143 stopped, with a checkpoint to go on from.

pub mod args;
mod base;
mod budget;
mod checkpoint;
pub mod control;
mod curves;
mod data;
mod device;
mod direct;
pub mod engine;
mod evals;
mod evaluate;
mod export;
mod gather;
mod health;
mod holdout;
mod inspect;
mod measure;
mod memory;
mod merge;
pub mod objective;
mod order;
mod picture;
mod pipeline;
mod plan;
mod publish;
mod quantize;
mod report;
mod seals;
mod select;
mod servers;
mod settings;
mod speed;
mod tensorboard;
mod train;
pub mod variant;
mod view;

pub use args::Args;
use args::{Command, MixFlags, PathFlags, RowFlags, SettingFlags};
use nightshift_core::{Ctx, Failure, Outcome, Tool};
use objective::ObjectiveFlags;

/// What this tool says of itself.
pub const TOOL: Tool = Tool {
    name: "train-lora",
    about: "Fine-tune a LoRA adapter on tonight's accepted rows and publish it",
    details: include_str!("details.txt"),
};

/// Runs the tool.
pub fn run(ctx: &Ctx, args: Args) -> Result<Outcome, Failure> {
    let training = args.paths != PathFlags::default()
        || args.rows != RowFlags::default()
        || args.mix != MixFlags::default()
        || args.objective != ObjectiveFlags::default()
        || !args.settings.is_default();
    if args.command.is_some() && training {
        return Err(Failure::usage("options of a training stand before a subcommand")
            .hint("write the subcommand first, then its own options"));
    }
    match (&args.command, &args.paths.data, &args.paths.out) {
        (Some(Command::Evaluate(evaluate)), ..) => evaluate::run(ctx, evaluate),
        (Some(Command::Quantize(quantize)), ..) => quantize::run(ctx, quantize),
        (Some(Command::Data(data)), ..) => view::run(ctx, data),
        (Some(Command::Inspect(inspect)), ..) => inspect::run(ctx, inspect),
        (Some(Command::Merge(merge)), ..) => merge::run(ctx, merge),
        (Some(Command::Export(export)), ..) => export::run(ctx, export),
        (None, Some(data), Some(out)) => direct::run(ctx, &args, data, out),
        (None, ..) => pipeline::run(ctx, &args),
    }
}

impl SettingFlags {
    /// No flag was given (the packing length has a default of its own).
    fn is_default(&self) -> bool {
        *self == Self { pack_len: self.pack_len, ..Self::default() }
    }
}
