//! Named locks.

use nightshift_core::lock::Lock;

#[test]
fn a_second_holder_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("locks/x.lock");
    let mut held = Lock::take(&path, "first").unwrap();
    assert!(held.holder().starts_with("first (pid "));
    let failure = Lock::take(&path, "second").unwrap_err();
    assert_eq!(failure.exit().code(), 7);
    assert!(failure.chain().contains("first (pid"), "{}", failure.chain());
    drop(held);
    Lock::take(&path, "second").unwrap();
}
