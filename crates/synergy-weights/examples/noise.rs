//! What `scripts/bench-synergy` asks of histories that say nothing, and of short ones that do: the share of noise
//! histories that move any weight by more than a quarter, and cosine and regret where the metrics explain 30 % of ROI.
//! Prints one JSON object.
//!
//!     cargo run --release --example noise -- SEED NOISE_RUNS WORLDS

#[path = "../tests/it/world.rs"]
mod world;

use nightshift_synergy_weights::learn::{Options, Session};
use world::{BETA, World, cosine, regret};

/// Lengths of the histories.
const NOISE: [usize; 13] = [2, 4, 8, 12, 16, 20, 30, 50, 70, 100, 200, 500, 1000];
const WORLDS: [usize; 3] = [50, 200, 1000];
/// Sets of candidates that a regret is the mean of.
const SETS: usize = 4000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, runs, worlds] = &arguments[..] else { return Err("SEED NOISE_RUNS WORLDS".into()) };
    let (seed, runs, worlds) = (seed.parse::<u64>()?, runs.parse::<u64>()?, worlds.parse::<u64>()?);
    // How many moved at a length, and how many had moved after any of the first hundred rows, or at a length behind them.
    let (mut moved, mut ever) = ([0_u64; NOISE.len()], [0_u64; NOISE.len()]);
    for run in 0..runs {
        let mut world = World::new(seed.wrapping_mul(1_000_003) + run, 0.0);
        let mut session = Session::start([1.0; 7], &Options::default());
        let (mut before, mut rows) = (false, 0);
        for (at, length) in NOISE.into_iter().enumerate() {
            let mut far = false;
            while rows < length {
                let next = if rows < 100 { 1 } else { length - rows };
                let weights = session.observe(&world.rows(next))?.weights;
                far = weights.iter().any(|w| (w - 1.0).abs() > 0.25);
                before |= far;
                rows += next;
            }
            moved[at] += u64::from(far);
            ever[at] += u64::from(before);
        }
    }
    let share = |counts: [u64; NOISE.len()]| counts.map(|count| count as f64 / runs as f64);
    let mut recovery = Vec::new();
    for rows in WORLDS {
        let (mut cosines, mut regrets) = (0.0, 0.0);
        for run in 0..worlds {
            let history = World::new(seed.wrapping_mul(2_000_003) + run, 0.3).rows(rows);
            let weights = Session::start([1.0; 7], &Options::default()).observe(&history)?.weights;
            cosines += cosine(&weights, &BETA) / worlds as f64;
            regrets += regret(&weights, &BETA, SETS) / worlds as f64;
        }
        recovery.push(serde_json::json!({"rows": rows, "cosine": cosines, "regret": regrets}));
    }
    let report = serde_json::json!({
        "noise_rows": NOISE, "noise_runs": runs, "moved": share(moved), "ever_moved": share(ever),
        "worlds": worlds, "recovery": recovery,
    });
    #[expect(clippy::print_stdout, reason = "the output of a program for a script")]
    {
        println!("{report}");
    }
    Ok(())
}
