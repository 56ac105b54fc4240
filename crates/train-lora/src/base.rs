//! The base model with what belongs to it: tokenizer, template, fingerprint; and adapters on it.

use std::path::{Path, PathBuf};

use nightshift_core::jiff::Timestamp;
use nightshift_core::release::{self, MANIFEST};
use nightshift_core::{Exit, Failure};
use nightshift_model::{Adapter, ChatTemplate, Model, ModelConfig, ModelError, Tokenizer, base_fingerprint};

/// How conversations become tokens.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// The chat template.
    pub(crate) template: ChatTemplate,
}

impl Text {
    /// Reads both from a model folder. A template that prints a date prints that of `now`.
    pub(crate) fn load(dir: &Path, now: Timestamp) -> Result<Self, Failure> {
        Ok(Self {
            tokenizer: Tokenizer::from_dir(dir).map_err(refused)?,
            template: ChatTemplate::from_dir(dir, move || now).map_err(refused)?,
        })
    }
}

/// A base model.
#[derive(Debug)]
pub(crate) struct Base {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Its weights.
    pub(crate) model: Model,
    /// Digest of its weights and shape.
    pub(crate) fingerprint: String,
}

impl Base {
    /// Reads a model folder; NaN, missing or foreign tensors are refused by name (exit 4).
    pub(crate) fn load(dir: &Path) -> Result<Self, Failure> {
        // Both read the whole folder; one of two cores each.
        let (fingerprint, model) = std::thread::scope(|scope| {
            let fingerprint = scope.spawn(|| base_fingerprint(dir));
            let model = Model::load(dir);
            (fingerprint.join(), model)
        });
        let fingerprint =
            fingerprint.map_err(|_| Failure::failed("the base's fingerprint was not computed"))?;
        Ok(Self {
            dir: dir.to_owned(),
            model: model.map_err(refused)?,
            fingerprint: fingerprint.map_err(refused)?,
        })
    }

    /// Reads an adapter made for this base; one that names another base in its manifest is refused.
    pub(crate) fn adapter(&self, dir: &Path) -> Result<Adapter, Failure> {
        let adapter = Adapter::load(dir, &self.model.config).map_err(refused)?;
        self.refuse_foreign(dir)?;
        Ok(adapter)
    }

    /// Refuses an adapter whose manifest names another base.
    pub(crate) fn refuse_foreign(&self, adapter: &Path) -> Result<(), Failure> {
        if !adapter.join(MANIFEST).exists() {
            return Ok(());
        }
        let manifest = release::load_manifest(adapter)?;
        if manifest.base_fingerprint == self.fingerprint {
            return Ok(());
        }
        let message = format!(
            "{} was trained on the base {}, not on {} ({})",
            adapter.display(),
            short(&manifest.base_fingerprint),
            self.dir.display(),
            short(&self.fingerprint)
        );
        Err(Failure::refused(message).hint("name the base it was trained on with --base"))
    }
}

/// The first 12 digits of a digest.
pub(crate) fn short(digest: &str) -> &str {
    &digest[..12.min(digest.len())]
}

/// The shape of a base model, without its weights.
pub(crate) fn shape(dir: &Path) -> Result<ModelConfig, Failure> {
    ModelConfig::from_dir(dir).map_err(refused)
}

/// A model, adapter or template that cannot be used: exit 4; a file that cannot be read or written, and a
/// computation that ran away: exit 1.
pub(crate) fn refused(error: ModelError) -> Failure {
    let exit = match error {
        ModelError::Io { .. } | ModelError::Write(_) | ModelError::NonFinite(_) => Exit::Failed,
        _ => Exit::Refused,
    };
    Failure::new(exit, error.to_string())
}
