//! The training file of the day, rebuilt from the store: writing it again gives the same bytes.

use std::collections::BTreeMap;

use nightshift_core::clock::{compact_date, compact_stamp, rfc3339, zone};
use nightshift_core::logfile::LogFile;
use nightshift_core::random::sha256_hex;
use nightshift_core::store::Store;
use nightshift_core::training_row::TrainingRow;
use nightshift_core::{Ctx, Failure, OrFail, events, files, jsonl, metrics};
use serde_json::{Value, json};

use crate::quarantine::{rows, today};
use crate::report::Report;

/// Rows shown in the log of the documents.
const SAMPLES: usize = 3;

pub(crate) fn write(ctx: &Ctx, log: &LogFile, store: &mut Store, report: &mut Report) -> Result<(), Failure> {
    let today = today(ctx)?;
    let (from, to) = (rfc3339(today.from), rfc3339(today.to));
    let accepted = rows(store.read(), "accepted", &from, &to)?;
    let quarantined = rows(store.read(), "quarantined", &from, &to)?;
    report.accepted = accepted.len();
    report.quarantined = quarantined.len();
    if report.asked > 0 {
        let share = report.agreed as f64 / report.asked as f64;
        report.rewrite_success_rate = Some(share);
        store.write(|tx| metrics::set(tx, metrics::REWRITE_SUCCESS, "", share))?;
    }
    let folder = ctx.paths.training_data();
    let stamp = compact_date(ctx.clock.now(), &zone(&ctx.config.time_zone)?);
    let file = folder.join(format!("harvest_{stamp}.jsonl"));
    if !accepted.is_empty() || !quarantined.is_empty() {
        files::create_dir(&folder)?;
    }
    if !quarantined.is_empty() {
        jsonl::write(&folder.join(format!("quarantine_{stamp}.jsonl")), &quarantined)?;
    }
    if !accepted.is_empty() {
        jsonl::write(&file, &accepted)?;
        let sha256 = sha256_hex(&files::read(&file)?);
        let manifest = folder.join(format!("harvest_{stamp}.manifest.json"));
        let text = serde_json::to_vec_pretty(&manifest_of(ctx, report, &accepted, &sha256))
            .or_fail(|| "the manifest cannot be written".into())?;
        files::write_atomic(&manifest, &text)?;
        report.training_file = Some(file.display().to_string());
        report.manifest = Some(manifest.display().to_string());
        report.sha256 = Some(sha256);
    } else if file.exists() {
        // Everything of today went into quarantine since the file was written.
        files::remove_file(&file)?;
    }
    if report.agreed > 0 || !report.suspicions.is_empty() {
        let payload = json!({"accepted": report.accepted, "quarantined": report.quarantined, "file": report.training_file});
        store.write(|tx| events::publish(tx, ctx.clock.now(), events::HARVEST_DONE, &stamp, &payload))?;
    }
    documents_log(ctx, log, report, &accepted)
}

fn manifest_of(ctx: &Ctx, report: &Report, accepted: &[TrainingRow], sha256: &str) -> Value {
    let config = serde_json::to_string(&ctx.config.harvest).unwrap_or_default();
    let mut tiers: BTreeMap<&str, usize> = BTreeMap::new();
    for row in accepted {
        *tiers.entry(&row.tier).or_default() += 1;
    }
    json!({
        "format_version": 1,
        "sha256": sha256,
        "rows": accepted.len(),
        "tiers": tiers,
        "uncalibrated": true,
        "since": report.since, "until": report.until,
        "interactions": report.interactions, "failures": report.failures, "flagged": report.flagged,
        "excluded": report.excluded, "asked": report.asked, "abstained": report.abstained,
        "false_alarms": report.false_alarms, "quarantined": report.quarantined, "suspicions": report.suspicions,
        "scorer": report.scorer,
        "config_sha256": sha256_hex(config.as_bytes()),
    })
}

/// `logs/harvest_YYYYMMDD_HHMMSS.json` as the documents' harvester wrote it.
fn documents_log(ctx: &Ctx, log: &LogFile, report: &Report, accepted: &[TrainingRow]) -> Result<(), Failure> {
    let count = |range: std::ops::Range<f64>| {
        accepted.iter().filter(|row| range.contains(&row.quality_score)).count()
    };
    let now = ctx.clock.now();
    let value = json!({
        "harvest_stats": {
            "failures_found": report.failures + report.flagged,
            "rewrites_successful": report.agreed,
            "quality_improvements": report.agreed,
            "training_pairs_generated": report.accepted,
            "harvest_timestamp": now.as_microsecond() as f64 / 1e6,
        },
        "training_file": report.training_file,
        "sample_rewrites": accepted.iter().take(SAMPLES).collect::<Vec<_>>(),
        "quality_distribution": {
            "high_quality": count(0.8..f64::INFINITY),
            "medium_quality": count(0.6..0.8),
            "low_quality": count(f64::NEG_INFINITY..0.6),
        },
    });
    let folder = log.path().parent().map_or_else(|| ctx.paths.logs(), std::path::Path::to_path_buf);
    let text = serde_json::to_vec_pretty(&value).or_fail(|| "the log cannot be written".into())?;
    Ok(files::write_atomic(&folder.join(format!("harvest_{}.json", compact_stamp(now))), &text)?)
}
