//! Alarms that may be looked at after every observation.
//!
//! An e-process E starts at 1 and, while the null hypothesis holds, has an expectation of at most 1 at every
//! stopping time; Ville's inequality then bounds the probability of ever seeing E >= 1/alpha by alpha. So the
//! watch may stop the moment the evidence suffices, without the false alarms that repeated looks at a fixed
//! test bring (Ramdas, Grunwald, Vovk and Shafer 2023, "Game-theoretic statistics and safe anytime-valid
//! inference"). An alarm once raised stays raised.
//!
//! | alarm | null hypothesis |
//! |---|---|
//! | [`SwitchAlarm`] | the new adapter fails no more often than the history says |
//! | [`RateAlarm`] | it fails no more often than a fixed rate |
//! | [`MeanAlarm`] | its mean cost is at most a fixed limit |
//! | [`SlowAlarm`] | it is above the baseline's 50th and 90th cost percentile no more often than the baseline |
//! | [`ReplayAlarm`] | on the same prompts it is worse no more often than better |

mod mean;
mod rate;
mod replay;
mod slow;
mod switch;

pub use mean::MeanAlarm;
pub use rate::RateAlarm;
pub use replay::ReplayAlarm;
pub use slow::{SlowAlarm, SlowState};
pub use switch::SwitchAlarm;

use serde::{Deserialize, Serialize};

/// Where an alarm stands after an observation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AlarmState {
    /// Evidence against the null now: 1 is none, `1/alpha` raises the alarm. Capped at 1e300.
    pub e_value: f64,
    /// Whether the alarm has been raised, now or at any earlier observation.
    pub alarm: bool,
    /// Observations so far.
    pub observed: u64,
    /// How many of them were the event watched for.
    pub events: u64,
}

/// Risk ratios of the alternatives (serving rule S).
const RISK_RATIOS: [f64; 5] = [1.5, 2.0, 3.0, 5.0, 10.0];

/// Alternatives never put the event rate above this.
const RATE_CAP: f64 = 0.985;

/// Largest e-value reported: finite, so that it survives JSON.
const E_CAP: f64 = 1e300;

/// Event rates that the alternatives give to a null rate: each risk ratio, then halfway to certainty.
fn alternative_rates(null_rate: f64) -> [f64; RISK_RATIOS.len() + 1] {
    let mut rates = [0.0; RISK_RATIOS.len() + 1];
    for (slot, ratio) in rates.iter_mut().zip(RISK_RATIOS) {
        *slot = (ratio * null_rate).min(RATE_CAP);
    }
    rates[RISK_RATIOS.len()] = f64::midpoint(null_rate, 1.0);
    rates
}

/// A mixture of Bernoulli rates with equal weights: the marginal likelihood of the alternatives.
#[derive(Debug, Clone, PartialEq)]
struct RateMixture {
    /// (ln p, ln(1 - p)) of each component.
    log_rates: Vec<(f64, f64)>,
}

impl RateMixture {
    fn new(rates: impl IntoIterator<Item = f64>) -> Self {
        let log_rates = rates
            .into_iter()
            .map(|p| {
                let p = p.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON);
                (p.ln(), (-p).ln_1p())
            })
            .collect();
        Self { log_rates }
    }

    /// ln of the mean likelihood of a sequence with these counts. The order does not matter.
    fn ln_likelihood(&self, events: u64, others: u64) -> f64 {
        let (events, others) = (events as f64, others as f64);
        ln_mean_exp(self.log_rates.iter().map(|(p, q)| events * p + others * q))
    }
}

/// ln of the arithmetic mean of exp(x), without overflow.
fn ln_mean_exp(xs: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = xs.clone().fold(f64::NEG_INFINITY, f64::max);
    let (sum, count) = xs.fold((0.0, 0_u32), |(sum, count), x| (sum + (x - top).exp(), count + 1));
    top + (sum / f64::from(count)).ln()
}

/// Counts, threshold and latch that every alarm keeps.
#[derive(Debug, Clone, PartialEq)]
struct Ledger {
    threshold: f64,
    events: u64,
    observed: u64,
    alarm: bool,
}

impl Ledger {
    fn new(alpha: f64) -> crate::Result<Self> {
        let alpha = crate::open_unit("alpha", alpha)?;
        Ok(Self { threshold: 1.0 / alpha, events: 0, observed: 0, alarm: false })
    }

    fn count(&mut self, event: bool) {
        self.observed += 1;
        self.events += u64::from(event);
    }

    fn others(&self) -> u64 {
        self.observed - self.events
    }

    /// Latches the alarm on new evidence.
    fn judge(&mut self, ln_e: f64) -> AlarmState {
        let state = self.state(ln_e);
        self.alarm = state.alarm;
        state
    }

    fn state(&self, ln_e: f64) -> AlarmState {
        let e_value = ln_e.exp().min(E_CAP);
        AlarmState {
            e_value,
            alarm: self.alarm || e_value >= self.threshold,
            observed: self.observed,
            events: self.events,
        }
    }
}
