//! Rule S for servers that hold one adapter at a time: live outcomes against the incumbent's history.

use crate::special::{beta_quantile, ln_beta};
use crate::{Result, StatsError};

use super::{AlarmState, Ledger, RateMixture, alternative_rates};

/// Points of the quadrature over the history's Beta distribution.
const POINTS: u32 = 33;

/// Watches failures of a new adapter against the failures of the one before.
///
/// The history of n requests with k failures makes the failure rate Beta(k + 1/2, n - k + 1/2) (Jeffreys'
/// prior), so the null marginal of the live sequence is Beta-binomial, in closed form. The alternatives are the
/// same distribution with the rate multiplied by 1.5, 2, 3, 5 and 10 (at most 0.985) and with the rate halfway to
/// 1, each integrated at the 33 equal-probability midpoints of the Beta distribution; E is the mean of the six
/// marginals over the null marginal. Every marginal is a probability, so E has mean 1 when the live rate
/// is drawn from the history's Beta distribution; with a finite history the promise is therefore on average
/// over histories, not for each one.
///
/// What history there is decides what can be seen:
/// - no history at all (n = 0): the null is the prior alone, under which any rate is plausible. The alarm
///   then practically never rings; use a [`super::RateAlarm`] beside it.
/// - a history of n requests without a failure: the null rate is about 1/(2n). With n = 200 and alpha = 0.03 a failure of
///   the very first request rings, one among the first thirty does not.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchAlarm {
    /// Parameters of the null's Beta distribution.
    a: f64,
    b: f64,
    ln_norm: f64,
    alternatives: RateMixture,
    ledger: Ledger,
}

impl SwitchAlarm {
    /// Starts a watch against `history_fails` of `history_n` requests, at level `alpha`.
    ///
    /// # Errors
    /// More failures than requests; `alpha` outside of (0, 1).
    pub fn new(history_fails: u64, history_n: u64, alpha: f64) -> Result<Self> {
        if history_fails > history_n {
            return Err(StatsError::Domain {
                what: "failures of the history",
                expected: "at most its number of requests",
                got: history_fails as f64,
            });
        }
        let ledger = Ledger::new(alpha)?;
        let a = history_fails as f64 + 0.5;
        let b = (history_n - history_fails) as f64 + 0.5;
        let mut rates = Vec::with_capacity(6 * POINTS as usize);
        for i in 0..POINTS {
            let null_rate = beta_quantile(a, b, (f64::from(i) + 0.5) / f64::from(POINTS))?;
            rates.extend(alternative_rates(null_rate));
        }
        Ok(Self { a, b, ln_norm: ln_beta(a, b), alternatives: RateMixture::new(rates), ledger })
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
        let null = ln_beta(self.a + fails as f64, self.b + others as f64) - self.ln_norm;
        self.alternatives.ln_likelihood(fails, others) - null
    }
}
