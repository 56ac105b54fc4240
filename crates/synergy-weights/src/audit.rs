//! Lines in the audit trail of the programs that exporter and trainer stand in for.
//!
//! With `SANDBOX_CENTRAL_LOGGING=1`: `signature {json, keys sorted}` in `AUDIT_LOG_PATH`. The signature is Ed25519
//! over the JSON's bytes, in base64, by the key in `AUDIT_PRIVKEY` or `AUDIT_PRIVKEY_PATH`; without a key it is a dash,
//! as the trail's readers expect of unsigned lines. With `KAFKA_HOSTS` the objects are kept in `<audit log>.kafka` too, for
//! whoever brings them there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nightshift_core::commit::with_suffix;
use nightshift_core::{Ctx, Failure, env, files};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

/// An audit trail, or nothing when it is not wanted.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    path: Option<PathBuf>,
    spool: Option<PathBuf>,
    key: Option<Arc<Ed25519KeyPair>>,
    ctx: Ctx,
}

impl Audit {
    /// As the environment says; what is done instead of sending to Kafka is said.
    ///
    /// # Errors
    /// A key that is none: lines that ought to be signed are not written unsigned.
    pub(crate) fn new(ctx: &Ctx) -> Result<Self, Failure> {
        let wanted = ctx.env.get(env::SANDBOX_CENTRAL_LOGGING) == Some("1");
        let path = wanted.then(|| match ctx.env.get(env::AUDIT_LOG_PATH) {
            Some(path) => ctx.paths.home().join(path),
            None => ctx.paths.logs().join("audit.log"),
        });
        let key = if wanted { key(ctx)?.map(Arc::new) } else { None };
        let kafka = ctx.env.get(env::KAFKA_HOSTS).is_some();
        let spool = path.as_ref().filter(|_| kafka).map(|path| with_suffix(path, ".kafka"));
        if let Some(spool) = &spool {
            let place = spool.display();
            ctx.printer.note(&format!(
                "note: this program does not speak to Kafka; what is meant for KAFKA_HOSTS is kept in {place}"
            ));
        }
        Ok(Self { path, spool, key, ctx: ctx.clone() })
    }

    /// Records an event. A trail that cannot be written is said and stops nothing.
    pub(crate) fn record(&self, event: &str, fields: Value) {
        if let Err(failure) = self.try_record(event, fields) {
            tracing::warn!(error = failure.chain(), event, "the audit trail cannot be written");
        }
    }

    fn try_record(&self, event: &str, fields: Value) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut line = json!({"timestamp": self.ctx.clock.now().as_second(), "event": event});
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        line.sort_all_objects();
        let line = line.to_string();
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        let signature = match &self.key {
            Some(key) => STANDARD.encode(key.sign(line.as_bytes())),
            None => "-".to_owned(),
        };
        files::append_line(path, &format!("{signature} {line}"))?;
        if let Some(spool) = &self.spool {
            files::append_line(spool, &line)?;
        }
        Ok(())
    }
}

/// The key that lines are signed with, if there is one.
fn key(ctx: &Ctx) -> Result<Option<Ed25519KeyPair>, Failure> {
    let (name, bytes) = if let Some(text) = ctx.env.get(env::AUDIT_PRIVKEY).filter(|text| !text.is_empty()) {
        (env::AUDIT_PRIVKEY, text.as_bytes().to_vec())
    } else if let Some(path) = ctx.env.get(env::AUDIT_PRIVKEY_PATH).filter(|path| !path.is_empty()) {
        (env::AUDIT_PRIVKEY_PATH, files::read(&ctx.paths.home().join(Path::new(path)))?)
    } else {
        return Ok(None);
    };
    // Neither the value nor what is wrong with it is repeated: it is a secret.
    let wrong = || {
        Failure::config(format!("{name} is no Ed25519 private key"))
            .hint("make one with `openssl genpkey -algorithm ed25519 -outform DER | base64 -w0`")
    };
    parse(&bytes).ok_or_else(wrong).map(Some)
}

/// 32 bytes or PKCS#8: as they are, in base64, or as PEM.
fn parse(bytes: &[u8]) -> Option<Ed25519KeyPair> {
    let pair = |key: &[u8]| match key.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(key).ok(),
        _ => Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).ok(),
    };
    pair(bytes).or_else(|| {
        let text = std::str::from_utf8(bytes).ok()?;
        let body: String =
            text.lines().filter(|line| !line.starts_with("-----")).flat_map(str::split_whitespace).collect();
        pair(&STANDARD.decode(body).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use ring::signature::KeyPair;

    use super::*;

    #[test]
    fn a_key_in_any_form_signs_as_the_standard_says() {
        // RFC 8032, section 7.1, test 1: signature of the empty message.
        let seed: Vec<u8> = (0..32)
            .map(|i| &"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"[2 * i..2 * i + 2])
            .map(|hex| u8::from_str_radix(hex, 16).unwrap())
            .collect();
        let der = [&b"0.\x02\x01\x000\x05\x06\x03+ep\x04\"\x04 "[..], &seed].concat();
        let text = STANDARD.encode(&der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        for form in [&seed[..], &der, STANDARD.encode(&seed).as_bytes(), text.as_bytes(), pem.as_bytes()] {
            let key = parse(form).unwrap();
            assert_eq!(key.public_key().as_ref()[..4], [0xd7, 0x5a, 0x98, 0x01]);
            assert_eq!(key.sign(b"").as_ref()[..4], [0xe5, 0x56, 0x43, 0x00]);
        }
        for bad in [&b""[..], b"moon", b"AAAA", &der[..40], &[0xff; 31]] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
