//! Reports of an analysis: Markdown, CSV, and HTML with charts in one file.

mod advice;
mod escape;
mod html;
mod markdown;
mod spread;
mod view;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use nightshift_core::Failure;

pub(crate) use escape::plain;

use crate::report::AnalyzeReport;
use crate::tally::Findings;
use view::View;

/// The form of a report on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a terminal
    Text,
    /// Markdown
    Md,
    /// The findings as CSV
    Csv,
    /// The operations as CSV
    CsvOperations,
    /// A page with charts, whole in itself
    Html,
}

/// The form that a file's name asks for.
pub(crate) fn format_of(path: &Path) -> Result<Format, Failure> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_lowercase().as_str() {
        "md" | "markdown" => Ok(Format::Md),
        "csv" => Ok(Format::Csv),
        "html" | "htm" => Ok(Format::Html),
        "txt" => Ok(Format::Text),
        _ => Err(Failure::usage(format!("{}: no report is written in this form", path.display()))
            .hint("name the file .html, .md, .csv or .txt")),
    }
}

/// The report in this form.
pub(crate) fn render(format: Format, report: &AnalyzeReport, findings: &Findings) -> Result<String, Failure> {
    match format {
        Format::Text => Ok(plain(&(report.text() + &advice::text(&report.recommendations)))),
        Format::Md => Ok(markdown::page(report, &View::of(report, findings))),
        Format::Csv => spread::patterns(report),
        Format::CsvOperations => spread::operations(report),
        Format::Html => Ok(html::page(report, &View::of(report, findings))),
    }
}

/// The files of a report and their forms: beside the findings of `NAME.csv` the operations go to
/// `NAME.operations.csv`.
pub(crate) fn parts(path: &Path) -> Result<Vec<(PathBuf, Format)>, Failure> {
    let format = format_of(path)?;
    let mut parts = vec![(path.to_owned(), format)];
    if format == Format::Csv {
        parts.push((path.with_extension("operations.csv"), Format::CsvOperations));
    }
    Ok(parts)
}
