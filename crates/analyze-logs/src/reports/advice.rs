//! Recommendations for a terminal.

use std::fmt::Write;

use super::html::saving;
use crate::recommendation::Recommendation;

/// Recommendations that are shown.
const MOST: usize = 10;

/// The foremost with their reasons; nothing when there are none.
pub(super) fn text(recommendations: &[Recommendation]) -> String {
    if recommendations.is_empty() {
        return String::new();
    }
    let mut text = format!("\nwhat to do ({}, the most worthwhile first)\n", recommendations.len());
    for one in recommendations.iter().take(MOST) {
        let saved = saving(&one.saving);
        let saved = if saved.is_empty() { saved } else { format!("; {saved}") };
        let priority = format!("{:?}", one.priority).to_uppercase();
        let _ = writeln!(text, "{priority:8} {}", one.title);
        let _ = writeln!(text, "         {}", one.description);
        let _ = writeln!(text, "         {} {}, confidence {:.2}{saved}", one.action, one.id, one.confidence);
    }
    if recommendations.len() > MOST {
        let _ = writeln!(text, "         and {} more: --json has them all", recommendations.len() - MOST);
    }
    text
}
