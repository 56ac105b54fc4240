//! Numbers as a person reads them.

/// Seconds with a unit that suits them.
pub(super) fn seconds(s: f64) -> String {
    let size = s.abs();
    match size {
        _ if size < 0.9995 => format!("{:.0} ms", s * 1000.0),
        _ if size < 120.0 => format!("{} s", short(s)),
        _ if size < 7200.0 => format!("{} min", short(s / 60.0)),
        _ => format!("{} h", short(s / 3600.0)),
    }
}

/// US dollars.
pub(super) fn usd(usd: f64) -> String {
    if usd.abs() < 0.995 { format!("{usd:.4} USD") } else { format!("{usd:.2} USD") }
}

/// A share as per cent.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", short(100.0 * share))
}

/// About three digits.
pub(super) fn short(x: f64) -> String {
    let size = x.abs();
    let digits = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The name of an operation without its kind.
pub(super) fn bare(operation: &str) -> &str {
    operation.split_once(':').map_or(operation, |(_, name)| name)
}
