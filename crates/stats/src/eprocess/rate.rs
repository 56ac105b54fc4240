//! The absolute floor as an alarm with evidence: live failures against a fixed rate.

use crate::{Result, open_unit};

use super::{AlarmState, Ledger, RateMixture, alternative_rates};

/// Watches failures against a rate that is given, not estimated: `ROLLBACK_THRESHOLD_SUCCESS` of 0.85 is a
/// fixed failure rate of 0.15.
///
/// The same alternatives as [`super::SwitchAlarm`] around that one rate. All of them lie above it, so E is a
/// supermartingale for every true rate at or below the fixed one.
#[derive(Debug, Clone, PartialEq)]
pub struct RateAlarm {
    ln_rate: f64,
    ln_other: f64,
    alternatives: RateMixture,
    ledger: Ledger,
}

impl RateAlarm {
    /// Starts a watch against `allowed_fail_rate`, at level `alpha`.
    ///
    /// # Errors
    /// Either outside of (0, 1). A rate of 0 would make one failure infinite evidence.
    pub fn new(allowed_fail_rate: f64, alpha: f64) -> Result<Self> {
        let rate = open_unit("allowed failure rate", allowed_fail_rate)?;
        // Above the cap a multiplied rate would fall below the null; it then stays where the null is.
        let alternatives = RateMixture::new(alternative_rates(rate).into_iter().map(|p| p.max(rate)));
        Ok(Self { ln_rate: rate.ln(), ln_other: (-rate).ln_1p(), alternatives, ledger: Ledger::new(alpha)? })
    }

    /// Counts one live request and looks.
    pub fn observe(&mut self, fail: bool) -> AlarmState {
        self.ledger.count(fail);
        let ln_e = self.ln_e();
        self.ledger.judge(ln_e)
    }

    /// Where the watch stands, without a new observation.
    pub fn state(&self) -> AlarmState {
        self.ledger.state(self.ln_e())
    }

    fn ln_e(&self) -> f64 {
        let (fails, others) = (self.ledger.events, self.ledger.others());
        let null = fails as f64 * self.ln_rate + others as f64 * self.ln_other;
        self.alternatives.ln_likelihood(fails, others) - null
    }
}
