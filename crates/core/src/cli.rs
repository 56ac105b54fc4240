//! The runner: parse, config, logging, run, render, exit. The only user of clap's entry points.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tracing_subscriber::EnvFilter;

use crate::ctx::{Ctx, Global};
use crate::env::{self, Env};
use crate::error::Failure;
use crate::exit::Exit;

/// Version of the JSON that `--json` prints; fields are only ever added.
pub const SCHEMA_VERSION: u32 = 1;

/// What a tool says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// One imperative line, without a final period.
    pub about: &'static str,
    /// The rest of `--help`: what it reads, writes and exits with, with examples.
    pub details: &'static str,
}

/// How a run ended well.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit.
    pub exit: Exit,
    /// The word in `status`; the exit's own unless more precise.
    pub status: String,
    /// The fields of the tool's JSON object.
    pub fields: Value,
    /// The result for a person, on stdout.
    pub text: String,
}

impl Outcome {
    /// An outcome with the fields of a report.
    pub fn new(exit: Exit, report: &impl Serialize, text: impl Into<String>) -> Self {
        let fields =
            serde_json::to_value(report).unwrap_or_else(|error| json!({"report_error": error.to_string()}));
        Self { exit, status: exit.status().into(), fields, text: text.into() }
    }

    /// Exit 0.
    pub fn done(report: &impl Serialize, text: impl Into<String>) -> Self {
        Self::new(Exit::Done, report, text)
    }

    /// With a more precise status word.
    #[must_use]
    pub fn status(mut self, status: impl Into<String>) -> Self {
        self.status = status.into();
        self
    }
}

#[derive(Debug, Parser)]
struct Cli<A: Args> {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    args: A,
}

/// Runs a tool: the whole of every `main`.
pub fn main<A: Args>(tool: Tool, run: fn(&Ctx, A) -> Result<Outcome, Failure>) -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let command = command::<A>(tool);
    let parsed = command.clone().try_get_matches_from(&arguments).and_then(|matches| {
        Cli::<A>::from_arg_matches(&matches).map_err(|error| error.format(&mut command.clone()))
    });
    match parsed {
        Ok(Cli { global, args }) => {
            let printer = crate::printer::Printer::new(global.json, global.quiet, false);
            let (run_id, result) = match Ctx::build(tool.name, &global, Env::read()) {
                Ok(ctx) => {
                    start_logging(&ctx.env, &global);
                    (ctx.run_id.clone(), run(&ctx, args))
                }
                Err(failure) => (String::new(), Err(failure)),
            };
            finish(tool, &printer, &run_id, result)
        }
        Err(error) => refuse(tool, &arguments, &error),
    }
}

/// The clap command of a tool: for its `--help`, completions and manual page.
pub fn command<A: Args>(tool: Tool) -> clap::Command {
    Cli::<A>::command()
        .name(tool.name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(tool.about)
        .after_long_help(tool.details.trim())
        .max_term_width(100)
}

/// A command line that does not parse. A bad config is said first: it is 9 for every tool.
fn refuse(tool: Tool, arguments: &[std::ffi::OsString], error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let value = |flag: &str| {
        let with = format!("{flag}=");
        let mut texts = arguments.iter().map(|argument| argument.to_string_lossy());
        while let Some(text) = texts.next() {
            if text == flag {
                return texts.next().map(|value| value.into_owned().into());
            }
            if let Some(value) = text.strip_prefix(&with) {
                return Some(value.into());
            }
        }
        None
    };
    let json = arguments.iter().any(|argument| argument == "--json");
    let global = Global { home: value("--home"), config: value("--config"), json, ..Global::default() };
    let printer = crate::printer::Printer::new(json, false, false);
    if let Err(failure) = Ctx::build(tool.name, &global, Env::read())
        && failure.exit() == Exit::Config
    {
        return finish(tool, &printer, "", Err(failure));
    }
    let text = error.render().to_string();
    printer.error(text.trim_end());
    printer.json(&object(
        tool,
        Exit::Usage,
        Exit::Usage.status(),
        "",
        json!({"error": {"message": text.trim_end()}}),
    ));
    ExitCode::from(Exit::Usage.code())
}

fn finish(
    tool: Tool,
    printer: &crate::printer::Printer,
    run_id: &str,
    result: Result<Outcome, Failure>,
) -> ExitCode {
    match result {
        Ok(outcome) => {
            printer.out(&outcome.text);
            printer.json(&object(tool, outcome.exit, &outcome.status, run_id, outcome.fields));
            ExitCode::from(outcome.exit.code())
        }
        Err(failure) => {
            let label = if failure.exit() == Exit::NothingToDo { "" } else { "error: " };
            printer.error(&format!("{}: {label}{}", tool.name, failure.chain()));
            for hint in failure.hints() {
                printer.error(&format!("hint: {hint}"));
            }
            let error = json!({"error": {"message": failure.chain(), "hints": failure.hints()}});
            printer.json(&object(tool, failure.exit(), failure.exit().status(), run_id, error));
            ExitCode::from(failure.exit().code())
        }
    }
}

/// The one object of `--json`: the common fields first, then the tool's own.
fn object(tool: Tool, exit: Exit, status: &str, run_id: &str, fields: Value) -> Value {
    let mut map = Map::new();
    map.insert("tool".into(), tool.name.into());
    map.insert("schema_version".into(), SCHEMA_VERSION.into());
    map.insert("status".into(), status.into());
    map.insert("exit_code".into(), exit.code().into());
    map.insert("run_id".into(), run_id.into());
    if let Value::Object(fields) = fields {
        for (key, value) in fields {
            map.entry(key).or_insert(value);
        }
    }
    Value::Object(map)
}

fn start_logging(environment: &Env, global: &Global) {
    let level = match global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = environment.get(env::NIGHTSHIFT_LOG).unwrap_or(level);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(level));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second subscriber (tests running tools in one process) is no error.
    let _ = if global.log_format.as_deref() == Some("json") {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}
