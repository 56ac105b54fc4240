//! `data`: what a file becomes before anything is trained on it.
//!
//! Counts by form, rows that are left out, cut or repeated, token lengths, how full packed passes would be,
//! and the first examples as the model reads them, what is learned between ⟦ and ⟧. Reads the tokenizer and
//! the template of the base, not its weights.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nightshift_core::config::Overlong;
use nightshift_core::{Ctx, Failure, Outcome};
use nightshift_model::Example;
use serde::Serialize;

use crate::args::{Contaminated, DataArgs, MixFlags};
use crate::base::{Text, TextSource, refused};
use crate::data::{self, DataSet, Dropped, Lesson, Noted, Rules, Taught};
use crate::gather;
use crate::order::pack;
use crate::report::NAMED_ROWS;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// answers, preference pairs, judged answers
    teaches: &'static str,
    /// Rows that can be learned.
    rows: usize,
    /// Rows read, by form.
    forms: BTreeMap<&'static str, usize>,
    /// Rows that cannot be learned, by reason.
    dropped: BTreeMap<&'static str, usize>,
    /// The first of them.
    dropped_rows: Vec<Dropped>,
    /// Rows whose prompt is cut.
    truncated: Vec<Noted>,
    /// Rows that say the same as an earlier one.
    repeated: Vec<Noted>,
    /// Tokens of an example, prompt and answer.
    tokens: Lengths,
    /// Of these, how many are learned.
    scored: Lengths,
    /// Forward passes of one epoch.
    packing: Packing,
    /// The first examples.
    examples: Vec<Shown>,
}

/// Tokens of examples.
#[derive(Debug, Default, Serialize)]
struct Lengths {
    total: usize,
    min: usize,
    p50: usize,
    p90: usize,
    p99: usize,
    max: usize,
}

impl Lengths {
    /// Quantiles by the nearest rank.
    fn new(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let Some((&max, &min)) = lengths.last().zip(lengths.first()) else { return Self::default() };
        let quantile = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100).max(1) - 1];
        let total = lengths.iter().sum();
        Self { total, min, p50: quantile(50), p90: quantile(90), p99: quantile(99), max }
    }
}

/// How full the passes of an epoch are under `--packing`, in file order.
#[derive(Debug, Serialize)]
struct Packing {
    pack_len: usize,
    passes: usize,
    /// Tokens / (passes x pack_len).
    fill: f64,
}

/// An example as the model reads it.
#[derive(Debug, Serialize)]
struct Shown {
    row: String,
    /// chosen, rejected, wanted, unwanted; absent for an answer to imitate.
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<&'static str>,
    tokens: usize,
    scored: usize,
    parts: Vec<Part>,
}

/// A run of tokens that are learned, or are not.
#[derive(Debug, Serialize)]
struct Part {
    scored: bool,
    text: String,
}

/// Runs `data`.
pub(crate) fn run(ctx: &Ctx, args: &DataArgs) -> Result<Outcome, Failure> {
    let base = args.base.clone().map_or_else(|| ctx.base(), Ok)?;
    let max_length = args.max_length.unwrap_or(ctx.config.train.max_length);
    let rules = args.rows.rules(&MixFlags::default(), max_length, ctx.config.train.overlong);
    // What a training would refuse is counted here, so that all of it is seen at once.
    let overlong = if rules.overlong == Overlong::Error { Overlong::Drop } else { rules.overlong };
    let rules = Rules { contaminated: Contaminated::Drop, overlong, ..rules };
    let seals = gather::seals(ctx, &args.check_against)?;
    let text = TextSource { base: &base, template: args.rows.chat_template.as_deref(), now: ctx.clock.now() };
    let set = data::load(&args.data, text, rules, None, &seals)?;
    if set.lessons.is_empty() {
        set.notes().iter().take(NAMED_ROWS).for_each(|note| ctx.printer.note(note));
        set.not_empty(&args.data)?;
    }
    let report = report(ctx, args, &set, &text.open(false)?)?;
    let printed = print(args, &set, &report);
    Ok(Outcome::done(&report, printed))
}

