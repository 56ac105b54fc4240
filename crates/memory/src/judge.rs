//! Success, fixed when a row is recorded, with what decided it.

use nightshift_core::Failure;
use nightshift_core::evalset::sealed_questions;
use nightshift_core::interaction::Interaction;
use nightshift_core::rusqlite::Connection;
use nightshift_verify::similarity::EvalGuard;

/// Decides `success` where the row does not carry it: an error first, then the confidence.
pub(crate) fn settle(row: &mut Interaction, success_above: f64) {
    if row.success.is_some() {
        row.success_source.get_or_insert_with(|| "import".into());
    } else if row.error.is_some()
        || row.failure_class.is_some()
        || row.http_status.is_some_and(|code| code >= 500)
    {
        row.success = Some(false);
        row.success_source = Some("error".into());
    } else if let Some(confidence) = row.confidence {
        row.success = Some(confidence > success_above);
        row.success_source = Some("confidence".into());
        if row.success == Some(false) {
            row.failure_class = Some("low_confidence".into());
        }
    }
}

/// Marks rows that match an evaluation item, so that nothing ever trains on them.
#[derive(Debug)]
pub(crate) struct Seal(EvalGuard);

impl Seal {
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(EvalGuard::new(sealed_questions(connection)?)))
    }

    /// True when the row was marked.
    pub(crate) fn mark(&self, row: &mut Interaction) -> bool {
        let sealed = self.0.check(&row.query).is_some();
        row.no_train |= sealed;
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(extra: serde_json::Value) -> Interaction {
        let mut value = json!({"id": "1", "ts": "2026-03-01T00:00:00Z", "target": "t", "query": "q",
            "source": "s", "source_id": "1"});
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn settled(extra: serde_json::Value) -> (Option<bool>, Option<String>) {
        let mut row = row(extra);
        settle(&mut row, 0.7);
        (row.success, row.success_source)
    }

    #[test]
    fn error_beats_confidence_and_nothing_is_unknown() {
        assert_eq!(settled(json!({"confidence": 0.71})), (Some(true), Some("confidence".into())));
        assert_eq!(settled(json!({"confidence": 0.7})), (Some(false), Some("confidence".into())));
        assert_eq!(settled(json!({"confidence": 0.9, "error": "x"})), (Some(false), Some("error".into())));
        assert_eq!(settled(json!({"confidence": 0.1, "success": true})), (Some(true), Some("import".into())));
        assert_eq!(settled(json!({})), (None, None));
    }
}
