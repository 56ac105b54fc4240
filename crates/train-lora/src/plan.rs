//! What a nightly training will use: decided once, printed by `--dry-run`, frozen in the work folder.
//!
//! A run that was killed finds its plan again and ends as it would have, although rows and traffic have
//! arrived since and the machine may measure another speed today.

use std::path::Path;

use nightshift_core::config::Overlong;
use nightshift_core::jiff::Timestamp;
use nightshift_core::random::{self, sha256_hex};
use nightshift_core::{Failure, OrFail, files};
use rand::seq::index;
use serde::{Deserialize, Serialize};

use crate::base::Text;
use crate::budget::{Budget, Older, sample};
use crate::data::{Dropped, Encoded, Noted, Reason, Record, encode, refuse_overlong, refuse_template};
use crate::order::Order;
use crate::seals::Seals;
use crate::select::{self, Accepted};
use crate::settings::Settings;

const FILE: &str = "plan.json";

/// The rows of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Digest of base, accepted rows and settings: the run's name.
    pub(crate) run_key: String,
    /// The instant that templates print.
    pub(crate) template_time: Timestamp,
    /// Date of the newest harvest.
    pub(crate) newest: String,
    /// Accepted rows that take part in every epoch, oldest harvest first.
    pub(crate) rows: Vec<PlannedRow>,
    /// Answers that replay is drawn from.
    pub(crate) pool: Vec<Record>,
    /// How many of them each epoch draws.
    pub(crate) drawn: usize,
    /// Rows that are evaluated on while training.
    pub(crate) evaluation: Vec<Record>,
    /// Rows that do not take part.
    pub(crate) dropped: Vec<Dropped>,
    /// Rows whose prompt is cut.
    pub(crate) truncated: Vec<Noted>,
    /// Estimated seconds, where the speed was measured.
    pub(crate) estimated_s: Option<f64>,
}

/// An accepted row of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedRow {
    /// Date of its harvest.
    pub(crate) date: String,
    /// The conversation.
    pub(crate) record: Record,
}

impl Plan {
    /// Reads the plan of a run that was started before, if its rows may still be trained on.
    pub(crate) fn find(folder: &Path, run_key: &str, seals: &Seals) -> Result<Option<Self>, Failure> {
        let Some(text) = files::read_text_if_any(&folder.join(FILE))? else { return Ok(None) };
        let plan: Option<Self> = serde_json::from_str(&text).ok();
        Ok(plan.filter(|plan| plan.run_key == run_key && !plan.holds_sealed(seals)))
    }

    /// Writes the plan into the work folder.
    pub(crate) fn freeze(&self, folder: &Path) -> Result<(), Failure> {
        files::create_dir(folder)?;
        let text = serde_json::to_vec(self).or_fail(|| "the plan cannot be written".into())?;
        Ok(files::write_atomic(&folder.join(FILE), &text)?)
    }

    /// An evaluation set or a `no_train` mark that came after the plan was made. (Accepted rows need no look:
    /// without one of them the run key is another.)
    fn holds_sealed(&self, seals: &Seals) -> bool {
        self.pool
            .iter()
            .any(|record| seals.is_no_train(&record.name) || seals.refuse(&record.messages).is_some())
    }

    /// Rows of the newest harvest, and of older ones.
    pub(crate) fn new_and_older(&self) -> (usize, usize) {
        let new = self.rows.iter().filter(|row| row.date == self.newest).count();
        (new, self.rows.len() - new)
    }

    /// Digest of what is trained on: SHA-256 over one JSON line of messages for each row, then each
    /// answer of the pool.
    pub(crate) fn dataset_sha256(&self) -> String {
        digest(self.rows.iter().map(|row| &row.record).chain(&self.pool))
    }

    /// Order of the rows.
    pub(crate) fn order(&self, settings: &Settings) -> Order {
        settings.order(self.rows.len(), self.pool.len(), self.drawn)
    }

