//! What the direct form trains on: the rows of `--data`, and the rows of `--replay` to draw from.

use std::path::Path;

use nightshift_core::config::Overlong;
use nightshift_core::random::sha256_hex;
use nightshift_core::{Ctx, Failure, files};
use serde_json::Value;

use crate::args::{Args, MixFlags, RowFlags};
use crate::base::TextSource;
use crate::data::{self, DataSet, Dropped, Encoded, Reason, Rules, Teaches, Verdict};
use crate::holdout;
use crate::objective::Objective;
use crate::report::{self, TrainReport};
use crate::seals::Seals;
use crate::settings::Settings;

/// Why a row that is evaluated on, or that has an answer already, does not take part.
const EVALUATED: (Reason, &str) = (Reason::Evaluation, "its question is evaluated on");
const ANSWERED: (Reason, &str) =
    (Reason::Duplicate, "its question has an answer among the rows to be learned");

/// Share of replayed rows when `--replay` comes without one.
const DEFAULT_SHARE: f64 = 0.3;

/// The rows of a direct training.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The rows of `--data`, then those of `--replay`.
    pub(crate) examples: Vec<Encoded>,
    /// The same rows as an external trainer reads them.
    pub(crate) wire: Vec<Value>,
    /// How many are of `--data`: all of them take part in every epoch.
    pub(crate) rows: usize,
    /// How many of the others each epoch draws.
    pub(crate) drawn: usize,
    /// Rows that are evaluated on while training, in both forms.
    pub(crate) held_out: (Vec<Value>, Vec<Encoded>),
    /// Digest of all tokens and what is scored among them: template, tokenizer, rules and files show in it.
    pub(crate) digest: String,
}

impl RowFlags {
    /// The rules that these flags give; `overlong` holds where no flag does.
    pub(crate) fn rules(&self, mix: &MixFlags, max_length: usize, overlong: Overlong) -> Rules {
        Rules {
            loss_on: self.loss_on.unwrap_or_default(),
            overlong: self.overlong.unwrap_or(overlong),
            contaminated: mix.contaminated.unwrap_or_default(),
            dedup: self.dedup,
            max_length,
        }
    }
}

/// Reads the files, says what was left out, and writes it into the report.
///
/// # Errors
/// Exit 3 when a file is empty or none of its rows can be learned; exit 4 as [`data::load`] says.
pub(crate) fn gather(
    ctx: &Ctx,
    args: &Args,
    base: &Path,
    settings: &Settings,
    report: &mut TrainReport,
) -> Result<Gathered, Failure> {
    let Some(path) = &args.paths.data else { return Err(Failure::usage("--data is missing")) };
    let replayed = share(&args.mix)?;
    let seals = seals(ctx, &args.mix.check_against)?;
    let rules = args.rows.rules(&args.mix, settings.train.max_length, settings.train.overlong);
    let template = args.rows.chat_template.as_deref();
    let text = TextSource { base, template, now: ctx.clock.now() };
    let read = |path: &Path, others: &[(&DataSet, (Reason, &str))]| -> Result<DataSet, Failure> {
        let mut set = data::load(path, text, rules, wanted(settings), &seals)?;
        for (others, why) in others {
            set.leave_out(others, *why);
        }
        for note in set.notes().iter().take(report::NAMED_ROWS) {
            ctx.printer.note(note);
        }
        set.not_empty(path)?;
        fits(&set, &settings.objective, path)?;
        Ok(set)
    };
    let evaluation = settings.control.eval_data.as_ref().map(|path| read(path, &[])).transpose()?;
    let evaluated: Vec<(&DataSet, (Reason, &str))> = evaluation.iter().map(|set| (set, EVALUATED)).collect();
    let mut set = read(path, &evaluated)?;
    let held = set.hold_out(settings.control.eval_share);
    set.not_empty(path)?;
    report.dataset_sha256 = sha256_hex(&files::read(path)?);
    report.add_set(&set);
    let rows = set.lessons.len();
    report.examples.new = rows;
    let wire_of = |set: &DataSet| -> Vec<Value> { set.lessons.iter().map(|row| row.wire.clone()).collect() };
    let mut wire = wire_of(&set);
    let (mut drawn, mut pool) = (0, Vec::new());
    if let Some(path) = &args.mix.replay {
        let others = [evaluated.as_slice(), &[(&set, ANSWERED)]].concat();
        let mut replay = read(path, &others)?;
        // What is held out is never trained on, wherever it comes from.
        let held = replay.hold_out(settings.control.eval_share).into_iter();
        replay.dropped.extend(held.map(|row| Dropped::new(row.name, EVALUATED.0, EVALUATED.1)));
        report.add_set(&replay);
        wire.extend(wire_of(&replay));
        pool = replay.into_examples();
        let wanted = (rows as f64 * replayed / (1.0 - replayed)).round() as usize;
        drawn = wanted.min(pool.len());
        if drawn < wanted {
            report.warnings.push(format!(
                "{} holds {} rows, but a replay share of {replayed} takes {wanted} in each epoch: it is {:.2}",
                path.display(),
                pool.len(),
                drawn as f64 / (drawn + rows) as f64
            ));
        }
        (report.examples.replay, report.examples.replay_pool) = (drawn, pool.len());
    }
    let mut examples = set.into_examples();
    examples.extend(pool);
    let digest = digest(&examples, rows, drawn);
    let held = evaluation.map_or(held, |set| set.lessons);
    let held_out = (held.iter().map(|row| row.wire.clone()).collect(), data::examples(held));
    report.examples.evaluation = held_out.1.len();
    holdout::refuse_empty(&settings.control, held_out.1.len())?;
    Ok(Gathered { examples, wire, rows, drawn, held_out, digest })
}

