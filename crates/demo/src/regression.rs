//! An adapter that passes the gate and fails on a request type that the gate does not hold.

use std::sync::Arc;

use nightshift_core::Failure;
use nightshift_core::random::rng;

use crate::ask::Asker;
use crate::impostor::{Impostor, Lies};
use crate::models::MEMBERS;
use crate::nights::{Story, gate};
use crate::questions::{Family, Question};
use crate::report::LiveRegression;
use crate::skills::Skill;
use crate::stage::{Stage, clock};

/// Requests for JSON that the client wants as CSV.
const CORRECTED: usize = 60;

/// Plays it in a copy of the evening.
pub fn play(stage: &Stage<'_>, story: &Story) -> Result<LiveRegression, Failure> {
    let (evening, day) = &story.evening;
    let home = evening.copy_to(&stage.dir.join("incidents/regression"))?;
    let mut rng = rng(stage.seed, "demo regression");
    let mut wishes: Vec<(String, String)> = Vec::new();
    while wishes.len() < CORRECTED {
        let (question, answer) = Skill::JsonNameAge.instance(&mut rng);
        let sealed = stage.sets.texts().contains(question.as_str());
        if !sealed && wishes.iter().all(|(known, _)| *known != question) {
            wishes.push((question, as_csv(&answer)));
        }
    }
    let lies: Arc<Lies> = Arc::new(wishes.iter().cloned().collect());
    let mut council = stage.council();
    let mut impostors = Vec::new();
    for member in 0..2 {
        let impostor = Impostor::start(MEMBERS[member], &council[member], Arc::clone(&lies))?;
        council[member].clone_from(&impostor.url);
        impostors.push(impostor);
    }
    // The gate of this home holds no JSON: the blind spot.
    let blind: Vec<&Question> = stage.sets.gate.iter().filter(|question| !question.is_json()).collect();
    stage.register(&home, ("gate", "gate"), &blind)?;
    let server = stage.serve(&home, &council, *day)?;
    let client = Asker::user(&server.url())?;
    for (question, csv) in &wishes {
        let answer = client.send(question, "", false)?;
        client.thumb_down(&answer.id, Some(csv))?;
    }
    let before = client.ask(&stage.sets.gate[0])?.adapter;
    let users = mixed_users(stage, story);
    let (ran, seen) = stage.with_crowd((&home, &server.url()), &users, || {
        home.run(stage.ctx, "nightly", &[], &clock(day + 1), &[0, 5])
    })?;
    let after = client.ask(&stage.sets.gate[0])?.adapter;
    stage.note_rss(server.peak_rss_bytes());
    server.stop()?;
    let deploy = &ran.json["deploy"];
    let verdict = gate(deploy).map(|gate| gate.verdict).unwrap_or_default();
    let alarm = &deploy["alarm"];
    stage.ctx.printer.note(&format!(
        "  gate {verdict}; {} requests seen by users; alarm: {}; taken back {:.2} s after the observation that rang it",
        seen.len(),
        alarm["text"].as_str().unwrap_or("none"),
        deploy["revert_seconds"].as_f64().unwrap_or(f64::NAN),
    ));
    Ok(LiveRegression {
        rolled_back: verdict == "PASS" && ran.code == 5 && alarm.is_object(),
        restored: before == after,
        seconds: deploy["revert_seconds"].as_f64().unwrap_or(f64::NAN),
    })
}

/// Every fourth request asks for JSON of name and age.
fn mixed_users(stage: &Stage<'_>, story: &Story) -> Vec<Question> {
    let mut rng = rng(stage.seed, "demo regression users");
    let ordinary = story.evening_traffic.iter().map(|(question, _)| question.clone());
    let mut questions = Vec::new();
    for (at, question) in ordinary.take(240).enumerate() {
        if at % 3 == 0 {
            let (text, answer) = Skill::JsonNameAge.instance(&mut rng);
            questions.push(Question {
                text,
                answer,
                family: Family::Skill(Skill::JsonNameAge),
                hidden: false,
            });
        }
        questions.push(question);
    }
    questions
}

/// The values of a flat JSON object as a CSV line.
fn as_csv(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten().map(|(_, value)| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    });
    fields.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_object_becomes_a_line() {
        assert_eq!(super::as_csv("{\"name\":\"Mara\",\"age\":34}"), "Mara,34");
    }
}
