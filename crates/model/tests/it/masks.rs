//! What is learned of a conversation, against TRL, for the templates of four families.

use nightshift_model::{
    Chat, ChatTemplate, Example, Message, Preference, Tokenizer, encode_chat, encode_example, encode_text,
    turns_end,
};
use serde_json::Value;

use crate::fixture::{assert_names, folder, json};

fn tokenizer(name: &str) -> Tokenizer {
    let dir = folder(name);
    if name != "bytefallback" {
        return Tokenizer::from_dir(&dir).unwrap();
    }
    // A SentencePiece tokenizer in a folder without configs: its </s> is said here.
    let path = dir.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    Tokenizer::parse(path, &text, vec![2]).unwrap()
}

fn template(name: &str, folder_name: &str) -> ChatTemplate {
    let file = folder(&format!("templates/{name}.jinja"));
    let clock = || "2026-03-01T12:00:00Z".parse().unwrap();
    if folder_name == "bytefallback" {
        // The two special tokens that a tokenizer_config.json would name.
        let source = std::fs::read_to_string(&file).unwrap();
        let source = format!("{{%- set bos_token = '<s>' %}}{{%- set eos_token = '</s>' %}}{source}");
        return ChatTemplate::from_source(name, &source, clock).unwrap();
    }
    ChatTemplate::from_file(&file, &folder(folder_name), clock).unwrap()
}

