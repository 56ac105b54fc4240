//! Rule P: both adapters answer the same recorded prompts before anybody is exposed to the new one.

use crate::Result;

use super::{AlarmState, Ledger, RateMixture};

/// Watches discordant pairs only. Under the null a discordant pair goes against the candidate with probability
/// at most one half; E is the mean over t in {0.6, 0.7, 0.8, 0.9, 0.97} of the likelihood ratio of t
/// against one half. Better candidates only shrink it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayAlarm {
    alternatives: RateMixture,
    ledger: Ledger,
    pairs: u64,
}

impl ReplayAlarm {
    /// Starts a replay at level `alpha`.
    ///
    /// # Errors
    /// `alpha` outside of (0, 1).
    pub fn new(alpha: f64) -> Result<Self> {
        let alternatives = RateMixture::new([0.6, 0.7, 0.8, 0.9, 0.97]);
        Ok(Self { alternatives, ledger: Ledger::new(alpha)?, pairs: 0 })
    }

    /// Counts one prompt answered by both and looks. In the state, `events` are pairs in which only the
    /// candidate failed and `observed` are discordant pairs.
    pub fn observe(&mut self, incumbent_ok: bool, candidate_ok: bool) -> AlarmState {
        self.pairs += 1;
        if incumbent_ok != candidate_ok {
            self.ledger.count(incumbent_ok);
        }
        let ln_e = self.ln_e();
        self.ledger.judge(ln_e)
    }

    /// Prompts replayed so far, concordant ones included.
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    fn ln_e(&self) -> f64 {
        let null = self.ledger.observed as f64 * 0.5_f64.ln();
        self.alternatives.ln_likelihood(self.ledger.events, self.ledger.others()) - null
    }
}
