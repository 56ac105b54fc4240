//! One proposal for one finding, and how drafts of the same proposal become one recommendation.

use std::collections::BTreeSet;

use nightshift_core::config::Objectives;
use nightshift_core::random::sha256_hex;
use serde_json::{Map, Value, json};

use super::confidence::confidence;
use super::facts::Facts;
use super::score;
use crate::pattern::PatternType;
use crate::recommendation::{ActionType, Recommendation, Saving};

/// What one finding asks for.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) action_type: ActionType,
    pub(super) action: &'static str,
    pub(super) operation: Option<String>,
    /// What tells it from other proposals of this action for this operation.
    pub(super) about: String,
    pub(super) title: String,
    /// What was found: one or two sentences.
    pub(super) reason: String,
    /// What follows from it, whatever else was found.
    pub(super) advice: &'static str,
    pub(super) parameters: Map<String, Value>,
    pub(super) saving: Saving,
    /// 1 when all numbers that it needs were there; below, part of it is a guess.
    pub(super) certainty: f64,
}

impl Draft {
    /// A draft that saves nothing yet and names its operation in its parameters.
    pub(super) fn new(action_type: ActionType, action: &'static str, operation: Option<&str>) -> Self {
        let mut parameters = Map::new();
        if let Some((kind, name)) = operation.and_then(|operation| operation.split_once(':')) {
            let key = match kind {
                "tool" => "tool_name",
                "llm" => "current_model",
                _ => "task_name",
            };
            parameters.insert(key.into(), name.into());
        }
        Self {
            action_type,
            action,
            operation: operation.map(str::to_owned),
            about: String::new(),
            title: String::new(),
            reason: String::new(),
            advice: "",
            parameters,
            saving: Saving::default(),
            certainty: 1.0,
        }
    }

    /// With a title and a reason.
    pub(super) fn saying(mut self, title: String, reason: String) -> Self {
        self.title = title;
        self.reason = reason;
        self
    }

    /// With what follows from it.
    pub(super) fn advising(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }

    /// With parameters for whoever carries it out.
    pub(super) fn with(mut self, parameters: Value) -> Self {
        if let Value::Object(parameters) = parameters {
            self.parameters.extend(parameters.into_iter().filter(|(_, value)| !value.is_null()));
        }
        self
    }

    /// The same proposal in another run has the same id.
    pub(super) fn id(&self) -> String {
        let operation = self.operation.as_deref().unwrap_or_default();
        let text = format!("{}\0{operation}\0{}", self.action, self.about);
        format!("rec_{}", &sha256_hex(text.as_bytes())[..16])
    }
}

/// The drafts of one proposal.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    first: Option<Draft>,
    reasons: Vec<String>,
    advice: Vec<&'static str>,
    pattern_ids: Vec<String>,
    alternatives: BTreeSet<String>,
    /// What findings of one kind save together; kinds overlap, so of several the greatest counts.
    savings: Vec<(PatternType, Saving)>,
    confidence: f64,
}

impl Proposal {
    /// One more finding asks for this.
    pub(super) fn support(
        &mut self,
        facts: Facts<'_>,
        draft: Draft,
        alternatives: impl Iterator<Item = String>,
    ) {
        let kind = facts.pattern.pattern_type;
        match self.savings.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, saving)) => *saving = score::sum(*saving, draft.saving),
            None => self.savings.push((kind, draft.saving)),
        }
        if !self.reasons.contains(&draft.reason) {
            self.reasons.push(draft.reason.clone());
        }
        if !draft.advice.is_empty() && !self.advice.contains(&draft.advice) {
            self.advice.push(draft.advice);
        }
        if !self.pattern_ids.contains(&facts.pattern.pattern_id) {
            self.pattern_ids.push(facts.pattern.pattern_id.clone());
        }
        self.alternatives.extend(alternatives);
        // Two findings of one thing are no independent witnesses: the surer one counts.
        self.confidence = self.confidence.max(confidence(facts.pattern) * draft.certainty.clamp(0.0, 1.0));
        self.first.get_or_insert(draft);
    }

    /// The recommendation; `None` without any draft.
    pub(super) fn finish(mut self, id: String, objectives: &Objectives) -> Option<Recommendation> {
        let draft = self.first?;
        let saving =
            self.savings.iter().map(|(_, saving)| *saving).reduce(score::greatest).unwrap_or_default();
        let score = score::points(saving, objectives) * self.confidence;
        let mut parameters = draft.parameters;
        if !self.alternatives.is_empty() {
            parameters.insert("alternatives".into(), json!(self.alternatives));
        }
        // A proposal with forty templates behind it need not name them all.
        let more = self.reasons.len().saturating_sub(3);
        self.reasons.truncate(3);
        let mut description = self.reasons.join(" ");
        if more > 0 {
            description.push_str(&format!(" And {more} more findings like these."));
        }
        for advice in self.advice {
            description.push(' ');
            description.push_str(advice);
        }
        Some(Recommendation {
            id,
            title: draft.title,
            description,
            pattern_ids: self.pattern_ids,
            action_type: draft.action_type,
            action: draft.action.to_owned(),
            operation: draft.operation,
            parameters,
            confidence: self.confidence,
            priority: score::priority(score),
            saving,
            score,
        })
    }
}
