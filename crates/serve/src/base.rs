//! The base model of a server: weights, tokenizer, chat template, fingerprint.

use std::path::{Path, PathBuf};

use nightshift_core::clock::Clock;
use nightshift_core::{Exit, Failure};
use nightshift_model::{ChatTemplate, Model, ModelError, Tokenizer, base_fingerprint};

/// Everything read from the base folder, never changed again.
#[derive(Debug)]
pub(crate) struct Base {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Shape and weights.
    pub(crate) model: Model<f32>,
    /// Text to tokens and back.
    pub(crate) tokenizer: Tokenizer,
    /// Conversations to text; a base model may have none, which leaves `/v1/completions`.
    pub(crate) template: Option<ChatTemplate>,
    /// Digest that adapters name their base by.
    pub(crate) fingerprint: String,
}

impl Base {
    /// Reads a model folder. `clock` gives the date that some templates print.
    ///
    /// # Errors
    /// A missing file is exit 9 (the setting names the wrong folder), a damaged one exit 4.
    pub(crate) fn load(dir: &Path, clock: &Clock) -> Result<Self, Failure> {
        if !dir.is_dir() {
            return Err(Failure::config(format!("the base model {} is not a folder", dir.display()))
                .hint("set `base:` in nightshift.yaml, or give --base"));
        }
        let failed = |error: ModelError| failure(dir, error);
        let tokenizer = Tokenizer::from_dir(dir).map_err(failed)?;
        let clock = clock.clone();
        let template = match ChatTemplate::from_dir(dir, move || clock.now()) {
            Ok(template) => Some(template),
            Err(ModelError::MissingFile { .. }) => None,
            Err(error) => return Err(failed(error)),
        };
        let model = Model::load(dir).map_err(failed)?;
        if tokenizer.vocab_size() > model.config.vocab_size {
            return Err(Failure::refused(format!(
                "the tokenizer of {} knows {} tokens, its model {}",
                dir.display(),
                tokenizer.vocab_size(),
                model.config.vocab_size
            ))
            .hint("save tokenizer and model from the same checkpoint"));
        }
        let fingerprint = base_fingerprint(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), model, tokenizer, template, fingerprint })
    }

    /// Most tokens of prompt and answer together.
    pub(crate) const fn context(&self) -> usize {
        self.model.config.max_position_embeddings
    }
}

fn failure(dir: &Path, error: ModelError) -> Failure {
    let exit = match &error {
        ModelError::MissingFile { .. } => Exit::Config,
        ModelError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::Config,
        ModelError::Io { .. } => Exit::Failed,
        _ => Exit::Refused,
    };
    Failure::new(exit, format!("the base model {} cannot be served", dir.display())).because(error)
}
