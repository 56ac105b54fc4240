//! The absolute ceiling as an alarm with evidence: the mean of live costs against a fixed limit.

use crate::{Result, StatsError};

use super::{AlarmState, Ledger, ln_mean_exp};

/// Shares of the wealth that the bets put at risk.
const BETS: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.8];

/// Watches whether the mean of a quantity that is never negative (a latency) lies above a fixed limit:
/// `ROLLBACK_THRESHOLD_LATENCY`.
///
/// For each bet b in {0.05, 0.1, 0.2, 0.4, 0.8} the wealth is the product of `1 + b (x / limit - 1)`; no factor is
/// negative, and none has an expectation above 1 while the mean is at most the limit, whatever the distribution
/// (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", section 4, with one
/// side open). E is the mean of the five.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanAlarm {
    limit: f64,
    ln_wealth: [f64; BETS.len()],
    ledger: Ledger,
}

impl MeanAlarm {
    /// Starts a watch against `limit` (any unit), at level `alpha`.
    ///
    /// # Errors
    /// A limit that is not above 0 and finite; `alpha` outside of (0, 1).
    pub fn new(limit: f64, alpha: f64) -> Result<Self> {
        if !(limit > 0.0 && limit.is_finite()) {
            return Err(StatsError::Domain { what: "limit", expected: "above 0 and finite", got: limit });
        }
        Ok(Self { limit, ln_wealth: [0.0; BETS.len()], ledger: Ledger::new(alpha)? })
    }

    /// Counts one live request's cost (same unit as the limit) and looks. In the state, `events` are costs above
    /// the limit. What is negative or NaN counts as the limit itself: no evidence either way.
    pub fn observe(&mut self, cost: f64) -> AlarmState {
        let share = if cost >= 0.0 { (cost / self.limit).min(1e9) } else { 1.0 };
        self.ledger.count(share > 1.0);
        for (wealth, bet) in self.ln_wealth.iter_mut().zip(BETS) {
            *wealth += (bet * (share - 1.0)).ln_1p();
        }
        let ln_e = ln_mean_exp(self.ln_wealth.iter().copied());
        self.ledger.judge(ln_e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    /// Share of 500 watches of 200 exponential costs with this mean that ring against a limit of 1.
    fn rings(mean: f64) -> f64 {
        let mut rng = SplitMix64::new(7);
        let ringing = (0..500).filter(|_| {
            let mut alarm = MeanAlarm::new(1.0, 0.02).unwrap();
            (0..200).any(|_| alarm.observe(-mean * (1.0 - rng.uniform()).ln()).alarm)
        });
        ringing.count() as f64 / 500.0
    }

    #[test]
    fn it_rings_for_slow_ones_only() {
        assert!(rings(1.0) <= 0.03, "{}", rings(1.0));
        assert!(rings(0.8) == 0.0);
        assert!(rings(2.0) >= 0.99, "{}", rings(2.0));
    }

    #[test]
    fn nonsense_is_no_evidence() {
        let mut alarm = MeanAlarm::new(1000.0, 0.02).unwrap();
        for cost in [f64::NAN, -5.0, 1000.0] {
            assert!((alarm.observe(cost).e_value - 1.0).abs() < 1e-12);
        }
        assert!(alarm.observe(f64::INFINITY).alarm);
        assert!(MeanAlarm::new(0.0, 0.02).is_err() && MeanAlarm::new(f64::NAN, 0.02).is_err());
    }
}
