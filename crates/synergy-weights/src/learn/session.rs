//! A learner between two looks at history.

use std::collections::VecDeque;

use nightshift_core::synergy::METRICS;

use super::change::Detector;
use super::critic::Moments;
use super::deep::Deep;
use super::evidence::{Evidence, Verdict};
use super::linear::Vector;
use super::policy;
use super::{COUNT, LearnError, Levels, Options, Sample, state};

/// What the critic keeps of its memory with each row: 1,000 rows. A change of the rules is not left to forgetting,
/// it restarts the critic; what remains is slow drift.
const KEEP: f64 = 0.999;
/// Changes remembered for the report.
const CHANGES: usize = 32;
/// Relative difference below which weights count as those that were written.
const SAME: f64 = 1e-9;

/// Everything a learner keeps between runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub(super) options: Options,
    /// Where the user put the weights.
    pub(super) start: Vector,
    /// Where the learner put them last.
    pub(super) weights: Vector,
    pub(super) critic: Moments,
    pub(super) detector: Detector,
    /// Newest rows, oldest first.
    pub(super) recent: VecDeque<Sample>,
    pub(super) rows: u64,
    /// Rows, counted from 1, at which the rules changed.
    pub(super) changes: Vec<u64>,
    pub(super) levels: Option<Levels>,
    pub(super) deep: Option<Deep>,
}

/// What a learner makes of all it has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Weights from 0 to 10: what belongs into the file.
    pub weights: [f64; COUNT],
    /// Change of ROI for a change of 1 of each metric, with its sign; 0 for a metric that never varied.
    pub signed: [f64; COUNT],
    /// Standard errors of `signed`.
    pub stderr: [f64; COUNT],
    /// `signed` over `stderr`; 0 where there is no error to divide by.
    pub z: [f64; COUNT],
    /// What the rows say of each weight.
    pub evidence: [Evidence; COUNT],
    /// Whether the rows say anything of any weight: `p` is at most `level`.
    pub enough: bool,
    /// Chance of such rows if no metric had anything to do with ROI.
    pub p: f64,
    /// What `p` has to fall to before a weight may move by more than a quarter.
    pub level: f64,
    /// Rows observed by this session.
    pub rows: u64,
    /// For the deep learners: whether their weights were taken; those of the critic are used otherwise.
    pub adopted: Option<bool>,
    /// Rows, counted from 1, from which on other rules were found to hold.
    pub changes: Vec<u64>,
}

impl Session {
    /// A learner that has seen nothing and starts from these weights.
    pub fn start(weights: [f64; COUNT], options: &Options) -> Self {
        Self {
            options: options.clone(),
            start: weights,
            weights,
            critic: Moments::EMPTY,
            detector: Detector::NEW,
            recent: VecDeque::new(),
            rows: 0,
            changes: Vec::new(),
            levels: None,
            deep: Deep::new(options),
        }
    }

    /// The learner that [`Session::to_bytes`] wrote. Where `weights` are not those it left, somebody set them by hand:
    /// they are the new start, and only rows from now on move them.
    ///
    /// # Errors
    /// Bytes that are damaged, or of another learner, or of networks of another shape.
    pub fn restore(bytes: &[u8], weights: [f64; COUNT], options: &Options) -> Result<Self, LearnError> {
        let mut session = state::read(bytes, options)?;
        let same = |a: f64, b: f64| (a - b).abs() <= SAME * a.abs().max(b.abs());
        if !weights.iter().zip(&session.weights).all(|(a, b)| same(*a, *b)) {
            let levels = session.levels.take();
            session = Self { levels, rows: session.rows, ..Self::start(weights, options) };
        }
        Ok(session)
    }

