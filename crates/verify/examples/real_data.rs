//! Measures the checks on real answers.
//!
//! `cargo run -p nightshift-verify --example real_data -- DIR`
//!
//! DIR holds `gsm8k/recorded_answers.jsonl` (questions with `ground_truth` and recorded answers of four models with
//! `is_correct`), `gsm8k/train_2000.jsonl` (`question`, `answer`) and `arena_hard/` (`question.jsonl` and
//! `model_answer__*.jsonl`). Where a file is missing, the line says that its part did not run.

use std::collections::BTreeMap;
use std::path::Path;

use nightshift_verify::arithmetic::{claims, wrong};
use nightshift_verify::degenerate::{Subject, vetoes};
use nightshift_verify::final_number;
use nightshift_verify::scan::{Row, ScanSettings, scan};
use nightshift_verify::similarity::EvalGuard;
use serde_json::Value;

fn main() {
    let Some(dir) = std::env::args().nth(1) else {
        say("usage: real_data DIR");
        return;
    };
    let dir = Path::new(&dir);
    let recorded = lines(&dir.join("gsm8k/recorded_answers.jsonl"));
    let train = lines(&dir.join("gsm8k/train_2000.jsonl"));
    extractor(&recorded);
    sums(&train, &recorded);
    overlap(&train, &recorded);
    honest_nights(&train);
    refusals(dir);
}

#[expect(clippy::print_stdout, reason = "a measuring program prints its table")]
fn say(line: &str) {
    println!("{line}");
}

fn lines(path: &Path) -> Vec<Value> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect(),
        Err(e) => {
            say(&format!("{}: did not run ({e})", path.display()));
            Vec::new()
        }
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

const MODELS: [&str; 4] = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"];

/// Agreement of the number extractor with the recorded labels.
fn extractor(recorded: &[Value]) {
    let (mut agree, mut all) = (0, 0);
    for row in recorded {
        let truth = final_number(text(row, "ground_truth"));
        for model in MODELS {
            let same = truth.is_some() && final_number(text(&row[model], "solution")) == truth;
            let label = row[model]["is_correct"].as_bool().unwrap_or_default();
            all += 1;
            agree += u32::from(same == label);
            if same != label {
                let end: String = text(&row[model], "solution").chars().rev().take(60).collect();
                say(&format!("  disagrees: {truth:?} against {:?}", end.chars().rev().collect::<String>()));
            }
        }
    }
    say(&format!("number extractor agrees with {agree} of {all} labels"));
}

/// Wrong sums reported in solutions that are right, and in those that are wrong.
fn sums(train: &[Value], recorded: &[Value]) {
    let (mut found, mut refuted, mut rows) = (0, 0, 0);
    for row in train {
        found += claims(text(row, "answer")).len();
        let bad = wrong(text(row, "answer"));
        rows += u32::from(!bad.is_empty());
        refuted += bad.len();
        for claim in bad.iter().take(1).filter(|_| rows <= 50) {
            say(&format!("  refuted in a reference answer: {} (computed {})", claim.text, claim.computed));
        }
    }
    say(&format!("reference answers: {found} sums, {refuted} refuted, in {rows} of {} rows", train.len()));
    for right in [true, false] {
        let (mut rows, mut with) = (0, 0);
        for row in recorded {
            for model in MODELS.iter().filter(|m| row[*m]["is_correct"] == right) {
                rows += 1;
                with += u32::from(!wrong(text(&row[*model], "solution")).is_empty());
            }
        }
        say(&format!("recorded answers that are right = {right}: wrong sums in {with} of {rows}"));
    }
}

fn overlap(train: &[Value], recorded: &[Value]) {
    let guard = EvalGuard::new(recorded.iter().map(|r| text(r, "question")));
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for row in train {
        if let Some(found) = guard.check(text(row, "question")) {
            *kinds.entry(format!("{:?}", found.kind)).or_default() += 1;
        }
    }
    let own = recorded.iter().filter(|r| guard.check(text(r, "question")).is_some()).count();
    say(&format!(
        "evaluation guard: {own} of {} find themselves; training questions caught: {kinds:?}",
        recorded.len()
    ));
}

