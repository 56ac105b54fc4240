//! Events: each consumer sees each once.

use nightshift_core::Ctx;
use nightshift_core::events::{HARVEST_DONE, MEMORY_NEW, advance, pending, publish};
use serde_json::json;

#[test]
fn a_consumer_sees_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Ctx::for_test(dir.path());
    let mut store = ctx.store().unwrap();
    let now = ctx.clock.now();
    for key in ["a", "b", "c"] {
        store.write(|tx| publish(tx, now, MEMORY_NEW, key, &json!({}))).unwrap();
    }
    store.write(|tx| publish(tx, now, HARVEST_DONE, "other", &json!({}))).unwrap();
    let first = pending(store.read(), "learn", MEMORY_NEW, 2).unwrap();
    assert_eq!(first.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    store.write(|tx| advance(tx, "learn", MEMORY_NEW, first[1].seq)).unwrap();
    store.write(|tx| advance(tx, "learn", MEMORY_NEW, first[0].seq)).unwrap();
    let rest = pending(store.read(), "learn", MEMORY_NEW, 9).unwrap();
    assert_eq!(rest.len(), 1, "a cursor never goes back");
    assert_eq!(pending(store.read(), "other", MEMORY_NEW, 9).unwrap().len(), 3);
}
