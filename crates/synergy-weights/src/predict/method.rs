//! Which method forecasts: the flag, else the environment, else the input's default.
//!
//! The documents ask for ARIMA with `SANDBOX_SYNERGY_MODEL=arima` "when enough history is available", the program they
//! describe reads that only under `SYNERGY_FORECAST_METHOD=arima` and from 11 values on. Both are honoured: either
//! variable asks for ARIMA, an explicit `SYNERGY_FORECAST_METHOD` of something else wins, and below 11 values an
//! ARIMA that the environment asked for gives way to the fitted average.

use clap::ValueEnum;
use nightshift_core::Failure;
use nightshift_core::env::{Env, SANDBOX_SYNERGY_MODEL, SYNERGY_FORECAST_METHOD};
use nightshift_stats::forecast::Method;

/// Values from which the environment's ARIMA is used.
const ENOUGH: usize = 11;

/// A method by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Named {
    /// ARIMA, order chosen by AICc; simple models for short series
    Arima,
    /// Exponential average, alpha fitted
    Ema,
    /// Exponential average of the documents: alpha 0.3, last five values
    #[value(alias = "legacy_ema")]
    Legacy,
    /// The last value
    Naive,
}

impl Named {
    fn method(self) -> Method {
        match self {
            Self::Arima => Method::Arima,
            Self::Ema => Method::Ema,
            Self::Legacy => Method::LegacyEma,
            Self::Naive => Method::Naive,
        }
    }
}

/// Decides for a series of so many observed values; `default` is for when nobody asked for anything.
pub(crate) fn choose(
    flag: Option<Named>,
    env: &Env,
    default: Method,
    observed: usize,
) -> Result<Method, Failure> {
    if let Some(named) = flag {
        return Ok(named.method());
    }
    let asked = match (env.get(SYNERGY_FORECAST_METHOD), env.get(SANDBOX_SYNERGY_MODEL)) {
        (Some(name), _) => Some(Named::from_str(name, true).map_err(|_| {
            Failure::config(format!(
                "{SYNERGY_FORECAST_METHOD}: `{name}` is none of arima, ema, legacy, naive"
            ))
        })?),
        // The documents' lstm falls back to ARIMA where its library is missing.
        (None, Some("arima" | "lstm")) => Some(Named::Arima),
        (None, Some(name)) => {
            return Err(Failure::config(format!("{SANDBOX_SYNERGY_MODEL}: `{name}` is not arima")));
        }
        (None, None) => None,
    };
    Ok(match asked {
        Some(Named::Arima) if observed < ENOUGH => Method::Ema,
        Some(named) => named.method(),
        None => default,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(pairs: &[(&str, &str)], observed: usize) -> Method {
        let env = Env::from_pairs(pairs.iter().copied());
        choose(None, &env, Method::Ema, observed).unwrap()
    }

    #[test]
    fn either_variable_asks_for_arima_and_an_explicit_method_wins() {
        assert_eq!(chosen(&[], 50), Method::Ema);
        assert_eq!(chosen(&[("SANDBOX_SYNERGY_MODEL", "arima")], 50), Method::Arima);
        assert_eq!(chosen(&[("SANDBOX_SYNERGY_MODEL", "lstm")], 50), Method::Arima);
        assert_eq!(chosen(&[("SYNERGY_FORECAST_METHOD", "arima")], 50), Method::Arima);
        let both = [("SANDBOX_SYNERGY_MODEL", "arima"), ("SYNERGY_FORECAST_METHOD", "ema")];
        assert_eq!(chosen(&both, 50), Method::Ema);
        assert_eq!(chosen(&[("SYNERGY_FORECAST_METHOD", "legacy_ema")], 50), Method::LegacyEma);
    }

    #[test]
    fn ten_values_are_not_enough_history_for_the_environment() {
        let arima = [("SANDBOX_SYNERGY_MODEL", "arima")];
        assert_eq!((chosen(&arima, 10), chosen(&arima, 11)), (Method::Ema, Method::Arima));
        let env = Env::from_pairs(arima);
        assert_eq!(choose(Some(Named::Arima), &env, Method::Ema, 3).unwrap(), Method::Arima, "the flag");
        assert_eq!(choose(None, &Env::default(), Method::Arima, 3).unwrap(), Method::Arima, "a series");
    }

    #[test]
    fn unknown_names_are_configuration_errors() {
        for name in ["SYNERGY_FORECAST_METHOD", "SANDBOX_SYNERGY_MODEL"] {
            let env = Env::from_pairs([(name, "prophet")]);
            let failure = choose(None, &env, Method::Ema, 50).unwrap_err();
            assert_eq!(failure.exit(), nightshift_core::Exit::Config);
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
