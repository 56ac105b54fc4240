//! A config file: read whole, replaced whole, and only when nobody else wrote it in between.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nightshift_core::random::sha256_hex;
use nightshift_core::{Ctx, Failure, OrFail, files};

use super::edit::{Format, Tree};

/// A config as it was read.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    /// Links resolved.
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) text: String,
    pub(super) sha256: String,
}

impl ConfigFile {
    /// Reads a config; exit 4 when it is missing or nothing that can be edited.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let refused = |failure: Failure| failure.with_exit(nightshift_core::Exit::Refused);
        let real = std::fs::canonicalize(path)
            .or_exit(nightshift_core::Exit::Refused, || format!("cannot find the config {}", path.display()))
            .map_err(|failure| failure.hint("name an existing file with --target-config"))?;
        if !real.is_file() {
            return Err(Failure::refused(format!("{} is no file", real.display())));
        }
        // The name that the user gave may have the better ending: links into a store often have none.
        let format = Format::of(&real).or_else(|_| Format::of(path));
        let format =
            format.or_exit(nightshift_core::Exit::Refused, || "this config cannot be edited".into())?;
        let bytes = files::read(&real).map_err(|error| refused(error.into()))?;
        let sha256 = sha256_hex(&bytes);
        let text = String::from_utf8(bytes)
            .or_exit(nightshift_core::Exit::Refused, || format!("{} is not UTF-8", real.display()))?;
        Ok(Self { path: real, format, text, sha256 })
    }

    /// What it means.
    pub(super) fn documents(&self) -> Result<Vec<Tree>, Failure> {
        let body = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        self.format
            .documents(body)
            .or_exit(nightshift_core::Exit::Refused, || format!("{} cannot be edited", self.path.display()))
    }

    /// Refuses what could not be replaced without a loss.
    pub(super) fn check_writable(&self) -> Result<(), Failure> {
        let shown = self.path.display();
        if !files::is_writable(&self.path) {
            return Err(Failure::refused(format!("{shown} is read-only"))
                .hint("make it writable, or change it by hand"));
        }
        let links = std::fs::metadata(&self.path).map_or(1, |meta| meta.nlink());
        if links > 1 {
            return Err(Failure::refused(format!(
                "{shown} has {links} hard links, which a replacement would part"
            )));
        }
        Ok(())
    }

    /// Replaces the content, all or nothing; mode and owner stay. `id` names the staged file, so that
    /// [`sweep`](Self::sweep) knows it.
    pub(super) fn replace(&self, ctx: &Ctx, id: &str, text: &str) -> Result<(), Failure> {
        self.check_writable()?;
        let staged = staged(&self.path, id);
        files::stage_like(&self.path, &staged, text.as_bytes())
            .map_err(|error| Failure::from(error).hint("the config is as it was"))?;
        ctx.crash.reach("change.staged", "");
        let now = Self::read(&self.path);
        if now.as_ref().map(|now| now.sha256.as_str()).ok() != Some(self.sha256.as_str()) {
            files::remove_file(&staged)?;
            return Err(edited_meanwhile(&self.path));
        }
        files::rename(&staged, &self.path).map_err(|error| {
            let _ = files::remove_file(&staged);
            error.into()
        })
    }

    /// Removes what a crash may have left beside a file.
    pub(super) fn sweep(path: &Path, id: &str) -> Result<(), Failure> {
        Ok(files::remove_file(&staged(path, id))?)
    }
}

/// Somebody else wrote the file.
pub(super) fn edited_meanwhile(path: &Path) -> Failure {
    Failure::refused(format!("{} was edited since the plan was made", path.display()))
        .hint("plan again, and look at the diff")
}

fn staged(path: &Path, id: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{id}.next"))
}
