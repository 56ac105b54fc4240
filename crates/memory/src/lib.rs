//! The interaction memory.
//!
//! Reads JSONL files, OpenAI chat logs and `capture.db`; writes `learning.db`; exits 0, 1, 2, 3, 4, 9.

mod calibrate;
mod drain;
mod evalset;
mod export;
mod import;
mod judge;
mod label;
mod openai;
mod query;
mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use nightshift_core::evalset::Purpose;
use nightshift_core::{Ctx, Failure, Outcome, Tool};

/// What the program says of itself.
pub const TOOL: Tool = Tool {
    name: "memory",
    about: "Keep what the model was asked, what it answered, and whether that was right",
    details: "
Examples:
  memory import                        take over what serve has recorded, each exchange once
  memory import log.jsonl              import a file; bad lines are named, the rest is used
  memory list --failed --since 2026-03-01
  memory feedback ID down --comment 'wrong river'
  memory evalset add gate gate.jsonl --purpose gate
  memory export --format csv --out answers.csv

An answer succeeded when its confidence is above memory.success_above (0.7), unless an error or
feedback says otherwise. Without a confidence success is unknown: neither failed nor good.

Exit codes: 0 done, 2 usage, 3 nothing there, 4 refused, 9 config invalid.",
};

/// The command line.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import files; without a file, take over what serve has recorded
    Import(ImportArgs),
    /// Write interactions as JSONL or CSV
    Export(ExportArgs),
    /// Record one interaction
    Log(LogArgs),
    /// List interactions, newest first
    List(ListArgs),
    /// Show one interaction with its feedback
    Show {
        /// The interaction's id
        id: String,
    },
    /// Full-text search over questions and answers, best first
    Search {
        /// Words that must all occur
        words: Vec<String>,
        /// Most results
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Add or remove tags
    Tag {
        /// The interaction's id
        id: String,
        /// The tags
        #[arg(required = true)]
        tags: Vec<String>,
        /// Remove them instead
        #[arg(long)]
        remove: bool,
    },
    /// Say whether an answer was good
    Feedback(FeedbackArgs),
    /// Counts and rates
    Stats(SpanArgs),
    /// Fit P(right | confidence) on feedback
    Calibrate,
    /// Evaluation sets: questions that training never sees
    #[command(subcommand)]
    Evalset(EvalsetCommand),
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// JSONL files
    files: Vec<PathBuf>,
    /// Form of the lines
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
}

/// Form of an imported line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Decide for each line
    Auto,
    /// Interactions as memory exports them
    Jsonl,
    /// OpenAI chat logs: request and response
    Openai,
}

#[derive(Debug, Args, Clone)]
struct SpanArgs {
    /// From this day or time on
    #[arg(long)]
    since: Option<String>,
    /// Before this day or time
    #[arg(long)]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    span: SpanArgs,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    format: ExportFormat,
    /// File; stdout when absent
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line; imports again
    Jsonl,
    /// A table
    Csv,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// The question
    #[arg(long)]
    query: String,
    /// The answer
    #[arg(long)]
    response: Option<String>,
    /// Confidence of the answer, 0 to 1
    #[arg(long)]
    confidence: Option<f64>,
    /// Whether it succeeded, when that is known
    #[arg(long)]
    success: Option<bool>,
    /// Error text
    #[arg(long)]
    error: Option<String>,
    /// Model name
    #[arg(long)]
    model: Option<String>,
    /// Conversation
    #[arg(long)]
    session: Option<String>,
    /// Milliseconds to the whole answer
    #[arg(long)]
    latency_ms: Option<f64>,
    /// Label; may be repeated
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Never train on it
    #[arg(long)]
    no_train: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    span: SpanArgs,
    /// Failed ones only
    #[arg(long)]
    failed: bool,
    /// With this tag only
    #[arg(long)]
    tag: Option<String>,
    /// Most rows
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, Args)]
struct FeedbackArgs {
    /// The interaction's id
    id: String,
    /// up, down, or a number from -1 to 1
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Why
    #[arg(long)]
    comment: Option<String>,
    /// What the answer should have been
    #[arg(long)]
    correction: Option<String>,
    /// Who says so
    #[arg(long, default_value = "operator")]
    source: String,
}

#[derive(Debug, Subcommand)]
enum EvalsetCommand {
    /// Register a JSONL file of {id, messages, reference, check}
    Add {
        /// Name of the set
        name: String,
        /// The file
        file: PathBuf,
        /// What it may be used for
        #[arg(long, value_enum, default_value_t = PurposeArg::Gate)]
        purpose: PurposeArg,
    },
    /// List the registered sets
    List,
}

/// What a set may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PurposeArg {
    /// Questions without a key
    Traffic,
    /// References may score a gate, never train
    Gate,
    /// Sealed: read for reports only
    Report,
}

impl From<PurposeArg> for Purpose {
    fn from(purpose: PurposeArg) -> Self {
        match purpose {
            PurposeArg::Traffic => Self::Traffic,
            PurposeArg::Gate => Self::Gate,
            PurposeArg::Report => Self::Report,
        }
    }
}

/// Runs the program.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Import(args) if args.files.is_empty() => drain::run(ctx),
        Command::Import(args) => import::run(ctx, &args),
        Command::Export(args) => export::run(ctx, &args),
        Command::Log(args) => import::log(ctx, args),
        Command::List(args) => query::list(ctx, &args),
        Command::Show { id } => query::show(ctx, &id),
        Command::Search { words, limit } => query::search(ctx, &words, limit),
        Command::Tag { id, tags, remove } => label::tag(ctx, &id, &tags, remove),
        Command::Feedback(args) => label::feedback(ctx, &args),
        Command::Stats(span) => query::stats(ctx, &span),
        Command::Calibrate => calibrate::run(ctx),
        Command::Evalset(EvalsetCommand::Add { name, file, purpose }) => {
            evalset::add(ctx, &name, &file, purpose.into())
        }
        Command::Evalset(EvalsetCommand::List) => evalset::list(ctx),
    }
}
