//! Conversations and texts as training tokens: which of them the loss is taken on.
//!
//! A learned turn begins where the prompt ends that the server would send (the conversation before it,
//! with the generation prompt) and ends with the first end-of-turn token, which is scored: a model that
//! never saw it scored does not stop. Whatever the template prints after it (a newline) is not.
//! A template whose rendering of the conversation does not begin with that prompt is refused rather than
//! guessed at, unless it marks its answers with `{% generation %}`. Masks made of rendered prefixes
//! *without* the generation prompt would be wrong: Qwen3 renders an answer differently once it is not
//! the last one.
//!
//! Tokens are those of the whole text. Only where a token would reach across the beginning of a learned
//! turn is the text cut there: the server's prompt ends there too.

use crate::chat::{Chat, ChatTemplate, Message, Rendered};
use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;

/// Tokens and, for each, whether predicting it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Prompt, then answer.
    pub tokens: Vec<u32>,
    /// Same length; true for the tokens that are learned.
    pub scored: Vec<bool>,
}

impl Example {
    /// How many tokens are scored.
    pub fn scored_count(&self) -> usize {
        self.scored.iter().filter(|scored| **scored).count()
    }

    /// Tokens before the first scored one.
    pub fn prompt_len(&self) -> usize {
        self.scored.iter().position(|scored| *scored).unwrap_or(self.tokens.len())
    }
}

/// Two answers to one prompt, of which the first is wanted (DPO and its relatives).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// Prompt and wanted answer.
    pub chosen: Example,
    /// The same prompt and the other answer.
    pub rejected: Example,
    /// Tokens of the prompt, equal in both; the first token after them is scored.
    pub prompt_len: usize,
}

impl Preference {
    /// # Errors
    /// `Input` when the two do not begin with the same prompt, or say the same.
    pub fn new(chosen: Example, rejected: Example) -> Result<Self> {
        let prompt_len = chosen.prompt_len();
        if prompt_len != rejected.prompt_len() || chosen.tokens[..prompt_len] != rejected.tokens[..prompt_len]
        {
            let problem = "the chosen and the rejected answer do not follow the same prompt";
            return Err(ModelError::Input(problem.to_owned()));
        }
        if chosen == rejected {
            return Err(ModelError::Input("the chosen and the rejected answer are the same".to_owned()));
        }
        Ok(Self { chosen, rejected, prompt_len })
    }
}

/// One answer and whether it is wanted (KTO).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Prompt and answer.
    pub example: Example,
    /// Whether answers like this one are wanted.
    pub desirable: bool,
}

