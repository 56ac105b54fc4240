//! The nights: traffic by day, the real `nightly` at night, an examination after it.

use nightshift_core::Failure;
use nightshift_stats::calibrate::auc;
use serde_json::Value;

use crate::home::{Home, Ran};
use crate::report::{Gate, Night, Trained};
use crate::server::Server;
use crate::stage::{Stage, clock};
use crate::traffic::Exchange;

/// Success on the report set, and on its two parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Success {
    /// All questions.
    pub all: f64,
    /// What the base was taught.
    pub known: f64,
    /// What it was never taught.
    pub hidden: f64,
}

/// What the nights left behind.
#[derive(Debug)]
pub struct Story {
    /// Night by night.
    pub nights: Vec<Night>,
    /// Success before the first night and after each.
    pub success: Vec<Success>,
    /// Area under the ROC curve of the confidence on the first day.
    pub confidence_auc: Option<f64>,
    /// Every adapter that a night trained, deployed or not.
    pub trained: Vec<String>,
    /// The adapter that is live at the end.
    pub live: Option<String>,
    /// The home as it was in the evening before the night of the incidents, and the day of that evening.
    pub evening: (Home, usize),
    /// What users asked and got on that day.
    pub evening_traffic: Vec<Exchange>,
    /// Digest of the adapter that the night after that evening trained.
    pub evening_adapter: Option<String>,
    /// The server at the end.
    pub server: Server,
    /// The home.
    pub home: Home,
}

/// Plays all nights in `home`.
pub fn play(stage: &Stage<'_>, home: Home, nights: usize) -> Result<Story, Failure> {
    let incident_night = nights.min(2);
    let note = |text: &str| stage.ctx.printer.note(text);
    let council = stage.council();
    // A day of the base model before the first night: what replay is drawn from.
    let mut server = stage.serve(&home, &council, 0)?;
    stage.register(&home, ("gate", "gate"), &stage.sets.gate.iter().collect::<Vec<_>>())?;
    stage.register(&home, ("report", "report"), &stage.sets.report.iter().collect::<Vec<_>>())?;
    stage.users(&server.url(), &stage.sets.day(stage.seed, 0), "demo traffic 0")?;
    let base_right = stage.examine(&server.url())?;
    let mut story_success = vec![success(stage, &base_right)];
    note(&format!("  before the first night: {:.1} % on the report set", 100.0 * story_success[0].all));
    server = restart(stage, &home, server, 1)?;
    let mut day = stage.users(&server.url(), &stage.sets.day(stage.seed, 1), "demo traffic 1")?;
    let confidence_auc = confidence_auc(&day);
    let (mut rows, mut trained, mut live) = (Vec::new(), Vec::new(), None);
    let (mut evening, mut evening_traffic, mut evening_adapter) = (None, Vec::new(), None);
    for night in 1..=nights {
        server = restart(stage, &home, server, night + 1)?;
        if night == incident_night {
            server.stop()?;
            evening = Some((home.copy_to(&stage.dir.join("evening"))?, night));
            evening_traffic.clone_from(&day);
            server = stage.serve(&home, &council, night + 1)?;
        }
        let tomorrow = stage.sets.day(stage.seed, night + 1);
        let (ran, seen) = stage.with_crowd((&home, &server.url()), &tomorrow, || {
            home.run(stage.ctx, "nightly", &[], &clock(night + 1), &[0, 5])
        })?;
        let right = stage.examine(&server.url())?;
        let row = row(stage, (&home, night), &day, &ran, (&base_right, &right))?;
        note(&sentence(&row, &ran));
        if let Some(adapter) = ran.json["train"]["adapter_id"].as_str().map(str::to_owned) {
            trained.push(adapter.clone());
            if night == incident_night {
                evening_adapter = Some(adapter.clone());
            }
            if row.deployed {
                live = Some(adapter);
            }
        }
        story_success.push(success(stage, &right));
        rows.push(row);
        day = seen;
        if night < nights {
            let rest: Vec<_> = tomorrow.into_iter().skip(day.len()).collect();
            day.extend(stage.users(&server.url(), &rest, &format!("demo traffic {}", night + 1))?);
        }
    }
    let evening = evening.ok_or_else(|| Failure::usage("--nights must be at least 1"))?;
    Ok(Story {
        nights: rows,
        success: story_success,
        confidence_auc,
        trained,
        live,
        evening,
        evening_traffic,
        evening_adapter,
        server,
        home,
    })
}

