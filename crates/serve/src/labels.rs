//! What a request says about itself besides the question: tags, session, kind, no-train.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use nightshift_net::server::ApiError;
use serde_json::{Map, Value};

use crate::capture::Kind;

/// Header with comma-separated tags.
pub(crate) const TAGS_HEADER: &str = "x-nightshift-tags";
/// Header that keeps an exchange out of training when it is `1`.
pub(crate) const NO_TRAIN_HEADER: &str = "x-nightshift-no-train";
/// Header that marks traffic that is not a user's.
pub(crate) const KIND_HEADER: &str = "x-nightshift-kind";

/// Most tags of a request, and most characters of one.
const MAX_TAGS: usize = 16;
const MAX_TAG_CHARS: usize = 64;

/// The labels of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Tags of header and metadata, in that order, each once.
    pub(crate) tags: Vec<String>,
    /// Conversation.
    pub(crate) session_id: Option<String>,
    /// Must never become training data.
    pub(crate) no_train: bool,
    /// Whose traffic.
    pub(crate) kind: Kind,
    /// The rest of the metadata.
    pub(crate) others: Map<String, Value>,
}

impl Labels {
    /// Reads headers and `metadata`.
    pub(crate) fn read(headers: &HeaderMap, metadata: &BTreeMap<String, String>) -> Result<Self, ApiError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let kind = match text(KIND_HEADER) {
            None | Some("live") => Kind::Live,
            Some("probe") => Kind::Probe,
            Some("gate") => Kind::Gate,
            Some(other) => {
                let message = format!("`{other}` is no kind of traffic; send live, probe or gate");
                return Err(ApiError::bad_request(message).param(KIND_HEADER));
            }
        };
        let mut tags: Vec<String> = Vec::new();
        let given = [text(TAGS_HEADER), metadata.get("tags").map(String::as_str)];
        for tag in given.into_iter().flatten().flat_map(|list| list.split(',')).map(str::trim) {
            if tag.chars().count() > MAX_TAG_CHARS {
                let message = format!("a tag has more than {MAX_TAG_CHARS} characters");
                return Err(ApiError::bad_request(message).param("metadata.tags"));
            }
            if !tag.is_empty() && !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        if tags.len() > MAX_TAGS {
            let message = format!("there are {} tags; send at most {MAX_TAGS}", tags.len());
            return Err(ApiError::bad_request(message).param("metadata.tags"));
        }
        let others = metadata
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "tags" | "session_id"))
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        Ok(Self {
            tags,
            session_id: metadata.get("session_id").filter(|id| !id.is_empty()).cloned(),
            no_train: text(NO_TRAIN_HEADER).is_some_and(|value| matches!(value, "1" | "true")),
            kind,
            others,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)], metadata: &[(&str, &str)]) -> Result<Labels, ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Labels::read(&map, &metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
    }

    #[test]
    fn header_and_metadata_add_up() {
        let labels = read(
            &[(TAGS_HEADER, "json, unit"), (NO_TRAIN_HEADER, "1"), (KIND_HEADER, "probe")],
            &[("tags", "unit,,x"), ("session_id", "s1"), ("team", "blue")],
        )
        .unwrap();
        assert_eq!(labels.tags, ["json", "unit", "x"]);
        assert_eq!(
            (labels.session_id.as_deref(), labels.no_train, labels.kind),
            (Some("s1"), true, Kind::Probe)
        );
        assert_eq!(labels.others.len(), 1);
    }

    #[test]
    fn nonsense_is_refused_with_the_field() {
        let error = read(&[(KIND_HEADER, "gaet")], &[]).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(KIND_HEADER)));
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        assert!(read(&[], &[("tags", &many.join(","))]).is_err());
        assert!(read(&[], &[("tags", &"x".repeat(65))]).is_err());
    }
}
