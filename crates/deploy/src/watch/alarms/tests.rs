//! Simulated watches: how often an equal adapter is taken back, and how soon a worse one.

use nightshift_stats::rng::SplitMix64;

use super::*;

const TAGS: [&str; 3] = ["chat", "json", "unit"];

fn history(n: usize, failed: impl Fn(usize) -> bool) -> Vec<Exchange> {
    (0..n)
        .map(|n| Exchange {
            seq: 1,
            id: n.to_string(),
            at: String::new(),
            ok: !failed(n),
            negative: false,
            failure_class: None,
            latency_ms: 50.0,
            ttft_ms: Some(10.0),
            completion_tokens: Some(5),
            tags: vec![TAGS[n % 3].into()],
        })
        .collect()
}

fn outcome(failed: bool, tag: &str) -> Outcome {
    Outcome { failed, latency_ms: Some(50.0), cost_ms: Some(20.0), tags: vec![tag.into()] }
}

/// Share of watches that ring, and the median number of requests until then.
fn watches(base: f64, live: impl Fn(usize) -> f64, requests: usize, seed: u64) -> (f64, usize) {
    const WATCHES: usize = 400;
    let mut rng = SplitMix64::new(seed);
    let mut stops = Vec::new();
    for _ in 0..WATCHES {
        let past: Vec<bool> = (0..200).map(|_| rng.chance(base)).collect();
        let mut alarms = Alarms::new(&history(200, |n| past[n]), &Deploy::default()).unwrap();
        let rang = (0..requests).find(|n| {
            let failed = rng.chance(live(n % 3));
            alarms.observe(&outcome(failed, TAGS[n % 3])).unwrap().1.is_some()
        });
        stops.extend(rang.map(|n| n + 1));
    }
    stops.sort_unstable();
    (stops.len() as f64 / WATCHES as f64, stops.get(stops.len() / 2).copied().unwrap_or(0))
}

#[test]
fn an_equal_adapter_stays() {
    for base in [0.0, 0.05, 0.2, 0.35] {
        let (rang, _) = watches(base, |_| base, 200, 1);
        assert!(rang <= 0.03 + 0.02, "{base}: {rang} instead of at most 0.03 (and the noise of 400 watches)");
    }
}

#[test]
fn a_better_adapter_stays() {
    assert!(watches(0.35, |_| 0.2, 300, 2).0 <= 0.005);
}

#[test]
fn a_dead_adapter_is_seen_at_once() {
    let (rang, median) = watches(0.05, |_| 1.0, 60, 3);
    assert!(rang == 1.0 && median <= 4, "{rang} after {median}");
}

#[test]
fn a_request_type_that_breaks_is_seen_within_few_of_its_kind() {
    let (rang, median) = watches(0.02, |tag| if tag == 1 { 1.0 } else { 0.02 }, 120, 4);
    assert!(
        rang == 1.0 && median <= 15,
        "{rang} after {median} requests, a third of them of the broken kind"
    );
}

#[test]
fn late_opinions_count_as_if_they_had_come_at_once() {
    let settings = Deploy::default();
    let past = history(100, |n| n % 20 == 0);
    let (mut at_once, mut late) =
        (Alarms::new(&past, &settings).unwrap(), Alarms::new(&past, &settings).unwrap());
    for n in 0..6 {
        at_once.observe(&outcome(n % 2 == 0, "json")).unwrap();
        late.observe(&outcome(false, "json")).unwrap();
    }
    for n in [0, 2, 4] {
        late.amend(n, true);
    }
    assert_eq!(at_once.evidence(), late.evidence());
    assert_eq!(at_once.tag_reports(), late.tag_reports());
    late.amend(4, false);
    assert_eq!(late.tag_reports()["json"].failures, 2, "the newest opinion decides");
}

#[test]
fn tags_may_appear_for_ever() {
    let mut alarms = Alarms::new(&[], &Deploy::default()).unwrap();
    let mut shares = 0.0;
    for n in 0..300 {
        assert!(alarms.observe(&outcome(false, &format!("t{n}"))).unwrap().1.is_none());
    }
    let reports = alarms.tag_reports();
    for report in reports.values() {
        shares += 1.0 / report.threshold;
    }
    assert_eq!(reports.len(), MOST_TAGS);
    assert!(shares <= Deploy::default().alpha_failures / 2.0, "{shares}");
}

#[test]
fn a_rare_tag_needs_no_more_evidence_than_a_frequent_one_and_all_keep_their_level() {
    let past = history(200, |_| false);
    let mut alarms = Alarms::new(&past, &Deploy::default()).unwrap();
    for new in 0..500 {
        alarms.observe(&outcome(false, &format!("new {new}"))).unwrap();
    }
    let reports = alarms.tag_reports();
    let level: f64 = alarms.tags.values().map(|stream| 1.0 / stream.threshold).sum();
    assert!(level <= Deploy::default().alpha_failures / 2.0, "{level}");
    let known = TAGS.map(|tag| alarms.tags[tag].threshold);
    assert!(known.iter().all(|threshold| *threshold == known[0]), "{known:?}");
    assert!(reports["new 0"].threshold > known[0] && reports["new 1"].threshold > reports["new 0"].threshold);
}

#[test]
fn without_any_history_a_dead_adapter_still_rings() {
    let mut alarms = Alarms::new(&[], &Deploy::default()).unwrap();
    let rang = (1..20).find(|_| alarms.observe(&outcome(true, "chat")).unwrap().1.is_some());
    assert!(rang.is_some_and(|n| n <= 6), "{rang:?}");
}

#[test]
fn one_request_counts_once_for_a_tag_it_carries_twice() {
    let mut alarms = Alarms::new(&history(50, |_| false), &Deploy::default()).unwrap();
    let doubled = Outcome { tags: vec!["json".into(), "json".into()], ..outcome(true, "json") };
    alarms.observe(&doubled).unwrap();
    assert_eq!(alarms.tag_reports()["json"].requests, 1);
}

#[test]
fn the_documents_own_examples_of_the_fixed_rule() {
    let settings = Deploy::default();
    let window = |success: f64, latency: f64| -> Vec<(bool, f64)> {
        (0..100).map(|n| (f64::from(n) >= success * 100.0, latency)).collect()
    };
    assert_eq!(fixed(&window(0.92, 720.0), &settings), None);
    assert_eq!(fixed(&window(0.78, 720.0), &settings).unwrap().alarm, "fixed_success");
    assert_eq!(fixed(&window(0.92, 1200.0), &settings).unwrap().alarm, "fixed_latency");
    assert_eq!(fixed(&window(0.0, 1200.0)[..4], &settings), None, "four requests say nothing");
}