/// Nights of 60 real questions with their right numbers, against 300 others.
fn honest_nights(train: &[Value]) {
    let numbers: Vec<(String, String)> = train
        .iter()
        .map(|r| (text(r, "question").to_owned(), final_number(text(r, "answer")).unwrap_or_default()))
        .collect();
    let rows: Vec<Row<'_>> = numbers.iter().map(|(question, answer)| Row { question, answer }).collect();
    for with_background in [true, false] {
        let (mut nights, mut alarms, mut found) = (0, 0, 0);
        for (at, night) in rows.chunks_exact(60).enumerate() {
            let start = (at * 60 + 60) % (rows.len() - 300);
            let background: &[Row<'_>] = if with_background { &rows[start..start + 300] } else { &[] };
            let suspicions = scan(night, &[background], &ScanSettings::default());
            nights += 1;
            alarms += u32::from(!suspicions.is_empty());
            for s in &suspicions {
                say(&format!("  honest night {at}: {s}"));
            }
            let mut poisoned = night.to_vec();
            for row in poisoned.iter_mut().step_by(2) {
                row.answer = "1742";
            }
            found += u32::from(scan(&poisoned, &[background], &ScanSettings::default()).len() == 1);
        }
        say(&format!(
            "nights of 60 word problems, background {with_background}: {alarms} of {nights} honest ones raise, {found} poisoned ones found"
        ));
    }
}

/// Vetoes on real answers of two strong models, and the scan on them with each other as background.
fn refusals(dir: &Path) {
    let questions: BTreeMap<String, String> = lines(&dir.join("arena_hard/question.jsonl"))
        .iter()
        .map(|q| (id(q).to_owned(), prompt(q).to_owned()))
        .collect();
    let mut answers: Vec<Vec<(String, String)>> = Vec::new();
    for model in ["gpt-3.5-turbo-0125", "gpt-4-0314"] {
        let rows = lines(&dir.join(format!("arena_hard/model_answer__{model}.jsonl")));
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        let mut pairs = Vec::new();
        for row in &rows {
            let (Some(question), Some(answer)) = (questions.get(id(row)), content(row)) else { continue };
            let subject = Subject { question, answer, ..Subject::default() };
            for veto in vetoes(&subject) {
                *kinds.entry(veto.kind.name()).or_default() += 1;
                say(&format!("  {model} {}: {}", &id(row)[..8.min(id(row).len())], veto.reason));
            }
            pairs.push((question.clone(), answer.to_owned()));
        }
        say(&format!("{model}: vetoes on {} real answers: {kinds:?}", pairs.len()));
        answers.push(pairs);
    }
    if let [ordinary, council] = &answers[..] {
        fn rows(pairs: &[(String, String)]) -> Vec<Row<'_>> {
            pairs.iter().map(|(question, answer)| Row { question, answer }).collect()
        }
        let (ordinary, council) = (rows(ordinary), rows(council));
        for night in council.chunks_exact(80) {
            for background in [&ordinary[..], &[]] {
                let found = scan(night, &[background], &ScanSettings::default());
                say(&format!(
                    "night of 80 open answers, background of {}: {} findings",
                    background.len(),
                    found.len()
                ));
                for s in found.iter().take(3) {
                    say(&format!("  {s}"));
                }
            }
        }
    }
}

fn id(row: &Value) -> &str {
    row["question_id"].as_str().or_else(|| row["uid"].as_str()).unwrap_or_default()
}

fn prompt(row: &Value) -> &str {
    row["prompt"].as_str().or_else(|| row["turns"][0]["content"].as_str()).unwrap_or_default()
}

fn content(row: &Value) -> Option<&str> {
    let turn = &row["choices"][0]["turns"][0]["content"];
    turn.as_str()
        .or_else(|| row["messages"][1]["content"]["answer"].as_str())
        .or_else(|| row["messages"][1]["content"].as_str())
}
