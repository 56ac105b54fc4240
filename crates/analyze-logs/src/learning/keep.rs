//! Retention: what nobody saw for long leaves the store.

use nightshift_core::Failure;
use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::rusqlite::{Transaction, params};
use serde::Serialize;

/// Improvements that are over; every other status may still be judged, taken back or approved.
const CLOSED: &str = "('failed', 'rolled_back', 'reverted', 'rejected', 'refused', 'not_applicable')";

/// Rows that left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Findings that were not found again.
    pub patterns: usize,
    /// Proposals that were not made again.
    pub recommendations: usize,
    /// Metrics of times past.
    pub metrics: usize,
    /// Correlations that were not found again.
    pub correlations: usize,
    /// Improvements that are over.
    pub improvements: usize,
}

/// Drops what is older than `keep_days`; 0 keeps everything. An improvement that is not over stays however old it is,
/// and so do rows whose time cannot be read.
pub fn prune(tx: &Transaction<'_>, now: Timestamp, keep_days: u32) -> Result<Dropped, Failure> {
    if keep_days == 0 {
        return Ok(Dropped::default());
    }
    let Ok(limit) = now.checked_sub((24 * i64::from(keep_days)).hours()) else {
        return Ok(Dropped::default());
    };
    let limit = rfc3339(limit);
    let drop = |table: &str, time: &str, which: &str| -> Result<usize, Failure> {
        let sql = format!("DELETE FROM {table} WHERE julianday({time}) < julianday(?1){which}");
        Ok(tx.execute(&sql, params![limit])?)
    };
    Ok(Dropped {
        patterns: drop("patterns_detected", "coalesce(updated_at, created_at, last_seen)", "")?,
        recommendations: drop("recommendations", "updated_at", "")?,
        metrics: drop("success_metrics", "period_end", "")?,
        correlations: drop("correlations", "coalesce(updated_at, created_at)", "")?,
        improvements: drop(
            "improvements_applied",
            "coalesce(rolled_back_at, updated_at, applied_at, created_at)",
            &format!(" AND status IN {CLOSED}"),
        )?,
    })
}
