//! `evaluate`: the mean loss on the answers of a file, of the base or of an adapter on it.

use nightshift_core::{Ctx, Failure, Outcome};
use serde::Serialize;

use crate::args::EvaluateArgs;
use crate::base::{self, Base, HeldBase, Text};
use crate::data::{self, Dropped};
use crate::report::NAMED_ROWS;
use crate::{measure, train};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Mean negative log-likelihood per answer token, natural log.
    mean_nll: f64,
    /// Answer tokens.
    tokens: usize,
    /// Examples.
    examples: usize,
    /// Rows that were left out, by reason.
    dropped: std::collections::BTreeMap<&'static str, usize>,
    /// The first of them.
    dropped_rows: Vec<Dropped>,
    /// Fingerprint of the base.
    base_fingerprint: String,
    /// How the base is held in memory.
    base_held: HeldBase,
    /// Tokens read in a second, prompts included.
    tokens_per_s: f64,
    /// Wall time of the arithmetic.
    seconds: f64,
    /// Peak resident memory.
    peak_rss_bytes: u64,
}

/// Runs `evaluate`.
pub(crate) fn run(ctx: &Ctx, args: &EvaluateArgs) -> Result<Outcome, Failure> {
    let base_dir = args.base.clone().map_or_else(|| ctx.base(), Ok)?;
    let (records, mut dropped) = data::read(&args.data)?;
    let text = Text::load(&base_dir, ctx.clock.now())?;
    let max_length = args.max_length.unwrap_or(ctx.config.train.max_length);
    let rows = data::encode(&text, &records, max_length);
    data::refuse_template(&rows)?;
    let (kept, left_out): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
    let examples: Vec<_> = kept.into_iter().flatten().collect();
    dropped.extend(left_out.into_iter().filter_map(Result::err));
    if examples.is_empty() {
        return Err(Failure::nothing(format!("{} holds no row to evaluate", args.data.display())));
    }
    let storage = base::storage(args.dtype.unwrap_or_default(), args.quantize.unwrap_or_default());
    let base = Base::load(&base_dir, storage)?;
    let adapter = args.adapter.as_deref().map(|dir| base.adapter(dir)).transpose()?;
    let threads = train::threads(args.threads.unwrap_or(ctx.config.train.threads));
    let started = ctx.clock.elapsed();
    let loss = measure::evaluate(ctx, &base.model, adapter.as_ref(), &examples, threads)?;
    let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    let read: usize = examples.iter().map(|row| row.example.tokens.len()).sum();
    let report = Report {
        mean_nll: loss.nll_sum / loss.tokens as f64,
        tokens: loss.tokens,
        examples: examples.len(),
        dropped: data::count(&dropped),
        dropped_rows: dropped.into_iter().take(NAMED_ROWS).collect(),
        base_held: base.held(),
        base_fingerprint: base.fingerprint,
        tokens_per_s: read as f64 / seconds.max(1e-9),
        seconds,
        peak_rss_bytes: nightshift_core::process::peak_rss_bytes(),
    };
    let left_out: usize = report.dropped.values().sum();
    let text = format!(
        "mean NLL {:.6} over {} answer tokens of {} examples ({left_out} rows left out)",
        report.mean_nll, report.tokens, report.examples
    );
    Ok(Outcome::done(&report, text))
}
