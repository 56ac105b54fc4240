//! Numbers in text: exact decimal strings, never through floating point.

use std::sync::LazyLock;

use regex::Regex;

use super::{squeeze, stated_answer};

/// Largest power of ten that an exponent may shift by; beyond it the text is left as it is.
const LARGEST_SHIFT: i32 = 40;

/// The final number of an answer, in canonical form: the last number in what the text states as its answer
/// ("#### 72", "the answer is $18"), else the last number in the whole text. Units, currency signs and thousands
/// separators are dropped, so this is for questions known to ask for a number.
pub fn final_number(text: &str) -> Option<String> {
    stated_answer(text).and_then(last_number).or_else(|| last_number(text))
}

/// The last number in a text. A sign counts when no digit, letter or bracket stands before it ("16-3" ends in 3).
fn last_number(text: &str) -> Option<String> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?:^|[^\w)\].])(?<sign>-?)[$€£¥]?(?<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|\.\d+)|(?<inner>\d+(?:,\d{3})*(?:\.\d+)?)",
        )
        .expect("a constant pattern compiles")
    });
    let plain = text.replace('\u{2212}', "-");
    let found = NUMBER.captures_iter(&plain).last()?;
    let digits = found.name("number").or_else(|| found.name("inner"))?.as_str();
    let sign = found.name("sign").map_or("", |s| s.as_str());
    whole_number(&format!("{sign}{digits}"))
}

/// Canonical form when the whole text is one number: optional sign and `$`, thousands separators, decimals,
/// an exponent, or a fraction.
pub(super) fn whole_number(text: &str) -> Option<String> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?<sign>[-+\x{2212}]?)\s*\$?\s*(?<sign2>-?)(?<whole>\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+|)(?:\.(?<part>\d*))?(?:[eE](?<exp>[-+]?\d{1,3}))?\s*\$?$",
        )
        .expect("a constant pattern compiles")
    });
    if let Some(fraction) = fraction(text) {
        return Some(fraction);
    }
    let found = NUMBER.captures(text)?;
    let group = |name: &str| found.name(name).map_or("", |m| m.as_str());
    let whole: String = group("whole").chars().filter(char::is_ascii_digit).collect();
    let part = group("part");
    if whole.is_empty() && part.is_empty() || !group("sign").is_empty() && !group("sign2").is_empty() {
        return None;
    }
    let shift: i32 = group("exp").parse().unwrap_or(0);
    if shift.abs() > LARGEST_SHIFT {
        return None;
    }
    let negative = matches!(group("sign"), "-" | "\u{2212}") || group("sign2") == "-";
    Some(decimal(&whole, part, shift, negative))
}

/// Canonical form when the whole text is one number and a unit of up to three words: "12 km", "5kg", "50%",
/// "€ 5". The unit keeps its case when it is one or two letters long (mW is not MW), otherwise not.
pub(super) fn whole_quantity(text: &str) -> Option<String> {
    static QUANTITY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?<front>[€£¥])?\s*(?<number>[-+\x{2212}]?\s*\$?\s*-?(?:\d[\d,]*(?: \d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?:/\d+)?)\s*(?<unit>[\p{L}°%‰€£¥µ][\p{L}\d°%/^²³·.\-]*(?: [\p{L}/][\p{L}/\-]*){0,2})?$",
        )
        .expect("a constant pattern compiles")
    });
    let found = QUANTITY.captures(text)?;
    let number = whole_number(found["number"].trim())?;
    let unit = match (found.name("front"), found.name("unit")) {
        (Some(front), None) => front.as_str().to_owned(),
        (None, Some(unit)) => squeeze(unit.as_str()),
        _ => return None,
    };
    let unit = if unit.chars().count() <= 2 { unit } else { unit.to_lowercase() };
    Some(format!("{number} {unit}"))
}

/// "a/b" in lowest terms, or as a decimal when that ends ("1/2" is 0.5, "1/3" stays). Values within i64.
fn fraction(text: &str) -> Option<String> {
    let (above, below) = text.split_once('/')?;
    let above = above.trim().replace('\u{2212}', "-");
    let below = below.trim();
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(above.trim_start_matches('-')) || !digits(below) {
        return None;
    }
    let (mut above, mut below): (i64, i64) = (above.parse().ok()?, below.parse().ok()?);
    if below == 0 {
        return None;
    }
    let divisor = gcd(above.unsigned_abs(), below.unsigned_abs()) as i64;
    above /= divisor;
    below /= divisor;
    let mut rest = below;
    let mut places = 0;
    for factor in [2, 5] {
        let mut count = 0;
        while rest % factor == 0 {
            rest /= factor;
            count += 1;
        }
        places = count.max(places);
    }
    if rest != 1 || places > 12 {
        return Some(format!("{above}/{below}"));
    }
    let scaled = i128::from(above) * 10_i128.pow(places) / i128::from(below);
    let digits = format!("{:0width$}", scaled.unsigned_abs(), width = places as usize + 1);
    let (whole, part) = digits.split_at(digits.len() - places as usize);
    Some(decimal(whole, part, 0, scaled < 0))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Decimal text of `whole.part * 10^shift` without needless zeros; minus zero is zero.
fn decimal(whole: &str, part: &str, shift: i32, negative: bool) -> String {
    let mut digits = format!("{whole}{part}");
    let mut point = whole.len() as i32 + shift;
    if point < 0 {
        digits = "0".repeat(point.unsigned_abs() as usize) + &digits;
        point = 0;
    }
    while (digits.len() as i32) < point {
        digits.push('0');
    }
    let (whole, part) = digits.split_at(point as usize);
    let whole = whole.trim_start_matches('0');
    let part = part.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole != "0" || !part.is_empty()) { "-" } else { "" };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}
