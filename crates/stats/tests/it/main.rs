//! Golden numbers from SciPy, statsmodels and scikit-learn (fixtures/stats/make.py), properties, simulations.

mod alarms;
mod calibration;
mod describing;
mod forecasts;
mod golden;
mod intervals;
mod pairs;
mod samples;
mod specials;
mod strata;
