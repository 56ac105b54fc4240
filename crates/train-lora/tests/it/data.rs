//! Forms, lengths, repeats, sealed rows, replay: what a data file becomes, and what is refused.

use std::io::Write;
use std::path::PathBuf;

use nightshift_core::evalset::{self, EvalItem, Purpose};
use nightshift_core::files;
use nightshift_core::interaction::Message;
use nightshift_testkit::{Home, Ran};
use serde_json::{Value, json};

use crate::world::{base, base_inside, digest, direct, home, lines, losses, quick, row, steps, train};

const QUESTION: &str = "What is the capital of Norland?";
const ANSWER: &str = "Vesk.";

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn write(home: &Home, name: &str, rows: &[Value]) -> PathBuf {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    home.write(name, &(lines.join("\n") + "\n"))
}

/// `train-lora data` on a file below the home.
fn data(home: &Home, file: &str, more: &[&str]) -> Ran {
    let base = base();
    let arguments = ["data", "--base", base.to_str().unwrap(), "--data", file, "--json"];
    train(home, &[&arguments, more].concat())
}

/// The learned texts of each example that is shown.
fn learned(report: &Value) -> Vec<Vec<String>> {
    let scored = |part: &&Value| part["scored"] == true;
    let texts = |example: &Value| {
        let parts = example["parts"].as_array().unwrap();
        parts.iter().filter(scored).map(|part| part["text"].as_str().unwrap().to_owned()).collect()
    };
    report["examples"].as_array().unwrap().iter().map(texts).collect()
}

/// The same question and answer in every form that can carry them as a conversation.
fn one_answer_in_every_form() -> Vec<Value> {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    vec![
        json!({"instruction": QUESTION, "input": "", "output": ANSWER}),
        row("r1", QUESTION, ANSWER),
        json!({"messages": [turn("user", QUESTION), turn("assistant", ANSWER)]}),
        json!({"conversations": [said("human", QUESTION), said("gpt", ANSWER)]}),
        json!({"prompt": [turn("user", QUESTION)], "completion": [turn("assistant", ANSWER)]}),
    ]
}

#[test]
fn every_form_gives_the_same_example_and_one_file_may_mix_them() {
    let home = home();
    write(&home, "rows.jsonl", &one_answer_in_every_form());
    let report = data(&home, "rows.jsonl", &["--show", "9"]).expect(0).json();
    let forms = json!({"alpaca": 2, "messages": 1, "prompt_completion": 1, "sharegpt": 1});
    assert_eq!((report["forms"].clone(), report["teaches"].as_str()), (forms, Some("answers")));
    let examples = report["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 5);
    for example in examples {
        assert_eq!(example["parts"], examples[0]["parts"]);
    }
    assert_eq!(learned(&report)[0], ["<think>\n\n</think>\n\nVesk.<|im_end|>"]);
    assert_eq!(report["repeated"].as_array().unwrap().len(), 4, "they all say the same");
    // As a JSON array over several lines, and gzipped: the same.
    let array = serde_json::to_string_pretty(&one_answer_in_every_form()).unwrap();
    home.write("rows.json", &array);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&files::read(&home.path().join("rows.jsonl")).unwrap()).unwrap();
    files::write_atomic(&home.path().join("rows.jsonl.gz"), &packer.finish().unwrap()).unwrap();
    for file in ["rows.json", "rows.jsonl.gz"] {
        let other = data(&home, file, &["--show", "9"]).expect(0).json();
        assert_eq!((&other["tokens"], &other["forms"]), (&report["tokens"], &report["forms"]), "{file}");
    }
    direct(&home, "rows.json", "out", &quick("1")).expect(0);
}

