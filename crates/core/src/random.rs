//! Seeded randomness and ids.

use jiff::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The generator used everywhere; its stream for a seed never changes.
pub type Rng = ChaCha8Rng;

/// The generator for a seed and a purpose, so that two uses of one seed are independent.
pub fn rng(seed: u64, purpose: &str) -> Rng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    Rng::from_seed(hasher.finalize().into())
}

/// A new UUIDv7 (time of `now`, random tail from the operating system).
pub fn new_id(now: Timestamp) -> String {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let mut tail = *Uuid::new_v4().as_bytes();
    tail[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    uuid::Builder::from_unix_timestamp_millis(millis, tail[6..].try_into().unwrap_or(&[0; 10]))
        .into_uuid()
        .to_string()
}

/// A UUIDv7 whose tail is derived from `name`: the same row imported twice has the same id.
pub fn derived_id(at: Timestamp, name: &str) -> String {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    let mut tail = [0; 10];
    tail.copy_from_slice(&digest[..10]);
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().to_string()
}

/// Lower-case hex of the SHA-256 of some bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_derived_ones_repeat() {
        let early = new_id("2026-01-01T00:00:00Z".parse().unwrap());
        let late = new_id("2026-01-02T00:00:00Z".parse().unwrap());
        assert!(early < late);
        assert_eq!(Uuid::parse_str(&early).unwrap().get_version_num(), 7);
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(derived_id(at, "a"), derived_id(at, "a"));
        assert_ne!(derived_id(at, "a"), derived_id(at, "b"));
    }
}
