//! Rule L: is the new adapter slower than the baseline?

use serde::{Deserialize, Serialize};

use crate::describe::quantile_of_sorted;
use crate::{Result, StatsError, all_finite};

use super::{AlarmState, SwitchAlarm};

/// Watches how often a request costs more than the baseline's median and more than its 90th percentile.
///
/// The cost should not grow with the length of the answer alone (time to first token plus time per token), for
/// longer answers are what rewriting rewards. Each percentile has its own [`SwitchAlarm`] with half of alpha; the
/// median sees a general slow-down, the 90th percentile a heavy tail.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowAlarm {
    cost_p50: f64,
    cost_p90: f64,
    p50: SwitchAlarm,
    p90: SwitchAlarm,
}

/// Where a [`SlowAlarm`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlowState {
    /// Requests above the baseline's median.
    pub p50: AlarmState,
    /// Requests above the baseline's 90th percentile.
    pub p90: AlarmState,
    /// Either alarm.
    pub alarm: bool,
}

impl SlowAlarm {
    /// Starts a watch against the baseline's costs (any unit), at level `alpha` for both percentiles together.
    ///
    /// # Errors
    /// No baseline; NaN or infinities in it; `alpha` outside of (0, 1).
    pub fn new(baseline: &[f64], alpha: f64) -> Result<Self> {
        if baseline.is_empty() {
            return Err(StatsError::Empty { what: "baseline costs" });
        }
        all_finite("baseline costs", baseline)?;
        crate::open_unit("alpha", alpha)?;
        let mut sorted = baseline.to_vec();
        sorted.sort_by(f64::total_cmp);
        let start = |p: f64| -> Result<(f64, SwitchAlarm)> {
            let cost = quantile_of_sorted(&sorted, p);
            let above = sorted.len() - sorted.partition_point(|c| *c <= cost);
            Ok((cost, SwitchAlarm::new(above as u64, sorted.len() as u64, alpha / 2.0)?))
        };
        let (cost_p50, p50) = start(0.5)?;
        let (cost_p90, p90) = start(0.9)?;
        Ok(Self { cost_p50, cost_p90, p50, p90 })
    }

    /// Counts one live request's cost (same unit as the baseline) and looks. NaN counts as slow.
    pub fn observe(&mut self, cost: f64) -> SlowState {
        let above = |limit: f64| cost.is_nan() || cost > limit;
        let p50 = self.p50.observe(above(self.cost_p50));
        let p90 = self.p90.observe(above(self.cost_p90));
        SlowState { p50, p90, alarm: p50.alarm || p90.alarm }
    }

    /// The baseline's 50th and 90th percentile that live requests are held against.
    pub fn limits(&self) -> (f64, f64) {
        (self.cost_p50, self.cost_p90)
    }
}
