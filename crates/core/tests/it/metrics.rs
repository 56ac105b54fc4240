//! Counters and gauges in the store, and their page.

use nightshift_core::Ctx;
use nightshift_core::metrics::{GATE_DECISIONS, TRAINING_LOSS, add, label, render, set};

#[test]
fn counters_add_and_gauges_replace() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Ctx::for_test(dir.path()).store().unwrap();
    for value in [1.0, 2.0] {
        store
            .write(|tx| {
                add(tx, GATE_DECISIONS, &label("verdict", "pa\"ss"), value)?;
                set(tx, TRAINING_LOSS, "", value)
            })
            .unwrap();
    }
    let text = render(store.read()).unwrap();
    assert!(text.contains("nightshift_gate_decisions_total{verdict=\"pa\\\"ss\"} 3\n"), "{text}");
    assert!(text.contains("# TYPE autogen_training_loss gauge\nautogen_training_loss 2\n"), "{text}");
    assert!(text.contains("autogen_rollback_triggered_total 0\n"), "{text}");
}
