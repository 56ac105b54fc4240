use nightshift_stats::paired::{
    GateRules, PairedCounts, Verdict, gate, items_needed, mcnemar_one_sided, mcnemar_two_sided,
    minimum_detectable, power,
};
use proptest::prelude::*;

use crate::golden::{close, close_relative, rows};

fn counts(both_right: u64, lost: u64, won: u64, both_wrong: u64) -> PairedCounts {
    PairedCounts { both_right, lost, won, both_wrong }
}

#[test]
fn tests_agree_with_statsmodels() {
    for r in rows("mcnemar") {
        let (lost, won) = (r[0] as u64, r[1] as u64);
        close_relative(mcnemar_one_sided(lost, won), r[2], 1e-12, "one-sided");
        close_relative(mcnemar_two_sided(lost, won), r[3], 1e-12, "two-sided");
    }
}

#[test]
fn power_agrees_with_enumeration() {
    for r in rows("power") {
        close(power(r[0] as u64, r[1], r[2], r[3]).unwrap(), r[4], 1e-10, "power");
    }
    assert_eq!(power(0, 0.1, 0.2, 0.05).unwrap(), 0.0);
    assert_eq!(power(100, 0.0, 0.0, 0.05).unwrap(), 0.0);
    // Everything changes for the better: five wins are enough.
    close(power(5, 0.0, 1.0, 0.05).unwrap(), 1.0, 1e-12, "all won");
    assert_eq!(power(4, 0.0, 1.0, 0.05).unwrap(), 0.0);
    assert!(power(10, 0.6, 0.6, 0.05).unwrap_err().to_string().contains("lost rate + won rate"));
}

#[test]
fn items_needed_is_where_the_power_is_first_reached() {
    for (lost, won) in [(0.01, 0.04), (0.015, 0.085), (0.0, 0.02), (0.1, 0.13)] {
        let n = items_needed(lost, won, 0.05, 0.8).unwrap().unwrap();
        assert!(power(n, lost, won, 0.05).unwrap() >= 0.8);
        assert!(power(n - 1, lost, won, 0.05).unwrap() < 0.8);
    }
    assert_eq!(items_needed(0.02, 0.02, 0.05, 0.8).unwrap(), None);
    assert_eq!(items_needed(0.0, 0.0, 0.05, 0.8).unwrap(), None);
    // A hair's breadth apart: more than a million items.
    assert_eq!(items_needed(0.25, 0.2501, 0.05, 0.8).unwrap(), None);
}

#[test]
fn minimum_detectable_gains_are_those_of_the_planning_table() {
    // Points at two-sided 0.05 and power 0.8, by share of items that differ; the first is capped at that share.
    let table = [
        (100, [5.0, 8.8, 12.4, 15.2]),
        (200, [4.4, 6.2, 8.8, 10.8]),
        (300, [3.6, 5.1, 7.2, 8.8]),
        (500, [2.8, 4.0, 5.6, 6.8]),
        (1000, [2.0, 2.8, 4.0, 4.8]),
    ];
    for (n, points) in table {
        for (pd, want) in [0.05, 0.10, 0.20, 0.30].into_iter().zip(points) {
            let got = 100.0 * minimum_detectable(n, pd, 0.05, 0.8, true).unwrap();
            assert!((got - want).abs() <= 0.11, "n {n}, pd {pd}: {got} instead of {want}");
        }
    }
    assert!(minimum_detectable(0, 0.1, 0.05, 0.8, true).is_err());
}

