//! From a trained adapter to a folder: staged, complete, then visible in one step.

use std::path::Path;
use std::time::Duration;

use nightshift_core::lock::Lock;
use nightshift_core::release::{self, ADAPTER_CONFIG, ADAPTER_MODEL, Manifest, NewRelease};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail, files, metrics};
use nightshift_model::{Adapter, ModelConfig, adapter_bytes};
use serde_json::Value;

use crate::base::{Base, refused};
use crate::report::{self, TrainReport};
use crate::settings::Settings;
use crate::train::Trained;
use crate::{curves, picture};

/// The documents' settings file.
pub(crate) const TRAINING_CONFIG: &str = "training_config.json";
/// The documents' results file.
pub(crate) const TRAINING_METRICS: &str = "training_metrics.json";

/// One line for each step, and for the start when it was evaluated.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// The loss curve as a picture.
pub(crate) const PICTURE: &str = "loss.svg";

/// How long a deployment that holds the adapters is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// The files of an adapter folder.
#[derive(Debug)]
pub(crate) struct Folder<'a> {
    /// The adapter.
    pub(crate) adapter: &'a Adapter,
    /// Shape of its base.
    pub(crate) shape: &'a ModelConfig,
    /// What `base_model_name_or_path` says.
    pub(crate) base_name: &'a str,
    /// `training_config.json`.
    pub(crate) config: Value,
    /// `training_metrics.json`.
    pub(crate) metrics: Value,
    /// `metrics.jsonl`.
    pub(crate) lines: String,
    /// `loss.svg`.
    pub(crate) picture: String,
}

impl<'a> Folder<'a> {
    /// The folder of a training.
    pub(crate) fn new(
        trained: &'a Trained,
        base: &'a Base,
        base_name: &'a str,
        (ctx, settings, report, places): (&Ctx, &Settings, &TrainReport, [String; 3]),
    ) -> Self {
        let Trained { adapter, steps, evals, .. } = trained;
        Self {
            adapter,
            shape: &base.model.config,
            base_name,
            config: report::config_json(ctx, settings, report, places),
            metrics: report::metrics_json(report, trained),
            lines: curves::lines(steps, evals).0,
            picture: picture::svg(&format!("Loss over {} steps", steps.len()), steps, evals),
        }
    }

    /// Writes the files into an existing folder, each whole.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let (config, model) = adapter_bytes(self.adapter, self.shape, self.base_name).map_err(refused)?;
        files::write_atomic(&dir.join(ADAPTER_MODEL), &model)?;
        files::write_atomic(&dir.join(ADAPTER_CONFIG), &config)?;
        for (name, value) in [(TRAINING_CONFIG, &self.config), (TRAINING_METRICS, &self.metrics)] {
            let text = serde_json::to_vec_pretty(value).or_fail(|| format!("{name} cannot be written"))?;
            files::write_atomic(&dir.join(name), &text)?;
        }
        files::write_atomic(&dir.join(METRICS), self.lines.as_bytes())?;
        files::write_atomic(&dir.join(PICTURE), self.picture.as_bytes())?;
        Ok(())
    }

    /// Replaces the files in `out`: all are written beside first, so a full disk leaves the old ones.
    pub(crate) fn replace(&self, out: &Path) -> Result<(), Failure> {
        let staged = out.join(".tmp-staged");
        files::create_dir(&staged)?;
        let moved = self.write(&staged).and_then(|()| {
            for name in [ADAPTER_MODEL, ADAPTER_CONFIG, TRAINING_CONFIG, TRAINING_METRICS, METRICS, PICTURE] {
                files::rename(&staged.join(name), &out.join(name))?;
            }
            Ok(())
        });
        files::remove_dir(&staged)?;
        moved
    }
}

/// Publishes a release under the lock `loras`, moves `loras/latest`, and counts it in the metrics.
/// Whatever fails leaves no trace but a stray that the next start sweeps.
pub(crate) fn publish(
    ctx: &Ctx,
    store: &mut Store,
    run_key: &str,
    folder: &Folder<'_>,
    new: &NewRelease,
) -> Result<Manifest, Failure> {
    let _loras = Lock::wait(&ctx.paths.lock("loras"), ctx.tool, PATIENCE, &ctx.clock, &ctx.stop)?;
    ctx.reconcile(store)?;
    let staged = ctx.paths.loras().join(format!(".tmp-train-{run_key}"));
    files::create_dir(&staged)?;
    let published = folder.write(&staged).and_then(|()| release::publish(ctx, store, &staged, new));
    if published.is_err() {
        // The first error is the one to tell.
        let _ = files::remove_dir(&staged);
    }
    published
}

/// Writes the metrics of a published training.
pub(crate) fn record_metrics(store: &mut Store, report: &TrainReport) -> Result<(), Failure> {
    store.write(|tx| {
        metrics::add(tx, metrics::TRAINING_COMPLETED, "", 1.0)?;
        metrics::set(tx, metrics::TRAINING_DURATION, "", report.seconds)?;
        report.loss_last.map_or(Ok(()), |loss| metrics::set(tx, metrics::TRAINING_LOSS, "", loss))
    })
}
