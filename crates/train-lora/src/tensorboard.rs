//! TensorBoard event files: a run's scalars in the format that `tensorboard --logdir` reads.
//!
//! A file is a sequence of records (length, masked CRC32C of the length, bytes, masked CRC32C of the bytes;
//! all little-endian), each a protocol-buffer `tensorflow.Event` of which four fields are used: 1 wall_time
//! (double), 2 step (int64), 3 file_version (string, in the first record) and 5 summary. A summary holds
//! values (field 1) of tag (1, string) and simple_value (2, float).
//! Sources: tensorflow/core/lib/io/record_writer.h, core/util/event.proto, core/framework/summary.proto.

/// Added to a rotated checksum, so that a checksum of data that holds checksums stays sound.
const MASK: u32 = 0xa282_ead8;
/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Bytes of the first record of a file.
pub(crate) fn header(wall_time: f64) -> Vec<u8> {
    let mut event = event(wall_time, 0);
    field_bytes(&mut event, 3, b"brain.Event:2");
    record(&event)
}

/// Bytes of one record of scalars, all of the same step.
pub(crate) fn scalars(wall_time: f64, step: usize, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut one = Vec::new();
        field_bytes(&mut one, 1, tag.as_bytes());
        one.push(2 << 3 | 5);
        one.extend_from_slice(&(*value as f32).to_le_bytes());
        field_bytes(&mut summary, 1, &one);
    }
    let mut event = event(wall_time, step);
    field_bytes(&mut event, 5, &summary);
    record(&event)
}

/// Wall time and step of an event.
fn event(wall_time: f64, step: usize) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&wall_time.to_le_bytes());
    // A field that has its default is left out, as protocol buffers do.
    if step > 0 {
        out.push(2 << 3);
        varint(&mut out, step as u64);
    }
    out
}

/// A length-delimited field.
fn field_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked(data).to_le_bytes());
    out
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes for each step.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_record_is_what_tensorboard_writes() {
        // The bytes that tensorboard's own `EventFileWriter` and `Summary` give for these values; made by
        // fixtures/train/make_events.py.
        let expected = include_str!("../../../fixtures/train/events.hex");
        let lines: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
        let hex = nightshift_core::random::hex;
        assert_eq!(hex(&header(1_772_416_800.5)), lines[0]);
        let values = [("train/loss", 0.1), ("eval/loss", 2.5)];
        assert_eq!(hex(&scalars(1_772_416_801.25, 300, &values)), lines[1]);
    }
}
