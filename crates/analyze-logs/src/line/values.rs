//! What a raw JSON value says: text, exact fixed-point numbers, truth, durations with their units.
//!
//! Numbers never pass through a float: the decimal digits are scaled and rounded half away from
//! zero, so that every machine reads the same integer.

use std::borrow::Cow;

use super::digits::{self, POWERS};

/// The text of a raw string without its quotes; lone surrogates become U+FFFD. Other values are
/// their own text. The line is valid UTF-8.
pub(super) fn text(raw: &[u8]) -> Cow<'_, str> {
    let inner = match raw {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    if inner.len() < raw.len() && memchr::memchr(b'\\', inner).is_some() {
        return Cow::Owned(unescape(inner));
    }
    std::str::from_utf8(inner).map_or_else(|_| String::from_utf8_lossy(inner), Cow::Borrowed)
}

fn unescape(inner: &[u8]) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(slash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..slash]);
        let kind = rest.get(slash + 1).copied().unwrap_or(b'\\');
        rest = rest.get(slash + 2..).unwrap_or_default();
        let plain = match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => unit(&mut rest).unwrap_or(char::REPLACEMENT_CHARACTER),
            other => char::from(other),
        };
        out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(rest);
    String::from_utf8_lossy(&out).into_owned()
}

/// The character of `\uXXXX`, the second half of a pair included, `rest` being behind the `u`;
/// `None` for half a pair.
fn unit(rest: &mut &[u8]) -> Option<char> {
    let first = hex(rest)?;
    *rest = &rest[4..];
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = rest.strip_prefix(b"\\u").and_then(hex)
        && (0xdc00..0xe000).contains(&second)
    {
        *rest = &rest[6..];
        return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
    }
    char::from_u32(first)
}

/// Whether an escape of the line is half a surrogate pair. The line is valid JSON.
pub(super) fn has_lone_surrogate(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(slash) = memchr::memchr(b'\\', rest) {
        let escaped = rest.get(slash + 1).copied();
        rest = rest.get(slash + 2..).unwrap_or_default();
        if escaped == Some(b'u') && unit(&mut rest).is_none() {
            return true;
        }
    }
    false
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits.get(..4)?).ok()?, 16).ok()
}

/// A number, or a string that holds one, times 10^`scale`, rounded half away from zero. `None`
/// for anything else and for what does not fit.
pub(super) fn fixed(raw: &[u8], scale: i32) -> Option<i64> {
    let (value, rest) = leading_number(unquoted(raw), scale)?;
    rest.is_empty().then_some(value)
}

fn unquoted(raw: &[u8]) -> &[u8] {
    match raw {
        [b'"', inner @ .., b'"'] => inner.trim_ascii(),
        other => other,
    }
}

/// Whether there is a minus, and what follows the sign.
fn sign(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes {
        [sign @ (b'-' | b'+'), rest @ ..] => (*sign == b'-', rest),
        rest => (false, rest),
    }
}

/// A number without sign, point and exponent, or a string that holds one.
#[inline]
pub(super) fn integer(raw: &[u8]) -> Option<u64> {
    let bytes = unquoted(raw);
    let (value, count) = digits::append(0, bytes);
    (count == bytes.len() && (1..=MOST_DIGITS).contains(&count)).then_some(value)
}

/// Any so many digits fit.
const MOST_DIGITS: usize = 19;

/// The number that the bytes begin with, scaled, and what follows it.
#[inline]
fn leading_number(bytes: &[u8], scale: i32) -> Option<(i64, &[u8])> {
    short_number(bytes, scale).or_else(|| long_number(bytes, scale))
}

/// The same for the usual: few digits, no sign, no exponent.
#[inline]
fn short_number(bytes: &[u8], scale: i32) -> Option<(i64, &[u8])> {
    let (whole, count) = digits::append(0, bytes);
    let (digits, length, fraction) = match &bytes[count..] {
        [b'.', tail @ ..] => {
            let (digits, more) = digits::append(whole, tail);
            (digits, count + 1 + more, more)
        }
        _ => (whole, count, 0),
    };
    let rest = &bytes[length..];
    if !(1..=MOST_DIGITS).contains(&(count + fraction)) || matches!(rest, [b'e' | b'E', ..]) {
        return None;
    }
    let exponent = scale - fraction as i32;
    let power = POWERS.get(exponent.unsigned_abs() as usize)?;
    let value = if exponent < 0 { (digits + power / 2) / power } else { digits.checked_mul(*power)? };
    Some((i64::try_from(value).ok()?, rest))
}

#[cold]
fn long_number(bytes: &[u8], scale: i32) -> Option<(i64, &[u8])> {
    let (negative, mut rest) = sign(bytes);
    // 18 digits fit an integer; of longer numbers the rest counts below.
    let (mut digits, mut count, mut point) = (0_u64, 0, None);
    loop {
        match rest {
            [digit @ b'0'..=b'9', tail @ ..] if count < 18 => {
                digits = digits * 10 + u64::from(digit - b'0');
                count += 1;
                rest = tail;
            }
            [b'.', tail @ ..] if point.is_none() => {
                point = Some(count);
                rest = tail;
            }
            _ => break,
        }
    }
    let (mut seen, mut fraction) = (count > 0, point.is_some());
    let mut exponent = scale - point.map_or(0, |point| count - point);
    let mut digits = u128::from(digits);
    // 30 digits are more than an i64 can hold after rounding; further ones only shift.
    loop {
        match rest {
            [digit @ b'0'..=b'9', tail @ ..] => {
                if digits < 10_u128.pow(30) {
                    digits = digits * 10 + u128::from(digit - b'0');
                    exponent -= i32::from(fraction);
                } else {
                    exponent += i32::from(!fraction);
                }
                seen = true;
                rest = tail;
            }
            [b'.', tail @ ..] if !fraction => {
                fraction = true;
                rest = tail;
            }
            _ => break,
        }
    }
    if !seen {
        return None;
    }
    if let [b'e' | b'E', tail @ ..] = rest {
        let (small, tail) = sign(tail);
        let count = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count > 0 {
            let power: i32 = std::str::from_utf8(&tail[..count.min(6)]).ok()?.parse().ok()?;
            exponent = exponent.checked_add(if small { -power } else { power })?;
            rest = &tail[count..];
        }
    }
    let magnitude = shift(digits, exponent)?;
    Some((if negative { -magnitude } else { magnitude }, rest))
}

