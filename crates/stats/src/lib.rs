//! Pure mathematics for Nightshift: no I/O, no clock, no hidden randomness.
//!
//! Every function takes numbers and gives numbers; where draws are needed the caller passes a seed and
//! the same seed gives the same bits on every machine. Sources stand beside each formula.
//!
//! | module | job |
//! |---|---|
//! | [`interval`] | confidence intervals of one proportion (Wilson, Clopper-Pearson) |
//! | [`paired`] | exact paired tests (McNemar) and the deployment gate built on them |
//! | [`eprocess`] | alarms that may be looked at after every observation |
//! | [`calibrate`] | scores to probabilities, and how good the probabilities are |
//! | [`count`] | exact Poisson and Fisher tests |
//! | [`rank`] | Mann-Whitney and Kolmogorov-Smirnov on ordered classes |
//! | [`multiple`] | false discovery rate over many tests |
//! | [`change`] | change points (FPOP) |
//! | [`trend`] | Theil-Sen slope, Mann-Kendall test with autocorrelation |
//! | [`describe`] | mean, variance, quantiles, bootstrap |
//! | [`forecast`] | ARIMA by exact likelihood, exponential smoothing, short series |
//! | [`rng`] | the small seeded generator that the above draw from |
//! | [`stratified`] | two sides compared hour for hour: rates and scores, with overdispersion |
//! | [`special`] | normal, gamma and beta functions underneath |
//!
//! Bandits belong beside these as a module of their own.

pub mod calibrate;
pub mod change;
pub mod count;
pub mod describe;
pub mod eprocess;
pub mod forecast;
pub mod interval;
pub mod multiple;
pub mod paired;
pub mod rank;
pub mod rng;
pub mod special;
pub mod stratified;
pub mod trend;

/// Why a number could not be computed. Nothing in this crate panics on bad input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// An argument lies outside of where the formula is defined.
    #[error("{what} must be {expected}, got {got}")]
    Domain {
        /// The argument's name.
        what: &'static str,
        /// The condition it has to meet.
        expected: &'static str,
        /// What was passed.
        got: f64,
    },
    /// There was nothing to compute from.
    #[error("{what} is empty: at least one value is needed")]
    Empty {
        /// The argument's name.
        what: &'static str,
    },
    /// Two arguments that belong together have different lengths.
    #[error("{what}: lengths differ ({left} and {right})")]
    Length {
        /// The two arguments.
        what: &'static str,
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// Labels of one class only: no curve and no ranking can be learned or judged from them.
    #[error("all {count} labels are {label}: both classes are needed")]
    OneClass {
        /// How many labels there were.
        count: usize,
        /// The only class seen.
        label: bool,
    },
    /// An iteration did not settle.
    #[error(
        "logistic regression did not settle in {steps} steps: the classes may be separable, use an l2 above 0"
    )]
    NotSettled {
        /// Newton steps taken.
        steps: usize,
    },
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, StatsError>;

/// Refuses a value outside of the open interval (0, 1), NaN included.
fn open_unit(what: &'static str, x: f64) -> Result<f64> {
    if x > 0.0 && x < 1.0 {
        Ok(x)
    } else {
        Err(StatsError::Domain { what, expected: "strictly between 0 and 1", got: x })
    }
}

/// Refuses a value outside of the closed interval [0, 1], NaN included.
fn closed_unit(what: &'static str, x: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&x) {
        Ok(x)
    } else {
        Err(StatsError::Domain { what, expected: "between 0 and 1", got: x })
    }
}

/// Refuses NaN and infinities anywhere in a slice.
fn all_finite(what: &'static str, xs: &[f64]) -> Result<()> {
    match xs.iter().find(|x| !x.is_finite()) {
        Some(&got) => Err(StatsError::Domain { what, expected: "finite", got }),
        None => Ok(()),
    }
}
