//! `evaluate`: the mean loss on the answers of a file, of the base or of an adapter on it.

use nightshift_core::config::Overlong;
use nightshift_core::{Ctx, Failure, Outcome};
use nightshift_model::Place;
use serde::Serialize;

use crate::args::{EvaluateArgs, MixFlags};
use crate::base::{self, HeldBase, TextSource};
use crate::data::{self, DataSet, Dropped, Encoded, Lesson, Taught};
use crate::report::NAMED_ROWS;
use crate::seals::Seals;
use crate::{device, measure, speed, train};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Mean negative log-likelihood per answer token, natural log.
    mean_nll: f64,
    /// Answer tokens.
    tokens: usize,
    /// Examples.
    examples: usize,
    /// Of preference pairs the rejected answers, of judged answers the unwanted ones; the numbers above are
    /// then of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Rejected>,
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
    /// The device that computed; absent when it was the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// What matrix products reach on this machine's processor, 10⁹ operations a second; null when a device
    /// computed.
    peak_gflops: Option<f64>,
    /// The evaluation's matrix products in percent of that.
    peak_percent: Option<f64>,
    /// Wall time of the arithmetic.
    seconds: f64,
    /// Peak resident memory.
    peak_rss_bytes: u64,
}

/// The loss on answers that are not wanted.
#[derive(Debug, Serialize)]
struct Rejected {
    mean_nll: f64,
    tokens: usize,
    examples: usize,
}

/// Runs `evaluate`.
pub(crate) fn run(ctx: &Ctx, args: &EvaluateArgs) -> Result<Outcome, Failure> {
    let place = args.device.as_deref().map_or(Ok(Place::Host), device::named)?;
    let base_dir = args.base.clone().map_or_else(|| ctx.base(), Ok)?;
    let max_length = args.max_length.unwrap_or(ctx.config.train.max_length);
    let rules = args.rows.rules(&MixFlags::default(), max_length, Overlong::Drop);
    let template = args.rows.chat_template.as_deref();
    let text = TextSource { base: &base_dir, template, now: ctx.clock.now() };
    let set = data::load(&args.data, text, rules, None, &Seals::none())?;
    if set.lessons.is_empty() {
        return Err(Failure::nothing(format!("{} holds no row to evaluate", args.data.display())));
    }
    let storage = base::storage(args.dtype.unwrap_or_default(), args.quantize.unwrap_or_default());
    let base = device::load(&base_dir, storage, place)?;
    let DataSet { lessons, dropped, .. } = set;
    let (examples, unwanted) = by_worth(lessons);
    let threads = train::threads(args.threads.unwrap_or(ctx.config.train.threads));
    let adapter = args.adapter.as_deref().map(|dir| base.adapter(dir, threads)).transpose()?;
    let started = ctx.clock.elapsed();
    let measure = |examples: &[Encoded]| measure::evaluate(ctx, &base, adapter.as_ref(), examples, threads);
    let (loss, other) = (measure(&examples)?, measure(&unwanted)?);
    let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    let read: usize = examples.iter().chain(&unwanted).map(|row| row.example.tokens.len()).sum();
    let rejected =
        other.mean().map(|mean_nll| Rejected { mean_nll, tokens: other.tokens, examples: unwanted.len() });
    let on_host = place == Place::Host;
    let peak_gflops = on_host.then(|| speed::peak_gflops(&base.model, threads, seconds));
    let gflop_of = |examples: &[Encoded]| speed::evaluation_gflop(&base.model, adapter.as_ref(), examples);
    let gflop = gflop_of(&examples) + gflop_of(&unwanted);
    let report = Report {
        mean_nll: loss.mean().unwrap_or(f64::NAN),
        tokens: loss.tokens,
        examples: examples.len(),
        rejected,
        dropped: data::count(&dropped),
        dropped_rows: dropped.into_iter().take(NAMED_ROWS).collect(),
        base_held: base.held(),
        base_fingerprint: base.fingerprint,
        tokens_per_s: read as f64 / seconds.max(1e-9),
        device: device::said(place),
        peak_gflops,
        peak_percent: peak_gflops.map(|peak| speed::percent(gflop, seconds, peak)),
        seconds,
        peak_rss_bytes: nightshift_core::process::peak_rss_bytes(),
    };
    let left_out: usize = report.dropped.values().sum();
    let unwanted = report
        .rejected
        .as_ref()
        .map_or(String::new(), |other| format!(", {:.6} over those that are not wanted", other.mean_nll));
    let text = format!(
        "mean NLL {:.6} over {} answer tokens of {} examples{unwanted} ({left_out} rows left out), {}",
        report.mean_nll,
        report.tokens,
        report.examples,
        speed::words(report.tokens_per_s, report.peak_percent, report.peak_gflops)
    );
    Ok(Outcome::done(&report, text))
}

/// The answers that are wanted, and the others.
fn by_worth(lessons: Vec<Lesson>) -> (Vec<Encoded>, Vec<Encoded>) {
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    for Lesson { name, taught, .. } in lessons {
        let encoded = |example| Encoded::answer(name.clone(), example);
        match taught {
            Taught::Answer(example) => wanted.push(encoded(example)),
            Taught::Pair(pair) => {
                wanted.push(encoded(pair.chosen));
                unwanted.push(encoded(pair.rejected));
            }
            Taught::Judged(judged) if judged.desirable => wanted.push(encoded(judged.example)),
            Taught::Judged(judged) => unwanted.push(encoded(judged.example)),
        }
    }
    (wanted, unwanted)
}
