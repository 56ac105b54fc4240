//! `audit`: what this program changed, from the journal, whose chain of hashes is checked.

use std::fmt::Write as _;

use clap::Args;
use nightshift_core::clock::{parse_bound, parse_time, zone};
use nightshift_core::journal::{self, Entry};
use nightshift_core::{Ctx, Exit, Failure, Outcome};
use serde::Serialize;

use crate::learning::{self, Db};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// Only entries from this time on (2026-03-01 or 2026-03-01T02:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Entries of the other programs too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    db: Db,
}

#[derive(Serialize)]
struct Report {
    /// The chain of all entries holds; else the command fails.
    verified: bool,
    /// All entries of the journal.
    total: usize,
    entries: Vec<Entry>,
}

/// Runs `audit`: exit 3 when there is nothing to show, 1 when the chain is broken.
pub fn audit(ctx: &Ctx, arguments: AuditArguments) -> Result<Outcome, Failure> {
    let path = learning::locate(ctx, &arguments.db);
    if !path.exists() {
        return Err(Failure::nothing(format!("there is no store at {}", path.display())));
    }
    let zone = zone(&ctx.config.time_zone)?;
    let since = arguments.since.as_deref().map(|text| parse_bound(text, &zone)).transpose()?;
    let store = learning::open(ctx, &arguments.db)?;
    let mut entries = journal::verify(store.read())?;
    let total = entries.len();
    entries.retain(|entry| {
        let recent = since.is_none_or(|since| parse_time(&entry.at).is_none_or(|at| at >= since));
        recent && (arguments.all || entry.tool == ctx.tool)
    });
    let mut text = format!("the chain of {total} entries holds\n");
    for entry in &entries {
        let Entry { seq, at, kind, subject, before, after, why, .. } = entry;
        let _ = writeln!(text, "{seq}  {at}  {kind}  {subject}\n    {before} -> {after}\n    {why}");
    }
    let exit = if entries.is_empty() { Exit::NothingToDo } else { Exit::Done };
    Ok(Outcome::new(exit, &Report { verified: true, total, entries }, text.trim_end()))
}
