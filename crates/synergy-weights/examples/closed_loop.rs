//! The closed loop that `scripts/bench-synergy` measures: of eight candidates the one that the weights rank first is
//! taken, its outcome is learned from, and half way the effects change. Prints one JSON object with mean regrets.
//!
//!     cargo run --release --example closed_loop -- SEED RUNS CYCLES LEARNER

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod world;

use nightshift_synergy_weights::learn::{Options, Session};
use world::{BETA, World, pick, value};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, runs, cycles, learner] = &arguments[..] else { return Err("SEED RUNS CYCLES LEARNER".into()) };
    let (seed, runs, cycles) = (seed.parse::<u64>()?, runs.parse::<u64>()?, cycles.parse::<usize>()?);
    // Rows: before and after the change; columns: the learner, unit weights.
    let mut lost = [[0.0; 2]; 2];
    let mut best = [0.0; 2];
    for run in 0..runs {
        let mut world = World::new(seed.wrapping_mul(1000) + run, 0.3);
        let mut session =
            Session::start([1.0; 7], &Options { kind: learner.parse()?, seed: run, ..Options::default() });
        let mut weights = [1.0; 7];
        for cycle in 0..cycles {
            let phase = usize::from(cycle * 2 >= cycles);
            if phase == 1 {
                world.beta.copy_from_slice(&[&BETA[4..], &BETA[..4]].concat());
            }
            let candidates: Vec<[f64; 7]> = (0..8).map(|_| world.candidate()).collect();
            let brings = candidates.iter().map(|c| value(&world.beta, c)).fold(f64::MIN, f64::max);
            best[phase] += brings;
            for (column, weights) in [weights, [1.0; 7]].iter().enumerate() {
                lost[phase][column] += brings - value(&world.beta, &candidates[pick(weights, &candidates)]);
            }
            let outcome = world.outcome(candidates[pick(&weights, &candidates)]);
            weights = session.observe(&[outcome])?.weights;
        }
    }
    let share = |phase: usize, column: usize| lost[phase][column] / best[phase];
    let report = serde_json::json!({
        "learner": learner, "runs": runs, "cycles": cycles,
        "regret": [share(0, 0), share(1, 0)], "regret_unit": [share(0, 1), share(1, 1)],
    });
    #[expect(clippy::print_stdout, reason = "the output of a program for a script")]
    {
        println!("{report}");
    }
    Ok(())
}
