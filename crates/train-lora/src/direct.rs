//! The direct form: one file in, one PEFT folder out. Opens no home.
//!
//! Checkpoints lie in `OUT/.checkpoints` until the folder is complete, so a run that was killed and is
//! started again with the same arguments ends with the same bytes.

use std::path::Path;

use nightshift_core::random::sha256_hex;
use nightshift_core::release::ADAPTER_CONFIG;
use nightshift_core::{Ctx, Failure, Outcome, files};
use nightshift_model::{Adapter, adapter_bytes};

use crate::args::{Args, SettingFlags};
use crate::base::{Base, refused};
use crate::checkpoint::Checkpoints;
use crate::engine::{self, Request};
use crate::gather::{Gathered, gather};
use crate::order::Order;
use crate::publish::Folder;
use crate::report::{self, TrainReport};
use crate::settings::Settings;
use crate::train::{self, Job, News, Trained};

const CHECKPOINTS: &str = ".checkpoints";

/// Trains on `data` and writes `out`.
pub(crate) fn run(ctx: &Ctx, args: &Args, data: &Path, out: &Path) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(ctx, &args.settings, !args.paths.no_shuffle)?;
    let base_dir = args.paths.base.clone().map_or_else(|| ctx.base(), Ok)?;
    check_out(out)?;
    let mut report = TrainReport { path: Some(out.display().to_string()), ..TrainReport::default() };
    let gathered = gather(ctx, args, &base_dir, &settings, &mut report)?;
    let base = Base::load(&base_dir, settings.storage())?;
    let adapter = match &args.paths.init_adapter {
        Some(dir) => going_on(&base, dir, &args.settings, &mut settings)?,
        None => Adapter::init(settings.lora(), &base.model.config, settings.seed),
    };
    let order = settings.order(gathered.rows, gathered.examples.len() - gathered.rows, gathered.drawn);
    report.base_fingerprint.clone_from(&base.fingerprint);
    report.base_held = base.held();
    report.add_form(&adapter, &base.model.config);
    if ctx.dry_run {
        report.steps = settings.max_steps.unwrap_or(usize::MAX).min(order.total_steps());
        let size = report.adapter_bytes as f64 / 1e6;
        let (rows, steps) = (order.per_epoch(), report.steps);
        let text = format!("would train {rows} rows in {steps} steps to an adapter of {size:.1} MB");
        return Ok(Outcome::done(&report, text).status("planned"));
    }
    files::create_dir(out)?;
    let checkpoints = out.join(CHECKPOINTS);
    report.warnings.iter().for_each(|warning| ctx.printer.note(&format!("warning: {warning}")));
    let said = report.warnings.len();
    let start = (adapter, args.paths.init_adapter.is_some());
    let trained = train((ctx, &settings), &base, &gathered, (order, start), &checkpoints, &mut report)?;
    report.resumed_from_step = trained.resumed_from_step;
    report.peak_rss_bytes = nightshift_core::process::peak_rss_bytes();
    let base_name = base_dir.display().to_string();
    let places = [base_name.clone(), data.display().to_string(), out.display().to_string()];
    let folder = Folder {
        adapter: &trained.adapter,
        shape: &base.model.config,
        base_name: &base_name,
        config: report::config_json(ctx, &settings, &report, places),
        metrics: report::metrics_json(&report, &trained.steps),
    };
    folder.replace(out)?;
    files::remove_dir(&checkpoints)?;
    for warning in &report.warnings[said..] {
        ctx.printer.note(&format!("warning: {warning}"));
    }
    let text = format!("wrote {}: {}", out.display(), report.sentence());
    Ok(Outcome::done(&report, text))
}

/// A folder that holds something else than an adapter is not ours to write into.
fn check_out(out: &Path) -> Result<(), Failure> {
    let foreign = |path: &std::path::PathBuf| {
        !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let occupied = files::list(out)?.iter().any(foreign);
    if occupied && !out.join(ADAPTER_CONFIG).exists() {
        let message = format!("{} is not empty and holds no adapter", out.display());
        return Err(Failure::usage(message).hint("name a new folder with --out"));
    }
    Ok(())
}

/// The training itself, here or by the external program. `start` is the adapter to begin with, and whether it
/// was given.
fn train(
    (ctx, settings): (&Ctx, &Settings),
    base: &Base,
    gathered: &Gathered,
    (order, (adapter, given)): (Order, (Adapter, bool)),
    checkpoints: &Path,
    report: &mut TrainReport,
) -> Result<Trained, Failure> {
    let run_key = run_key(gathered, settings, &adapter, base)?;
    let trained = if let Some(engine) = &settings.engine {
        let request = Request {
            ctx,
            base,
            settings,
            wire: &gathered.wire,
            examples: &gathered.examples,
            held_out: (&[], &[]),
            order: &order,
            run_key: &run_key,
            folder: checkpoints,
            start: given.then_some(&adapter),
        };
        let (trained, done) = engine::train(&request, engine)?;
        report.add_engine(done);
        trained
    } else {
        let job = Job {
            ctx,
            model: &base.model,
            examples: &gathered.examples,
            order,
            settings,
            checkpoints: Checkpoints::new(checkpoints, &run_key),
        };
        train::train(&job, adapter, &|news| {
            if let News::Note(line) = news {
                ctx.printer.note(line);
            }
        })?
    };
    report.add_steps(&trained.steps);
    Ok(trained)
}

/// The adapter to go on from; its form holds, and flags that say otherwise are refused.
fn going_on(
    base: &Base,
    dir: &Path,
    flags: &SettingFlags,
    settings: &mut Settings,
) -> Result<Adapter, Failure> {
    let adapter = base.adapter(dir)?;
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

/// The run's name: another base, other tokens, other settings or another start are another run.
fn run_key(
    gathered: &Gathered,
    settings: &Settings,
    start: &Adapter,
    base: &Base,
) -> Result<String, Failure> {
    let (_, start) = adapter_bytes(start, &base.model.config, "").map_err(refused)?;
    let parts = [&base.fingerprint, &gathered.digest, &settings.digest(), &sha256_hex(&start)];
    Ok(sha256_hex(parts.map(String::as_str).join("\n").as_bytes())[..16].to_owned())
}
