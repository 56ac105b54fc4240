//! Rows with a prompt apart from its answer: prompt/completion, preference pairs, judged answers.
//!
//! A prompt is a text (no template is applied, as TRL does it) or a list of messages. Where a preference
//! pair has no prompt, it is what both answers begin with, as in TRL.

use nightshift_model::Message;
use serde_json::Value;

use super::chat;
use super::row::{Body, Object, Sample, alpaca_prompt, kind, required_text, text};

/// A side of a pair.
enum Side {
    Text(String),
    Turns(Vec<Message>),
}

/// `{"prompt", "completion"}`.
pub(super) fn prompt_completion(row: &Object) -> Result<Sample, String> {
    let prompt = side(row, "prompt")?;
    let completion = side(row, "completion")?;
    join(prompt, completion, row, "completion")
}

/// `{"prompt", "completion", "label"}`, or a conversation with a `label`.
pub(super) fn judged(row: &Object) -> Result<Body, String> {
    let Some(Value::Bool(label)) = row.get("label") else {
        return Err("`label` is neither true nor false".into());
    };
    let sample = if row.contains_key("completion") {
        prompt_completion(row)?
    } else {
        match chat::messages(row)? {
            Sample::Chat { messages, tools, learned: None } => {
                let last = vec![messages.len() - 1];
                Sample::Chat { messages, tools, learned: Some(last) }
            }
            sample => sample,
        }
    };
    Ok(Body::Judged(sample, *label))
}

/// `{"instruction", "input", "output", "rejected"}`: the accepted answer against the failed one.
pub(super) fn harvested(row: &Object) -> Result<Body, String> {
    let prompt = alpaca_prompt(row)?;
    let answer = |key: &str| -> Result<Sample, String> {
        let answer = vec![Message::new("assistant", required_text(row, key)?)];
        Ok(Sample::continued(prompt.clone(), answer, None))
    };
    Ok(Body::Pair(answer("output")?, answer("rejected")?))
}

/// `{"prompt", "chosen", "rejected"}` and its relatives.
pub(super) fn preference(row: &Object) -> Result<Body, String> {
    if row.contains_key("preferred_output") {
        return openai(row);
    }
    let (chosen, rejected) = (side(row, "chosen")?, side(row, "rejected")?);
    if row.contains_key("instruction") {
        let prompt = alpaca_prompt(row)?;
        let join = |answer, key| join(Side::Turns(prompt.clone()), turns_of(answer), row, key);
        return Ok(Body::Pair(join(chosen, "chosen")?, join(rejected, "rejected")?));
    }
    let asked = ["prompt", "messages", "conversations"].into_iter().find(|key| row.contains_key(*key));
    let (prompt, chosen, rejected) = match asked {
        Some(key) => (side(row, key)?, chosen, rejected),
        None => split_common(chosen, rejected)?,
    };
    // A conversation may be answered with a bare text.
    let (chosen, rejected) = match &prompt {
        Side::Turns(_) => (turns_of(chosen), turns_of(rejected)),
        Side::Text(_) => (chosen, rejected),
    };
    let prompt_again = match &prompt {
        Side::Text(text) => Side::Text(text.clone()),
        Side::Turns(turns) => Side::Turns(turns.clone()),
    };
    Ok(Body::Pair(join(prompt, chosen, row, "chosen")?, join(prompt_again, rejected, row, "rejected")?))
}

/// OpenAI's `{"input": {"messages", "tools"}, "preferred_output", "non_preferred_output"}`.
fn openai(row: &Object) -> Result<Body, String> {
    let Some(Value::Object(input)) = row.get("input") else {
        return Err("`input` is not an object with messages".into());
    };
    let answer = |key: &str| -> Result<Sample, String> {
        join(side(input, "messages")?, turns_of(side(row, key)?), input, key)
    };
    Ok(Body::Pair(answer("preferred_output")?, answer("non_preferred_output")?))
}