/// Encodes a conversation that ends with an assistant turn, scoring that turn only.
///
/// # Errors
/// As [`encode_chat`].
pub fn encode_example(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Example> {
    match messages.len().checked_sub(1) {
        Some(last) => encode_chat(tokenizer, template, messages.into(), &[last]),
        None => Err(ModelError::Input("the conversation is empty".to_owned())),
    }
}

/// Encodes a conversation, scoring the turns `learned` (indices of assistant turns, rising). What comes
/// after the last of them is left out: nothing of it could be learned.
///
/// # Errors
/// `Input` when a learned turn is not a non-empty assistant turn, or quotes an end-of-turn token;
/// `Template` when the template does not let a turn be located.
pub fn encode_chat(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    chat: Chat<'_>,
    learned: &[usize],
) -> Result<Example> {
    let Some(&last) = learned.last() else {
        return Err(ModelError::Input("the conversation has no answer to learn".to_owned()));
    };
    for &turn in learned {
        check_answer(tokenizer, &chat.messages[turn])?;
    }
    let chat = chat.before(last + 1);
    let full = template.render_chat(chat, false)?;
    let mut pieces = Pieces::new(tokenizer, &full.text)?;
    let mut starts = Vec::with_capacity(learned.len());
    for &turn in learned {
        starts.push(pieces.token_at(start_of(template, chat, turn, &full)?)?);
    }
    let tokens = pieces.join();
    mark(tokenizer, template, tokens, &starts)
}

/// Encodes a prompt and its completion as they stand, without a template, and appends the end-of-text
/// token, which is scored.
///
/// # Errors
/// `Input` when the completion is empty.
pub fn encode_text(tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Result<Example> {
    if completion.trim().is_empty() {
        return Err(ModelError::Input("the answer is empty".to_owned()));
    }
    let head = tokenizer.encode_text(prompt)?;
    let mut tokens = tokenizer.encode_text(&format!("{prompt}{completion}"))?;
    if !tokens.starts_with(&head) {
        tokens.clone_from(&head);
        tokens.extend(tokenizer.encode(completion)?);
    }
    tokens.extend(tokenizer.eos().filter(|eos| tokens.last() != Some(eos)));
    let scored = (0..tokens.len()).map(|at| at >= head.len()).collect();
    Ok(Example { tokens, scored })
}

/// Whether the template ends answers in the middle of a conversation as it ends the last one. Where it
/// does not, only last answers can be learned: an earlier one would run on into the next question.
///
/// # Errors
/// `Template`. A template that cannot render the short conversation this is tried on is not judged:
/// the rows will tell.
pub fn turns_end(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<()> {
    let turn = |role: &str, content: &str| Message::new(role, content);
    let probe = [turn("user", "alpha"), turn("assistant", "bravo"), turn("user", "charlie")];
    let probe: Vec<Message> = probe.into_iter().chain([turn("assistant", "delta")]).collect();
    let Ok(example) = encode_chat(tokenizer, template, probe.as_slice().into(), &[1, 3]) else {
        return Ok(());
    };
    let first: Vec<u32> = example
        .tokens
        .iter()
        .zip(&example.scored)
        .skip_while(|(_, scored)| !**scored)
        .take_while(|(_, scored)| **scored)
        .map(|(token, _)| *token)
        .collect();
    if tokenizer.decode(&first)?.contains("charlie") {
        let problem = "no end-of-turn token follows an answer in the middle of a conversation, so only \
                       last answers can be learned";
        return Err(template.error(problem));
    }
    Ok(())
}

/// Refuses a turn that cannot be learned.
fn check_answer(tokenizer: &Tokenizer, turn: &Message) -> Result<()> {
    if turn.role != "assistant" {
        return Err(ModelError::Input(format!("the last turn is `{}`, not `assistant`", turn.role)));
    }
    if turn.content.trim().is_empty() && turn.tool_calls.is_none() {
        return Err(ModelError::Input("the answer is empty".to_owned()));
    }
    refuse_end_token(tokenizer, &turn.content)
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

/// Byte at which the answer of turn `turn` begins in the rendered conversation.
fn start_of(template: &ChatTemplate, chat: Chat<'_>, turn: usize, full: &Rendered) -> Result<usize> {
    let prompt = template.render_chat(chat.before(turn), true)?.text;
    if full.text.starts_with(&prompt) {
        return Ok(prompt.len());
    }
    let is_answer = |message: &&Message| message.role == "assistant";
    let answers = chat.messages.iter().filter(is_answer).count();
    if full.generated.len() == answers {
        let before = chat.messages[..turn].iter().filter(is_answer).count();
        return Ok(full.generated[before].start);
    }
    let problem = format!(
        "the rendered conversation does not begin with the prompt the server sends before turn {}, so the \
         answer cannot be located; add {{% generation %}} marks to the template",
        turn + 1
    );
    Err(template.error(problem))
}

/// Scores from each start to the first end-of-turn token, and cuts what follows the last one.
fn mark(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    mut tokens: Vec<u32>,
    starts: &[usize],
) -> Result<Example> {
    let mut scored = vec![false; tokens.len()];
    let mut end = 0;
    for (index, &start) in starts.iter().enumerate() {
        let limit = starts.get(index + 1).copied().unwrap_or(tokens.len());
        let Some(length) = tokens[start..limit].iter().position(|id| tokenizer.is_end(*id)) else {
            let ends = tokenizer.end_tokens().iter().filter_map(|id| tokenizer.token_text(*id));
            let ends: Vec<_> = ends.collect();
            let problem = format!("none of the end-of-turn tokens [{}] follows the answer", ends.join(", "));
            return Err(template.error(problem));
        };
        end = start + length + 1;
        scored[start..end].fill(true);
    }
    tokens.truncate(end);
    scored.truncate(end);
    Ok(Example { tokens, scored })
}

/// A text in tokens that can be asked at which token a byte begins.
struct Pieces<'a> {
    tokenizer: &'a Tokenizer,
    text: &'a str,
    /// Tokens of `text[..cut]`.
    done: Vec<u32>,
    /// The last place where the text had to be cut.
    cut: usize,
    /// Tokens of `text[cut..]`.
    rest: Vec<u32>,
}

impl<'a> Pieces<'a> {
    fn new(tokenizer: &'a Tokenizer, text: &'a str) -> Result<Self> {
        Ok(Self { tokenizer, text, done: Vec::new(), cut: 0, rest: tokenizer.encode(text)? })
    }

    /// The index of the first token at or after byte `at`. Calls must come in rising order.
    fn token_at(&mut self, at: usize) -> Result<usize> {
        let head = self.tokenizer.encode(&self.text[self.cut..at])?;
        if self.rest.starts_with(&head) {
            return Ok(self.done.len() + head.len());
        }
        self.done.extend(head);
        self.cut = at;
        self.rest = self.tokenizer.encode(&self.text[at..])?;
        Ok(self.done.len())
    }

    fn join(mut self) -> Vec<u32> {
        self.done.append(&mut self.rest);
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(tokens: &[u32], prompt: usize) -> Example {
        let scored = (0..tokens.len()).map(|at| at >= prompt).collect();
        Example { tokens: tokens.to_vec(), scored }
    }

    #[test]
    fn a_pair_shares_its_prompt() {
        let pair = Preference::new(example(&[1, 2, 3], 2), example(&[1, 2, 4, 5], 2)).unwrap();
        assert_eq!((pair.prompt_len, pair.chosen.scored_count(), pair.rejected.scored_count()), (2, 1, 2));
        let refused = |a, b| Preference::new(a, b).unwrap_err().to_string();
        assert!(refused(example(&[1, 2, 3], 2), example(&[1, 9, 4], 2)).contains("same prompt"));
        assert!(refused(example(&[1, 2, 3], 2), example(&[1, 2, 4], 1)).contains("same prompt"));
        assert!(refused(example(&[1, 2], 1), example(&[1, 2], 1)).contains("are the same"));
    }
}
