//! The learners of the seven weights.
//!
//! A row of history says how much each synergy metric moved and what ROI did next to it. Every learner
//! rests on one critic, a recursive regression of ROI on the metrics (`critic`); what the critic is not
//! sure of does not move a weight far (`evidence`, `policy`). `actor_critic` follows the critic itself; the four deep
//! learners (`deep`) search for better weights in replays of the history, and are listened to only where
//! they are not worse than the critic on the newest rows.
//!
//! ```
//! use nightshift_synergy_weights::learn::{Options, Sample, Session};
//!
//! # fn main() -> Result<(), nightshift_synergy_weights::learn::LearnError> {
//! let mut session = Session::start([1.0; 7], &Options::default());
//! // One cycle: the metric `roi` rose by 0.5 and ROI by 1. Little evidence, a little nudge.
//! let learned = session.update(1.0, [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])?;
//! assert!(learned.weights[0] > 1.0 && learned.weights[0] < 1.25);
//! // Sixty cycles in which ROI follows the second metric are evidence.
//! let rows: Vec<_> = (0..60_i32)
//!     .map(|t| f64::from(t * 37 % 19 - 9) / 9.0)
//!     .map(|x| Sample { deltas: [0.0, x, 0.0, 0.0, 0.0, 0.0, 0.0], roi_delta: 2.0 * x })
//!     .collect();
//! let learned = session.observe(&rows)?;
//! assert!(learned.weights[1] > 2.0 && learned.signed[1] > 1.5);
//! // What a session knows outlives the program.
//! let again = Session::restore(&session.to_bytes(), learned.weights, &Options::default())?;
//! assert_eq!(again.to_bytes(), session.to_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here reads a clock, a file or the environment; the same rows, options and seed give the same bits.

mod change;
mod critic;
mod deep;
mod evidence;
mod linear;
mod options;
mod policy;
mod rows;
mod session;
mod state;

pub use evidence::Evidence;
pub use options::{Kind, Optimizer, Options};
pub use rows::{EntriesAre, LOOK, Levels, Reading, samples};
pub use session::{Learned, Session};

/// How many weights there are.
pub const COUNT: usize = nightshift_core::synergy::METRICS.len();

/// One cycle of history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Change of each metric, in the order of [`nightshift_core::synergy::METRICS`]; any unit.
    pub deltas: [f64; COUNT],
    /// Change of ROI in the same cycle; any unit.
    pub roi_delta: f64,
}

/// Why a learner could not go on. The session is as it was before the call.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A value that no average survives.
    #[error("row {row}: {what} is {value}; a value between -1e100 and 1e100 is needed")]
    NotFinite {
        /// Position in the slice passed, from 1.
        row: usize,
        /// Name of the metric, or `roi_delta`.
        what: &'static str,
        /// The value.
        value: f64,
    },
    /// The checkpoint belongs to another learner.
    #[error(
        "the learner's state was written by {found}, not by {asked}; choose --learner {found}, or delete it to start anew"
    )]
    OtherLearner {
        /// The learner in the checkpoint.
        found: String,
        /// The learner asked for.
        asked: Kind,
    },
    /// The checkpoint was made with networks of another shape.
    #[error(
        "the learner's state does not fit these settings ({0}); restore them, or delete it to start anew"
    )]
    OtherShape(String),
    /// The checkpoint cannot be read.
    #[error("the learner's state is damaged ({0}); delete it to start anew")]
    Damaged(String),
    /// A name that is no learner.
    #[error("unknown learner {0:?}: choose actor_critic, dqn, double_dqn, td3 or sac")]
    UnknownKind(String),
    /// A setting outside of its range.
    #[error("{name} = {value:?}: {expected}")]
    Setting {
        /// Its environment variable.
        name: String,
        /// What was set.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The tensor library failed.
    #[error("the network failed: {0}")]
    Network(#[from] candle_core::Error),
}
