//! Exchanges: their cost, and what is said of many.

use nightshift_core::exchange::{Exchange, Snapshot};

#[test]
fn the_cost_does_not_grow_with_the_answer() {
    let exchange = |latency_ms, ttft_ms, tokens| Exchange {
        seq: 1,
        id: String::new(),
        at: String::new(),
        ok: true,
        negative: false,
        failure_class: None,
        latency_ms,
        ttft_ms,
        completion_tokens: Some(tokens),
        tags: Vec::new(),
    };
    assert_eq!(exchange(110.0, Some(10.0), 11).cost_ms(), exchange(1010.0, Some(10.0), 101).cost_ms());
    assert_eq!(exchange(50.0, None, 5).cost_ms(), 10.0);
}

#[test]
fn a_snapshot_of_nothing_says_nothing() {
    assert_eq!(Snapshot::of([]), Snapshot::default());
    let snapshot = Snapshot::of((1..=100).map(|n| (n <= 10, f64::from(n))));
    assert_eq!((snapshot.success_rate, snapshot.latency_p95_ms), (Some(0.9), Some(95.0)));
    assert_eq!(snapshot.avg_latency_ms, Some(50.5));
}
