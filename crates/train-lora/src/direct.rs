//! The direct form: one file in, one PEFT folder out. Opens no home.
//!
//! Checkpoints lie in `OUT/.checkpoints` until the folder is complete, so a run that was killed and is
//! started again with the same arguments ends with the same bytes. Those of another run are refused.

use std::path::Path;

use nightshift_core::random::sha256_hex;
use nightshift_core::release::ADAPTER_CONFIG;
use nightshift_core::{Ctx, Failure, Outcome, files};
use nightshift_model::{Adapter, ModelConfig, adapter_bytes};

use crate::args::{Args, SettingFlags};
use crate::base::{self, Base, Text, refused};
use crate::checkpoint::Checkpoints;
use crate::curves::{self, Places};
use crate::data::{self, Dropped, Encoded, Record};
use crate::publish::{Folder, METRICS};
use crate::report::{self, TrainReport};
use crate::settings::Settings;
use crate::train::{self, Job, News};
use crate::{holdout, memory};

const CHECKPOINTS: &str = ".checkpoints";

/// Trains on `data` and writes `out`.
pub(crate) fn run(ctx: &Ctx, args: &Args, data: &Path, out: &Path) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(ctx, &args.settings, !args.paths.no_shuffle)?;
    settings.control.stop_after_minutes = args.settings.max_minutes;
    let base_dir = args.paths.base.clone().map_or_else(|| ctx.base(), Ok)?;
    check_out(out)?;
    let shape = base::shape(&base_dir)?;
    let start = args.paths.init_adapter.as_deref();
    let adapter = match start {
        Some(dir) => going_on(&shape, dir, &args.settings, &mut settings)?,
        None => Adapter::init(settings.lora(), &shape, settings.seed),
    };
    let rows = read(ctx, &base_dir, data, &settings)?;
    let order = settings.order(rows.train.len(), 0, 0);
    let both = [rows.train.as_slice(), rows.evaluation.as_slice()];
    let memory =
        memory::check(&memory::shape((&base_dir, &shape), &adapter, &settings, both), &settings, &order)?;
    let base = Base::load(&base_dir, settings.storage())?;
    start.map_or(Ok(()), |dir| base.refuse_foreign(dir))?;
    let mut report = TrainReport {
        path: Some(out.display().to_string()),
        dataset_sha256: sha256_hex(&files::read(data)?),
        base_fingerprint: base.fingerprint.clone(),
        memory: Some(memory),
        base_held: base.held(),
        ..TrainReport::default()
    };
    report.add_dropped(&rows.dropped);
    (report.examples.new, report.examples.evaluation) = (rows.train.len(), rows.evaluation.len());
    if ctx.dry_run {
        report.steps = settings.max_steps.unwrap_or(usize::MAX).min(order.total_steps());
        let (steps, memory) = (report.steps, memory.sentence());
        let text = format!("would train {} rows in {steps} steps, with {memory}", rows.train.len());
        return Ok(Outcome::done(&report, text).status("planned"));
    }
    let checkpoints = checkpoints(ctx, &settings, &report, &adapter, &base, out)?;
    let name = sha256_hex(checkpoints.identity.to_string().as_bytes());
    let job = Job {
        ctx,
        model: &base.model,
        examples: &rows.train,
        evaluation: &rows.evaluation,
        order,
        settings: &settings,
        places: Places::new(out, settings.control.tensorboard.as_deref(), &name[..16]),
        checkpoints,
    };
    let trained = train::train(&job, adapter, &|news| {
        if let News::Note(line) = news {
            ctx.printer.note(line);
        }
    })?;
    report.add(&trained);
    let places = [&base.dir, data, out].map(|path| path.display().to_string());
    let folder = Folder::new(&trained, &base, &job.checkpoints.base_name, (ctx, &settings, &report, places));
    folder.replace(out)?;
    curves::complete_events(&job.places, &trained.steps, &trained.evals)?;
    files::remove_dir(&job.checkpoints.folder)?;
    for warning in &report.warnings {
        ctx.printer.note(&format!("warning: {warning}"));
    }
    let text = format!("wrote {}: {}", out.display(), report.sentence());
    Ok(Outcome::done(&report, text))
}

