//! The direct form: one file in, one PEFT folder out. Opens no home.
//!
//! Checkpoints lie in `OUT/.checkpoints` until the folder is complete, so a run that was killed and is
//! started again with the same arguments ends with the same bytes. Those of another run are refused.

use std::path::Path;

use nightshift_core::random::sha256_hex;
use nightshift_core::release::ADAPTER_CONFIG;
use nightshift_core::{Ctx, Failure, Outcome, files};
use nightshift_model::{Adapter, ModelConfig, Threads, adapter_bytes};

use crate::args::{Args, SettingFlags};
use crate::base::{self, Base, refused};
use crate::checkpoint::Checkpoints;
use crate::curves::{self, Places};
use crate::gather::{Gathered, gather};
use crate::memory;
use crate::objective::Objective;
use crate::publish::{Folder, METRICS};
use crate::report::TrainReport;
use crate::settings::Settings;
use crate::train::{self, Job, News};
use crate::variant;

const CHECKPOINTS: &str = ".checkpoints";

/// Trains on `data` and writes `out`.
pub(crate) fn run(ctx: &Ctx, args: &Args, data: &Path, out: &Path) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(ctx, &args.settings, !args.paths.no_shuffle)?;
    settings.control.stop_after_minutes = args.settings.max_minutes;
    let base_dir = args.paths.base.clone().map_or_else(|| ctx.base(), Ok)?;
    check_out(out)?;
    settings.objective = Objective::new(&args.objective)?;
    let shape = base::shape(&base_dir)?;
    let start = args.paths.init_adapter.as_deref();
    let mut adapter = match start {
        Some(dir) => going_on(&shape, dir, &args.settings, &mut settings)?,
        None => settings.adapter(&shape)?,
    };
    let mut report = TrainReport { path: Some(out.display().to_string()), ..TrainReport::default() };
    let gathered = gather(ctx, args, &base_dir, &settings, &mut report)?;
    let Gathered { examples, evaluation, rows, drawn, .. } = &gathered;
    let order = settings.order(*rows, examples.len() - rows, *drawn);
    let both = [examples.as_slice(), evaluation.as_slice()];
    let memory = memory::check(&memory::shape(&shape, &adapter, &settings, both), &settings, &order)?;
    let base = Base::load(&base_dir, settings.storage())?;
    adapter.prepare(&base.model, Threads::new(train::threads(settings.train.threads)));
    start.map_or(Ok(()), |dir| base.refuse_foreign(dir))?;
    report.base_fingerprint.clone_from(&base.fingerprint);
    (report.base_held, report.memory) = (base.held(), Some(memory));
    if ctx.dry_run {
        report.steps = settings.max_steps.unwrap_or(usize::MAX).min(order.total_steps());
        let (steps, memory) = (report.steps, memory.sentence());
        let text = format!("would train {} rows in {steps} steps, with {memory}", order.per_epoch());
        return Ok(Outcome::done(&report, text).status("planned"));
    }
    let checkpoints = checkpoints(ctx, &settings, &gathered, &adapter, &base, out)?;
    let name = sha256_hex(checkpoints.identity.to_string().as_bytes());
    let job = Job {
        ctx,
        model: &base.model,
        examples,
        evaluation,
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

/// Where the run's state is kept, and under which identity: another base, other tokens, other settings or
/// another start are another run.
fn checkpoints<'a>(
    ctx: &Ctx,
    settings: &Settings,
    gathered: &Gathered,
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
    let mut identity = settings.identity();
    identity["base_fingerprint"] = base.fingerprint.as_str().into();
    identity["rows_sha256"] = gathered.digest.as_str().into();
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
        !name.starts_with('.') && !(ours && name == METRICS)
    };
    let occupied = files::list(out)?.iter().any(foreign);
    if occupied && !out.join(ADAPTER_CONFIG).exists() {
        let message = format!("{} is not empty and holds no adapter", out.display());
        return Err(Failure::usage(message).hint("name a new folder with --out"));
    }
    Ok(())
}

/// The adapter to go on from; its form holds, and flags that say otherwise are refused.
fn going_on(
    shape: &ModelConfig,
    dir: &Path,
    flags: &SettingFlags,
    settings: &mut Settings,
) -> Result<Adapter, Failure> {
    let adapter = Adapter::load(dir, shape).map_err(refused)?;
    let (form, variant) = (&adapter.config, &flags.variant);
    let disagrees = [
        ("--rank", flags.rank.is_some_and(|rank| rank != form.rank)),
        ("--alpha", flags.alpha.is_some_and(|alpha| alpha != form.alpha)),
        ("--targets", flags.targets.is_some() && !same_modules(shape, settings, &adapter)?),
        ("--exclude", variant.exclude.is_some() && !same_modules(shape, settings, &adapter)?),
        ("--rank-pattern", variant.rank_pattern.is_some()),
        ("--alpha-pattern", variant.alpha_pattern.is_some()),
        ("--rslora", variant.rslora.is_some_and(|rslora| rslora != form.rslora)),
        ("--dora", variant.dora.is_some_and(|dora| dora != form.dora)),
    ];
    if let Some((flag, _)) = disagrees.iter().find(|(_, disagrees)| *disagrees) {
        let message = format!("{flag} differs from the adapter in {}", dir.display());
        return Err(Failure::usage(message).hint(format!("leave out {flag}: the adapter's own holds")));
    }
    let train = &mut settings.train;
    (train.rank, train.alpha, train.rslora, train.dora) = (form.rank, form.alpha, form.rslora, form.dora);
    train.targets = form.targets.iter().map(|target| target.name().to_owned()).collect();
    (train.exclude, train.rank_pattern, train.alpha_pattern) = Default::default();
    let mut adapter = adapter;
    // How it was trained before does not bind this training.
    adapter.config.dropout = settings.train.dropout as f32;
    Ok(adapter)
}

/// Whether the flags choose the modules that the adapter has.
fn same_modules(shape: &ModelConfig, settings: &Settings, adapter: &Adapter) -> Result<bool, Failure> {
    let rules = variant::rules(&settings.train)?;
    let forms = rules.resolve(shape, 1, 1.0).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(forms.keys().eq(adapter.modules.keys()))
}