#[test]
fn gate_needs_both_rules() {
    let rules = GateRules::default();
    // A typical night.
    let pass = gate(&counts(240, 3, 47, 110), &rules).unwrap();
    assert_eq!(pass.verdict, Verdict::Pass);
    assert_eq!((pass.n, pass.lost, pass.won, pass.needed_items), (400, 3, 47, None));
    // Forgetful: wins the test and loses more than 4 %.
    let forgetful = gate(&counts(220, 21, 49, 110), &rules).unwrap();
    assert!(forgetful.p_value < rules.alpha);
    assert_eq!(forgetful.verdict, Verdict::Fail);
    assert!(forgetful.reason.contains("5.2 % of the items lost"), "{}", forgetful.reason);
    // Exactly the limit is within it.
    assert_eq!(gate(&counts(220, 16, 49, 115), &rules).unwrap().verdict, Verdict::Pass);
    assert_eq!(gate(&counts(220, 17, 49, 114), &rules).unwrap().verdict, Verdict::Fail);
    // Significantly worse within the limit on what is lost.
    let worse = gate(&counts(260, 12, 2, 126), &rules).unwrap();
    assert_eq!(worse.verdict, Verdict::Fail);
    assert!(worse.reason.contains("significantly worse"), "{}", worse.reason);
}

#[test]
fn inconclusive_says_what_is_missing() {
    let rules = GateRules::default();
    let close_call = gate(&counts(240, 8, 16, 136), &rules).unwrap();
    assert_eq!(close_call.verdict, Verdict::Inconclusive);
    let more = close_call.needed_items.unwrap();
    let total = 400 + more;
    assert!(power(total, 0.02, 0.04, 0.05).unwrap() >= 0.8);
    assert!(close_call.reason.contains(&more.to_string()), "{}", close_call.reason);
    // Equal arms: no number of items would do.
    let equal = gate(&counts(200, 3, 3, 194), &rules).unwrap();
    assert_eq!((equal.verdict, equal.needed_items), (Verdict::Inconclusive, None));
    assert!(equal.reason.contains("more items alone would not help"));
    let nothing = gate(&counts(0, 0, 0, 0), &rules).unwrap();
    assert_eq!((nothing.verdict, nothing.p_value, nothing.lost_share), (Verdict::Inconclusive, 1.0, 0.0));
    let json = serde_json::to_value(&nothing).unwrap();
    assert_eq!(json["verdict"], "INCONCLUSIVE");
    assert!(gate(&counts(1, 0, 0, 0), &GateRules { alpha: 0.0, ..rules }).is_err());
    assert!(gate(&counts(1, 0, 0, 0), &GateRules { max_lost_share: 1.5, ..rules }).is_err());
}

proptest! {
    #[test]
    fn p_values_are_probabilities_and_mirror(lost in 0_u64..500, won in 0_u64..500) {
        let (better, worse) = (mcnemar_one_sided(lost, won), mcnemar_one_sided(won, lost));
        prop_assert!((0.0..=1.0).contains(&better));
        // Both tails hold the observed outcome.
        prop_assert!(better + worse >= 1.0 - 1e-9);
        prop_assert_eq!(mcnemar_two_sided(lost, won), mcnemar_two_sided(won, lost));
        prop_assert!(mcnemar_two_sided(lost, won) >= better.min(worse));
    }

    #[test]
    fn the_gate_never_passes_a_candidate_that_breaks_a_rule(
        both in 0_u64..300, lost in 0_u64..60, won in 0_u64..60, neither in 0_u64..300,
    ) {
        let rules = GateRules::default();
        let c: PairedCounts = std::iter::empty::<(bool, bool)>()
            .chain((0..both).map(|_| (true, true)))
            .chain((0..lost).map(|_| (true, false)))
            .chain((0..won).map(|_| (false, true)))
            .chain((0..neither).map(|_| (false, false)))
            .collect();
        prop_assert_eq!(c, counts(both, lost, won, neither));
        let d = gate(&c, &rules).unwrap();
        if d.verdict == Verdict::Pass {
            prop_assert!(d.p_value < rules.alpha && d.lost_share <= rules.max_lost_share && won > lost);
        }
        if d.verdict == Verdict::Inconclusive && d.n > 0 {
            prop_assert!(d.p_value >= rules.alpha && d.lost_share <= rules.max_lost_share);
            prop_assert_eq!(d.needed_items.is_some(), won > lost);
        }
    }
}