    /// Rows, then pool, in tokens; and what is evaluated on.
    pub(crate) fn encode(&self, text: &Text, settings: &Settings) -> Result<[Vec<Encoded>; 2], Failure> {
        let records: Vec<Record> =
            self.rows.iter().map(|row| &row.record).chain(&self.pool).cloned().collect();
        let all = |records: &[Record]| {
            let encoded: Result<Vec<Encoded>, Dropped> =
                encode(text, records, limits(settings), &mut Vec::new()).into_iter().collect();
            encoded.map_err(|row| {
                Failure::failed(format!("row {} of the plan cannot be used: {}", row.row, row.why))
                    .hint("the base's tokenizer or template changed: --fresh starts over")
            })
        };
        Ok([all(&records)?, all(&self.evaluation)?])
    }
}

/// Digest of conversations.
pub(crate) fn digest<'a>(records: impl Iterator<Item = &'a Record>) -> String {
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(&record.messages).unwrap_or_default());
        if let Some(rejected) = &record.rejected {
            text.push_str(&serde_json::to_string(rejected).unwrap_or_default());
        }
        if record.wanted == Some(false) {
            text.push_str(" unwanted");
        }
        text.push('\n');
    }
    sha256_hex(text.as_bytes())
}

/// Accepted rows in tokens, still without a decision on which of them fit.
#[derive(Debug)]
pub(crate) struct Draft {
    rows: Vec<(Accepted, usize)>,
    pool: Vec<(Record, usize)>,
    evaluation: Vec<Record>,
    newest: String,
    dropped: Vec<Dropped>,
    truncated: Vec<Noted>,
}

impl Draft {
    /// Encodes the rows, as much of the pool as all epochs could draw, and what is evaluated on.
    pub(crate) fn new(
        settings: &Settings,
        text: &Text,
        accepted: Vec<Accepted>,
        pool: Vec<Record>,
        evaluation: Vec<Record>,
        mut dropped: Vec<Dropped>,
    ) -> Result<Self, Failure> {
        let (limits, mut truncated) = (limits(settings), Vec::new());
        let mut encode = |records: &[Record]| encode(text, records, limits, &mut truncated);
        let newest = accepted.last().map(|row| row.date.clone()).unwrap_or_default();
        let records: Vec<Record> = accepted.iter().map(|row| row.record.clone()).collect();
        let encoded = encode(&records);
        refuse_template(&encoded)?;
        let rows = with_lengths(accepted, encoded, &mut dropped);
        let pool = thin(pool, wanted(settings, rows.len()) * settings.train.num_epochs, settings.seed);
        let encoded = encode(&pool);
        let pool = with_lengths(pool, encoded, &mut dropped);
        let encoded = encode(&evaluation);
        let evaluation = with_lengths(evaluation, encoded, &mut dropped);
        let evaluation = evaluation.into_iter().map(|(record, _)| record).collect();
        refuse_overlong(&dropped, settings.train.overlong)?;
        Ok(Self { rows, pool, evaluation, newest, dropped, truncated })
    }

    /// Accepted rows that can be trained on.
    pub(crate) fn examples(&self) -> usize {
        select::answers(self.rows.iter().map(|(row, _)| row))
    }

    /// Rows that cannot.
    pub(crate) fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Whether time may decide on anything: only older rows are ever left out.
    pub(crate) fn has_older(&self) -> bool {
        self.rows.iter().any(|(row, _)| row.date != self.newest)
    }

    /// Rows for measuring the speed: the newest.
    pub(crate) fn probe(&self, count: usize, text: &Text) -> Vec<Encoded> {
        let rows: Vec<Record> =
            self.rows.iter().rev().take(count).map(|(row, _)| row.record.clone()).collect();
        let limits = (usize::MAX, Overlong::Drop);
        encode(text, &rows, limits, &mut Vec::new()).into_iter().flatten().collect()
    }

