//! Ours and anofox-forecast on the series of forecast_series.py: `peer SERIES.json OURS.jsonl ANOFOX.jsonl`, one JSON
//! line a forecast. anofox takes no missing values: they are filled by interpolation. scripts/bench-forecast builds
//! this as a throw-away project.

use std::io::Write;
use std::time::Instant;

use anofox_forecast::core::TimeSeries;
use anofox_forecast::models::Forecaster;
use anofox_forecast::models::arima::{AutoARIMA, AutoARIMAConfig};
use nightshift_stats::forecast::{Method, forecast};
use serde_json::{Value, json};

type Ahead = Result<[f64; 3], String>;

fn ours(y: &[f64]) -> Ahead {
    let made = forecast(y, Method::Arima, 1, 0.95).map_err(|error| error.to_string())?;
    Ok([made.mean[0], made.lower[0], made.upper[0]])
}

fn anofox(y: &[f64]) -> Ahead {
    let mut filled = y.to_vec();
    let seen: Vec<usize> = (0..y.len()).filter(|&t| !y[t].is_nan()).collect();
    for t in 0..y.len() {
        if y[t].is_nan() {
            let before = seen.iter().rev().find(|&&s| s < t).or(seen.first()).copied().ok_or("empty")?;
            let after = seen.iter().find(|&&s| s > t).copied().unwrap_or(before);
            let part = if after > before { (t - before) as f64 / (after - before) as f64 } else { 0.0 };
            filled[t] = y[before] + part * (y[after] - y[before]);
        }
    }
    let start = chrono::DateTime::<chrono::Utc>::UNIX_EPOCH;
    let times = (0..filled.len() as i64).map(|t| start + chrono::Duration::days(t)).collect();
    let series = TimeSeries::univariate(times, filled).map_err(|error| error.to_string())?;
    let mut model = AutoARIMA::with_config(AutoARIMAConfig::default().with_max_orders(2, 1, 2));
    model.fit(&series).map_err(|error| error.to_string())?;
    let made = model.predict_with_intervals(1, 0.95).map_err(|error| error.to_string())?;
    let first = |values: Option<&[f64]>| values.and_then(|v| v.first().copied()).ok_or("no interval".to_string());
    let low = made.lower_series(0).map_err(|error| error.to_string())?;
    let high = made.upper_series(0).map_err(|error| error.to_string())?;
    Ok([first(Some(made.primary()))?, first(Some(low))?, first(Some(high))?])
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let all: Value = serde_json::from_str(&std::fs::read_to_string(&arguments[1]).unwrap()).unwrap();
    let peers: [(fn(&[f64]) -> Ahead, &String); 2] = [(ours, &arguments[2]), (anofox, &arguments[3])];
    for (ahead, file) in peers {
        let mut out = std::io::BufWriter::new(std::fs::File::create(file).unwrap());
        for series in all.as_array().unwrap() {
            let values: Vec<f64> =
                series["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
            for origin in series["origins"].as_array().unwrap() {
                let y = &values[..origin.as_u64().unwrap() as usize];
                let started = Instant::now();
                let made = ahead(y);
                let ms = 1e3 * started.elapsed().as_secs_f64();
                let mut row = json!({"name": series["name"], "origin": origin});
                match made {
                    Ok([mean, low, high]) if [mean, low, high].iter().all(|x| x.is_finite()) => {
                        row["mean"] = mean.into();
                        row["low"] = low.into();
                        row["high"] = high.into();
                        row["ms"] = ms.into();
                    }
                    Ok(_) => row["error"] = "not finite".into(),
                    Err(error) => row["error"] = error.into(),
                }
                writeln!(out, "{row}").unwrap();
            }
        }
    }
}
