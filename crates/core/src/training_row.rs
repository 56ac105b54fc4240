//! The rows of `training_data/harvest_YYYYMMDD.jsonl`: what harvest writes and train-lora reads.

use serde::{Deserialize, Serialize};

use crate::interaction::Message;

/// How the council came to an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CouncilNote {
    /// Members asked.
    pub asked: usize,
    /// Members that answered.
    pub answered: usize,
    /// Members that gave this answer.
    pub agreement: usize,
    /// full, reduced or single.
    pub mode: String,
}

/// One training example. The first six keys are the documents' own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRow {
    /// The question.
    pub instruction: String,
    /// Always empty in harvested rows.
    #[serde(default)]
    pub input: String,
    /// The accepted answer.
    pub output: String,
    /// The member's reasoning; never trained on.
    #[serde(default)]
    pub reasoning: String,
    /// Value of the tier (0-1), uncalibrated.
    #[serde(default)]
    pub quality_score: f64,
    /// Seconds since 1970.
    #[serde(default)]
    pub harvest_timestamp: f64,
    /// Name of the row.
    #[serde(default)]
    pub id: String,
    /// The failed interaction.
    #[serde(default)]
    pub interaction_id: String,
    /// The whole conversation, when it has more than the one question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// The failed answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// How it was agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub council: Option<CouncilNote>,
    /// verified, unanimous, majority, single.
    #[serde(default)]
    pub tier: String,
    /// The documents' formula, for comparison.
    #[serde(default)]
    pub legacy_score: f64,
    /// train or holdout, by hash of the question.
    #[serde(default)]
    pub split: String,
}

impl TrainingRow {
    /// The conversation to answer: `messages`, or one user turn of instruction (blank line, input).
    pub fn conversation(&self) -> Vec<Message> {
        if !self.messages.is_empty() {
            return self.messages.clone();
        }
        let text = if self.input.is_empty() {
            self.instruction.clone()
        } else {
            format!("{}\n\n{}", self.instruction, self.input)
        };
        vec![Message::user(text)]
    }
}