    /// Decides: every row of the newest harvest, and of the older ones what fits at this speed.
    pub(crate) fn decide(
        self,
        settings: &Settings,
        run_key: &str,
        now: Timestamp,
        speed: Option<f64>,
    ) -> Plan {
        let Self { rows, pool, evaluation, newest, mut dropped, truncated } = self;
        let replay_cost = replay_tokens_per_row(settings, rows.len(), &pool);
        let mut kept = vec![true; rows.len()];
        if let Some(tokens_per_s) = speed {
            let cost = |tokens: usize| (tokens as f64 + replay_cost).ceil() as usize;
            let (older, new): (Vec<usize>, Vec<usize>) =
                (0..rows.len()).partition(|&row| rows[row].0.date != newest);
            let needed: usize = new.iter().map(|&row| cost(rows[row].1)).sum();
            let epochs = settings.train.num_epochs;
            let budget = Budget { max_minutes: settings.train.max_minutes, tokens_per_s, epochs };
            let list: Vec<Older<'_>> = older
                .iter()
                .map(|&row| Older { date: &rows[row].0.date, tokens: cost(rows[row].1) })
                .collect();
            for &row in &older {
                kept[row] = false;
            }
            for chosen in sample(&list, budget.tokens_per_epoch() - needed as f64, settings.seed) {
                kept[older[chosen]] = true;
            }
        }
        let mut planned = Vec::with_capacity(rows.len());
        let mut tokens = 0;
        for ((row, length), kept) in rows.into_iter().zip(kept) {
            if kept {
                tokens += length;
                planned.push(PlannedRow { date: row.date, record: row.record });
            } else {
                let why = format!("no room within train.max_minutes = {}", settings.train.max_minutes);
                dropped.push(Dropped::new(row.record.name, Reason::NoTime, why));
            }
        }
        let drawn = wanted(settings, planned.len()).min(pool.len());
        let pool_tokens: usize = pool.iter().map(|(_, tokens)| tokens).sum();
        let per_epoch = tokens as f64 + drawn as f64 * pool_tokens as f64 / pool.len().max(1) as f64;
        Plan {
            run_key: run_key.to_owned(),
            template_time: now,
            newest,
            rows: planned,
            pool: pool.into_iter().map(|(record, _)| record).collect(),
            drawn,
            evaluation,
            dropped,
            truncated,
            estimated_s: speed.map(|speed| per_epoch * settings.train.num_epochs as f64 / speed),
        }
    }
}

/// The longest example, and what becomes of longer ones.
const fn limits(settings: &Settings) -> (usize, Overlong) {
    (settings.train.max_length, settings.train.overlong)
}

/// Replayed answers that an epoch of `rows` accepted rows asks for.
fn wanted(settings: &Settings, rows: usize) -> usize {
    (settings.train.replay_ratio * rows as f64).round() as usize
}

/// Tokens of replay that one accepted row brings along, on average.
fn replay_tokens_per_row(settings: &Settings, rows: usize, pool: &[(Record, usize)]) -> f64 {
    if rows == 0 || pool.is_empty() {
        return 0.0;
    }
    let mean = pool.iter().map(|(_, tokens)| *tokens as f64).sum::<f64>() / pool.len() as f64;
    mean * wanted(settings, rows).min(pool.len()) as f64 / rows as f64
}

/// At most `count` records, drawn with the run's seed, in their old order.
fn thin(pool: Vec<Record>, count: usize, seed: u64) -> Vec<Record> {
    if pool.len() <= count {
        return pool;
    }
    let mut rng = random::rng(seed, "replay pool");
    let mut chosen = index::sample(&mut rng, pool.len(), count).into_vec();
    chosen.sort_unstable();
    let mut pool: Vec<Option<Record>> = pool.into_iter().map(Some).collect();
    chosen.into_iter().filter_map(|row| pool[row].take()).collect()
}

