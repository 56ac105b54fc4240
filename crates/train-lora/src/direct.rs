//! The direct form: one file in, one PEFT folder out. Opens no home.
//!
//! Checkpoints lie in `OUT/.checkpoints` until the folder is complete, so a run that was killed and is
//! started again with the same arguments ends with the same bytes.

use std::path::Path;

use nightshift_core::random::sha256_hex;
use nightshift_core::release::ADAPTER_CONFIG;
use nightshift_core::{Ctx, Failure, Outcome, files};
use nightshift_model::{Adapter, ModelConfig, adapter_bytes};

use crate::args::{Args, SettingFlags};
use crate::base::{Base, Text, refused};
use crate::checkpoint::Checkpoints;
use crate::data::{self, Dropped, Encoded};
use crate::publish::Folder;
use crate::report::{self, TrainReport};
use crate::settings::Settings;
use crate::train::{self, Job, News};
use crate::variant;

const CHECKPOINTS: &str = ".checkpoints";

/// Trains on `data` and writes `out`.
pub(crate) fn run(ctx: &Ctx, args: &Args, data: &Path, out: &Path) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(ctx, &args.settings, !args.paths.no_shuffle)?;
    let base_dir = args.paths.base.clone().map_or_else(|| ctx.base(), Ok)?;
    check_out(out)?;
    let (encoded, dropped) = read(ctx, &base_dir, data, settings.train.max_length)?;
    let base = Base::load(&base_dir, settings.storage())?;
    let adapter = match &args.paths.init_adapter {
        Some(dir) => going_on(&base, dir, &args.settings, &mut settings)?,
        None => settings.adapter(&base.model)?,
    };
    let order = settings.order(encoded.len(), 0, 0);
    let mut report = TrainReport {
        path: Some(out.display().to_string()),
        dataset_sha256: sha256_hex(&files::read(data)?),
        base_fingerprint: base.fingerprint.clone(),
        base_held: base.held(),
        ..TrainReport::default()
    };
    report.add_dropped(&dropped);
    report.examples.new = encoded.len();
    if ctx.dry_run {
        report.steps = settings.max_steps.unwrap_or(usize::MAX).min(order.total_steps());
        let text = format!("would train {} rows in {} steps", encoded.len(), report.steps);
        return Ok(Outcome::done(&report, text).status("planned"));
    }
    files::create_dir(out)?;
    let checkpoints = out.join(CHECKPOINTS);
    let run_key = run_key(&report, &settings, &adapter, &base)?;
    let job = Job {
        ctx,
        model: &base.model,
        examples: &encoded,
        order,
        settings: &settings,
        checkpoints: Checkpoints::new(&checkpoints, &run_key),
    };
    let trained = train::train(&job, adapter, &|news| {
        if let News::Note(line) = news {
            ctx.printer.note(line);
        }
    })?;
    report.add_steps(&trained.steps);
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
    for warning in &report.warnings {
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

/// The file's rows in tokens; exit 3 when not one of them can be learned.
fn read(
    ctx: &Ctx,
    base: &Path,
    path: &Path,
    max_length: usize,
) -> Result<(Vec<Encoded>, Vec<Dropped>), Failure> {
    let (records, mut dropped) = data::read(path)?;
    let text = Text::load(base, ctx.clock.now())?;
    let rows = data::encode(&text, &records, max_length);
    data::refuse_template(&rows)?;
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Ok(row) => kept.push(row),
            Err(row) => dropped.push(row),
        }
    }
    for row in dropped.iter().take(report::NAMED_ROWS) {
        ctx.printer.note(&format!("left out ({}): {}: {}", row.reason.name(), row.row, row.why));
    }
    if kept.is_empty() {
        let message = format!("{} holds no row that can be learned", path.display());
        return Err(Failure::nothing(message).hint("see the rows that were left out, above"));
    }
    Ok((kept, dropped))
}

/// The adapter to go on from; its form holds, and flags that say otherwise are refused.
fn going_on(
    base: &Base,
    dir: &Path,
    flags: &SettingFlags,
    settings: &mut Settings,
) -> Result<Adapter, Failure> {
    let adapter = base.adapter(dir, train::threads(settings.train.threads))?;
    let (form, variant) = (&adapter.config, &flags.variant);
    let disagrees = [
        ("--rank", flags.rank.is_some_and(|rank| rank != form.rank)),
        ("--alpha", flags.alpha.is_some_and(|alpha| alpha != form.alpha)),
        ("--targets", flags.targets.is_some() && !same_modules(&base.model.config, settings, &adapter)?),
        ("--exclude", variant.exclude.is_some() && !same_modules(&base.model.config, settings, &adapter)?),
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

fn run_key(
    report: &TrainReport,
    settings: &Settings,
    start: &Adapter,
    base: &Base,
) -> Result<String, Failure> {
    let (_, start) = adapter_bytes(start, &base.model.config, "").map_err(refused)?;
    let parts = [
        report.base_fingerprint.as_str(),
        report.dataset_sha256.as_str(),
        &settings.digest(),
        &sha256_hex(&start),
    ];
    Ok(sha256_hex(parts.join("\n").as_bytes())[..16].to_owned())
}
