//! The only raw writer: durable, atomic, with the path in every error.
//!
//! `write_atomic` and `replace_symlink` leave the old state or the new one after a crash at any
//! instant, and the new one survives a power cut once they return: the file is synced, renamed
//! into place, and the folder is synced. What is *not* promised: two writers of one path are
//! ordered only by the locks they hold.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::error::Failure;
use crate::exit::Exit;

/// A failed operation on a path.
#[derive(Debug, Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// The operating system's error kind.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let hint = match error.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("free some space and run again")
            }
            io::ErrorKind::ReadOnlyFilesystem => Some("the file system is read-only: choose another --home"),
            io::ErrorKind::PermissionDenied => Some("check the owner and mode of this path"),
            _ => None,
        };
        let message = error.to_string();
        let failure = Self::new(Exit::Failed, message).because(error.source);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { action, path: path.to_owned(), source }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a folder and its parents.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(at("create the folder", path))
}

/// Makes renames inside a folder durable.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at("sync the folder", path))
}

/// Replaces the file's content, all or nothing. An existing file keeps its mode; a link is followed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], streaming: nothing is visible under `path` if `fill` fails.
pub fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut io::BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = parent(path);
    let mode = fs::metadata(path).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
    let mut temp = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(at("write", path))?;
    let mut buffer = io::BufWriter::with_capacity(1 << 16, temp.as_file_mut());
    fill(&mut buffer).and_then(|()| buffer.flush()).map_err(at("write", path))?;
    drop(buffer);
    temp.as_file().sync_all().map_err(at("sync", path))?;
    temp.persist(path).map_err(|error| at("replace", path)(error.error))?;
    sync_dir(folder)
}

/// Writes a file that [`rename`] can put in the place of `like`: same mode and owner, synced. Nothing is left
/// behind when it fails.
pub fn stage_like(like: &Path, staged: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let write = || {
        let meta = fs::metadata(like)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(staged)?;
        file.write_all(bytes)?;
        let ours = file.metadata()?;
        if (meta.uid(), meta.gid()) != (ours.uid(), ours.gid()) {
            std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
        }
        file.set_permissions(meta.permissions())?;
        file.sync_all()
    };
    write().map_err(|source| {
        let _ = remove_file(staged);
        at("write", staged)(source)
    })
}

/// Whether this process may write the file: also for root no file whose mode lets nobody write.
pub fn is_writable(path: &Path) -> bool {
    let allowed = rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    allowed && fs::metadata(path).is_ok_and(|meta| !meta.permissions().readonly())
}

/// Appends one line (the newline is added) in a single write, then syncs.
pub fn append_line(path: &Path, line: &str) -> Result<(), FileError> {
    let mut file =
        OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(at("append to", path))?;
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(at("append to", path))
}

/// Opens a file for appending (logs), creating it and its folder.
pub fn open_append(path: &Path) -> Result<File, FileError> {
    create_dir(parent(path))?;
    OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(at("open", path))
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(at("open", path))
}

/// The file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(at("read", path))
}

/// The file's text.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(at("read", path))
}

/// As [`read_text`], `None` when there is no such file.
pub fn read_text_if_any(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
    }
}

/// The entries of a folder, sorted by name; empty when there is no such folder.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("list", path)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(at("list", path))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Points the link at `target`, all or nothing. Refuses to replace anything that is not a link.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn replace_symlink(target: &Path, link: &Path) -> Result<(), FileError> {
    if let Ok(meta) = fs::symlink_metadata(link)
        && !meta.file_type().is_symlink()
    {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a symbolic link");
        return Err(at("replace the link", link)(error));
    }
    let folder = parent(link);
    // A unique name: a crash between the two calls leaves a stray that the next sweep removes,
    // never a name that makes the next switch fail.
    let staging = tempfile::Builder::new()
        .prefix(".tmp-link-")
        .tempdir_in(folder)
        .map_err(at("stage the link", link))?;
    let temp = staging.path().join("link");
    std::os::unix::fs::symlink(target, &temp).map_err(at("stage the link", link))?;
    fs::rename(&temp, link).map_err(at("switch the link", link))?;
    sync_dir(folder)
}

/// Makes a link at a path that does not exist yet.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn create_symlink(target: &Path, link: &Path) -> Result<(), FileError> {
    std::os::unix::fs::symlink(target, link).map_err(at("create the link", link))
}

/// Where a link points, `None` when there is no link.
pub fn read_link(link: &Path) -> Option<PathBuf> {
    fs::read_link(link).ok()
}

/// Syncs every file of a staged folder, then renames it to its final name. Fails if that exists.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn publish_dir(staged: &Path, published: &Path) -> Result<(), FileError> {
    if fs::symlink_metadata(published).is_ok() {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "it is already there");
        return Err(at("publish", published)(error));
    }
    for path in list(staged)? {
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            File::open(&path).and_then(|file| file.sync_all()).map_err(at("sync", &path))?;
        }
    }
    sync_dir(staged)?;
    fs::rename(staged, published).map_err(at("publish", published))?;
    sync_dir(parent(published))
}

/// Renames a path within one file system and syncs the folder.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(at("rename to", to))?;
    sync_dir(parent(to))
}

/// Copies a file's bytes to a path, durable and atomic.
pub fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = open(from)?;
    write_atomic_with(to, |file| io::copy(&mut source, file).map(|_| ()))
}

/// Removes a file or link; fine when it is not there.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder with everything in it; fine when it is not there.
#[expect(clippy::disallowed_methods, reason = "this module is the one raw writer")]
pub fn remove_dir(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Sets owner-only access on a file.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at("set the mode of", path))
}

/// Gives `to` the mode of `from`; nothing when there is no `from`.
pub fn copy_mode(from: &Path, to: &Path) -> Result<(), FileError> {
    match fs::metadata(from) {
        Ok(meta) => fs::set_permissions(to, meta.permissions()).map_err(at("set the mode of", to)),
        Err(_) => Ok(()),
    }
}

/// Bytes that a user may still write on the file system of `path` (of its nearest existing parent).
pub fn disk_free(path: &Path) -> Result<u64, FileError> {
    let mut existing = path;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => existing = parent,
            _ => {
                existing = Path::new(".");
                break;
            }
        }
    }
    let stat = rustix::fs::statvfs(existing)
        .map_err(|errno| at("ask for the free space of", existing)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes strays (`.tmp-*`) that a crash left in a folder. The caller holds the folder's lock.
pub fn sweep(folder: &Path) -> Result<usize, FileError> {
    let mut swept = 0;
    for path in list(folder)? {
        let stray = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp-"));
        if stray {
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                remove_dir(&path)?;
            } else {
                remove_file(&path)?;
            }
            swept += 1;
        }
    }
    Ok(swept)
}