    /// Everything, as a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        state::write(self)
    }

    /// What the next rows of the history follow on, for [`super::samples`].
    pub fn levels(&self) -> Option<&Levels> {
        self.levels.as_ref()
    }

    /// Keeps what [`super::samples`] gave to be passed on.
    pub fn remember(&mut self, levels: Levels) {
        self.levels = Some(levels);
    }

    /// Learns from rows in their order. In two parts or at once: the same bits.
    ///
    /// # Errors
    /// A value that is not finite; a failure of the tensor library. The session is as before then.
    pub fn observe(&mut self, samples: &[Sample]) -> Result<Learned, LearnError> {
        check(samples)?;
        let mut next = self.clone();
        for sample in samples {
            next.take(sample)?;
        }
        *self = next;
        Ok(self.learned())
    }

    /// Learns from one cycle, as the seed's `SynergyWeightLearner.update` does.
    ///
    /// # Errors
    /// As [`Session::observe`].
    pub fn update(&mut self, roi_delta: f64, deltas: [f64; COUNT]) -> Result<Learned, LearnError> {
        self.observe(&[Sample { deltas, roi_delta }])
    }

    /// What is known so far.
    pub fn learned(&self) -> Learned {
        let estimate = self.critic.estimate();
        let verdict = Verdict::of(&estimate);
        let per_unit = |values: &Vector| -> Vector {
            std::array::from_fn(|i| if estimate.sd[i] > 0.0 { values[i] / estimate.sd[i] } else { 0.0 })
        };
        let (signed, stderr) = (per_unit(&estimate.effect), per_unit(&estimate.error));
        Learned {
            weights: self.weights,
            signed,
            stderr,
            z: std::array::from_fn(|i| if stderr[i] > 0.0 { signed[i] / stderr[i] } else { 0.0 }),
            evidence: verdict.words(&estimate),
            enough: verdict.speaks(),
            p: verdict.p,
            level: verdict.level,
            rows: self.rows,
            adopted: self.deep.as_ref().map(|deep| deep.adopted),
            changes: self.changes.clone(),
        }
    }

    fn take(&mut self, sample: &Sample) -> Result<(), LearnError> {
        self.rows += 1;
        if self.recent.len() >= self.options.replay {
            self.recent.pop_front();
        }
        self.recent.push_back(*sample);
        let changed = self.detector.take(sample, &self.critic.estimate());
        self.critic.add(sample, KEEP);
        if let Some(since) = changed {
            self.restart(since);
        }
        let target = self.target()?;
        let step = self.options.rate.min(1.0);
        for (weight, target) in self.weights.iter_mut().zip(target) {
            *weight += step * (target - *weight);
        }
        Ok(())
    }

    /// Where the weights should be now.
    fn target(&mut self) -> Result<Vector, LearnError> {
        let estimate = self.critic.estimate();
        let own = policy::direction(&estimate);
        let Some(deep) = &mut self.deep else { return Ok(policy::target(&self.start, &estimate, &own)) };
        deep.round(self.rows, self.recent.iter(), &estimate.helpful, &self.options)?;
        Ok(match &deep.answer {
            Some(answer) if self.options.from_scratch => policy::spread(&self.start, answer),
            Some(answer) if deep.adopted => policy::target(&self.start, &estimate, answer),
            _ if self.options.from_scratch => self.start,
            _ => policy::target(&self.start, &estimate, &own),
        })
    }

    /// Forgets what was before the last `since` rows.
    fn restart(&mut self, since: u64) {
        let keep = usize::try_from(since).unwrap_or(usize::MAX).min(self.recent.len());
        self.recent.drain(..self.recent.len() - keep);
        self.critic = Moments::EMPTY;
        for sample in &self.recent {
            self.critic.add(sample, KEEP);
        }
        if let Some(deep) = &mut self.deep {
            deep.adopted = false;
        }
        self.changes.push(self.rows + 1 - keep as u64);
        if self.changes.len() > CHANGES {
            self.changes.remove(0);
        }
    }
}

fn check(samples: &[Sample]) -> Result<(), LearnError> {
    for (at, sample) in samples.iter().enumerate() {
        let named = METRICS.into_iter().zip(sample.deltas).chain([("roi_delta", sample.roi_delta)]);
        if let Some((what, value)) =
            named.into_iter().find(|(_, value)| value.is_nan() || value.abs() >= 1e100)
        {
            return Err(LearnError::NotFinite { row: at + 1, what, value });
        }
    }
    Ok(())
}
