//! What a member is asked, and reading its reply.

use nightshift_core::config::MemberPrompt;
use nightshift_core::interaction::Interaction;
use nightshift_net::openai::{Message, Role};

/// Grows when the prompt changes: stored answers to another prompt are not reused.
pub(crate) const PROTOCOL: u32 = 1;

/// The messages for one member.
pub(crate) fn messages(kind: MemberPrompt, item: &Interaction) -> Vec<Message> {
    match kind {
        MemberPrompt::Blind => item
            .messages
            .iter()
            .map(|message| {
                let role = match message.role.as_str() {
                    "system" => Role::System,
                    "developer" => Role::Developer,
                    "assistant" => Role::Assistant,
                    "tool" => Role::Tool,
                    _ => Role::User,
                };
                Message::new(role, message.content.clone())
            })
            .collect(),
        MemberPrompt::Agent0 => vec![Message::user(agent0(item))],
    }
}

/// The Agent-0 prompt of the documents, word for word.
fn agent0(item: &Interaction) -> String {
    let query = if item.messages.len() > 1 {
        let turns = item.messages.iter().map(|message| format!("{}: {}", message.role, message.content));
        turns.collect::<Vec<_>>().join("\n")
    } else {
        item.query.clone()
    };
    let failed = item.response.as_deref().unwrap_or("(no answer)");
    format!(
        "You are Agent-0, an expert response improver.\n\nQUERY: {query}\nBAD_RESPONSE: {failed}\n\n\
         Your task: Provide a much better response with clear reasoning.\n\n\
         Format:\nREASONING: [Step-by-step thinking]\nANSWER: [Improved response]"
    )
}

/// A member's reply, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub(crate) reasoning: &'a str,
    pub(crate) answer: &'a str,
    /// Byte offset of the answer in the reply.
    pub(crate) offset: usize,
}

const REASONING: &str = "REASONING:";
const ANSWER: &str = "ANSWER:";

/// Takes a reply apart; `None` when it is not in the form that was asked for.
pub(crate) fn parse(kind: MemberPrompt, reply: &str) -> Option<Parsed<'_>> {
    if kind == MemberPrompt::Blind {
        let answer = reply.trim();
        return Some(Parsed { reasoning: "", answer, offset: reply.len() - reply.trim_start().len() });
    }
    // The last marker at the start of a line or after the reasoning: reasoning may speak of answers.
    let marker = reply.rfind(ANSWER)?;
    let offset = marker + ANSWER.len();
    let before = &reply[..marker];
    let reasoning = before.find(REASONING).map_or("", |at| before[at + REASONING.len()..].trim());
    Some(Parsed { reasoning, answer: reply[offset..].trim(), offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart() {
        let parsed = parse(MemberPrompt::Agent0, "REASONING: the ANSWER is near\nANSWER: 12 km\n").unwrap();
        assert_eq!((parsed.reasoning, parsed.answer), ("the ANSWER is near", "12 km"));
        assert_eq!(parse(MemberPrompt::Agent0, "12 km"), None);
        assert_eq!(parse(MemberPrompt::Agent0, "ANSWER: x").unwrap().reasoning, "");
        assert_eq!(
            parse(MemberPrompt::Blind, " 12 km ").unwrap(),
            Parsed { reasoning: "", answer: "12 km", offset: 1 }
        );
    }
}
