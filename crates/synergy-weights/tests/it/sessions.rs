//! What a session keeps between runs.

use nightshift_synergy_weights::learn::{EntriesAre, Kind, LearnError, Levels, Options, Session};

use crate::world::World;

fn options(kind: Kind) -> Options {
    Options { kind, seed: 3, ..Options::default() }
}

#[test]
fn in_two_parts_or_at_once_the_same_bytes() {
    let rows = World::new(11, 0.3).rows(64);
    for kind in Kind::ALL {
        for from_scratch in [false, true] {
            let options = Options { from_scratch, rate: 0.7, ..options(kind) };
            let mut once = Session::start([1.0; 7], &options);
            let whole = once.observe(&rows).unwrap();
            let mut first = Session::start([1.0; 7], &options);
            let half = first.observe(&rows[..37]).unwrap();
            let mut second = Session::restore(&first.to_bytes(), half.weights, &options).unwrap();
            assert_eq!(second, first, "{kind}");
            assert_eq!(second.observe(&rows[37..]).unwrap(), whole, "{kind}");
            assert_eq!(second.to_bytes(), once.to_bytes(), "{kind}");
        }
    }
}

#[test]
fn another_seed_is_another_network() {
    let rows = World::new(12, 0.3).rows(40);
    let weights = |seed| {
        let options = Options { seed, from_scratch: true, ..options(Kind::Td3) };
        Session::start([1.0; 7], &options).observe(&rows).unwrap().weights
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

#[test]
fn weights_set_by_hand_are_the_new_start() {
    let mut world = World::new(13, 0.3);
    let mut session = Session::start([1.0; 7], &options(Kind::ActorCritic));
    session.observe(&world.rows(300)).unwrap();
    session.remember(Levels { are: EntriesAre::Levels, last: [Some(2.0); 7] });
    let by_hand = [0.5, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let mut edited = Session::restore(&session.to_bytes(), by_hand, &options(Kind::ActorCritic)).unwrap();
    assert_eq!(edited.levels(), session.levels(), "the history goes on where it was");
    let learned = edited.observe(&world.rows(3)).unwrap();
    assert_eq!(learned.rows, 303);
    assert!(
        learned.weights.iter().zip(by_hand).all(|(w, start)| (w - start).abs() <= 0.2 * start + 1e-9),
        "{learned:?}"
    );
    assert!(!learned.enough, "what was known before the edit does not undo it");
}

#[test]
fn a_checkpoint_that_does_not_fit_says_so() {
    let rows = World::new(14, 0.3).rows(30);
    let mut session = Session::start([1.0; 7], &options(Kind::Dqn));
    let weights = session.observe(&rows).unwrap().weights;
    let bytes = session.to_bytes();
    let restore = |bytes: &[u8], options: &Options| Session::restore(bytes, weights, options).unwrap_err();
    let other = restore(&bytes, &options(Kind::Td3));
    assert!(matches!(other, LearnError::OtherLearner { .. }) && other.to_string().contains("dqn"), "{other}");
    let wide = restore(&bytes, &Options { hidden: 8, ..options(Kind::Dqn) });
    assert!(matches!(wide, LearnError::OtherShape(_)), "{wide}");
    let damaged = |bytes: &[u8]| {
        let error = restore(bytes, &options(Kind::Dqn));
        assert!(matches!(error, LearnError::Damaged(_)), "{error}");
    };
    for length in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
        damaged(&bytes[..length]);
    }
    damaged(b"{\"roi\": 1.0}");
    let mut poisoned = bytes.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    damaged(&poisoned);
    // A shorter memory is a setting, not damage.
    let short = Options { replay: 20, ..options(Kind::Dqn) };
    assert!(Session::restore(&bytes, weights, &short).is_ok());
}

#[test]
fn a_value_that_is_no_number_changes_nothing() {
    let mut rows = World::new(15, 0.3).rows(30);
    let mut session = Session::start([1.0; 7], &options(Kind::Sac));
    session.observe(&rows).unwrap();
    let before = session.clone();
    rows[12].deltas[2] = f64::NAN;
    let error = session.observe(&rows).unwrap_err().to_string();
    assert!(error.contains("row 13") && error.contains("resilience"), "{error}");
    rows[12].deltas[2] = 0.0;
    rows[29].roi_delta = f64::INFINITY;
    let error = session.observe(&rows).unwrap_err().to_string();
    assert!(error.contains("row 30") && error.contains("roi_delta"), "{error}");
    assert_eq!(session, before);
}
