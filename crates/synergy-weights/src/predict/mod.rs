//! `predict`: forecasts of one series, or of the metrics of a history, with intervals and a picture.
//!
//! Reads what it is told and writes nothing but the picture. Bad lines are named, exit 4; no value at all is exit 3.

mod chart;
mod history;
mod input;
mod method;
mod report;

use std::path::PathBuf;

use clap::Args;
use nightshift_core::{Ctx, Failure, OrFail, Outcome, files};
use nightshift_stats::forecast::{Arima, Forecast, Method, forecast, forecast_known};

use crate::raster;
use chart::{Chart, Panel};
use input::{Order, Series};
use method::Named;
use report::Report;

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The series: one value per line, the oldest first; an empty line is a missing value
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["history", "metric", "scope"])]
    series: Option<PathBuf>,
    /// A synergy history (.db or .json) [default: the configured one]
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Metric of the history (`roi` and `synergy_roi` are the same), or all
    #[arg(long, value_name = "NAME", default_value = "all")]
    metric: String,
    /// Rows of the history: all, or one source's
    #[arg(long, value_name = "SOURCE", default_value = "all")]
    scope: String,
    /// Values to forecast
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    horizon: u16,
    /// How [default: what the environment says (see docs/forecast.md), else arima for --series and ema for a history]
    #[arg(long, value_name = "METHOD", conflicts_with = "order")]
    method: Option<Named>,
    /// Fit this ARIMA order instead of choosing one
    #[arg(long, value_name = "P,D,Q")]
    order: Option<Order>,
    /// Estimate a drift as well (--order with d = 1)
    #[arg(long, requires = "order", conflicts_with = "params")]
    drift: bool,
    /// Known parameters {const, ar, ma, sigma2}: evaluate them, fit nothing
    #[arg(long, value_name = "FILE.json", requires = "order")]
    params: Option<PathBuf>,
    /// What share of the values to come the interval shall cover
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = share)]
    level: f64,
    /// Draw history, forecast and interval: in the terminal, and as .svg beside the input
    #[arg(long)]
    plot: bool,
    /// Where the picture goes (.svg or .png)
    #[arg(long, value_name = "FILE")]
    plot_out: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(level) if level > 0.0 && level < 1.0 => Ok(level),
        _ => Err("a number between 0 and 1, for example 0.95".into()),
    }
}

/// How the numbers are made.
enum How {
    Fitted(Method),
    Known(Arima),
}

/// Forecasts.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    if let Some(out) = &arguments.plot_out {
        raster::check(out)?;
    }
    let (name, all) = gather(ctx, &arguments)?;
    let known = arguments.params.as_deref().map(|file| input::params(file, arguments.order)).transpose()?;
    let mut reports = Vec::new();
    let mut panels = Vec::new();
    for series in all {
        let how = match &known {
            Some(model) => How::Known(model.clone()),
            None => How::Fitted(method_for(ctx, &arguments, &series)?),
        };
        let started = ctx.clock.elapsed();
        let made = forecasted(&arguments, &series, &how)?;
        let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
        let report = Report::new(&series, &made, arguments.level, seconds);
        panels.push(Panel::new(&series, &made, report.title(), arguments.level));
        reports.push(report);
    }
    let drawn = draw(&arguments, &name, panels, ctx)?;
    let single = arguments.series.is_some() || arguments.metric != "all";
    Ok(report::outcome(reports, arguments.plot, drawn, single))
}

/// The input's file and its series.
fn gather(ctx: &Ctx, arguments: &Arguments) -> Result<(PathBuf, Vec<Series>), Failure> {
    match &arguments.series {
        Some(file) => Ok((file.clone(), vec![input::series(file, ctx)?])),
        None => history::series(ctx, arguments.history.as_deref(), &arguments.metric, &arguments.scope),
    }
}

fn method_for(ctx: &Ctx, arguments: &Arguments, series: &Series) -> Result<Method, Failure> {
    if let Some(Order([p, d, q])) = arguments.order {
        return Ok(Method::Order { p, d, q, drift: arguments.drift });
    }
    let default = if arguments.series.is_some() { Method::Arima } else { Method::Ema };
    method::choose(arguments.method, &ctx.env, default, series.observed())
}

fn forecasted(arguments: &Arguments, series: &Series, how: &How) -> Result<Forecast, Failure> {
    let horizon = usize::from(arguments.horizon);
    if series.observed() == 0 {
        return Err(Failure::nothing(format!("{} has no value to forecast from", series.name))
            .hint("give at least one number; with two or more there is an interval, too"));
    }
    let made = match how {
        How::Fitted(method) => forecast(&series.values, *method, horizon, arguments.level),
        How::Known(model) => forecast_known(model, &series.values, horizon, arguments.level),
    };
    made.or_exit(nightshift_core::Exit::Refused, || format!("{} cannot be forecast", series.name))
}

/// Writes the picture where one is wanted; says where.
fn draw(
    arguments: &Arguments,
    input: &std::path::Path,
    panels: Vec<Panel>,
    ctx: &Ctx,
) -> Result<Option<PathBuf>, Failure> {
    let target = match (&arguments.plot_out, arguments.plot) {
        (Some(out), _) => out.clone(),
        (None, true) => input.with_extension("forecast.svg"),
        (None, false) => return Ok(None),
    };
    let svg = Chart { title: format!("Forecast of {}", input.display()), panels }.svg();
    if ctx.dry_run {
        return Ok(None);
    }
    files::write_atomic(&target, &raster::bytes(&target, &svg)?)?;
    Ok(Some(target))
}