/// The rows that could be encoded, with their tokens; the others join `dropped`.
fn with_lengths<T>(
    rows: Vec<T>,
    encoded: Vec<Result<Encoded, Dropped>>,
    dropped: &mut Vec<Dropped>,
) -> Vec<(T, usize)> {
    let mut kept = Vec::with_capacity(rows.len());
    for (row, encoded) in rows.into_iter().zip(encoded) {
        match encoded {
            Ok(encoded) => kept.push((row, encoded.tokens())),
            Err(why) => dropped.push(why),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SettingFlags;
    use nightshift_core::Ctx;
    use nightshift_model::Message;

    fn record(name: &str) -> Record {
        let messages = vec![Message::new("user", name), Message::new("assistant", "x")];
        Record::new(name, messages)
    }

    /// 20 older rows of two harvests and five new ones, 10 tokens each; replay answers of 10 tokens.
    fn draft(pool: usize) -> Draft {
        let row = |n: usize| {
            let date = ["20260227", "20260228", "20260301"][(n / 10).min(2)].to_owned();
            (Accepted { date, record: record(&format!("r{n}")) }, 10)
        };
        Draft {
            rows: (0..25).map(row).collect(),
            pool: (0..pool).map(|n| (record(&format!("p{n}")), 10)).collect(),
            evaluation: Vec::new(),
            newest: "20260301".into(),
            dropped: Vec::new(),
            truncated: Vec::new(),
        }
    }

    fn settings(max_minutes: f64, replay_ratio: f64) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let flags = SettingFlags {
            max_minutes: Some(max_minutes),
            replay_ratio: Some(replay_ratio),
            ..SettingFlags::default()
        };
        Settings::new(&Ctx::for_test(dir.path()), &flags, true).unwrap()
    }

    fn decide(draft: Draft, settings: &Settings, speed: Option<f64>) -> Plan {
        draft.decide(settings, "key", "2026-03-01T02:00:00Z".parse().unwrap(), speed)
    }

    #[test]
    fn older_rows_fill_the_time_that_new_ones_and_replay_leave() {
        // Three epochs in one minute: 1700 tokens planned at 100 tokens/s. 85 rows and more fit.
        assert_eq!(decide(draft(0), &settings(1.0, 0.0), Some(100.0)).new_and_older(), (5, 20));
        // A tenth of that: 175 tokens an epoch, 50 for the new rows, 12 older ones in the rest.
        let plan = decide(draft(0), &settings(0.103, 0.0), Some(100.0));
        assert_eq!(plan.new_and_older(), (5, 12));
        assert_eq!(plan.dropped.len(), 8);
        let of = |date: &str| plan.rows.iter().filter(|row| row.date == date).count();
        assert_eq!((of("20260227"), of("20260228")), (6, 6));
        assert!((plan.estimated_s.unwrap() - 3.0 * 170.0 / 100.0).abs() < 1e-9);
        // Replay costs as much again: 100 tokens for the new rows, three older ones in the rest.
        let plan = decide(draft(99), &settings(0.103, 1.0), Some(100.0));
        assert_eq!((plan.new_and_older(), plan.drawn), ((5, 3), 8));
        // No room at all: the new rows stay.
        assert_eq!(decide(draft(0), &settings(1e-6, 0.0), Some(100.0)).new_and_older(), (5, 0));
    }

    #[test]
    fn a_frozen_plan_comes_back_for_its_own_run_only() {
        let dir = tempfile::tempdir().unwrap();
        let plan = decide(draft(3), &settings(1.0, 1.0), None);
        plan.freeze(dir.path()).unwrap();
        assert_eq!(Plan::find(dir.path(), "key", &Seals::none()).unwrap(), Some(plan));
        assert_eq!(Plan::find(dir.path(), "other", &Seals::none()).unwrap(), None);
        files::write_atomic(&dir.path().join(FILE), b"{\"run_key\": \"key\"").unwrap();
        assert_eq!(Plan::find(dir.path(), "key", &Seals::none()).unwrap(), None, "half a plan is none");
    }

    #[test]
    fn a_pool_is_thinned_by_the_seed() {
        let pool: Vec<Record> = (0..50).map(|n| record(&format!("{n:02}"))).collect();
        let thinned = thin(pool.clone(), 7, 1);
        assert_eq!(thinned.len(), 7);
        assert!(thinned.is_sorted_by_key(|record| record.name.clone()));
        assert_eq!(thinned, thin(pool.clone(), 7, 1));
        assert_ne!(thinned, thin(pool.clone(), 7, 2));
        assert_eq!(thin(pool.clone(), 50, 1), pool);
    }
}
