//! The base model with what belongs to it: tokenizer, template, fingerprint; and adapters on it.

use std::path::{Path, PathBuf};

use nightshift_core::jiff::Timestamp;
use nightshift_core::release::{self, MANIFEST};
use nightshift_core::{Exit, Failure, config, files};
use nightshift_model::{
    Adapter, ChatTemplate, Dtype, Model, ModelConfig, ModelError, Quantise, Storage, Tokenizer,
    base_fingerprint,
};
use serde::Serialize;

/// Bytes of one number in NF4: half a byte, a byte for 64 of them, and a float for 256 of those.
pub(crate) const NF4_BYTES: f64 = 0.5 + 1.0 / 64.0 + 4.0 / (64.0 * 256.0);

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

/// How the matrices of a base are held in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HeldBase {
    /// Those of the linear layers: f32, bf16 or nf4.
    linear: &'static str,
    /// Embedding and head: f32 or bf16.
    embedding: &'static str,
    /// Bytes of all weights.
    bytes: usize,
}

/// What the settings ask for, in the words of the model.
pub(crate) const fn storage(dtype: config::Dtype, quantize: config::Quantize) -> Storage {
    Storage {
        dtype: match dtype {
            config::Dtype::F32 => Dtype::F32,
            config::Dtype::Bf16 => Dtype::Bf16,
        },
        quantise: match quantize {
            config::Quantize::None => Quantise::None,
            config::Quantize::Nf4 => Quantise::Nf4,
        },
    }
}

impl Base {
    /// Reads a model folder and holds it as `storage` says; NaN, missing or foreign tensors are refused
    /// by name (exit 4).
    pub(crate) fn load(dir: &Path, storage: Storage) -> Result<Self, Failure> {
        // Both read the whole folder; one of two cores each.
        let (fingerprint, model) = std::thread::scope(|scope| {
            let fingerprint = scope.spawn(|| base_fingerprint(dir));
            let model = Model::load_as(dir, storage);
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

    /// How its matrices are held.
    pub(crate) fn held(&self) -> HeldBase {
        let weights = &self.model.weights;
        HeldBase {
            linear: weights.layers.first().map_or("f32", |layer| layer.q.weight.storage()),
            embedding: weights.embed.storage(),
            bytes: weights.bytes(),
        }
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

/// Bytes that one number of a layer's matrices, and one of embedding and head, will take in memory.
pub(crate) fn bytes_per_number(dir: &Path, storage: Storage) -> (f64, f64) {
    let table = if storage.dtype == Dtype::Bf16 { 2.0 } else { 4.0 };
    // A folder that is quantised already stays so, whatever the settings say.
    let config = files::read(&dir.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    let quantised = storage.quantise == Quantise::Nf4 || config["quantization_config"].is_object();
    (if quantised { NF4_BYTES } else { table }, table)
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
