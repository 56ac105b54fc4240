//! Who may use the admin endpoints: callers on this machine, or those with the admin key.
//!
//! A peer address alone proves little. A reverse proxy on this machine makes the whole internet
//! look local, and a web page can make the user's own browser call loopback (DNS rebinding,
//! cross-site requests). So the address counts only when nothing in the headers says otherwise:
//! no forwarding header, `Host` names loopback, and `Origin`, where present, does too.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

use crate::Secret;
use crate::server::ApiError;

/// Header that may carry the admin key besides `Authorization: Bearer`.
pub const ADMIN_KEY_HEADER: &str = "x-admin-key";

const FORWARDING: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// The rule for admin endpoints.
#[derive(Debug, Clone, Default)]
pub struct AdminGate {
    key: Option<Secret>,
}

impl AdminGate {
    /// With a key, remote callers that present it pass too; an empty key is none.
    pub fn new(key: Option<Secret>) -> Self {
        Self { key: key.filter(|key| !key.is_empty()) }
    }

    /// Passes callers on this machine and those with the key. Else 401 when a key could open the
    /// gate, 403 when none is configured.
    pub fn check(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), ApiError> {
        if is_local(peer.ip(), headers) || self.has_key(headers) {
            return Ok(());
        }
        if self.key.is_some() {
            return Err(ApiError::unauthorized("this endpoint needs the admin key"));
        }
        Err(ApiError::forbidden(
            "this endpoint answers callers on this machine only; no admin key is configured",
        ))
    }

    fn has_key(&self, headers: &HeaderMap) -> bool {
        let own_header = headers.get(ADMIN_KEY_HEADER).and_then(|value| value.to_str().ok());
        self.key.as_ref().is_some_and(|key| {
            [own_header, bearer(headers)].into_iter().flatten().any(|given| key.matches(given))
        })
    }
}

/// The token of `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_local(peer: IpAddr, headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    peer.to_canonical().is_loopback()
        && !FORWARDING.iter().any(|name| headers.contains_key(*name))
        && text(header::HOST).is_none_or(names_loopback)
        && text(header::ORIGIN)
            .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| names_loopback(host)))
}

/// True for `localhost`, `127.x.x.x` and `[::1]`, with or without a port.
fn names_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:5000";
    const REMOTE: &str = "192.168.1.7:5000";

    fn check(key: Option<&str>, peer: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let gate = AdminGate::new(key.map(Secret::new));
        gate.check(peer.parse().unwrap(), &map).err().map(|error| error.status.as_u16())
    }

    #[test]
    fn local_callers_pass() {
        assert_eq!(check(None, LOCAL, &[]), None);
        assert_eq!(check(Some("k"), LOCAL, &[("host", "localhost:8000")]), None);
        assert_eq!(check(None, "[::1]:9", &[("host", "[::1]:8000")]), None);
        assert_eq!(check(None, "[::ffff:127.0.0.1]:9", &[]), None);
        assert_eq!(check(None, LOCAL, &[("origin", "http://127.0.0.1:8002")]), None);
    }

    #[test]
    fn remote_callers_need_the_key() {
        assert_eq!(check(None, REMOTE, &[]), Some(403));
        assert_eq!(check(Some("k"), REMOTE, &[]), Some(401));
        assert_eq!(check(Some("k"), REMOTE, &[("authorization", "Bearer wrong")]), Some(401));
        assert_eq!(check(Some("k"), REMOTE, &[("authorization", "bearer k")]), None);
        assert_eq!(check(Some("k"), REMOTE, &[("x-admin-key", "k")]), None);
        assert_eq!(check(Some(""), REMOTE, &[("authorization", "Bearer ")]), Some(403));
    }

    #[test]
    fn a_proxy_or_a_browser_page_is_not_local() {
        for headers in [
            [("x-forwarded-for", "8.8.8.8")],
            [("forwarded", "for=8.8.8.8")],
            [("host", "evil.example:8000")],
            [("host", "localhost.evil.example")],
            [("origin", "https://evil.example")],
            [("origin", "null")],
        ] {
            assert_eq!(check(None, LOCAL, &headers), Some(403), "{headers:?}");
            assert_eq!(check(Some("k"), LOCAL, &headers), Some(401), "{headers:?}");
        }
    }
}
