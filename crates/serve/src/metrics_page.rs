//! The counters of this process in the Prometheus text format, version 0.0.4.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use nightshift_core::metrics::{family, label};
use nightshift_core::process::peak_rss_bytes;

use crate::app::App;
use crate::meters::{BUCKETS, Histogram};

/// Every family of this process.
pub(crate) fn render(app: &App) -> String {
    let mut page = requests(app);
    page.push_str(&adapters(app));
    page.push_str(&recording(app));
    page.push_str(&gauge(
        "nightshift_peak_rss_bytes",
        "Largest resident memory so far.",
        peak_rss_bytes() as f64,
    ));
    page
}

fn requests(app: &App) -> String {
    let meters = &app.shared.meters;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let (ok, failed) = (read(&meters.ok), read(&meters.failed));
    let (durations, first_tokens) = meters.durations();
    let mut page = counter(
        "autogen_requests_total",
        "Requests that a model answered or failed to answer; refused, invalid and cancelled ones are not in it.",
        ok + failed,
    );
    page += &counter("autogen_requests_success_total", "Requests answered without failure.", ok);
    page += &gauge(
        "autogen_latency_ms_avg",
        "Mean time from request to whole answer since the start, milliseconds.",
        meters.mean_seconds() * 1000.0,
    );
    page += &gauge("autogen_uptime_seconds", "Seconds since ready.", app.ready_since.elapsed().as_secs_f64());
    let outcome = |name: &str, value: f64| (label("outcome", name), value);
    page += &family(
        "nightshift_requests_total",
        "counter",
        "Generation requests by outcome.",
        &[
            outcome("ok", ok),
            outcome("failed", failed),
            outcome("cancelled", read(&meters.cancelled)),
            outcome("queue_full", read(&meters.refused)),
            outcome("invalid", read(&meters.invalid)),
        ],
    );
    page += &family(
        "nightshift_tokens_total",
        "counter",
        "Tokens read and written.",
        &[
            (label("direction", "prompt"), read(&meters.prompt_tokens)),
            (label("direction", "completion"), read(&meters.completion_tokens)),
        ],
    );
    let help = "Time from request to whole answer.";
    page += &histogram("nightshift_request_duration_seconds", help, &durations);
    page += &histogram("nightshift_first_token_seconds", "Time from request to first token.", &first_tokens);
    page +=
        &gauge("nightshift_requests_running", "Requests that workers are at.", app.engine.running() as f64);
    page += &gauge("nightshift_requests_waiting", "Requests in the queue.", app.engine.waiting() as f64);
    page
}

fn adapters(app: &App) -> String {
    let adapters = &app.shared.adapters;
    let (live, times) = (adapters.live(), adapters.times());
    let names = [
        label("target", &app.target),
        label("adapter", live.adapter_id().unwrap_or("none")),
        label("base", &app.shared.base.fingerprint),
    ];
    let mut page =
        family("nightshift_serving_info", "gauge", "What answers now; always 1.", &[(names.join(","), 1.0)]);
    page +=
        &gauge("nightshift_serving_generation", "Pointer generation that answers.", live.generation as f64);
    page += &gauge("nightshift_adapters_loaded", "Adapters in memory.", adapters.list().len() as f64);
    page += &counter("nightshift_adapter_switches_total", "Switches since the start.", times.switches as f64);
    page += &gauge(
        "nightshift_adapter_switch_seconds",
        "Newest switch: from seeing the pointer move to answering with its adapter, a load included.",
        times.switch_s.unwrap_or(0.0),
    );
    page += &gauge(
        "nightshift_adapter_slowest_switch_seconds",
        "Slowest switch since the start.",
        times.slowest_switch_s,
    );
    page +=
        &gauge("nightshift_adapter_load_seconds", "Newest load of an adapter.", times.load_s.unwrap_or(0.0));
    let trouble = if adapters.trouble().is_some() { 1.0 } else { 0.0 };
    page += &gauge("nightshift_adapter_trouble", "1 while the pointer's adapter cannot be served.", trouble);
    page
}

fn recording(app: &App) -> String {
    let Some(recorder) = &app.shared.recorder else { return String::new() };
    let mut page = counter(
        "nightshift_captured_total",
        "Exchanges on file since the start.",
        recorder.recorded() as f64,
    );
    page +=
        &gauge("nightshift_capture_backlog", "Exchanges that wait for the file.", recorder.backlog() as f64);
    page
}

fn counter(name: &str, help: &str, value: f64) -> String {
    family(name, "counter", help, &[(String::new(), value)])
}

/// A family of one gauge without labels.
pub(crate) fn gauge(name: &str, help: &str, value: f64) -> String {
    family(name, "gauge", help, &[(String::new(), value)])
}

fn histogram(name: &str, help: &str, histogram: &Histogram) -> String {
    let mut text = family(name, "histogram", help, &[]);
    let mut below = 0;
    for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", histogram.count);
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {}", histogram.sum_s, histogram.count);
    text
}