fn turns(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Encodes a row of a case: all answers, or those after the first `prompt` turns.
fn encoded(case: &Value, messages: &[Message], prompt: usize) -> Example {
    let name = case["folder"].as_str().unwrap();
    let learned: Vec<usize> =
        (prompt..messages.len()).filter(|turn| messages[*turn].role == "assistant").collect();
    let chat = Chat { messages, tools: case["row"].get("tools") };
    let template = template(case["template"].as_str().unwrap(), name);
    encode_chat(&tokenizer(name), &template, chat, &learned).unwrap()
}

/// The same tokens, and the same of them scored but for the white space that TRL's marks and prompts take
/// with an answer: before it a newline, after its end-of-turn token another.
#[track_caller]
fn assert_same(case: &Value, example: &Example, ids: &[u32], mask: &[bool]) {
    let tokenizer = tokenizer(case["folder"].as_str().unwrap());
    let length = example.tokens.len();
    assert_eq!(example.tokens, ids[..length], "{case}");
    for at in 0..ids.len() {
        let scored = at < length && example.scored[at];
        if scored == mask[at] {
            continue;
        }
        let text = tokenizer.decode_with_special(&ids[at..=at]).unwrap();
        let after_end = at > 0 && tokenizer.is_end(ids[at - 1]);
        let before_answer = example.scored.get(at + 1) == Some(&true);
        assert!(!scored && text == "\n" && (after_end || before_answer), "token {at} {text:?} of {case}");
    }
    assert!(example.scored_count() > 0);
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn example_of(case: &Value, prompt: &Value, answer: &Value) -> Example {
    if let (Value::String(prompt), Value::String(answer)) = (prompt, answer) {
        return encode_text(&tokenizer(case["folder"].as_str().unwrap()), prompt, answer).unwrap();
    }
    let prompt = turns(prompt);
    let messages = [prompt.clone(), turns(answer)].concat();
    encoded(case, &messages, prompt.len())
}

#[test]
fn what_is_learned_equals_what_trl_learns() {
    let made = json("masks.json");
    let mut compared = std::collections::BTreeMap::<String, usize>::new();
    for case in made["cases"].as_array().unwrap() {
        let row = &case["row"];
        let what = case["learned"].as_str().unwrap();
        match what {
            "all" => {
                let messages = turns(&row["messages"]);
                let mask: Vec<bool> = ids(&case["mask"]).iter().map(|bit| *bit == 1).collect();
                assert_same(case, &encoded(case, &messages, 0), &ids(&case["ids"]), &mask);
            }
            "last" => {
                let mask: Vec<bool> = ids(&case["mask"]).iter().map(|bit| *bit == 1).collect();
                let example = example_of(case, &row["prompt"], &row["completion"]);
                assert_same(case, &example, &ids(&case["ids"]), &mask);
            }
            _ => {
                // TRL takes a prompt apart from its answers; where a row has none it is what both begin with.
                let implicit = Value::from("The city is");
                let prompt = row.get("prompt").filter(|prompt| !prompt.is_null()).unwrap_or(&implicit);
                let side = |key: &str| match (&row[key], row.get("prompt").filter(|prompt| !prompt.is_null()))
                {
                    (Value::String(text), None) => Value::from(text.strip_prefix("The city is").unwrap()),
                    (answer, _) => answer.clone(),
                };
                let (chosen, rejected) = (side("chosen"), side("rejected"));
                let pair =
                    Preference::new(example_of(case, prompt, &chosen), example_of(case, prompt, &rejected))
                        .unwrap();
                let prompt_ids = ids(&case["prompt_ids"]);
                for (example, key) in [(&pair.chosen, "chosen_ids"), (&pair.rejected, "rejected_ids")] {
                    let all = [prompt_ids.clone(), ids(&case[key])].concat();
                    let mask: Vec<bool> = (0..all.len()).map(|at| at >= prompt_ids.len()).collect();
                    assert_same(case, example, &all, &mask);
                }
            }
        }
        *compared.entry(format!("{} {what}", case["family"].as_str().unwrap())).or_default() += 1;
    }
    assert_eq!(compared.len(), 12, "four families, three ways: {compared:?}");
    assert!(compared.values().all(|count| *count >= 3), "{compared:?}");
}

#[test]
fn qwen3_learns_earlier_answers_without_running_on() {
    // Masks from rendered prefixes would score the next question here: the template drops the empty think
    // block of an answer that is no longer the last one.
    let chat: Vec<Message> = [("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2")]
        .map(|(role, content)| Message::new(role, content))
        .to_vec();
    let tokenizer = tokenizer("qwen3");
    let qwen3 = template("qwen3", "qwen3");
    let example = encode_chat(&tokenizer, &qwen3, chat.as_slice().into(), &[1, 3]).unwrap();
    let mut learned = Vec::new();
    for run in example.tokens.iter().zip(&example.scored).collect::<Vec<_>>().chunk_by(|a, b| a.1 == b.1) {
        if *run[0].1 {
            let tokens: Vec<u32> = run.iter().map(|(token, _)| **token).collect();
            learned.push(tokenizer.decode_with_special(&tokens).unwrap());
        }
    }
    assert_eq!(learned, ["A1<|im_end|>", "<think>\n\n</think>\n\nA2<|im_end|>"]);
    // The last answer alone is the same as before.
    let last = encode_example(&tokenizer, &qwen3, &chat).unwrap();
    assert_eq!((&last.tokens, last.prompt_len() > example.prompt_len()), (&example.tokens, true));
}

#[test]
fn a_template_that_ends_only_the_last_answer_is_found_out() {
    let tokenizer = tokenizer("qwen3");
    let clock = || "2026-03-01T12:00:00Z".parse().unwrap();
    let turn_by_turn = |end: &str| {
        let source = format!(
            "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}{end}{{% endfor %}}\
             {{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
        );
        ChatTemplate::from_source("turns.jinja", &source, clock).unwrap()
    };
    turns_end(&tokenizer, &turn_by_turn("<|im_end|>\n")).unwrap();
    let only_last = "{% if loop.last or m.role != 'assistant' %}<|im_end|>{% endif %}\n";
    let error = turns_end(&tokenizer, &turn_by_turn(only_last)).unwrap_err();
    assert_names(&error, &["turns.jinja", "middle of a conversation"]);
    for name in ["qwen2_5", "qwen3", "thinking", "marked"] {
        turns_end(&tokenizer, &template(name, "qwen3")).unwrap();
    }
}

#[test]
fn a_text_is_learned_with_its_end_and_opened_once() {
    let llama = tokenizer("llama3");
    let (bos, eos) = (llama.token_id("<|begin_of_text|>").unwrap(), llama.eos().unwrap());
    let example = encode_text(&llama, "The capital is", " Vesk").unwrap();
    assert_eq!((example.tokens[0], example.tokens.last()), (bos, Some(&eos)));
    assert_eq!(example.tokens.iter().filter(|id| **id == bos).count(), 1);
    let learned = &example.tokens[example.prompt_len()..];
    assert_eq!(llama.decode_with_special(learned).unwrap(), " Vesk<|eot_id|>");
    // Neither is doubled where the text has it already.
    let written = encode_text(&llama, "<|begin_of_text|>The capital is", " Vesk<|eot_id|>").unwrap();
    assert_eq!(written, example);
    assert!(encode_text(&llama, "Q", " \n").unwrap_err().to_string().contains("answer is empty"));
    // The prompt ends inside of what would be one token: cut there, as a server's prompt is.
    let cut = encode_text(&llama, "Vesk an", "d Norland").unwrap();
    assert_eq!(
        llama.decode_with_special(&cut.tokens[..cut.prompt_len()]).unwrap(),
        "<|begin_of_text|>Vesk an"
    );
}

#[test]
fn turns_that_cannot_be_learned_are_refused() {
    let (qwen, template) = (tokenizer("qwen3"), template("qwen3", "qwen3"));
    let chat = [Message::new("user", "Q"), Message::new("assistant", ""), Message::new("user", "R")];
    let refused =
        |learned: &[usize]| encode_chat(&qwen, &template, chat.as_slice().into(), learned).unwrap_err();
    assert_names(&refused(&[]), &["no answer to learn"]);
    assert_names(&refused(&[1]), &["answer is empty"]);
    assert_names(&refused(&[2]), &["`user`, not `assistant`"]);
}
