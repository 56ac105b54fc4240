//! Where everything lives. Nothing is created here.

use std::path::{Path, PathBuf};

/// The folders and files of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    home: PathBuf,
    data: PathBuf,
}

impl Paths {
    /// The layout under `home`, stores in `data` (default `<home>/sandbox_data`).
    pub fn new(home: PathBuf, data: Option<PathBuf>) -> Self {
        let data = data.map_or_else(|| home.join("sandbox_data"), |data| home.join(data));
        Self { home, data }
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `nightshift.yaml`.
    pub fn config(&self) -> PathBuf {
        self.home.join("nightshift.yaml")
    }

    /// Folder of the stores.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The one store.
    pub fn store(&self) -> PathBuf {
        self.data.join("learning.db")
    }

    /// The recorded exchanges; `serve` alone appends.
    pub fn capture(&self) -> PathBuf {
        self.data.join("capture.db")
    }

    /// A named lock file.
    pub fn lock(&self, name: &str) -> PathBuf {
        self.data.join("locks").join(format!("{name}.lock"))
    }

    /// Unfinished work that a later run resumes (checkpoints).
    pub fn work(&self, name: &str) -> PathBuf {
        self.data.join("work").join(name)
    }

    /// `training_data/`.
    pub fn training_data(&self) -> PathBuf {
        self.home.join("training_data")
    }

    /// `loras/`.
    pub fn loras(&self) -> PathBuf {
        self.home.join("loras")
    }

    /// `logs/`.
    pub fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }
}
