//! One conversation as training tokens: which of them the loss is taken on.
//!
//! The answer begins where the prompt ends that the server would send (the conversation before the
//! answer, with the generation prompt) and ends with the first end-of-turn token, which is scored:
//! a model that never saw it scored does not stop. Whatever the template prints after it (a newline)
//! is left out. A template whose full rendering does not begin with that prompt is refused rather
//! than guessed at, unless it marks the answer with `{% generation %}`.

use crate::chat::{ChatTemplate, Message};
use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;

/// Prompt and answer of the last assistant turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerSpan {
    /// Everything the model is given.
    pub prompt: Vec<u32>,
    /// Everything it should produce, the end-of-turn token included.
    pub answer: Vec<u32>,
}

/// Tokens and, for each, whether predicting it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Prompt, then answer.
    pub tokens: Vec<u32>,
    /// Same length; true for the answer's tokens.
    pub scored: Vec<bool>,
}

impl Example {
    /// How many tokens are scored.
    pub fn scored_count(&self) -> usize {
        self.scored.iter().filter(|scored| **scored).count()
    }
}

/// Encodes a conversation that ends with an assistant turn, scoring that turn only.
pub fn encode_example(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Example> {
    let AnswerSpan { prompt, answer } = answer_span(tokenizer, template, messages)?;
    let scored = prompt.iter().map(|_| false).chain(answer.iter().map(|_| true)).collect();
    let tokens = prompt.into_iter().chain(answer).collect();
    Ok(Example { tokens, scored })
}

/// Splits a conversation that ends with an assistant turn into prompt and answer.
///
/// # Errors
/// `Input` when the last turn is not a non-empty assistant turn or quotes an end-of-turn token;
/// `Template` when the template does not let the answer be located.
pub fn answer_span(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<AnswerSpan> {
    let Some((answer, before)) = messages.split_last() else {
        return Err(ModelError::Input("the conversation is empty".to_owned()));
    };
    if answer.role != "assistant" {
        return Err(ModelError::Input(format!("the last turn is `{}`, not `assistant`", answer.role)));
    }
    if answer.content.trim().is_empty() && answer.tool_calls.is_none() {
        return Err(ModelError::Input("the answer is empty".to_owned()));
    }
    refuse_end_token(tokenizer, &answer.content)?;

    let prompt = template.render(before, true)?;
    let full = template.render_marked(messages, false)?;
    let start = if full.text.starts_with(prompt.as_str()) {
        prompt.len()
    } else if let Some(span) = full.generated.last() {
        span.start
    } else {
        let problem = "the rendered conversation does not begin with the prompt the server sends, \
                       so the answer cannot be located; add {% generation %} marks to the template";
        return Err(template.error(problem));
    };
    let (prompt, rest) = full.text.split_at(start);
    let mut answer = tokenizer.encode(rest)?;
    let Some(end) = answer.iter().position(|id| tokenizer.is_end(*id)) else {
        let ends: Vec<_> = tokenizer.end_tokens().iter().filter_map(|id| tokenizer.token_text(*id)).collect();
        let problem = format!("none of the end-of-turn tokens [{}] follows the answer", ends.join(", "));
        return Err(template.error(problem));
    };
    answer.truncate(end + 1);
    Ok(AnswerSpan { prompt: tokenizer.encode(prompt)?, answer })
}

/// An answer that quotes an end token would be cut there without a word.
fn refuse_end_token(tokenizer: &Tokenizer, content: &str) -> Result<()> {
    let quoted = tokenizer
        .end_tokens()
        .iter()
        .filter_map(|id| tokenizer.token_text(*id))
        .find(|text| !text.is_empty() && content.contains(text.as_str()));
    match quoted {
        Some(token) => Err(ModelError::Input(format!("the answer holds the end-of-turn token `{token}`"))),
        None => Ok(()),
    }
}
