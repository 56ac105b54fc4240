//! From tokens to a signature: neighbouring values become one, lists lose their length, units go with
//! their number.
//!
//! The signature is text: tokens with a blank or [`GLUE`] before each but the first, values written as
//! [`VALUE`]. Messages of one shape have one signature, however many values they list.

use super::scan::{Kind, Token};
use super::words::{is_calendar, is_unit, is_zone};

/// Stands for a masked value in a signature.
pub(super) const VALUE: char = '\u{2}';
/// Separates tokens that touch each other in the message.
pub(super) const GLUE: char = '\u{1}';

/// Folds `tokens` into `kept` and writes the signature into `signature`; both are emptied first.
pub(super) fn fold(message: &[u8], tokens: &[Token], kept: &mut Vec<Token>, signature: &mut Vec<u8>) {
    kept.clear();
    let mut quoted = false;
    for &token in tokens {
        match token.kind {
            Kind::Value => push_value(message, kept, token),
            Kind::Prefix => push_prefix(message, kept, token),
            Kind::Word => push_word(message, kept, token),
            Kind::Punct => match message[token.start as usize] {
                b')' | b']' | b'}' => push_closing(message, kept, token),
                b'"' => {
                    if quoted && kept.last().is_some_and(|last| is_punct(message, last, b'"')) {
                        kept.push(value_at(token.start, false));
                    }
                    quoted = !quoted;
                    kept.push(token);
                }
                _ => kept.push(token),
            },
        }
    }
    write(message, kept, signature);
}

fn write(message: &[u8], kept: &[Token], signature: &mut Vec<u8>) {
    signature.clear();
    for (index, token) in kept.iter().enumerate() {
        if index > 0 {
            signature.push(if token.space { b' ' } else { GLUE as u8 });
        }
        if token.kind != Kind::Value {
            signature.extend_from_slice(token.text(message));
        }
        if matches!(token.kind, Kind::Value | Kind::Prefix) {
            signature.push(VALUE as u8);
        }
    }
}

fn value_at(start: u32, space: bool) -> Token {
    Token { start, end: start, kind: Kind::Value, space, measured: false }
}

fn is_punct(message: &[u8], token: &Token, byte: u8) -> bool {
    token.kind == Kind::Punct && token.text(message) == [byte]
}

/// Punctuation between two values that makes them one: a list, a range, a time, an address with its port.
fn joins(message: &[u8], punct: &Token, next: &Token) -> bool {
    if punct.kind != Kind::Punct {
        return false;
    }
    match punct.text(message) {
        b"," | b";" | b"-" | b"|" | b"/" | b"~" | b".." | b"+" | b"." | b"x" => true,
        b":" => !punct.space && !next.space,
        _ => false,
    }
}

fn push_value(message: &[u8], kept: &mut Vec<Token>, mut token: Token) {
    // A date in words: the month, and the day of the week, belong to the number behind them.
    while let Some(last) = kept.last() {
        let before = kept.len().checked_sub(2).map(|index| kept[index]);
        if last.kind == Kind::Word && is_calendar(last.text(message)) {
            token.space = last.space;
            kept.pop();
        } else if is_punct(message, last, b',')
            && before.is_some_and(|word| word.kind == Kind::Word && is_calendar(word.text(message)))
        {
            token.space = before.is_some_and(|word| word.space);
            kept.truncate(kept.len() - 2);
        } else {
            break;
        }
    }
    match kept[..] {
        [.., ref mut last] if last.kind == Kind::Value => last.measured |= token.measured,
        [.., ref left, ref punct] if left.kind == Kind::Value && joins(message, punct, &token) => {
            kept.pop();
        }
        [.., ref mut left, ref punct]
            if is_punct(message, punct, b':')
                && !punct.space
                && !token.space
                && (left.kind == Kind::Prefix || left.kind == Kind::Word && is_host(left.text(message))) =>
        {
            if left.kind == Kind::Word {
                left.kind = Kind::Value;
            }
            kept.pop();
        }
        _ => kept.push(token),
    }
}

/// The same prefix again, in a list, says nothing new: `node-1, node-2`.
fn push_prefix(message: &[u8], kept: &mut Vec<Token>, token: Token) {
    let same = |left: &Token| left.kind == Kind::Prefix && left.text(message) == token.text(message);
    match kept[..] {
        [.., ref last] if same(last) => {}
        [.., ref left, ref punct] if same(left) && joins(message, punct, &token) => {
            kept.pop();
        }
        _ => kept.push(token),
    }
}

fn push_word(message: &[u8], kept: &mut Vec<Token>, token: Token) {
    if let Some(last) = kept.last_mut()
        && last.kind == Kind::Value
    {
        let word = token.text(message);
        if is_unit(word) {
            last.measured = true;
            return;
        }
        if is_zone(word) {
            return;
        }
    }
    kept.push(token);
}

/// An empty bracket holds an empty value, a list is one value, and a measure in parentheses right behind a
/// value repeats it in another unit.
fn push_closing(message: &[u8], kept: &mut Vec<Token>, close: Token) {
    let opening = match message[close.start as usize] {
        b')' => b'(',
        b']' => b'[',
        _ => b'{',
    };
    let bracket = |token: &Token| {
        token.kind == Kind::Punct && matches!(token.text(message), b"(" | b"[" | b"{" | b")" | b"]" | b"}")
    };
    let Some(open) = kept.iter().rposition(bracket).filter(|&open| is_punct(message, &kept[open], opening))
    else {
        kept.push(close);
        return;
    };
    let content = &kept[open + 1..];
    let before = open.checked_sub(1).map(|index| kept[index]);
    if content.is_empty() {
        let slot = kept[open].space || before.is_some_and(|token| matches!(token.text(message), b"=" | b":"));
        if slot {
            kept.push(value_at(close.start, false));
        }
    } else if content.len() == 1
        && content[0].measured
        && opening == b'('
        && before.is_some_and(|token| token.kind == Kind::Value)
    {
        kept.truncate(open);
        return;
    } else if is_list(message, content) {
        kept.truncate(open + 1);
        kept.push(value_at(close.start, false));
    }
    kept.push(close);
}

/// Two items or more, each one token, quoted or not, with commas between.
fn is_list(message: &[u8], content: &[Token]) -> bool {
    let mut items = 0;
    for item in content.split(|token| is_punct(message, token, b',') || is_punct(message, token, b';')) {
        let quote = |token: &Token| is_punct(message, token, b'"') || is_punct(message, token, b'\'');
        let item = match item {
            [open, inner @ .., close] if quote(open) && quote(close) => inner,
            _ => item,
        };
        if item.len() != 1 || item[0].kind == Kind::Punct {
            return false;
        }
        items += 1;
    }
    items >= 2
}

/// A host name or a source file, where a number follows.
fn is_host(word: &[u8]) -> bool {
    word.iter().rposition(|&byte| byte == b'.').is_some_and(|dot| dot > 0 && dot + 1 < word.len())
}
