//! Runs of decimal digits, eight bytes at a time.

/// How many digits the bytes begin with.
#[inline]
pub(super) fn count(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let count = leading(word(&bytes[at..]));
        at += count;
        if count < 8 {
            return at;
        }
    }
}

/// The number that follows `value` when the digits that the bytes begin with are appended, and how many these
/// are. It wraps around when there are too many for it.
#[inline]
pub(super) fn append(mut value: u64, bytes: &[u8]) -> (u64, usize) {
    let mut at = 0;
    loop {
        let word = word(&bytes[at..]);
        let count = leading(word);
        if count > 0 {
            value = value.wrapping_mul(POWERS[count]).wrapping_add(number(word, count));
        }
        at += count;
        if count < 8 {
            return (value, at);
        }
    }
}

/// Powers of ten that fit.
pub(super) const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// The first eight bytes; 0 for those that are not there.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    if let Some(word) = bytes.first_chunk() {
        return u64::from_le_bytes(*word);
    }
    let length = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // Four bytes or more: both halves, which may overlap.
        let half = |bytes: [u8; 4]| u64::from(u32::from_le_bytes(bytes));
        return half(*first) | half(*last) << (8 * (length - 4));
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Digits that the bytes of a word begin with.
#[inline]
const fn leading(word: u64) -> usize {
    let values = word ^ (u64::MAX / 255 * 0x30);
    // The high bit of each byte above 9; a carry reaches later bytes only.
    let others = (values.wrapping_add(u64::MAX / 255 * 0x76) | values) & (u64::MAX / 255 * 0x80);
    others.trailing_zeros() as usize / 8
}

/// The number that the first `count` (1 to 8) bytes of a word are, all digits: neighbours are joined to pairs,
/// these to fours, these to eight.
#[inline]
const fn number(word: u64, count: usize) -> u64 {
    let digits = (word ^ (u64::MAX / 255 * 0x30)) << (64 - 8 * count);
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_reads_them(number in "[0-9]{0,19}", rest in "([^0-9].{0,9})?") {
            let text = format!("{number}{rest}");
            prop_assert_eq!(count(text.as_bytes()), number.len());
            let value = number.parse().unwrap_or(0_u64);
            prop_assert_eq!(append(0, text.as_bytes()), (value, number.len()));
            prop_assert_eq!(append(7, b"12"), (712, 2));
        }
    }
}