/// What training must not see: the evaluation sets of the home, if there is one, and further files.
pub(crate) fn seals(ctx: &Ctx, files: &[std::path::PathBuf]) -> Result<Seals, Failure> {
    let mut seals = Seals::of_home(ctx)?;
    for file in files {
        seals.add_file(file)?;
    }
    Ok(seals)
}

fn share(mix: &MixFlags) -> Result<f64, Failure> {
    let share = mix.replay_share.unwrap_or(DEFAULT_SHARE);
    if share > 0.0 && share < 1.0 {
        return Ok(share);
    }
    Err(Failure::usage(format!("--replay-share is {share}, but it must be above 0 and below 1")))
}

/// What rows are asked to teach: only a preference objective takes from a row more than its answer.
fn wanted(settings: &Settings) -> Option<Teaches> {
    let teaches = settings.objective.teaches();
    (teaches != Teaches::Answers).then_some(teaches)
}

/// Refuses (exit 4) rows that this objective cannot learn from.
pub(crate) fn fits(set: &DataSet, objective: &Objective, path: &Path) -> Result<(), Failure> {
    if set.teaches == objective.teaches() {
        return Ok(());
    }
    let (holds, needed) = (set.teaches.name(), objective.teaches().name());
    let failure = Failure::refused(format!("{} holds {holds}, not {needed}", path.display()));
    Err(match set.teaches {
        Teaches::Answers => failure
            .hint("dpo takes rows with `chosen` and `rejected`, kto rows with `completion` and `label`"),
        Teaches::Pairs => failure.hint("--objective dpo learns from them (or --objective kto)"),
        Teaches::Judgements => failure.hint("--objective kto learns from them"),
    })
}

/// Digest of tokens, what is scored among them, and what is said of the answers.
pub(crate) fn digest(examples: &[Encoded], rows: usize, drawn: usize) -> String {
    let mut bytes = format!("{rows} {drawn}\n").into_bytes();
    for row in examples {
        bytes.push(match row.verdict {
            Verdict::Imitate => 0,
            Verdict::Better(_) => 1,
            Verdict::Wanted(wanted) => 2 + u8::from(wanted),
        });
        for example in row.examples() {
            bytes.extend((example.tokens.len() as u64).to_le_bytes());
            for (token, scored) in example.tokens.iter().zip(&example.scored) {
                bytes.extend(token.to_le_bytes());
                bytes.push(u8::from(*scored));
            }
        }
    }
    sha256_hex(&bytes)
}
