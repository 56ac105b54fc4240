//! The tokenizer of the demo's models, trained on the student's material only.
//!
//! Byte-level BPE. Digits are split one by one. `<q> question <a> answer <eos>` is a row; a council member's answer
//! is `REASONING: word`, a line end, `ANSWER: answer`, where both marks are one token each, so that the answer's own
//! tokens are the ones that the student uses.

use std::path::Path;

use nightshift_core::Failure;
use nightshift_core::files;
use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

use crate::material::{ANSWER, Material, REASONING};

/// Size of the vocabulary.
pub const VOCABULARY: usize = 800;
/// Begins a question.
pub const QUESTION_TOKEN: &str = "<q>";
/// Begins an answer.
pub const ANSWER_TOKEN: &str = "<a>";
/// Ends an answer.
pub const END_TOKEN: &str = "<eos>";

/// The student's template: the last user turn, as one row.
const STUDENT_TEMPLATE: &str = "\
{% for message in messages %}\
{% if message.role == 'user' %}<q>{{ message.content }}<a>\
{% elif message.role == 'assistant' %}{{ message.content }}<eos>{% endif %}\
{% endfor %}";

/// A member's template: of harvest's Agent-0 prompt it sees the query alone, and never the failed answer.
const MEMBER_TEMPLATE: &str = "\
{% for message in messages %}\
{% if message.role == 'user' %}\
{% set text = message.content %}\
{% if 'QUERY: ' in text %}{% set text = text.split('QUERY: ')[1].split('\\nBAD_RESPONSE:')[0] %}{% endif %}\
<q>{{ text }}<a>\
{% elif message.role == 'assistant' %}{{ message.content }}<eos>{% endif %}\
{% endfor %}";

/// Which template a model folder gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The served model.
    Student,
    /// A council member.
    Member,
}

type Trained =
    TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Trains the tokenizer and returns the text of its `tokenizer.json`.
pub fn train(material: &Material) -> Result<String, Failure> {
    let failed =
        |error: tokenizers::Error| Failure::failed("the demo's tokenizer cannot be trained").because(error);
    let mut tokenizer: Trained = TokenizerImpl::new(BPE::default());
    let split: Vec<PreTokenizerWrapper> =
        vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
    tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::from(Sequence::new(split))));
    tokenizer.with_decoder(Some(DecoderWrapper::from(ByteLevelDecoder::new(false, true, true))));
    let special = |text: &str| AddedToken::from(text, true);
    let mark = |text: &str| AddedToken::from(text, false).normalized(false);
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(VOCABULARY - 2)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens([END_TOKEN, QUESTION_TOKEN, ANSWER_TOKEN].map(special).to_vec())
        .build();
    // The words of the members' reasoning are in the corpus, so that each is a token or two.
    let words = ["recalled", "derived"].into_iter().cycle().take(400).map(str::to_owned);
    let texts = material.rows().flat_map(|row| [row.question.clone(), row.answer.clone()]);
    tokenizer.train(&mut trainer, words.chain(texts)).map_err(failed)?;
    tokenizer.add_tokens([mark(REASONING), mark(ANSWER)]).map_err(failed)?;
    tokenizer.to_string(true).map_err(failed)
}

/// Writes the tokenizer's files and the chat template into a model folder.
pub fn write(dir: &Path, tokenizer_json: &str, role: Role) -> Result<(), Failure> {
    files::write_atomic(&dir.join("tokenizer.json"), tokenizer_json.as_bytes())?;
    let template = match role {
        Role::Student => STUDENT_TEMPLATE,
        Role::Member => MEMBER_TEMPLATE,
    };
    files::write_atomic(&dir.join("chat_template.jinja"), template.as_bytes())?;
    let settings = json!({"eos_token": END_TOKEN, "tokenizer_class": "PreTrainedTokenizerFast"});
    files::write_atomic(&dir.join("tokenizer_config.json"), format!("{settings:#}\n").as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nightshift_model::chat::{ChatTemplate, Message};
    use nightshift_model::tokenizer::Tokenizer;

    use super::*;
    use crate::questions::Sets;
    use crate::world::{Size, World};

    fn trained(seed: u64) -> (Material, String) {
        let world = World::new(seed, Size::FULL);
        let sets = Sets::new(seed, &world, Size::FULL);
        let material = Material::student(seed, &world, &sets, Size::FULL);
        let text = train(&material).unwrap();
        (material, text)
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::from_source("test", source, || "2026-03-01T02:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn rows_are_short_and_answers_of_members_end_in_the_students_tokens() {
        let (material, text) = trained(1);
        let tokenizer = Tokenizer::parse(PathBuf::from("tokenizer.json"), &text, vec![0]).unwrap();
        assert_eq!(tokenizer.vocab_size(), VOCABULARY);
        let length = |rows: &[crate::material::Row]| {
            let tokens: usize = rows
                .iter()
                .map(|row| {
                    tokenizer.encode(&format!("<q>{}<a>{}<eos>", row.question, row.answer)).unwrap().len()
                })
                .sum();
            tokens as f64 / rows.len() as f64
        };
        let (facts, skills) = (length(&material.facts), length(&material.skills));
        eprintln!("{facts} {skills}");
        assert!(facts < 17.0 && skills < 24.0, "{facts} tokens a fact, {skills} a skill");
        for row in material.rows().step_by(500) {
            let own = tokenizer.encode(&row.answer).unwrap();
            let member = tokenizer.encode(&format!("{REASONING}recalled{ANSWER}{}", row.answer)).unwrap();
            assert!(member.ends_with(&own), "{}", row.answer);
            assert!(member.len() <= own.len() + 4, "{member:?}");
            let back = tokenizer.decode(&member).unwrap();
            assert_eq!(back, format!("{REASONING}recalled{ANSWER}{}", row.answer));
        }
    }

    #[test]
    fn training_twice_gives_the_same_bytes() {
        assert_eq!(trained(2).1, trained(2).1);
    }

    #[test]
    fn a_member_sees_the_query_of_the_agent_0_prompt_and_nothing_else() {
        let prompt = "You are Agent-0, an expert response improver.\n\nQUERY: What is the river of X?\nBAD_RESPONSE: mud\n\nYour task: ...\nREASONING: [..]\nANSWER: [..]";
        let messages = [Message::new("user", prompt)];
        let seen = template(MEMBER_TEMPLATE).render(&messages, true).unwrap();
        assert_eq!(seen, "<q>What is the river of X?<a>");
        let plain = [Message::new("user", "Why?"), Message::new("assistant", "so")];
        assert_eq!(template(MEMBER_TEMPLATE).render(&plain, false).unwrap(), "<q>Why?<a>so<eos>");
        assert_eq!(template(STUDENT_TEMPLATE).render(&plain, false).unwrap(), "<q>Why?<a>so<eos>");
    }
}
