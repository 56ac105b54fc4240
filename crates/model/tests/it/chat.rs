//! Chat templates against transformers, byte for byte, and where the answer is found.

use jiff::Timestamp;
use nightshift_model::{ChatTemplate, Message, ModelError, Tokenizer, encode_example};

use crate::fixture::{assert_names, copy_of, folder, json, put};

fn clock() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn template(folder_name: &str, name: &str) -> ChatTemplate {
    let path = folder(&format!("templates/{name}.jinja"));
    let own = ChatTemplate::from_dir(&folder(folder_name), clock).unwrap();
    match name {
        // These two come with their folders, one in each of the places where templates live.
        "thinking" | "headers" => own,
        _ => ChatTemplate::from_source(name, &std::fs::read_to_string(path).unwrap(), clock).unwrap(),
    }
}

/// Prompt and answer of the last turn.
fn span(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    chat: &[Message],
) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
    let example = encode_example(tokenizer, template, chat)?;
    let (prompt, answer) = example.tokens.split_at(example.prompt_len());
    Ok((prompt.to_vec(), answer.to_vec()))
}

fn turns(pairs: &[(&str, &str)]) -> Vec<Message> {
    pairs.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

#[test]
fn renderings_and_ids_equal_those_of_transformers() {
    let rows = json("chat.json");
    for row in rows.as_array().unwrap() {
        let folder_name = row["folder"].as_str().unwrap();
        let name = row["template"].as_str().unwrap();
        let messages: Vec<Message> = serde_json::from_value(row["messages"].clone()).unwrap();
        let prompt = row["add_generation_prompt"].as_bool().unwrap();
        let text = template(folder_name, name).render(&messages, prompt).unwrap();
        assert_eq!(text, row["text"].as_str().unwrap(), "{name} {messages:?}");
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(Tokenizer::from_dir(&folder(folder_name)).unwrap().encode(&text).unwrap(), ids, "{name}");
    }
    assert!(rows.as_array().unwrap().len() >= 25);
}

#[test]
fn scored_tokens_equal_the_assistant_mask_of_transformers() {
    let tokenizer = Tokenizer::from_dir(&folder("qwen3")).unwrap();
    let mut compared = 0;
    for row in json("chat.json").as_array().unwrap() {
        let Ok(mask) = serde_json::from_value::<Vec<u8>>(row["assistant_mask"].clone()) else { continue };
        let messages: Vec<Message> = serde_json::from_value(row["messages"].clone()).unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["masked_ids"].clone()).unwrap();
        let example = encode_example(&tokenizer, &template("qwen3", "marked"), &messages).unwrap();
        let length = example.tokens.len();
        assert_eq!(example.tokens, ids[..length]);
        // transformers marks every assistant turn, this crate the last one.
        let begin = example.scored.iter().position(|scored| *scored).unwrap();
        let expected: Vec<bool> = mask[begin..length].iter().map(|bit| *bit == 1).collect();
        assert_eq!(example.scored[begin..], expected);
        assert_eq!((mask[begin - 1], &mask[length..].contains(&1)), (0, &false));
        compared += 1;
    }
    assert_eq!(compared, 2);
}

#[test]
fn the_answer_ends_with_the_end_of_turn_token_and_nothing_after_it() {
    let tokenizer = Tokenizer::from_dir(&folder("qwen3")).unwrap();
    let chat = turns(&[("user", "Count."), ("assistant", "1 2"), ("user", "Again?"), ("assistant", "3 4")]);
    let (prompt, answer) = span(&tokenizer, &template("qwen3", "thinking"), &chat).unwrap();
    assert_eq!(tokenizer.decode_with_special(&answer).unwrap(), "<think>\n\n</think>\n\n3 4<|im_end|>");
    let text = tokenizer.decode_with_special(&prompt).unwrap();
    assert!(text.ends_with("Again?<|im_end|>\n<|im_start|>assistant\n"), "{text:?}");
    let example = encode_example(&tokenizer, &template("qwen3", "thinking"), &chat).unwrap();
    assert_eq!(example.scored_count(), answer.len());
    assert_eq!(example.tokens.len(), example.scored.len());

    let tokenizer = Tokenizer::from_dir(&folder("llama3")).unwrap();
    let (prompt, answer) = span(&tokenizer, &template("llama3", "headers"), &chat).unwrap();
    assert_eq!(tokenizer.decode_with_special(&answer).unwrap(), "3 4<|eot_id|>");
    let bos = tokenizer.token_id("<|begin_of_text|>").unwrap();
    assert_eq!(prompt.iter().filter(|id| **id == bos).count(), 1, "one BOS only");
}

