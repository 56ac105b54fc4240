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
use crate::base::{self, Base, check_made_for, refused};
use crate::checkpoint::Checkpoints;
use crate::curves::{self, Places};
use crate::device;
use crate::engine::{self, Request};
use crate::gather::{self, Gathered, gather};
use crate::memory;
use crate::order::Order;
use crate::publish::{Folder, METRICS};
use crate::report::TrainReport;
use crate::settings::Settings;
use crate::train::{self, Job, News, Trained};
use crate::variant;

const CHECKPOINTS: &str = ".checkpoints";

/// Trains on `data` and writes `out`.
pub(crate) fn run(ctx: &Ctx, args: &Args, data: &Path, out: &Path) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(ctx, &args.settings, !args.paths.no_shuffle)?;
    settings.control.stop_after_minutes = args.settings.max_minutes;
    let base_dir = args.paths.base.clone().map_or_else(|| ctx.base(), Ok)?;
    check_out(out)?;
    settings.learning(args)?;
    let shape = base::shape(&base_dir)?;
    let start = args.paths.init_adapter.as_deref();
    let mut adapter = match start {
        Some(dir) => going_on(&shape, dir, &args.settings, &mut settings)?,
        None => settings.adapter(&shape)?,
    };
    let mut report = TrainReport { path: Some(out.display().to_string()), ..TrainReport::default() };
    let gathered = gather(ctx, args, &base_dir, &settings, &mut report)?;
    let order = settings.order(gathered.rows, gathered.examples.len() - gathered.rows, gathered.drawn);
    if settings.engine.is_none() {
        let rows = [gathered.examples.as_slice(), gathered.held_out.1.as_slice()];
        let shape = memory::shape((&base_dir, &shape), &adapter, &settings, rows);
        report.memory = Some(memory::check(&shape, &settings, &order)?);
    }
    let base = device::load(&base_dir, settings.storage(), settings.place)?;
    adapter.prepare(&base.model, Threads::new(train::threads(settings.train.threads)));
    start.map_or(Ok(()), |dir| check_made_for(dir, &base_dir, Some(&base.fingerprint)))?;
    report.base_fingerprint.clone_from(&base.fingerprint);
    report.base_held = base.held();
    report.device = device::said(settings.place);
    report.add_form(&adapter, &base.model.config);
    if ctx.dry_run {
        report.steps = settings.max_steps.unwrap_or(usize::MAX).min(order.total_steps());
        let text = planned(&report, order.per_epoch());
        return Ok(Outcome::done(&report, text).status("planned"));
    }
    report.warnings.iter().for_each(|warning| ctx.printer.note(&format!("warning: {warning}")));
    let said = report.warnings.len();
    let checkpoints = checkpoints((ctx, &settings), &gathered, &adapter, &base, out)?;
    let (folder, base_name) = (checkpoints.folder.clone(), checkpoints.base_name.clone());
    let run_key = sha256_hex(checkpoints.identity.to_string().as_bytes())[..16].to_owned();
    let places = Places::new(out, settings.control.tensorboard.as_deref(), &run_key);
    let run = Run { ctx, settings: &settings, base: &base, gathered: &gathered, run_key, places: &places };
    let trained = run.train(order, (adapter, start.is_some()), checkpoints, &mut report)?;
    report.add(&trained);
    let names = [&base.dir, data, out].map(|path| path.display().to_string());
    Folder::new(&trained, &base, &base_name, (ctx, &settings, &report, names)).replace(out)?;
    curves::complete_events(&places, &trained.steps, &trained.evals)?;
    files::remove_dir(&folder)?;
    for warning in &report.warnings[said..] {
        ctx.printer.note(&format!("warning: {warning}"));
    }
    let text = format!("wrote {}: {}", out.display(), report.sentence());
    Ok(Outcome::done(&report, text))
}

/// Where the run's state is kept, and under which identity: another base, other tokens, other settings or
/// another start are another run.
fn checkpoints<'a>(
    (ctx, settings): (&Ctx, &Settings),
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
    identity["evaluation_sha256"] = gather::digest(&gathered.held_out.1, 0, 0).into();
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

/// What `--dry-run` says.
fn planned(report: &TrainReport, rows: usize) -> String {
    let (steps, size) = (report.steps, report.adapter_bytes as f64 / 1e6);
    let memory = report.memory.map_or_else(String::new, |memory| format!(", with {}", memory.sentence()));
    format!("would train {rows} rows in {steps} steps to an adapter of {size:.1} MB{memory}")
}

/// A direct training about to begin.
struct Run<'a> {
    ctx: &'a Ctx,
    settings: &'a Settings,
    base: &'a Base,
    gathered: &'a Gathered,
    run_key: String,
    places: &'a Places,
}

impl Run<'_> {
    /// The training itself, here or by the external program. `start` is the adapter to begin with, and
    /// whether it was given.
    fn train(
        &self,
        order: Order,
        (adapter, given): (Adapter, bool),
        checkpoints: Checkpoints<'_>,
        report: &mut TrainReport,
    ) -> Result<Trained, Failure> {
        let Self { ctx, settings, base, gathered, run_key, places } = self;
        let (wire, evaluation) = &gathered.held_out;
        if let Some(engine) = &settings.engine {
            let request = Request {
                ctx,
                base,
                settings,
                wire: &gathered.wire,
                examples: &gathered.examples,
                held_out: (wire, evaluation),
                order: &order,
                run_key,
                folder: &checkpoints.folder,
                start: given.then_some(&adapter),
            };
            let (trained, done) = engine::train(&request, engine)?;
            report.add_engine(done);
            return Ok(trained);
        }
        let job = Job {
            ctx,
            model: &base.model,
            device: base.device.as_ref(),
            examples: &gathered.examples,
            evaluation,
            order,
            settings,
            checkpoints,
            places: (*places).clone(),
        };
        train::train(&job, adapter, &|news| {
            if let News::Note(line) = news {
                ctx.printer.note(line);
            }
        })
    }
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