/// Where the run's state is kept, and under which identity.
fn checkpoints<'a>(
    ctx: &Ctx,
    settings: &Settings,
    report: &TrainReport,
    start: &Adapter,
    base: &'a Base,
    out: &Path,
) -> Result<Checkpoints<'a>, Failure> {
    let folder = out.join(CHECKPOINTS);
    if settings.control.fresh {
        files::remove_dir(&folder)?;
    }
    files::create_dir(&folder)?;
    let (_, start) = adapter_bytes(start, &base.model.config, "").map_err(refused)?;
    let eval = settings.control.eval_data.as_ref().map(|path| files::read(path)).transpose()?;
    let mut identity = settings.identity();
    identity["base_fingerprint"] = report.base_fingerprint.as_str().into();
    identity["dataset_sha256"] = report.dataset_sha256.as_str().into();
    identity["eval_data_sha256"] = eval.map(|bytes| sha256_hex(&bytes)).into();
    identity["start_sha256"] = sha256_hex(&start).into();
    // Here it only ends the run; a resumed one may be given more time.
    identity.as_object_mut().map(|identity| identity.remove("max_minutes"));
    Ok(Checkpoints {
        folder,
        identity,
        shape: &base.model.config,
        base_name: base.dir.display().to_string(),
        refuse_others: true,
        crash: ctx.crash.clone(),
    })
}

/// A folder that holds something else than an adapter is not ours to write into.
fn check_out(out: &Path) -> Result<(), Failure> {
    // The curves of a run that was stopped before it wrote its adapter.
    let ours = out.join(CHECKPOINTS).exists();
    let foreign = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !(name.starts_with('.') || ours && name == METRICS)
    };
    let occupied = files::list(out)?.iter().any(foreign);
    if occupied && !out.join(ADAPTER_CONFIG).exists() {
        let message = format!("{} is not empty and holds no adapter", out.display());
        return Err(Failure::usage(message).hint("name a new folder with --out"));
    }
    Ok(())
}

/// The rows of a run, in tokens.
struct Rows {
    train: Vec<Encoded>,
    evaluation: Vec<Encoded>,
    dropped: Vec<Dropped>,
}

/// The file's rows in tokens, those to evaluate on apart; exit 3 when not one of them can be learned.
fn read(ctx: &Ctx, base: &Path, path: &Path, settings: &Settings) -> Result<Rows, Failure> {
    let (records, mut dropped) = data::read(path)?;
    let (train, evaluation) = match &settings.control.eval_data {
        Some(file) => {
            let (evaluation, bad) = data::read(file)?;
            dropped.extend(bad);
            (holdout::without(records, &evaluation, &mut dropped), evaluation)
        }
        None => holdout::split(records, settings.control.eval_share),
    };
    let text = Text::load(base, ctx.clock.now())?;
    let mut encode = |records: &[Record]| -> Result<Vec<Encoded>, Failure> {
        let rows = data::encode(&text, records, settings.train.max_length);
        data::refuse_template(&rows)?;
        let (kept, left_out): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
        dropped.extend(left_out.into_iter().filter_map(Result::err));
        Ok(kept.into_iter().flatten().collect())
    };
    let (train, evaluation) = (encode(&train)?, encode(&evaluation)?);
    for row in dropped.iter().take(report::NAMED_ROWS) {
        ctx.printer.note(&format!("left out ({}): {}: {}", row.reason.name(), row.row, row.why));
    }
    if train.is_empty() {
        let message = format!("{} holds no row that can be learned", path.display());
        return Err(Failure::nothing(message).hint("see the rows that were left out, above"));
    }
    holdout::refuse_empty(&settings.control, evaluation.len())?;
    Ok(Rows { train, evaluation, dropped })
}

/// The adapter to go on from; its form holds, and flags that say otherwise are refused.
fn going_on(
    shape: &ModelConfig,
    dir: &Path,
    flags: &SettingFlags,
    settings: &mut Settings,
) -> Result<Adapter, Failure> {
    let adapter = Adapter::load(dir, shape).map_err(refused)?;
    let form = &adapter.config;
    let disagrees = [
        ("--rank", flags.rank.is_some() && form.rank != settings.train.rank),
        ("--alpha", flags.alpha.is_some() && form.alpha != settings.train.alpha),
        ("--targets", flags.targets.is_some() && form.targets != settings.targets),
    ];
    if let Some((flag, _)) = disagrees.iter().find(|(_, disagrees)| *disagrees) {
        let message = format!("{flag} differs from the adapter in {}", dir.display());
        return Err(Failure::usage(message).hint(format!("leave out {flag}: the adapter's own holds")));
    }
    settings.train.rank = form.rank;
    settings.train.alpha = form.alpha;
    settings.targets.clone_from(&form.targets);
    Ok(adapter)
}
