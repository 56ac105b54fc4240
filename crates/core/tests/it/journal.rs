//! The journal: a chain that shows an edit.

use nightshift_core::Ctx;
use nightshift_core::journal::{Change, append, verify};
use serde_json::json;

#[test]
fn the_chain_holds_and_an_edit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Ctx::for_test(dir.path());
    let mut store = ctx.store().unwrap();
    for number in 0..3 {
        let change =
            Change { kind: "x", subject: "y", before: json!(number), after: json!(number + 1), why: "test" };
        store.write(|tx| append(&ctx, tx, &change)).unwrap();
    }
    assert_eq!(verify(store.read()).unwrap().len(), 3);
    let edit = "UPDATE journal SET why = 'other' WHERE seq = 2";
    assert!(store.read().execute(edit, []).is_err(), "append-only");
    store.read().execute_batch("DROP TRIGGER journal_no_update").unwrap();
    store.read().execute(edit, []).unwrap();
    assert!(verify(store.read()).unwrap_err().chain().contains("entry 2"));
}
