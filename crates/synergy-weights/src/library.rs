//! The weights inside another program.

use std::path::{Path, PathBuf};

use nightshift_core::clock::Clock;
use nightshift_core::commit::with_suffix;
use nightshift_core::crash::CrashPoint;
use nightshift_core::signal::Stop;
use nightshift_core::synergy::Values;
use nightshift_core::synergy::adjust::{Norms, Patch};
use nightshift_core::synergy::start::Start;
use nightshift_core::synergy::weights::{Change, Held, read};
use nightshift_core::{Failure, OrFail, files};

use crate::learn::{Learned, Options, Session};

/// A weights file with its learner, for a program that learns cycle by cycle.
///
/// The learner's state is kept in `<file>.learner`, changes in a log beside the file. Several programs may share
/// the file: each update reads, learns and writes under its lock.
///
/// ```
/// use nightshift_synergy_weights::{Weights, start_exporter};
/// use nightshift_synergy_weights::learn::Options;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let mut weights = Weights::load(&dir.path().join("synergy_weights.json"), &Options::default())?;
/// // ROI rose by 1 in a cycle in which the metric `roi` rose by 0.5.
/// let deltas = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
/// weights.update(1.0, deltas)?;
/// assert!(weights.values()[0] > 1.0);
/// // What the weights make of the next cycle's deltas; no earlier patches are known here.
/// assert!(weights.adjustment(&[], &deltas) > 0.5);
///
/// let history = dir.path().join("synergy_history.db");
/// let exporter = start_exporter(&history, "127.0.0.1", 0, Duration::from_secs(5))?;
/// println!("http://{}/metrics", exporter.address());
/// exporter.stop()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    options: Options,
    values: Values,
    clock: Clock,
}

impl Weights {
    /// Reads the file; ones when it is missing or empty.
    ///
    /// # Errors
    /// The file system says no.
    pub fn load(path: &Path, options: &Options) -> Result<Self, Failure> {
        let values = read(path, &Start::unit())?.weights;
        Ok(Self { path: path.to_owned(), options: options.clone(), values, clock: Clock::new(None) })
    }

    /// The weights, in the order of [`nightshift_core::synergy::METRICS`].
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Learns from one cycle and writes file, learner and log as one durable step.
    ///
    /// # Errors
    /// A value that is not finite, a lock that is not freed within 10 s, the file system. Nothing has changed then.
    pub fn update(&mut self, roi_delta: f64, deltas: Values) -> Result<Learned, Failure> {
        let held = Held::take(&self.path, "synergy weights", &self.clock, &Stop::default())?;
        let before = held.read(&Start::unit())?;
        let state = with_suffix(&self.path, ".learner");
        let mut session = if state.exists() {
            Session::restore(&files::read(&state)?, before.weights, &self.options)
                .or_fail(|| format!("{} cannot be used", state.display()))?
        } else {
            Session::start(before.weights, &self.options)
        };
        let learned = session.update(roi_delta, deltas).or_fail(|| "the weights were not learned".into())?;
        let log = self.path.with_extension("log");
        let change = Change { log: &log, at: self.clock.now(), reason: "update" };
        let step = held.change(&before, &learned.weights, &change)?;
        step.replace(&state, session.to_bytes()).run(&CrashPoint::default())?;
        self.values = learned.weights;
        Ok(learned)
    }

    /// The weighted synergy adjustment of a cycle, scaled by earlier patches (oldest first) where there are some.
    pub fn adjustment(&self, patches: &[Patch], deltas: &Values) -> f64 {
        Norms::from_patches(self.values, patches).adjustment(deltas)
    }
}
