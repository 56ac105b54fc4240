//! Re-computes the sums that an answer claims: "12 + 30 = 42", "3 x 4 = 12 = 24 / 2", "<<16-3=13>>".
//!
//! Only plain arithmetic is judged: numbers (with `$`, `%` left out, thousands separators), + - * x / and brackets on
//! both sides of an `=`. A side with words in it ends the chain. A result that is written with k decimals is
//! right when the true value rounds to it, to the nearest or by cutting off. An answer without any claim is not
//! wrong. A refuted claim is a strong hint and no proof: of 2,000 reference solutions of GSM8K about one in a hundred
//! has one, by slips and by sums that mix units ("36 * 100 = 36.00").

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// Deepest nesting of brackets; a hostile text with more is not judged.
const DEEPEST: u32 = 32;

/// One claim "left = right" found in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim as written, white space collapsed.
    pub text: String,
    /// Value of the left side.
    pub computed: f64,
    /// Value of the right side.
    pub claimed: f64,
    /// Whether they agree within the precision that the right side is written in.
    pub holds: bool,
}

/// Every claim of an answer, in order.
pub fn claims(answer: &str) -> Vec<Claim> {
    static CHAIN: LazyLock<Regex> = LazyLock::new(|| {
        // A term is numbers, operators and brackets; `x` multiplies only between spaces or digits.
        Regex::new(r"[-+*/×÷−·()\[\]\d.,$€£\sxX]+(?:=[-+*/×÷−·()\[\]\d.,$€£\sxX]+)+")
            .expect("a constant pattern compiles")
    });
    let mut found = Vec::new();
    for chain in CHAIN.find_iter(answer) {
        let (start, end) = (chain.start(), chain.end());
        // Letters glued to either end belong to a variable or a unit: "2y = 5", "= 5km" are not plain sums, but
        // only the side they touch is lost.
        let glued_front = answer[..start].ends_with(|c: char| c.is_alphanumeric() || c == '%' || c == '^');
        let glued_back = answer[end..].starts_with(['%', '^', '_', '²', '³', ':']);
        let sides: Vec<&str> = chain.as_str().split('=').collect();
        for (i, pair) in sides.windows(2).enumerate() {
            let touches_front = i == 0 && glued_front && !pair[0].starts_with(char::is_whitespace);
            let touches_back = i + 2 == sides.len() && glued_back && !pair[1].ends_with(char::is_whitespace);
            if !touches_front && !touches_back {
                found.extend(claim(last_line(pair[0]), first_line(pair[1])));
            }
        }
    }
    found
}

/// The claims of an answer that do not hold.
pub fn wrong(answer: &str) -> Vec<Claim> {
    claims(answer).into_iter().filter(|c| !c.holds).collect()
}

/// A chain may run over a line end only at an `=`.
fn last_line(side: &str) -> &str {
    let side = side.trim_end();
    side.rsplit(['\n', '\r']).next().unwrap_or(side)
}

fn first_line(side: &str) -> &str {
    let side = side.trim_start();
    side.split(['\n', '\r']).next().unwrap_or(side)
}

fn claim(left: &str, right: &str) -> Option<Claim> {
    // A sentence may end right behind the number.
    let right = right.trim().trim_end_matches(['.', ',', '$']).trim_end();
    let left = left.trim().trim_start_matches(['.', ',', ')', ']']).trim_start();
    // "y + 143 = 200" arrives without its y.
    if left.starts_with(['+', '*', '/', '×', '÷']) {
        return None;
    }
    let computed = value(left)?;
    let claimed = value(right)?;
    // "x = 5" leaves an empty left side; "5 = 5" says nothing; an operation on one side at least is a claim.
    if !has_operation(left) && !has_operation(right) {
        return None;
    }
    let tolerance = precision(right).max(precision(left)).max(1e-9 * computed.abs());
    let holds = (computed - claimed).abs() <= tolerance * (1.0 + 1e-9);
    let text = crate::words::squeeze(&format!("{left} = {right}"));
    Some(Claim { text, computed, claimed, holds })
}

/// A whole unit of the last written decimal where there are decimals (rounded or cut off), else 1e-6: integers
/// are meant exactly.
fn precision(side: &str) -> f64 {
    if has_operation(side) {
        return 1e-6;
    }
    match side.trim().rsplit_once('.') {
        Some((_, decimals)) => 10_f64.powi(-(decimals.trim().len() as i32)),
        None => 1e-6,
    }
}

fn has_operation(side: &str) -> bool {
    let inner = side.trim().trim_start_matches(['-', '+', '\u{2212}']);
    inner.contains(['+', '-', '*', '/', '×', '÷', '\u{2212}', '·', 'x', 'X'])
}

fn value(text: &str) -> Option<f64> {
    let mut parser =
        Parser { text: text.chars().filter(|c| !matches!(c, '$' | '€' | '£')).collect(), at: 0 };
    let value = parser.sum(0)?;
    parser.skip_space();
    (parser.at == parser.text.len() && value.is_finite()).then_some(value)
}

/// Recursive descent over characters; `None` ends the attempt.
struct Parser {
    text: Vec<char>,
    at: usize,
}

impl Parser {
    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: &[char]) -> Option<char> {
        self.skip_space();
        let c = *self.text.get(self.at)?;
        wanted.contains(&c).then(|| {
            self.at += 1;
            c
        })
    }

    fn sum(&mut self, depth: u32) -> Option<f64> {
        let mut total = self.product(depth)?;
        while let Some(sign) = self.take(&['+', '-', '\u{2212}']) {
            let term = self.product(depth)?;
            total += if sign == '+' { term } else { -term };
        }
        Some(total)
    }

    fn product(&mut self, depth: u32) -> Option<f64> {
        let mut total = self.factor(depth)?;
        while let Some(sign) = self.take(&['*', '×', 'x', 'X', '·', '/', '÷']) {
            // "2x + 30" multiplies nothing: the x is an unknown.
            if matches!(sign, 'x' | 'X') {
                self.skip_space();
                self.text.get(self.at).filter(|c| c.is_ascii_digit() || matches!(c, '.' | '('))?;
            }
            let factor = self.factor(depth)?;
            total = if matches!(sign, '/' | '÷') { total / factor } else { total * factor };
        }
        Some(total)
    }

    fn factor(&mut self, depth: u32) -> Option<f64> {
        if depth > DEEPEST {
            return None;
        }
        if let Some(sign) = self.take(&['-', '\u{2212}', '+']) {
            let inner = self.factor(depth + 1)?;
            return Some(if sign == '+' { inner } else { -inner });
        }
        if self.take(&['(', '[']).is_some() {
            let inner = self.sum(depth + 1)?;
            self.take(&[')', ']'])?;
            return Some(inner);
        }
        self.number()
    }

    fn number(&mut self) -> Option<f64> {
        self.skip_space();
        let start = self.at;
        while self.text.get(self.at).is_some_and(|c| c.is_ascii_digit() || matches!(c, '.' | ',')) {
            self.at += 1;
        }
        let raw: String = self.text[start..self.at].iter().collect();
        let (whole, decimals) = raw.split_once('.').unwrap_or((&raw, ""));
        // A comma separates thousands or it is no number: "1,5" and lists are not judged.
        let groups: Vec<&str> = whole.split(',').collect();
        let grouped = groups.len() == 1
            || groups[1..].iter().all(|g| g.len() == 3) && (1..=3).contains(&groups[0].len());
        if !grouped || decimals.contains(['.', ',']) {
            return None;
        }
        raw.replace(',', "").parse().ok()
    }
}