/// A text, one message, or a list of messages.
fn side(row: &Object, key: &str) -> Result<Side, String> {
    match row.get(key) {
        None | Some(Value::Null) => Err(format!("`{key}` is missing")),
        Some(Value::Array(list)) => {
            let list = list.iter().map(chat::said).collect::<Result<Vec<_>, _>>();
            let list = list.map_err(|why| format!("{key}: {why}"))?;
            Ok(Side::Turns(chat::turns(&list, key)?.0))
        }
        Some(one @ Value::Object(_)) => {
            let one = chat::said(one).map_err(|why| format!("{key}: {why}"))?;
            Ok(Side::Turns(chat::turns(&[one], key)?.0))
        }
        Some(Value::String(_)) => Ok(Side::Text(text(row, key)?.unwrap_or_default())),
        Some(other) => Err(format!("`{key}` is {}, neither a text nor a list of messages", kind(other))),
    }
}

/// An answer to a conversation: a bare text is the assistant's.
fn turns_of(answer: Side) -> Side {
    match answer {
        Side::Text(text) => Side::Turns(vec![Message::new("assistant", text)]),
        turns @ Side::Turns(_) => turns,
    }
}

fn join(prompt: Side, answer: Side, row: &Object, key: &str) -> Result<Sample, String> {
    match (prompt, answer) {
        (Side::Text(prompt), Side::Text(completion)) => Ok(Sample::Text { prompt, completion }),
        (Side::Turns(prompt), Side::Turns(answer)) => {
            if prompt.last().is_some_and(|turn| turn.role == "assistant") {
                return Err("the prompt ends with an assistant turn".into());
            }
            if !answer.iter().any(|turn| turn.role == "assistant") {
                return Err(format!("`{key}` holds no assistant turn"));
            }
            Ok(Sample::continued(prompt, answer, chat::tools(row)?))
        }
        _ => Err(format!("the prompt and `{key}` must both be texts, or both lists of messages")),
    }
}

/// What both sides begin with is the prompt.
fn split_common(chosen: Side, rejected: Side) -> Result<(Side, Side, Side), String> {
    match (chosen, rejected) {
        (Side::Turns(mut chosen), Side::Turns(mut rejected)) => {
            let common = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            let (good, bad) = (chosen.split_off(common), rejected.split_off(common));
            if good.is_empty() || bad.is_empty() {
                return Err("one of `chosen` and `rejected` holds nothing of its own".into());
            }
            if chosen.is_empty() {
                return Err("`chosen` and `rejected` begin differently, and there is no `prompt`".into());
            }
            Ok((Side::Turns(chosen), Side::Turns(good), Side::Turns(bad)))
        }
        (Side::Text(chosen), Side::Text(rejected)) => {
            let at = common_text(&chosen, &rejected);
            let (prompt, good) = chosen.split_at(at);
            let bad = &rejected[at..];
            if good.is_empty() || bad.is_empty() {
                return Err("one of `chosen` and `rejected` holds nothing of its own".into());
            }
            Ok((Side::Text(prompt.into()), Side::Text(good.into()), Side::Text(bad.into())))
        }
        _ => Err("`chosen` and `rejected` must both be texts, or both lists of messages".into()),
    }
}

