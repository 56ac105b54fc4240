//! `Endpoint`: a base URL taken apart once, with everything secret or ambiguous refused.

use std::net::IpAddr;

use ureq::http::Uri;

use crate::NetError;

/// Where an OpenAI-compatible server lives.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Scheme, authority and prefix, without the version segment and the last slash.
    pub(crate) root: String,
    /// The prefix of API paths: `root` and `/v1`, or the versioned path that was given.
    pub(crate) api: String,
    /// True when the host can only be this machine.
    pub(crate) loopback: bool,
    /// True for https.
    pub(crate) encrypted: bool,
}

impl Endpoint {
    /// Reads a base URL with or without `/v1`. A path that holds a version segment already
    /// (`/v1beta/openai`, `/api/v4`) is taken as the API prefix as it stands.
    pub(crate) fn parse(base_url: &str) -> Result<Self, NetError> {
        let uri = http_uri(base_url.trim())?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = uri.path().trim_end_matches('/');
        let scheme = uri.scheme_str().unwrap_or_default();
        let origin = format!("{scheme}://{authority}");
        let (root, api) = if let Some(prefix) = path.strip_suffix("/v1") {
            (format!("{origin}{prefix}"), format!("{origin}{path}"))
        } else if path.split('/').any(is_version) {
            (format!("{origin}{path}"), format!("{origin}{path}"))
        } else {
            (format!("{origin}{path}"), format!("{origin}{path}/v1"))
        };
        Ok(Self { root, api, loopback: is_loopback(&uri), encrypted: scheme == "https" })
    }
}

/// An absolute http(s) URL without user name, query or fragment. The error names the rule that
/// is broken and never repeats the URL, which may hold a key.
fn http_uri(text: &str) -> Result<Uri, NetError> {
    let refuse = |rule: &str| Err(NetError::Unusable(format!("the base URL {rule}")));
    let Ok(uri) = text.parse::<Uri>() else {
        return refuse("is not a URL; write one like http://127.0.0.1:8000/v1");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return refuse("must begin with http:// or https:// and name a host");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return refuse("must not hold a user name or password; set an API key instead");
    }
    if uri.query().is_some() || text.contains('#') {
        return refuse("must not hold a query or fragment");
    }
    Ok(uri)
}

/// True when the URL's host can only be this machine, whatever proxy is configured.
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_segment_is_added_once() {
        for (given, root, api) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("https://h/prefix", "https://h/prefix", "https://h/prefix/v1"),
            ("https://h/prefix/v1", "https://h/prefix", "https://h/prefix/v1"),
            ("https://h/v1beta/openai/", "https://h/v1beta/openai", "https://h/v1beta/openai"),
        ] {
            let endpoint = Endpoint::parse(given).unwrap();
            assert_eq!((endpoint.root.as_str(), endpoint.api.as_str()), (root, api), "{given}");
        }
    }

    #[test]
    fn loopback_is_recognised_in_every_spelling() {
        for yes in ["http://localhost:1", "http://LOCALHOST", "http://127.9.9.9", "http://[::1]:8"] {
            assert!(Endpoint::parse(yes).unwrap().loopback, "{yes}");
        }
        for no in ["http://localhost.example.com", "http://10.0.0.1", "https://example.com"] {
            assert!(!Endpoint::parse(no).unwrap().loopback, "{no}");
        }
    }

    #[test]
    fn unusable_urls_are_refused_without_repeating_them() {
        for bad in
            ["", "127.0.0.1:8000", "ftp://h", "http://", "http://u:hunter2@h", "http://h/?key=hunter2", "a b"]
        {
            let message = Endpoint::parse(bad).unwrap_err().to_string();
            assert!(message.starts_with("the base URL") && !message.contains("hunter2"), "{bad}: {message}");
        }
    }
}
