//! `ModelError`: everything that can go wrong between a model folder and a number.
//!
//! Every message names the file, and within it the key or tensor, says what was found and what
//! was expected. Nothing here panics on foreign bytes, and nothing allocates by a foreign length.

use std::path::{Path, PathBuf};

/// Shorthand used throughout the crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// Why a model, tokenizer, template or adapter could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] nightshift_core::files::FileError),
    /// A file that the folder needs is not there.
    #[error("{}: not found; {hint}", path.display())]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
        /// What to do about it.
        hint: String,
    },
    /// A file is not what its name says (not JSON, header damaged, cut short).
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of a JSON file has a wrong or unsupported value.
    #[error("{}: key `{key}`: {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Dotted key inside it.
        key: String,
        /// What is wrong with the value.
        problem: String,
    },
    /// A tensor is missing, unexpected, of a wrong shape or type, or holds NaN or infinity.
    #[error("{}: tensor `{tensor}`: {problem}", path.display())]
    Tensor {
        /// The file (or folder, when the tensor is in none of its files).
        path: PathBuf,
        /// Full tensor name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Adapter and base model do not belong together, or the adapter uses an unsupported form.
    #[error("{}: adapter refused: {problem}", path.display())]
    Adapter {
        /// The adapter folder.
        path: PathBuf,
        /// Why it is refused.
        problem: String,
    },
    /// The chat template failed, or does not allow the answer to be located.
    #[error("{origin}: chat template: {problem}")]
    Template {
        /// Where the template text came from.
        origin: String,
        /// What went wrong.
        problem: String,
    },
    /// Tokens or arguments handed to a computation are out of range.
    #[error("{0}")]
    Input(String),
    /// A device (GPU) is not there, or failed at its work.
    #[error("device: {0}")]
    Device(String),
    /// A computation produced NaN or infinity.
    #[error("{what} is not finite")]
    NonFinite {
        /// What is not.
        what: String,
        /// The sequences of the batch that were computed at that moment; empty where that does not matter.
        sequences: Vec<usize>,
    },
    /// The computation was asked to stop; see [`crate::Workspace::set_stop`].
    #[error(transparent)]
    Stopped(Box<nightshift_core::Failure>),
}

impl ModelError {
    /// Something that is NaN or infinite.
    pub fn non_finite(what: impl Into<String>) -> Self {
        Self::NonFinite { what: what.into(), sequences: Vec::new() }
    }

    /// The same error, of a pass over some sequences of a batch.
    pub(crate) fn in_sequences(self, segments: &[usize]) -> Self {
        match self {
            Self::NonFinite { what, .. } => Self::NonFinite { what, sequences: segments.to_vec() },
            other => other,
        }
    }

    /// An I/O error on `path`.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// A file that is not what it should be.
    pub fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.into() }
    }

    /// A bad value under `key` of the JSON file `path`.
    pub fn key(path: &Path, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key { path: path.to_owned(), key: key.into(), problem: problem.into() }
    }

    /// A bad tensor in `path`.
    pub fn tensor(path: &Path, tensor: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.into(), problem: problem.into() }
    }

    /// An adapter that cannot be used.
    pub fn adapter(path: &Path, problem: impl Into<String>) -> Self {
        Self::Adapter { path: path.to_owned(), problem: problem.into() }
    }
}