/// Bytes that two texts begin with in common, as TRL counts: a space before the difference belongs to
/// the answers.
fn common_text(a: &str, b: &str) -> usize {
    let common: usize =
        a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(character, _)| character.len_utf8()).sum();
    if a[..common].ends_with(' ') { common - 1 } else { common }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row::{Form, Teaches, parse};
    use serde_json::json;

    fn body(value: Value) -> Body {
        parse(value, "p", None).unwrap().remove(0).body
    }

    fn why(value: Value) -> String {
        parse(value, "p", None).unwrap_err()
    }

    fn texts(prompt: &str, completion: &str) -> Sample {
        Sample::Text { prompt: prompt.into(), completion: completion.into() }
    }

    fn learned(sample: &Sample) -> (usize, &[usize]) {
        let Sample::Chat { messages, learned: Some(learned), .. } = sample else { panic!("{sample:?}") };
        (messages.len(), learned)
    }

    #[test]
    fn prompt_and_completion_are_texts_or_messages() {
        let row = parse(json!({"prompt": "2+2=", "completion": "4"}), "p", None).unwrap().remove(0);
        assert_eq!((row.form, row.body), (Form::PromptCompletion, Body::Answer(texts("2+2=", "4"))));
        let body = body(json!({"prompt": [{"role": "user", "content": "Q"}],
                               "completion": [{"role": "assistant", "content": "A"}]}));
        assert_eq!(learned(body.samples()[0]), (2, &[1][..]));
        assert!(
            why(json!({"prompt": "Q", "completion": [{"role": "assistant", "content": "A"}]}))
                .contains("both")
        );
        assert!(why(json!({"prompt": 3, "completion": "A"})).contains("`prompt` is a number"));
        let prefilled = json!({"prompt": [{"role": "assistant", "content": "A"}],
                               "completion": [{"role": "assistant", "content": "A"}]});
        assert!(why(prefilled).contains("ends with an assistant turn"));
    }

    #[test]
    fn preferences_of_every_form() {
        let pair = Body::Pair(texts("Q ", "good"), texts("Q ", "bad"));
        assert_eq!(body(json!({"prompt": "Q ", "chosen": "good", "rejected": "bad"})), pair);
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let forms = [
            json!({"prompt": [turn("user", "Q")], "chosen": [turn("assistant", "g")], "rejected": [turn("assistant", "b")]}),
            json!({"prompt": [turn("user", "Q")], "chosen": "g", "rejected": "b"}),
            json!({"chosen": [turn("user", "Q"), turn("assistant", "g")], "rejected": [turn("user", "Q"), turn("assistant", "b")]}),
            json!({"instruction": "Q", "input": "", "chosen": "g", "rejected": "b"}),
            json!({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "g"},
                   "rejected": {"from": "gpt", "value": "b"}}),
            json!({"input": {"messages": [turn("user", "Q")]}, "preferred_output": [turn("assistant", "g")],
                   "non_preferred_output": [turn("assistant", "b")]}),
        ];
        let first = body(forms[0].clone());
        assert_eq!(learned(first.samples()[1]), (2, &[1][..]));
        for form in forms {
            assert_eq!(body(form.clone()), first, "{form}");
        }
        assert!(why(json!({"chosen": "g", "prompt": "Q"})).contains("`rejected` is missing"));
        assert!(
            why(json!({"chosen": [turn("user", "Q")], "rejected": [turn("user", "Q")]}))
                .contains("of its own")
        );
    }

    #[test]
    fn an_implicit_prompt_is_cut_as_trl_cuts_it() {
        // trl.data_utils.extract_prompt gives these three texts.
        let implicit = json!({"chosen": "The sky is blue.", "rejected": "The sky is green."});
        assert_eq!(body(implicit), Body::Pair(texts("The sky is", " blue."), texts("The sky is", " green.")));
        assert_eq!(common_text("naïve ü", "naïve ö"), "naïve".len());
    }

    #[test]
    fn judged_answers_have_a_label() {
        let row = json!({"prompt": "Q", "completion": "A", "label": true});
        assert_eq!(body(row), Body::Judged(texts("Q", "A"), true));
        let chat = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
                          "label": false});
        let Body::Judged(sample, false) = body(chat) else { panic!() };
        assert_eq!(learned(&sample).1, [1]);
        assert!(why(json!({"prompt": "Q", "completion": "A", "label": "yes"})).contains("`label`"));
        let two =
            parse(json!({"prompt": "Q", "chosen": "g", "rejected": "b"}), "p", Some(Teaches::Judgements));
        assert_eq!(two.unwrap().len(), 2);
    }
}