/// `digits` x 10^`exponent`, rounded half up.
fn shift(digits: u128, exponent: i32) -> Option<i64> {
    if let (Ok(digits), Some(power)) = (u64::try_from(digits), 10_u64.checked_pow(exponent.unsigned_abs())) {
        let value = if exponent >= 0 {
            digits.checked_mul(power)
        } else {
            digits.checked_add(power / 2).map(|d| d / power)
        };
        if let Some(value) = value {
            return i64::try_from(value).ok();
        }
    }
    if digits == 0 {
        return Some(0);
    }
    let value = if exponent >= 0 {
        digits.checked_mul(10_u128.checked_pow(exponent as u32)?)?
    } else if exponent < -38 {
        0
    } else {
        let divisor = 10_u128.pow(exponent.unsigned_abs());
        (digits + divisor / 2) / divisor
    };
    i64::try_from(value).ok()
}

/// `true` / `false`, also as text or 1 / 0.
pub(super) fn truth(raw: &[u8]) -> Option<bool> {
    match unquoted(raw) {
        b"true" | b"True" | b"TRUE" | b"1" | b"yes" => Some(true),
        b"false" | b"False" | b"FALSE" | b"0" | b"no" => Some(false),
        _ => None,
    }
}

/// Microseconds of a duration whose bare number has 10^`unit` seconds (0 seconds, -3 milliseconds).
/// A text may carry its own unit: `350ms`, `1.5 s`. Negative durations are no durations.
pub(super) fn duration_us(raw: &[u8], unit: i8) -> Option<u64> {
    let bytes = unquoted(raw);
    let (value, rest) = leading_number(bytes, 6 + i32::from(unit))?;
    let value = match rest.trim_ascii() {
        b"" => value,
        suffix => {
            let (scale, factor) = match suffix {
                b"ns" => (-3, 1),
                b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => (0, 1),
                b"ms" => (3, 1),
                b"s" | b"sec" | b"secs" | b"seconds" => (6, 1),
                b"m" | b"min" => (6, 60),
                b"h" => (6, 3600),
                _ => return None,
            };
            leading_number(bytes, scale)?.0.checked_mul(factor)?
        }
    };
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        assert_eq!(text(br#""plain""#), "plain");
        assert_eq!(text(br#""a\n\"\u00e9\ud83d\ude00\/""#), "a\n\"\u{e9}\u{1f600}/");
        assert_eq!(text(br#""\ud83d x \udc00""#), "\u{fffd} x \u{fffd}", "lone surrogates are replaced");
        assert_eq!(text(br#""\ud83d\ud83d\ude00""#), "\u{fffd}\u{1f600}");
        assert_eq!(text(b"12"), "12");
    }

    #[test]
    fn numbers_are_exact() {
        let cases: [(&str, i32, Option<i64>); 13] = [
            ("1.5", 6, Some(1_500_000)),
            ("0.1234565", 6, Some(123_457)),
            ("-0.1234565", 6, Some(-123_457)),
            ("1e-3", 6, Some(1000)),
            ("1.5E+2", 3, Some(150_000)),
            ("\"1767225600000000000\"", -3, Some(1_767_225_600_000_000)),
            ("0.00000000000000000000000000000000000000001", 9, Some(0)),
            ("123456789012345678901234567890", 6, None),
            ("1e300", 0, None),
            ("1.7976931348623157e308", 6, None),
            ("true", 6, None),
            ("\"x\"", 6, None),
            ("\"12 apples\"", 0, None),
        ];
        for (raw, scale, want) in cases {
            assert_eq!(fixed(raw.as_bytes(), scale), want, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_gives_what_the_long_way_gives(text in "[0-9]{0,21}(\\.[0-9]{0,21})?([a-z].*)?", scale in -9..10) {
            let bytes = text.as_bytes();
            if let Some(short) = short_number(bytes, scale) {
                prop_assert_eq!(long_number(bytes, scale), Some(short));
            }
            prop_assert_eq!(integer(bytes).map(|value| value.to_string()), text.parse().ok().map(|value: u64| format!("{value}")).filter(|_| text.len() <= MOST_DIGITS));
        }
    }

    #[test]
    fn durations_take_their_unit_from_the_name_or_the_text() {
        assert_eq!(duration_us(b"2.5", 0), Some(2_500_000));
        assert_eq!(duration_us(b"2.5", -3), Some(2_500));
        assert_eq!(duration_us(b"1500", -9), Some(2));
        assert_eq!(duration_us(b"\"350ms\"", 0), Some(350_000));
        assert_eq!(duration_us(b"\"1.5 s\"", -3), Some(1_500_000));
        assert_eq!(duration_us(b"\"2m\"", 0), Some(120_000_000));
        assert_eq!(duration_us(b"-1", 0), None);
        assert_eq!(duration_us(b"\"soon\"", 0), None);
    }

    #[test]
    fn truths() {
        assert_eq!(
            (truth(b"true"), truth(b"\"False\""), truth(b"\"maybe\"")),
            (Some(true), Some(false), None)
        );
    }
}