#[test]
fn texts_need_no_template_and_conversations_do() {
    let home = home();
    let bare = base_inside(&home);
    files::remove_file(&bare.join("chat_template.jinja")).unwrap();
    write(&home, "texts.jsonl", &[json!({"prompt": "1 2 3", "completion": " 4"})]);
    let arguments =
        |file: &'static str| ["--base", "base", "--data", file, "--out", "out", "--epochs", "1", "--json"];
    let report = train(&home, &arguments("texts.jsonl")).expect(0).json();
    assert_eq!(
        (report["steps"].as_u64(), report["examples"]["new"].as_u64()),
        (Some(1), Some(1)),
        "one row is enough"
    );
    write(&home, "chats.jsonl", &one_answer_in_every_form());
    let ran = train(&home, &arguments("chats.jsonl")).expect(4);
    assert!(
        ran.stderr.contains("chat_template.jinja") && ran.stderr.contains("--chat-template"),
        "{}",
        ran.stderr
    );
    let template = home.write(
        "own.jinja",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let own = ["--chat-template", template.to_str().unwrap()];
    let report = data(&home, "chats.jsonl", &own).expect(0).json();
    assert_eq!(learned(&report)[0], ["Vesk.<|im_end|>"]);
    // A template that cannot be masked is named, with what to do.
    let bad = home.write(
        "bad.jinja",
        "{{ messages|length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
    );
    let ran = data(&home, "chats.jsonl", &["--chat-template", bad.to_str().unwrap()]).expect(4);
    assert!(ran.stderr.contains("bad.jinja") && ran.stderr.contains("generation"), "{}", ran.stderr);
    data(&home, "chats.jsonl", &["--chat-template", "missing.jinja"]).expect(4);
}

#[test]
fn weights_and_loss_on_decide_which_answers_are_learned() {
    let home = home();
    let chat = [turn("user", "Q1"), turn("assistant", "A1"), turn("user", "Q2"), turn("assistant", "A2")];
    let mut weighted = chat.clone();
    weighted[3]["weight"] = json!(0);
    write(&home, "rows.jsonl", &[json!({"messages": chat}), json!({"messages": weighted})]);
    let report = data(&home, "rows.jsonl", &[]).expect(0).json();
    let last = "<think>\n\n</think>\n\nA2<|im_end|>";
    // Of the second row only the first answer counts, so the row ends there and it is the last one printed.
    assert_eq!(learned(&report), [vec![last], vec!["<think>\n\n</think>\n\nA1<|im_end|>"]]);
    let report = data(&home, "rows.jsonl", &["--loss-on", "all-answers"]).expect(0).json();
    assert_eq!(learned(&report)[0], ["A1<|im_end|>", last]);
    let only_last = home.write(
        "last.jinja",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
         {% if loop.last or m.role != 'assistant' %}<|im_end|>{% endif %}\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let template = ["--chat-template", only_last.to_str().unwrap()];
    data(&home, "rows.jsonl", &template).expect(0);
    let ran = data(&home, "rows.jsonl", &[&template[..], &["--loss-on", "all-answers"]].concat()).expect(4);
    assert!(
        ran.stderr.contains("last.jinja") && ran.stderr.contains("--loss-on last-answer"),
        "{}",
        ran.stderr
    );
    // The choice is part of the run: more tokens are scored.
    let tokens = |out: &str, more: &[&str]| {
        direct(&home, "rows.jsonl", out, &[&["--epochs", "1"], more].concat()).expect(0);
        steps(&home.path().join(out))[0]["answer_tokens"].as_u64().unwrap()
    };
    assert!(tokens("all", &["--loss-on", "all-answers"]) > tokens("last", &[]));
}

#[test]
fn rows_that_cannot_be_used_are_named_with_their_line() {
    let home = home();
    let rows = [
        json!({"messages": [turn("user", "Q"), turn("asistant", "A")]}),
        json!({"messages": [turn("user", "Q"), turn("assistant", "A"), turn("user", "R")]}),
        json!({"prompt": "Q", "completion": ""}),
        json!({"id": "mine", "conversations": [{"from": "alien", "value": "x"}]}),
        json!({"messages": [turn("user", "Q"), {"role": "assistant", "content": "A", "weight": 0}]}),
        json!({"text": "loose"}),
        json!({"instruction": "Q", "output": "A"}),
    ];
    write(&home, "rows.jsonl", &rows);
    let report = data(&home, "rows.jsonl", &[]).expect(0).json();
    assert_eq!(report["dropped"], json!({"bad_line": 3, "no_answer": 3}));
    let dropped = report["dropped_rows"].as_array().unwrap();
    let told = |line: &str, why: &str| {
        let row =
            dropped.iter().find(|row| row["row"].as_str().unwrap().contains(&format!("rows.jsonl:{line}")));
        assert!(row.unwrap()["why"].as_str().unwrap().contains(why), "{line}: {dropped:?}");
    };
    told("1", "did you mean `assistant`?");
    told("2", "`user`, not `assistant`");
    told("3", "the answer is empty");
    told("4", "`alien`");
    told("5", "no answer to learn");
    told("6", "[text]");
    // Nothing left, and nothing at all.
    write(&home, "bad.jsonl", &rows[..6]);
    let ran = direct(&home, "bad.jsonl", "out", &[]).expect(3);
    assert!(ran.stderr.contains("bad.jsonl holds no row that can be learned"), "{}", ran.stderr);
    for (name, text) in [("empty.jsonl", ""), ("blank.jsonl", "\n\n"), ("empty.json", " [ ]")] {
        home.write(name, text);
        let ran = direct(&home, name, "out", &[]).expect(3);
        assert!(ran.stderr.contains(&format!("{name} is empty")), "{}", ran.stderr);
    }
    assert!(!home.path().join("out").exists());
}

#[test]
fn a_file_of_two_purposes_is_refused_and_pairs_are_not_imitated() {
    let home = home();
    let pair = json!({"prompt": QUESTION, "chosen": " Vesk.", "rejected": " Brin."});
    let label = json!({"prompt": QUESTION, "completion": " Vesk.", "label": true});
    write(&home, "mixed.jsonl", &[row("r1", "Q", "A"), pair.clone()]);
    let ran = direct(&home, "mixed.jsonl", "out", &[]).expect(4);
    for part in ["mixed.jsonl:1 (r1)", "mixed.jsonl:2", "preference pairs", "split the file"] {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
    for (name, row, teaches) in
        [("pairs.jsonl", pair, "preference pairs"), ("labels.jsonl", label, "judged answers")]
    {
        write(&home, name, &[row]);
        let ran = direct(&home, name, "out", &[]).expect(4);
        assert!(ran.stderr.contains(teaches), "{}", ran.stderr);
        assert_eq!(data(&home, name, &[]).expect(0).json()["teaches"], teaches);
    }
    let report = data(&home, "pairs.jsonl", &[]).expect(0).json();
    let sides: Vec<&str> =
        report["examples"].as_array().unwrap().iter().map(|shown| shown["side"].as_str().unwrap()).collect();
    assert_eq!(sides, ["chosen", "rejected"]);
    assert_eq!(learned(&report), [[" Vesk.<|im_end|>"], [" Brin.<|im_end|>"]]);
}

#[test]
fn what_is_too_long_is_dropped_cut_or_refused() {
    let home = home();
    let long = row("long", &"river ".repeat(60), "The answer.");
    let hopeless = row("hopeless", "Q", &"river ".repeat(60));
    write(&home, "rows.jsonl", &[row("short", "Q", "A"), long, hopeless]);
    let limit = ["--max-length", "40"];
    let report = data(&home, "rows.jsonl", &limit).expect(0).json();
    assert_eq!((report["rows"].as_u64(), report["dropped"]["too_long"].as_u64()), (Some(1), Some(2)));
    let report =
        data(&home, "rows.jsonl", &[&limit[..], &["--overlong", "truncate"]].concat()).expect(0).json();
    assert_eq!((report["rows"].as_u64(), report["tokens"]["max"].as_u64()), (Some(2), Some(40)));
    assert!(report["truncated"][0]["row"].as_str().unwrap().contains("rows.jsonl:2 (long)"), "{report}");
    assert!(report["dropped_rows"][0]["why"].as_str().unwrap().contains("answer alone"), "{report}");
    assert_eq!(learned(&report)[1], ["<think>\n\n</think>\n\nThe answer.<|im_end|>"], "the answer is whole");
    let error = [&limit[..], &["--overlong", "error"]].concat();
    let ran = direct(&home, "rows.jsonl", "out", &error).expect(4);
    assert!(
        ran.stderr.contains("2 rows are too long") && ran.stderr.contains("(hopeless)"),
        "{}",
        ran.stderr
    );
    // The model's own context of 512 tokens is a limit too.
    write(&home, "context.jsonl", &[row("a", "Q", "A"), row("b", &"river ".repeat(400), "A")]);
    let report = data(&home, "context.jsonl", &[]).expect(0).json();
    assert!(report["dropped_rows"][0]["why"].as_str().unwrap().contains("context is 512"), "{report}");
    let report = direct(
        &home,
        "rows.jsonl",
        "out",
        &[&limit[..], &["--overlong", "truncate", "--epochs", "1"]].concat(),
    );
    assert_eq!(report.expect(0).json()["examples"]["truncated"], 1);
}

#[test]
fn repeats_are_counted_and_left_out_on_demand() {
    let home = home();
    let rows = [
        row("a", "Where is  it?", "Vesk."),
        row("b", "where is it?", " vesk. "),
        row("c", "Where is it?", "Brin."),
    ];
    write(&home, "rows.jsonl", &rows);
    let report = data(&home, "rows.jsonl", &[]).expect(0).json();
    assert_eq!(report["repeated"].as_array().unwrap().len(), 1, "another answer is another row: {report}");
    let ran = direct(&home, "rows.jsonl", "out", &["--dedup", "--epochs", "1"]).expect(0);
    let report = ran.json();
    assert_eq!(
        (report["examples"]["new"].as_u64(), &report["examples"]["dropped"]),
        (Some(2), &json!({"duplicate": 1}))
    );
    assert!(
        ran.stderr.contains("rows.jsonl:2 (b)") && ran.stderr.contains("rows.jsonl:1 (a)"),
        "{}",
        ran.stderr
    );
}

#[test]
fn rows_that_match_an_evaluation_item_are_refused_by_name() {
    let home = home();
    let long = "Which of the three rivers that cross the old city of Vesk carries the most water in spring?";
    let item = |id: &str, question: &str| EvalItem {
        id: id.into(),
        messages: vec![Message::user(question)],
        reference: None,
        check: Value::Null,
    };
    let items = [item("capital", QUESTION), item("rivers", long)];
    let now = nightshift_core::clock::parse_time("2026-03-01T00:00:00Z").unwrap();
    home.store().write(|tx| evalset::register(tx, now, ("gate", Purpose::Gate, "test"), &items)).unwrap();
    let clean = lines(0, 3);
    let text = format!(
        "{clean}{}\n{}\n",
        row("same", "what is the capital of norland", "Vesk."),
        row("inside", "Tell me.", &format!("You ask: {long} The Brin."))
    );
    home.write("rows.jsonl", &text);
    let ran = direct(&home, "rows.jsonl", "out", &["--epochs", "1"]).expect(4);
    for part in
        ["rows.jsonl:4 (same)", "`capital`", "rows.jsonl:5 (inside)", "`rivers`", "`gate`", "13 words"]
    {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
    assert!(!home.path().join("out").exists());
    let report =
        direct(&home, "rows.jsonl", "out", &["--epochs", "1", "--contaminated", "drop"]).expect(0).json();
    assert_eq!(
        (report["examples"]["new"].as_u64(), &report["examples"]["dropped"]),
        (Some(3), &json!({"sealed": 2}))
    );
    assert_eq!(data(&home, "rows.jsonl", &[]).expect(0).json()["dropped"]["sealed"], 2);
    // Replayed rows are no exception, and further files count too.
    home.write("clean.jsonl", &clean);
    direct(&home, "clean.jsonl", "out2", &["--replay", "rows.jsonl"]).expect(4);
    write(
        &home,
        "held.jsonl",
        &[json!({"id": "h1", "messages": [turn("user", "What is the river of city 1?")]})],
    );
    let ran = direct(&home, "clean.jsonl", "out2", &["--check-against", "held.jsonl"]).expect(4);
    assert!(
        ran.stderr.contains("clean.jsonl:2 (r1)") && ran.stderr.contains("held.jsonl:1 (h1)"),
        "{}",
        ran.stderr
    );
    write(&home, "bare.jsonl", &[json!({"question": "what is the river of city 2", "answer": "x"})]);
    let ran = direct(&home, "clean.jsonl", "out2", &["--check-against", "bare.jsonl"]).expect(4);
    assert!(ran.stderr.contains("bare.jsonl:1"), "{}", ran.stderr);
    home.write("broken.jsonl", "{\"messages\": ");
    let ran = direct(&home, "clean.jsonl", "out2", &["--check-against", "broken.jsonl"]).expect(4);
    assert!(ran.stderr.contains("broken.jsonl:1"), "{}", ran.stderr);
    // Measuring on evaluation items is what they are for.
    let base = base();
    train(&home, &["evaluate", "--base", base.to_str().unwrap(), "--data", "rows.jsonl"]).expect(0);
}

#[test]
fn replay_has_its_share_of_every_epoch() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 7));
    // Rows 5 and 6 are asked in both: the answers to be learned hold.
    home.write("old.jsonl", &lines(5, 19));
    let run = |out: &str, more: &[&str]| {
        let common = [
            "--replay",
            "old.jsonl",
            "--batch-size",
            "2",
            "--accumulation",
            "5",
            "--epochs",
            "2",
            "--lr",
            "0.01",
        ];
        let report = direct(&home, "rows.jsonl", out, &[&common[..], more].concat()).expect(0).json();
        (report, home.path().join(out))
    };
    let (report, one) = run("one", &[]);
    let examples = &report["examples"];
    assert_eq!(
        (examples["new"].as_u64(), examples["replay"].as_u64(), examples["replay_pool"].as_u64()),
        (Some(7), Some(3), Some(12))
    );
    assert_eq!(examples["dropped"], json!({"duplicate": 2}));
    assert_eq!(report["steps"], 2, "ten records a step, ten records an epoch");
    let (_, again) = run("again", &[]);
    assert_eq!((digest(&one), losses(&one)), (digest(&again), losses(&again)), "drawn by the seed");
    let (_, other) = run("other", &["--seed", "9"]);
    assert_ne!(losses(&one), losses(&other));
    // A file too small for the share is used whole, and that is said.
    let (report, _) = run("much", &["--replay-share", "0.8"]);
    assert_eq!(report["examples"]["replay"], 12);
    assert!(report["warnings"][0].as_str().unwrap().contains("0.63"), "{report}");
    direct(&home, "rows.jsonl", "x", &["--replay", "old.jsonl", "--replay-share", "1"]).expect(2);
    direct(&home, "rows.jsonl", "x", &["--replay-share", "0.5"]).expect(2);
}

#[test]
fn evaluation_takes_every_form_and_tells_pairs_apart() {
    let home = home();
    let base = base();
    let evaluate = |file: &str, more: &[&str]| {
        let arguments = ["evaluate", "--base", base.to_str().unwrap(), "--data", file, "--json"];
        train(&home, &[&arguments, more].concat()).expect(0).json()
    };
    write(&home, "chats.jsonl", &one_answer_in_every_form());
    write(&home, "one.jsonl", &one_answer_in_every_form()[..1]);
    let (five, one) = (evaluate("chats.jsonl", &[]), evaluate("one.jsonl", &[]));
    assert!((five["mean_nll"].as_f64().unwrap() - one["mean_nll"].as_f64().unwrap()).abs() < 1e-6);
    assert_eq!(evaluate("chats.jsonl", &["--dedup"])["examples"], 1);
    let conversation = |answer: &str| json!([turn("assistant", answer)]);
    let pair = json!({"prompt": [turn("user", QUESTION)], "chosen": conversation(ANSWER), "rejected": conversation("Brin, I think.")});
    write(&home, "pairs.jsonl", &[pair]);
    let report = evaluate("pairs.jsonl", &[]);
    assert_eq!(report["mean_nll"], one["mean_nll"], "the chosen answer alone");
    assert!(report["rejected"]["tokens"].as_u64() > report["tokens"].as_u64(), "{report}");
    let judged = |answer: &str, label: bool| json!({"prompt": [turn("user", QUESTION)], "completion": conversation(answer), "label": label});
    write(&home, "judged.jsonl", &[judged("Brin, I think.", false), judged(ANSWER, true)]);
    let labels = evaluate("judged.jsonl", &[]);
    assert_eq!((&labels["mean_nll"], &labels["rejected"]), (&report["mean_nll"], &report["rejected"]));
}

#[test]
fn the_view_marks_what_is_learned_and_changes_nothing() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    let base = base();
    let ran =
        train(&home, &["data", "--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--show", "1"])
            .expect(0);
    for part in [
        "4 rows of answers (4 alpaca)",
        "rows.jsonl:1 (r0)",
        "⟦<think>",
        "<|im_end|>⟧",
        "packed into 1024 tokens: 1 passes",
    ] {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
    assert_eq!(ran.stdout.matches('⟦').count(), 1);
    assert!(!home.path().join("sandbox_data").exists());
    train(&home, &["--dedup", "data", "--data", "rows.jsonl"]).expect(2);
}
