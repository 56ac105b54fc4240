//! The base model with what belongs to it: tokenizer, template, fingerprint; and adapters on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightshift_core::jiff::Timestamp;
use nightshift_core::release::{self, MANIFEST};
use nightshift_core::{Exit, Failure, config, files};
use nightshift_model::{
    Adapter, ChatTemplate, DeviceModel, Dtype, Model, ModelConfig, ModelError, Quantise, Storage, Threads,
    Tokenizer, base_fingerprint,
};
use serde::Serialize;
use serde_json::Value;

use crate::device;
use crate::publish::TRAINING_CONFIG;

/// What to do about a template.
pub(crate) const CHAT_TEMPLATE_HINT: &str = "--chat-template FILE names another Jinja template; it must begin \
     each answer where its generation prompt ends, and end it with an end-of-turn token";

/// Beside a folder that `quantize` wrote: the base it was made from.
pub(crate) const QUANTIZED_FROM: &str = "quantized_from.json";

/// Bytes of one number in NF4: half a byte, a byte for 64 of them, and a float for 256 of those.
pub(crate) const NF4_BYTES: f64 = 0.5 + 1.0 / 64.0 + 4.0 / (64.0 * 256.0);

/// How rows become tokens.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// The chat template, where rows need one.
    template: Option<ChatTemplate>,
    /// Positions the model was made for.
    context: usize,
}

impl Text {
    /// Reads tokenizer and template of a model folder. A template that prints a date prints that of `now`.
    pub(crate) fn load(dir: &Path, now: Timestamp) -> Result<Self, Failure> {
        TextSource { base: dir, template: None, now }.open(true)
    }

    /// The chat template.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, ModelError> {
        let missing = || ModelError::Input("a conversation needs a chat template".to_owned());
        self.template.as_ref().ok_or_else(missing)
    }

    /// The longest example in tokens, and what says so.
    pub(crate) fn limit(&self, max_length: usize) -> (usize, &'static str) {
        if max_length <= self.context {
            (max_length, "max_length")
        } else {
            (self.context, "the model's context")
        }
    }
}

/// Where the text of rows is to be read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextSource<'a> {
    /// The model folder.
    pub(crate) base: &'a Path,
    /// A chat template instead of the folder's own.
    pub(crate) template: Option<&'a Path>,
    /// The instant that templates print.
    pub(crate) now: Timestamp,
}

impl TextSource<'_> {
    /// Reads the tokenizer and, for conversations, the template: rows without turns need none.
    pub(crate) fn open(&self, chats: bool) -> Result<Text, Failure> {
        let context = shape(self.base)?.max_position_embeddings;
        let tokenizer = Tokenizer::from_dir(self.base).map_err(refused)?;
        let now = self.now;
        let template = match self.template {
            _ if !chats => None,
            Some(file) => Some(ChatTemplate::from_file(file, self.base, move || now)),
            None => Some(ChatTemplate::from_dir(self.base, move || now)),
        };
        let template = template.transpose().map_err(|error| refused(error).hint(CHAT_TEMPLATE_HINT))?;
        Ok(Text { tokenizer, template, context })
    }
}

/// A base model.
#[derive(Debug)]
pub(crate) struct Base {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Its weights.
    pub(crate) model: Model,
    /// The same weights on the device that computes, if one does.
    pub(crate) device: Option<Arc<DeviceModel>>,
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

impl HeldBase {
    /// A folder of quantised layers.
    pub(crate) const fn nf4(dtype: Dtype, bytes: usize) -> Self {
        let embedding = match dtype {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        };
        Self { linear: "nf4", embedding, bytes }
    }
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
            device: None,
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
    pub(crate) fn adapter(&self, dir: &Path, threads: usize) -> Result<Adapter, Failure> {
        let mut adapter = Adapter::load(dir, &self.model.config).map_err(refused)?;
        check_made_for(dir, &self.dir, Some(&self.fingerprint))?;
        adapter.prepare(&self.model, Threads::new(threads));
        Ok(adapter)
    }
}

/// Refuses an adapter that names another base: in its manifest, or in the settings that a direct training
/// writes beside it. One that names none (made elsewhere) passes. `fingerprint` is that of the base in
/// `base_dir`, computed here when it is not known and needed.
pub(crate) fn check_made_for(dir: &Path, base_dir: &Path, fingerprint: Option<&str>) -> Result<(), Failure> {
    let named = named_bases(dir)?;
    let Some(first) = named.first() else { return Ok(()) };
    let found = match fingerprint {
        Some(fingerprint) => fingerprint.to_owned(),
        None => base_fingerprint(base_dir).map_err(refused)?,
    };
    if named.contains(&found) {
        return Ok(());
    }
    let message = format!(
        "{} was trained on the base {}, not on {} ({})",
        dir.display(),
        short(first),
        base_dir.display(),
        short(&found)
    );
    Err(Failure::refused(message).hint("name the base it was trained on with --base"))
}

/// The fingerprints of the base that an adapter was trained on, where its folder says so: its own, and where
/// it was quantised by us that of the base it was made from.
fn named_bases(dir: &Path) -> Result<Vec<String>, Failure> {
    let config = training_config(dir)?;
    let text = |key: &str| config[key].as_str().map(str::to_owned);
    let own = if dir.join(MANIFEST).exists() {
        Some(release::load_manifest(dir)?.base_fingerprint)
    } else {
        text("base_fingerprint")
    };
    Ok(own.into_iter().chain(text("base_quantized_from")).collect())
}

/// The settings that a training writes beside its adapter; null where there are none.
fn training_config(dir: &Path) -> Result<Value, Failure> {
    let text = files::read_text_if_any(&dir.join(TRAINING_CONFIG))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// The fingerprint of the base that a folder of ours was quantised from.
pub(crate) fn quantized_from(dir: &Path) -> Option<String> {
    let text = files::read_text_if_any(&dir.join(QUANTIZED_FROM)).ok()??;
    let value: Value = serde_json::from_str(&text).ok()?;
    value["base_fingerprint"].as_str().map(str::to_owned)
}

/// Whether a folder holds quantised weights.
pub(crate) fn is_quantised(dir: &Path) -> bool {
    let config = files::read(&dir.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    config["quantization_config"].is_object()
}

/// What to know of an adapter that was trained on NF4 numbers and now meets others.
pub(crate) fn trained_on_nf4(adapter: &Path) -> Result<Option<String>, Failure> {
    let config = training_config(adapter)?;
    let nf4 = config["quantize"] == "nf4" || config["base_quantized_from"].is_string();
    let text = "the adapter was trained on the base held as NF4 and goes with the base as its files hold it: \
                their numbers differ a little; `evaluate` measures what ships";
    Ok(nf4.then(|| text.to_owned()))
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
    let quantised = storage.quantise == Quantise::Nf4 || is_quantised(dir);
    (if quantised { NF4_BYTES } else { table }, table)
}

/// A model, adapter or template that cannot be used: exit 4; a file that cannot be read or written, a
/// computation that ran away, and a device that failed: exit 1.
pub(crate) fn refused(error: ModelError) -> Failure {
    let exit = match error {
        ModelError::Stopped(failure) => return *failure,
        ModelError::Io { .. }
        | ModelError::Write(_)
        | ModelError::NonFinite { .. }
        | ModelError::Device(_) => Exit::Failed,
        _ => Exit::Refused,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        ModelError::Device(_) => failure.hint(device::HINT),
        _ => failure,
    }
}
