//! Phrase rules. English; the other rules do not depend on the language.

use std::sync::LazyLock;

use regex::Regex;

/// A refusal opens an answer; the same words inside of a long answer are a caveat.
const OPENING_CHARS: usize = 160;

pub(super) fn refusal(answer: &str) -> Option<String> {
    static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)^\W*(?:(?:i['’]?m|i\s+am)\s+(?:really\s+|very\s+|so\s+)?sorry\b[^.]{0,40}\b(?:can(?:no|['’]?)t|unable|not\s+able)|(?:i['’]?m\s+sorry,?\s+(?:but\s+)?)?i\s+(?:can(?:not|['’]?t)|am\s+(?:unable|not\s+able)\s+to|won['’]?t|will\s+not|must\s+decline)\b.{0,40}\b(?:help|assist|answer|provide|comply|fulfil+|do\s+that|discuss|respond|continue|generate|create|write|browse|access|determine)|(?:sorry|unfortunately|apologies),?\s+(?:but\s+)?i\s+(?:can(?:not|['’]?t)|am\s+(?:unable|not\s+able))|i\s+(?:do\s+not|don['’]?t)\s+(?:know|have\s+(?:enough|access|an\s+answer|the\s+ability))\b)",
        )
    });
    let opening: String = answer.chars().take(OPENING_CHARS).collect();
    REFUSAL.find(&opening).map(|found| format!("it declines: {:?}", found.as_str().trim()))
}

pub(super) fn meta_talk(question: &str, answer: &str) -> Option<String> {
    static SELF: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)\bas\s+an?\s+(?:ai|artificial\s+intelligence|(?:large\s+)?language\s+model)\b|\bi(?:['’]m|\s+am)\s+(?:just\s+|only\s+)?an?\s+(?:ai|(?:large\s+)?language\s+model)\b|\bmy\s+(?:knowledge\s+cutoff|training\s+data)\b",
        )
    });
    static REWRITING: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)\b(?:the|my|an?|your)\s+(?:improved|revised|rewritten|corrected|better)\s+(?:answer|response|version)\s+(?:is|would\s+be|should|:)|\b(?:the|your)\s+(?:previous|original|failed|bad|initial)\s+(?:answer|response)\b|\bhere(?:['’]s|\s+is)\s+(?:the|an?|my)\s+(?:improved|revised|rewritten|corrected|better)\b",
        )
    });
    // "Here is the corrected code" is right when somebody asked for a correction.
    static ASKED: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)\b(?:rewrit|rewrote|correct|improv|revis|fix|edit|better|proofread|enhanc|optimi|refactor|debug|error|bug)",
        )
    });
    let found = SELF.find(answer).or_else(|| REWRITING.find(answer).filter(|_| !ASKED.is_match(question)))?;
    Some(format!("it talks about itself: {:?}", found.as_str()))
}

/// Text that speaks to a judge, to a chat template or to the program around, and was not in the question.
pub(super) fn injection(question: &str, answer: &str) -> Option<String> {
    static INJECTION: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)\b(?:give|rate|score|grade|assign|award|mark)\s+(?:this|it|me|my\s+\w+|the\s+(?:above|following|answer|response))(?:\s+\w+){0,4}\s+(?:a\s+|an\s+|as\s+)?(?:\d+\s*(?:/|out\s+of)\s*\d+|full\s+marks|(?:the\s+)?(?:highest|maximum|perfect|top)\b)|\b(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+)?(?:of\s+)?(?:the\s+|your\s+|my\s+)?(?:previous|prior|above|earlier|preceding|foregoing|system)\s+(?:instructions?|prompts?|messages?|rules?|text)|<\|[a-z_]{2,24}\|>|\[/?INST\]|<</?SYS>>|\[\[(?:rating|[A-C]|\d{1,2})\]\]|\brating:\s*\[\[|\b(?:this|the\s+above)\s+(?:answer|response)\s+is\s+(?:the\s+)?(?:best|perfect|correct\s+and\s+complete|flawless)|\b(?:model|assistant|output)\s*\(?[abm]\)?\s+is\s+(?:better|the\s+winner)|\byou\s+(?:must|should)\s+(?:choose|select|prefer|pick)\s+(?:this|my|model|output|assistant|response|answer)\b",
        )
    });
    INJECTION
        .find_iter(answer)
        .find(|found| !question.contains(found.as_str()))
        .map(|found| format!("it addresses a judge or the machinery: {:?}", found.as_str()))
}

/// "Thought process:", "Let's solve this step by step." and nothing after: strings that judges reward (Zhao et al.
/// 2025, "One token to fool LLM-as-a-judge").
pub(super) fn lead_in_only(answer: &str) -> Option<String> {
    static LEAD_IN: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)^[\W_]*(?:thought\s+process|solution|answer|final\s+answer|reasoning|explanation|response|step\s*1|(?:sure|okay|ok|certainly|of\s+course)[,!.]?(?:\s+here(?:['’]s|\s+is)[^:.]{0,40})?|let['’]?s\s+(?:think|solve|work|break|approach|begin|start)[^.:\n]{0,60}|to\s+(?:solve|answer)\s+this[^.:\n]{0,60}|here(?:['’]s|\s+is)\s+(?:the|my|an?)\s+\w+(?:\s+\w+)?)[\W_]*$",
        )
    });
    static BARE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\W_]+$"));
    if LEAD_IN.is_match(answer) {
        return Some("it announces an answer and gives none".to_owned());
    }
    // One punctuation mark also fools judges; a symbol that somebody asked for ("§", "+", "->") may be right.
    let marks =
        answer.chars().filter(|c| !c.is_whitespace()).all(|c| matches!(c, '.' | ',' | ':' | ';' | '!' | '?'));
    (BARE.is_match(answer) && marks).then(|| "it is punctuation only".to_owned())
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}
