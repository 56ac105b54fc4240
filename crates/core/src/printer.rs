//! The only writer of stdout; human text, hints and progress go to stderr.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// Decides what goes where.
#[derive(Debug, Clone)]
pub struct Printer {
    json: bool,
    quiet: bool,
    bars: bool,
}

impl Printer {
    /// `json`: machine output. `quiet`: no human text. `bars`: progress bars are wanted at all.
    pub fn new(json: bool, quiet: bool, bars: bool) -> Self {
        Self { json, quiet, bars: bars && !quiet && !json && io::stderr().is_terminal() }
    }

    /// True when stdout carries JSON only.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Result text for a person: stdout, or nothing under `--json`.
    pub fn out(&self, text: &str) {
        if !self.json && !text.is_empty() {
            write_stdout(text);
        }
    }

    /// Raw data that the user asked for (an export), whatever the mode.
    pub fn data(&self, text: &str) {
        write_stdout(text);
    }

    /// One JSON object on a line of stdout, under `--json` only.
    pub fn json(&self, value: &Value) {
        if self.json {
            write_stdout(&value.to_string());
        }
    }

    /// News for a person: stderr unless quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Errors: stderr, always.
    pub fn error(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A progress bar on stderr; invisible when there is no terminal.
    pub fn bar(&self, total: u64, what: &str) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {eta} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}

/// Writes and flushes a line; a closed pipe ends the output silently, as in any Unix tool.
fn write_stdout(text: &str) {
    let mut out = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let _ = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(newline.as_bytes()))
        .and_then(|()| out.flush());
}
