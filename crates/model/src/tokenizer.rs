//! The tokenizer of a model folder, and the tokens that end a turn.
//!
//! Wraps the `tokenizers` crate. Special tokens are never added here: rendered chats already hold
//! them, and adding them again would double the BOS. Truncation and padding that a `tokenizer.json`
//! may carry are switched off, so no text is ever cut silently.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::CONFIG_FILE;
use crate::config_read::token_ids;
use crate::error::{ModelError, Result};
use crate::json_file::{JsonFile, read_text};

/// Name of the file inside a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Text to token ids and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    end_tokens: Vec<u32>,
    eos: Option<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder, and the end tokens that the folder declares.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join(TOKENIZER_FILE);
        let text = read_text(&path)?.ok_or_else(|| ModelError::MissingFile {
            path: path.clone(),
            hint: "save the fast tokenizer into the model folder (only tokenizer.json is read)".to_owned(),
        })?;
        let mut tokenizer = Self::parse(path, &text, declared_end_tokens(dir)?)?;
        let settings = TokenizerSettings::read(dir)?;
        let named = settings.as_ref().and_then(|settings| settings.special("eos_token"));
        if let Some(id) = named.and_then(|token| tokenizer.token_id(token)) {
            tokenizer.eos = Some(id);
        }
        Ok(tokenizer)
    }

    /// Builds a tokenizer from the text of a tokenizer.json; `path` is used in errors.
    pub fn parse(path: PathBuf, text: &str, end_tokens: Vec<u32>) -> Result<Self> {
        let bad =
            |error: tokenizers::Error| ModelError::malformed(&path, format!("not a tokenizer: {error}"));
        let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(bad)?;
        inner.with_truncation(None).map_err(bad)?;
        inner.with_padding(None);
        let eos = end_tokens.first().copied();
        Ok(Self { inner, path, end_tokens, eos })
    }

    /// Token ids of `text`; special tokens written in it are recognised, none is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| self.failed("encode", &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of a text that stands alone, without a chat template: what the tokenizer itself puts
    /// before a text (the BOS of Llama and Mistral) comes first, once.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let opening = self
            .inner
            .encode_fast("", true)
            .map_err(|error| self.failed("encode", &error))?
            .get_ids()
            .to_vec();
        let opening: Vec<u32> = opening.into_iter().take_while(|id| !self.is_end(*id)).collect();
        let ids = self.encode(text)?;
        Ok(if ids.starts_with(&opening) { ids } else { [opening, ids].concat() })
    }

    /// The text of `ids` without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| self.failed("decode", &error))
    }

    /// The text of `ids`, special tokens included.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|error| self.failed("decode", &error))
    }

    /// Every token that ends a turn or a text, sorted: the union of what config.json,
    /// generation_config.json and the tokenizer declare.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// The token that ends a text: `eos_token` of tokenizer_config.json, else the smallest end token.
    pub const fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether `id` ends a turn.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_tokens.binary_search(&id).is_ok()
    }

    /// The id of a token by its exact text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of a token as the vocabulary has it.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens, added ones included. The model's `vocab_size` may be larger (padding rows).
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn failed(&self, what: &str, error: &tokenizers::Error) -> ModelError {
        ModelError::malformed(&self.path, format!("cannot {what}: {error}"))
    }
}

/// Decodes token by token without ever giving out half of a character.
///
/// Holds back text while it ends in a replacement character, because the next token may complete
/// it; [`TextStream::finish`] gives out what is left. All pieces joined equal the decoding of all
/// tokens at once.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    /// The tokens of the last piece, then those held back. Decoding starts at the last piece so that
    /// a leading space of the next one is not taken for the start of the text.
    ids: Vec<u32>,
    /// How many of `ids` have been given out.
    given: usize,
}

impl TextStream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one token; the text that became certain, possibly empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.ids.push(id);
        self.take(tokenizer, false)
    }

    /// The text still held back (a damaged character stays damaged).
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        self.take(tokenizer, true)
    }

    fn take(&mut self, tokenizer: &Tokenizer, all: bool) -> Result<String> {
        let text = tokenizer.decode(&self.ids)?;
        if !all && text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        let before = tokenizer.decode(&self.ids[..self.given])?;
        let piece = match text.strip_prefix(before.as_str()) {
            Some(piece) => piece.to_owned(),
            None => tokenizer.decode(&self.ids[self.given..])?,
        };
        if !piece.is_empty() {
            self.ids.drain(..self.given);
            self.given = self.ids.len();
        }
        Ok(piece)
    }
}

/// End tokens declared anywhere in a model folder, sorted, without repeats.
pub(crate) fn declared_end_tokens(dir: &Path) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for name in [CONFIG_FILE, "generation_config.json"] {
        if let Some(file) = JsonFile::read_optional(&dir.join(name))? {
            ids.extend(token_ids(&file, "eos_token_id")?);
        }
    }
    if let Some(settings) = TokenizerSettings::read(dir)?
        && let Some(token) = settings.special("eos_token")
    {
        ids.extend(added_token_id(&dir.join(TOKENIZER_FILE), token)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// `tokenizer_config.json`, as far as text generation needs it.
#[derive(Debug)]
pub(crate) struct TokenizerSettings(JsonFile);

impl TokenizerSettings {
    /// Reads the file of a model folder; `None` when there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        Ok(JsonFile::read_optional(&dir.join("tokenizer_config.json"))?.map(Self))
    }

    /// The text of a special token, written as a string or as an object with `content`.
    pub(crate) fn special(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::String(text) => Some(text),
            Value::Object(token) => token.get("content")?.as_str(),
            _ => None,
        }
    }

    /// The file itself.
    pub(crate) const fn file(&self) -> &JsonFile {
        &self.0
    }
}

/// The id of an added token, read without building the whole tokenizer.
fn added_token_id(path: &Path, token: &str) -> Result<Option<u32>> {
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    let Some(text) = read_text(path)? else { return Ok(None) };
    let file: File = serde_json::from_str(&text)
        .map_err(|error| ModelError::malformed(path, format!("not a tokenizer: {error}")))?;
    Ok(file.added_tokens.into_iter().find(|added| added.content == token).map(|added| added.id))
}