fn restart(stage: &Stage<'_>, home: &Home, server: Server, day: usize) -> Result<Server, Failure> {
    stage.note_rss(server.peak_rss_bytes());
    server.stop()?;
    stage.serve(home, &stage.council(), day)
}

fn share(right: impl Iterator<Item = bool>) -> f64 {
    let (mut count, mut all) = (0_usize, 0_usize);
    for right in right {
        count += usize::from(right);
        all += 1;
    }
    if all == 0 { 0.0 } else { count as f64 / all as f64 }
}

fn success(stage: &Stage<'_>, right: &[bool]) -> Success {
    let part = |hidden: bool| {
        let of_part =
            stage.sets.report.iter().zip(right).filter(move |(question, _)| question.hidden == hidden);
        share(of_part.map(|(_, right)| *right))
    };
    Success { all: share(right.iter().copied()), known: part(false), hidden: part(true) }
}

fn confidence_auc(day: &[Exchange]) -> Option<f64> {
    let pairs = day
        .iter()
        .filter_map(|(question, answer)| Some((answer.min_token_prob?, question.right(&answer.text))));
    let (scores, labels): (Vec<f64>, Vec<bool>) = pairs.unzip();
    auc(&scores, &labels).ok()
}

fn row(
    stage: &Stage<'_>,
    (home, night): (&Home, usize),
    day: &[Exchange],
    ran: &Ran,
    (base_right, right): (&[bool], &[bool]),
) -> Result<Night, Failure> {
    let accepted = stage.accepted(home, night + 1)?;
    let (harvest, train, deploy) = (&ran.json["harvest"], &ran.json["train"], &ran.json["deploy"]);
    stage.note_rss(train["peak_rss_bytes"].as_u64().unwrap_or(0));
    let lost = base_right.iter().zip(right).filter(|(base, now)| **base && !**now).count();
    Ok(Night {
        night,
        requests: day.len(),
        failures: day.iter().filter(|(question, answer)| !question.right(&answer.text)).count(),
        harvested: harvest["asked"].as_u64().unwrap_or(0) as usize,
        accepted: accepted.len(),
        accepted_precision: stage.precision(&accepted),
        trained: trained(train),
        gate: gate(deploy),
        deployed: ran.code == 0 && deploy["watch"].is_object(),
        heldout_success: share(right.iter().copied()),
        lost_points: 100.0 * lost as f64 / right.len().max(1) as f64,
    })
}

fn trained(train: &Value) -> Option<Trained> {
    train["adapter_id"].as_str()?;
    Some(Trained {
        steps: train["steps"].as_u64().unwrap_or(0),
        tokens: train["tokens"].as_u64().unwrap_or(0),
        loss_first: train["loss_first"].as_f64().unwrap_or(0.0),
        loss_last: train["loss_last"].as_f64().unwrap_or(0.0),
        seconds: train["seconds"].as_f64().unwrap_or(0.0),
    })
}

/// The gate in a report of `deploy`.
pub fn gate(deploy: &Value) -> Option<Gate> {
    let gate = &deploy["gate"];
    Some(Gate {
        verdict: gate["verdict"].as_str()?.to_owned(),
        n: gate["n"].as_u64().unwrap_or(0),
        lost: gate["lost"].as_u64().unwrap_or(0),
        won: gate["won"].as_u64().unwrap_or(0),
        p_value: gate["p_value"].as_f64().unwrap_or(1.0),
    })
}

fn sentence(row: &Night, ran: &Ran) -> String {
    let gate = row.gate.as_ref().map_or_else(
        || "no gate".to_owned(),
        |gate| format!("gate {}: {} won, {} lost, p {:.1e}", gate.verdict, gate.won, gate.lost, gate.p_value),
    );
    let steps = row.trained.as_ref().map_or(0, |trained| trained.steps);
    format!(
        "  night {}: {} wrong of {}, {} rows accepted, {steps} steps, {gate}, {}; {:.1} % on the report set ({:.0} s)",
        row.night,
        row.failures,
        row.requests,
        row.accepted,
        if row.deployed { "deployed" } else { "not deployed" },
        100.0 * row.heldout_success,
        ran.seconds
    )
}
