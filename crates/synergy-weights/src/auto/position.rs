//! How far a history was counted, so that each row counts once whatever happens to the file.
//!
//! `last_ts.json` is `{"last_id": N}`, as other programs keep it. Beside it `last_ts.json.trainer` remembers
//! digests of rows that were counted: a database that was restored from a backup is recognised even when it has
//! grown beyond N again. Then counting goes on behind the newest row that is still the same. A `last_id` that
//! this program did not write is obeyed: that is how one starts over.

use std::path::{Path, PathBuf};

use nightshift_core::commit::with_suffix;
use nightshift_core::random::sha256_hex;
use nightshift_core::synergy::history::{History, HistoryError, Row, Scope};
use nightshift_core::synergy::parse;
use nightshift_core::{Failure, files};
use serde::{Deserialize, Serialize};

/// Rows remembered one by one; of older ones every 64th, and so on, each level as long as the first.
const KEEP: usize = 64;

/// What `last_ts.json` says; 0 when there is none or it cannot be read.
pub(super) fn last_id(path: &Path) -> i64 {
    let text = files::read_text_if_any(path).ok().flatten().unwrap_or_default();
    parse(&text).ok().and_then(|value| value.get("last_id")?.as_f64()).map_or(0, |id| id.max(0.0) as i64)
}

/// The text of `last_ts.json`.
pub(super) fn text(last_id: i64) -> String {
    format!("{{\"last_id\": {last_id}}}")
}

/// Rows that were counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trail {
    /// What this program left in `last_ts.json`.
    pub(super) last_id: i64,
    /// Id and digest, oldest first.
    rows: Vec<(i64, String)>,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Position {
    /// Rows above it are new.
    pub(super) after: i64,
    /// The learner's own state fits it.
    pub(super) continued: bool,
    /// What was odd.
    pub(super) note: Option<String>,
}

impl Trail {
    /// Where the trail of a progress file is.
    pub(super) fn path(progress: &Path) -> PathBuf {
        with_suffix(progress, ".trainer")
    }

    /// Reads it; an empty one when there is none that can be read.
    pub(super) fn read(progress: &Path) -> Self {
        let text = files::read_text_if_any(&Self::path(progress)).ok().flatten().unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Where counting goes on.
    pub(super) fn position(&self, last_id: i64, history: &History) -> Result<Position, HistoryError> {
        if self.rows.is_empty() || self.last_id != last_id {
            let newest = history.latest(&Scope::All)?.map_or(0, |row| row.id);
            let note = (newest < last_id)
                .then(|| format!("the history ends at id {newest}, before the {last_id} of the progress file: it goes on there"));
            return Ok(Position { after: last_id.min(newest), continued: false, note });
        }
        for (id, digest) in self.rows.iter().rev() {
            if history.row(*id)?.is_some_and(|row| digest_of(&row) == *digest) {
                let note = (*id != last_id).then(|| {
                    format!("the history is an older copy: rows above id {id} are new, up to {last_id} were counted before")
                });
                return Ok(Position { after: *id, continued: true, note });
            }
        }
        let note =
            "the history is another one: none of the counted rows is in it, and all of its rows are new";
        Ok(Position { after: 0, continued: true, note: Some(note.into()) })
    }

    /// With more rows behind `after`.
    pub(super) fn extended(mut self, after: i64, rows: &[Row]) -> Self {
        self.rows.retain(|(id, _)| *id <= after);
        self.rows.extend(rows.iter().map(|row| (row.id, digest_of(row))));
        self.last_id = rows.last().map_or(after, |row| row.id);
        self.rows = thinned(&self.rows);
        self
    }

    /// As bytes of its file.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self).map_err(|error| Failure::failed("the trail of counted rows").because(error))
    }
}

/// All of the newest rows, and of older ones those whose id is a multiple of a step that grows with their age.
fn thinned(rows: &[(i64, String)]) -> Vec<(i64, String)> {
    let newest = rows.last().map_or(0, |(id, _)| *id);
    let kept = |id: i64| {
        let mut step = 1;
        let mut reach = KEEP as i64;
        while newest - id >= reach {
            step *= KEEP as i64;
            reach = reach.saturating_mul(KEEP as i64);
        }
        id % step == 0 || id == newest
    };
    // The oldest row tells a grown file from another one.
    rows.iter()
        .enumerate()
        .filter(|(at, (id, _))| *at == 0 || kept(*id))
        .map(|(_, row)| row.clone())
        .collect()
}

fn digest_of(row: &Row) -> String {
    sha256_hex(row.text.as_bytes())[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trail_stays_short_and_keeps_its_ends() {
        let row = |id: i64| Row { id, entry: serde_json::Map::new(), text: id.to_string() };
        let mut trail = Trail::default();
        for start in (1..=300_000).step_by(1000) {
            let rows: Vec<Row> = (start..start + 1000).map(row).collect();
            trail = trail.extended(start - 1, &rows);
        }
        assert_eq!((trail.last_id, trail.rows[0].0, trail.rows.last().unwrap().0), (300_000, 1, 300_000));
        assert!(trail.rows.len() < 300, "{}", trail.rows.len());
        let near: Vec<i64> = trail.rows.iter().rev().take(64).map(|row| row.0).collect();
        assert_eq!(near, (299_937..=300_000).rev().collect::<Vec<_>>());
    }
}
