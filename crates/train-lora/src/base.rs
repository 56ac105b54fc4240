//! The base model with what belongs to it: tokenizer, template, fingerprint; and adapters on it.

use std::path::{Path, PathBuf};

use nightshift_core::jiff::Timestamp;
use nightshift_core::release::{self, MANIFEST};
use nightshift_core::{Exit, Failure};
use nightshift_model::{Adapter, ChatTemplate, Model, ModelConfig, ModelError, Tokenizer, base_fingerprint};

/// What to do about a template.
pub(crate) const CHAT_TEMPLATE_HINT: &str = "--chat-template FILE names another Jinja template; it must begin \
     each answer where its generation prompt ends, and end it with an end-of-turn token";

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
    /// Digest of its weights and shape.
    pub(crate) fingerprint: String,
}

impl Base {
    /// Reads a model folder; NaN, missing or foreign tensors are refused by name (exit 4).
    pub(crate) fn load(dir: &Path) -> Result<Self, Failure> {
        let fingerprint = base_fingerprint(dir).map_err(refused)?;
        Ok(Self { dir: dir.to_owned(), model: Model::load(dir).map_err(refused)?, fingerprint })
    }

    /// Reads an adapter made for this base; one that names another base in its manifest is refused.
    pub(crate) fn adapter(&self, dir: &Path) -> Result<Adapter, Failure> {
        let adapter = Adapter::load(dir, &self.model.config).map_err(refused)?;
        if dir.join(MANIFEST).exists() {
            let manifest = release::load_manifest(dir)?;
            if manifest.base_fingerprint != self.fingerprint {
                let message = format!(
                    "{} was trained on the base {}, not on {} ({})",
                    dir.display(),
                    short(&manifest.base_fingerprint),
                    self.dir.display(),
                    short(&self.fingerprint)
                );
                return Err(Failure::refused(message).hint("name the base it was trained on with --base"));
            }
        }
        Ok(adapter)
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