#[test]
fn a_template_that_hides_the_answer_is_refused() {
    let tokenizer = Tokenizer::from_dir(&folder("qwen3")).unwrap();
    let chat = turns(&[("user", "Q"), ("assistant", "A")]);
    let refused = |source: &str| {
        let template = ChatTemplate::from_source("trap.jinja", source, clock).unwrap();
        span(&tokenizer, &template, &chat).unwrap_err()
    };
    // Announces the number of turns first, so the prompt is no prefix.
    let counting = "{{ messages|length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
    assert_names(&refused(counting), &["trap.jinja", "does not begin with the prompt"]);
    let endless = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    assert_names(&refused(endless), &["trap.jinja", "end-of-turn", "<|im_end|>"]);
    // The same trap, but marked: the marks locate the answer.
    let marked = "{{ messages|length }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}\
                  {{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let template = ChatTemplate::from_source("marked.jinja", marked, clock).unwrap();
    let (prompt, answer) = span(&tokenizer, &template, &chat).unwrap();
    assert_eq!(tokenizer.decode_with_special(&prompt).unwrap(), "2Q");
    assert_eq!(tokenizer.decode_with_special(&answer).unwrap(), "A<|im_end|>");
}

#[test]
fn conversations_without_a_usable_answer_are_refused() {
    let tokenizer = Tokenizer::from_dir(&folder("qwen3")).unwrap();
    let template = template("qwen3", "thinking");
    let refused = |chat: &[(&str, &str)]| span(&tokenizer, &template, &turns(chat)).unwrap_err();
    assert_names(&refused(&[]), &["empty"]);
    assert_names(&refused(&[("user", "Q")]), &["last turn", "user"]);
    assert_names(&refused(&[("user", "Q"), ("assistant", " \n")]), &["answer is empty"]);
    let quoting = refused(&[("user", "Q"), ("assistant", "say <|im_end|> now")]);
    assert_names(&quoting, &["<|im_end|>", "end-of-turn"]);
}

#[test]
fn template_errors_name_file_and_reason() {
    let thinking = template("qwen3", "thinking");
    let error = thinking.render(&turns(&[("user", "Q"), ("wizard", "?")]), false).unwrap_err();
    assert_names(&error, &["chat_template.jinja", "unexpected role wizard"]);
    let error = ChatTemplate::from_source("broken.jinja", "{% if %}", clock).unwrap_err();
    assert_names(&error, &["broken.jinja", "line 1"]);
    let dir = copy_of("mistral");
    let error = ChatTemplate::from_dir(dir.path(), clock).unwrap_err();
    assert_names(&error, &["chat_template.jinja", "no chat template"]);
}

#[test]
fn a_list_of_templates_has_a_default() {
    let dir = copy_of("mistral");
    let list = r#"{"eos_token": {"content": "</s>"}, "chat_template": [
        {"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes{{ eos_token }}"}]}"#;
    put(dir.path(), "tokenizer_config.json", list.as_bytes());
    let template = ChatTemplate::from_dir(dir.path(), clock).unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "yes</s>");
    put(dir.path(), "tokenizer_config.json", br#"{"chat_template": [{"name": "a"}, {"name": "b"}]}"#);
    assert_names(&ChatTemplate::from_dir(dir.path(), clock).unwrap_err(), &["chat_template", "default"]);
}

#[test]
fn json_in_templates_is_written_as_python_does() {
    let template = ChatTemplate::from_source("t", "{{ messages[0].content | tojson }}", clock).unwrap();
    let chat = turns(&[("user", "<a> & 'b' \\u003c \"q\" é\n")]);
    assert_eq!(template.render(&chat, false).unwrap(), r#""<a> & 'b' \\u003c \"q\" é\n""#);
}

#[test]
fn the_absence_of_tools_is_none_and_not_iterable() {
    let source = "{% if tools is iterable and tools|length > 0 %}tools{% elif tools is none %}none{% endif %}\
                  {{ messages is iterable }}{{ messages[0] is iterable }}{{ messages[0].role is iterable }}";
    let template = ChatTemplate::from_source("t", source, clock).unwrap();
    assert_eq!(template.render(&turns(&[("user", "Q")]), false).unwrap(), "noneTrueTrueTrue");
}
