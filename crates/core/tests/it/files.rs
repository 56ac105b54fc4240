//! The raw writer: all or nothing, with the path in every error.

use std::io::{self, Write};
use std::path::Path;

use nightshift_core::Failure;
use nightshift_core::files::{
    append_line, create_dir, list, publish_dir, read, read_link, replace_symlink, sweep, write_atomic,
    write_atomic_with,
};

#[test]
fn a_failed_write_leaves_the_old_file_and_no_stray() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write_atomic(&path, b"old").unwrap();
    let result = write_atomic_with(&path, |file| {
        file.write_all(b"half")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&path).unwrap(), b"old");
    assert_eq!(list(dir.path()).unwrap(), [path]);
}

#[test]
fn a_full_disk_is_said_with_the_path() {
    // /dev/full is a real device that answers every write with ENOSPC.
    let failure = Failure::from(append_line(Path::new("/dev/full"), "x").unwrap_err());
    assert!(failure.chain().contains("/dev/full"), "{}", failure.chain());
    assert_eq!(failure.hints(), ["free some space and run again"]);
}

#[test]
fn links_are_switched_and_folders_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("current");
    replace_symlink(Path::new("live/1"), &link).unwrap();
    replace_symlink(Path::new("live/2"), &link).unwrap();
    assert_eq!(read_link(&link).unwrap(), Path::new("live/2"));
    assert_eq!(list(dir.path()).unwrap().len(), 1, "no stray");
    let folder = dir.path().join("folder");
    create_dir(&folder).unwrap();
    assert!(replace_symlink(Path::new("x"), &folder).is_err());
}

#[test]
fn publishing_twice_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        create_dir(&dir.path().join(name)).unwrap();
    }
    publish_dir(&dir.path().join("a"), &dir.path().join("final")).unwrap();
    assert!(publish_dir(&dir.path().join("b"), &dir.path().join("final")).is_err());
}

#[test]
fn sweep_removes_only_strays() {
    let dir = tempfile::tempdir().unwrap();
    create_dir(&dir.path().join(".tmp-x")).unwrap();
    write_atomic(&dir.path().join("keep"), b"").unwrap();
    assert_eq!(sweep(dir.path()).unwrap(), 1);
    assert_eq!(list(dir.path()).unwrap().len(), 1);
}