fn report(ctx: &Ctx, args: &DataArgs, set: &DataSet, text: &Text) -> Result<Report, Failure> {
    let all: Vec<&Example> = set.lessons.iter().flat_map(|row| row.taught.examples()).collect();
    let lengths: Vec<usize> = all.iter().map(|example| example.tokens.len()).collect();
    let mut examples = Vec::new();
    for row in set.lessons.iter().take(args.show) {
        shown(row, text, &mut examples)?;
    }
    Ok(Report {
        teaches: set.teaches.name(),
        rows: set.lessons.len(),
        forms: set.forms.clone(),
        dropped: data::count(&set.dropped),
        dropped_rows: set.dropped.iter().take(NAMED_ROWS).cloned().collect(),
        truncated: set.truncated.iter().take(NAMED_ROWS).cloned().collect(),
        repeated: set.repeated.iter().take(NAMED_ROWS).cloned().collect(),
        scored: Lengths::new(all.iter().map(|example| example.scored_count()).collect()),
        packing: packing(ctx, args.pack_len, &lengths),
        tokens: Lengths::new(lengths),
        examples,
    })
}

fn packing(ctx: &Ctx, pack_len: usize, lengths: &[usize]) -> Packing {
    let train = &ctx.config.train;
    let rows: Vec<usize> = (0..lengths.len()).collect();
    let window = (train.batch_size * train.gradient_accumulation).max(1);
    let passes: usize = rows.chunks(window).map(|window| pack(window, lengths, pack_len).len()).sum();
    let room = (passes * pack_len) as f64;
    let fill = if room > 0.0 { lengths.iter().sum::<usize>() as f64 / room } else { 0.0 };
    Packing { pack_len, passes, fill }
}

fn shown(row: &Lesson, text: &Text, out: &mut Vec<Shown>) -> Result<(), Failure> {
    let sides: Vec<(Option<&'static str>, &Example)> = match &row.taught {
        Taught::Answer(example) => vec![(None, example)],
        Taught::Pair(pair) => vec![(Some("chosen"), &pair.chosen), (Some("rejected"), &pair.rejected)],
        Taught::Judged(judged) => {
            vec![(Some(if judged.desirable { "wanted" } else { "unwanted" }), &judged.example)]
        }
    };
    for (side, example) in sides {
        let mut parts = Vec::new();
        let mut from = 0;
        for run in example.scored.chunk_by(|a, b| a == b) {
            let tokens = &example.tokens[from..from + run.len()];
            let text = text.tokenizer.decode_with_special(tokens).map_err(refused)?;
            parts.push(Part { scored: run[0], text });
            from += run.len();
        }
        let (tokens, scored) = (example.tokens.len(), example.scored_count());
        out.push(Shown { row: row.name.clone(), side, tokens, scored, parts });
    }
    Ok(())
}

/// The report for a person.
fn print(args: &DataArgs, set: &DataSet, report: &Report) -> String {
    let list = |counts: &BTreeMap<&'static str, usize>| {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        counts.join(", ")
    };
    let path = args.data.display();
    let mut text = format!("{path}: {} rows of {} ({})", report.rows, report.teaches, list(&report.forms));
    if !report.dropped.is_empty() {
        let _ = write!(text, "\nleft out: {}", list(&report.dropped));
    }
    if !set.truncated.is_empty() || !set.repeated.is_empty() {
        let _ = write!(text, "\ncut: {}, repeated: {}", set.truncated.len(), set.repeated.len());
    }
    for note in set.notes().iter().take(NAMED_ROWS) {
        let _ = write!(text, "\n  {note}");
    }
    let _ =
        write!(text, "\n{:8}{:>10}{:>7}{:>7}{:>7}{:>7}{:>7}", "", "total", "min", "p50", "p90", "p99", "max");
    for (name, lengths) in [("tokens", &report.tokens), ("scored", &report.scored)] {
        let Lengths { total, min, p50, p90, p99, max } = lengths;
        let _ = write!(text, "\n{name:8}{total:>10}{min:>7}{p50:>7}{p90:>7}{p99:>7}{max:>7}");
    }
    let Packing { pack_len, passes, fill } = &report.packing;
    let _ = write!(text, "\npacked into {pack_len} tokens: {passes} passes, {:.0} % full", 100.0 * fill);
    for Shown { row, side, tokens, scored, parts } in &report.examples {
        let side = side.map_or(String::new(), |side| format!(", {side}"));
        let _ = write!(text, "\n\n-- {row}{side}: {tokens} tokens, {scored} scored\n");
        for part in parts {
            let (open, close) = if part.scored { ("⟦", "⟧") } else { ("", "") };
            let _ = write!(text, "{open}{}{close}", part.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let Lengths { total, min, p50, p90, p99, max } = Lengths::new((1..=10).rev().collect());
        assert_eq!((total, min, p50, p90, p99, max), (55, 1, 5, 9, 10, 10));
        assert_eq!(Lengths::new(vec![7]).p50, 7);
        assert_eq!(Lengths::new(Vec::new()).max, 0);
    }
}
