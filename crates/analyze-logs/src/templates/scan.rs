//! From a message to its tokens: words, punctuation, and values masked by their shape.
//!
//! A run of word characters becomes one token. Its bytes alone decide whether it is a word, a value
//! (number, hex, UUID, IP or MAC address, path, URL, e-mail, time, size, random-looking id), or a value
//! behind a readable prefix (`blk_17` is `blk_` and a value, so that `eth0` and `wlan0` stay apart).
//! Nothing here knows any log, product or language; everything is ASCII shape.

use super::words::is_unit;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters: constant until the counts say otherwise.
    Word,
    /// A masked value.
    Value,
    /// Letters kept, followed by a masked value.
    Prefix,
    /// Anything else; always constant.
    Punct,
}

/// A slice of the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) start: u32,
    /// End of the readable bytes; of a prefix, where its value begins.
    pub(super) end: u32,
    pub(super) kind: Kind,
    /// White space stands before it.
    pub(super) space: bool,
    /// The value carries a unit.
    pub(super) measured: bool,
}

impl Token {
    pub(super) fn text<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.start as usize..self.end as usize]
    }
}

const SPACE: u8 = 0;
const WORD: u8 = 1;
const PUNCT: u8 = 2;

/// Class of each byte; bytes of non-ASCII letters are word bytes.
static CLASS: [u8; 256] = {
    let mut table = [PUNCT; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b <= b' ' || b == 0x7f {
            table[byte] = SPACE;
        } else if b.is_ascii_alphanumeric() || b >= 0x80 {
            table[byte] = WORD;
        }
        byte += 1;
    }
    let joining = b"_-./\\@#%+$*&~^";
    let mut at = 0;
    while at < joining.len() {
        table[joining[at] as usize] = WORD;
        at += 1;
    }
    table
};

fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

/// Cuts `message` into `tokens`, which is emptied first.
pub(super) fn scan(message: &[u8], tokens: &mut Vec<Token>) {
    tokens.clear();
    let (mut at, mut space) = (0, false);
    while let Some(&byte) = message.get(at) {
        match class(byte) {
            SPACE => {
                at = skip_escape(message, at);
                space = true;
            }
            // `<1 s` is a value with a comparator.
            PUNCT
                if (byte == b'<' || byte == b'>')
                    && space
                    && message.get(at + 1).is_some_and(u8::is_ascii_digit) =>
            {
                at += 1;
            }
            _ if let Some(end) = colon_address(message, at) => {
                push(tokens, at, end, Kind::Value, space);
                (at, space) = (end, false);
            }
            PUNCT => {
                let run = message[at..].iter().take_while(|&&next| next == byte).count();
                let run = if b"()[]{}\"'".contains(&byte) { 1 } else { run };
                push(tokens, at, at + run, Kind::Punct, space);
                (at, space) = (at + run, false);
            }
            _ => {
                at = run(message, at, space, tokens);
                space = false;
            }
        }
    }
}

fn push(tokens: &mut Vec<Token>, start: usize, end: usize, kind: Kind, space: bool) {
    tokens.push(Token { start: start as u32, end: end as u32, kind, space, measured: false });
}

/// After a blank or control byte; a terminal's colour sequence is one blank.
fn skip_escape(message: &[u8], at: usize) -> usize {
    if message[at] == 0x1b && message.get(at + 1) == Some(&b'[') {
        let end = message[at + 2..].iter().position(u8::is_ascii_alphabetic);
        return end.map_or(message.len(), |end| at + 2 + end + 1);
    }
    at + 1
}

/// The end of an IPv6 or MAC address or a clock time that starts at `at`: hex groups with two colons or more.
fn colon_address(message: &[u8], at: usize) -> Option<usize> {
    let rest = &message[at..];
    let first = rest.iter().take(5).position(|byte| !byte.is_ascii_hexdigit())?;
    if rest[first] != b':' {
        return None;
    }
    let length =
        rest.iter().position(|byte| !byte.is_ascii_hexdigit() && *byte != b':').unwrap_or(rest.len());
    let body = &rest[..length];
    let groups = body.split(|&byte| byte == b':');
    let colons = groups.clone().count() - 1;
    let ended = !rest.get(length).is_some_and(|&byte| byte.is_ascii_alphabetic() || byte == b'_');
    let value = colons >= 2
        && body.iter().any(u8::is_ascii_digit)
        && { groups }.all(|group| group.len() <= 4)
        && ended;
    if !value || body.ends_with(b":") && !body.ends_with(b"::") {
        return None;
    }
    // A fraction of a second, a zone or prefix length belongs to it.
    let tail = rest[length..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"./%+-".contains(byte))
        .count();
    let tail =
        rest[length..length + tail].iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |last| last + 1);
    Some(at + length + tail)
}

/// One run of word bytes from `start`; pushes its tokens and returns its end.
fn run(message: &[u8], start: usize, space: bool, tokens: &mut Vec<Token>) -> usize {
    let mut end = start;
    let mut foreign = false;
    let next = |at: usize| message.get(at).copied().unwrap_or(b' ');
    loop {
        while class(next(end)) == WORD {
            foreign |= next(end) >= 0x80;
            end += 1;
        }
        let before = end > start && next(end - 1).is_ascii_alphanumeric();
        if next(end) == b':' && before {
            let body = &message[start..end];
            if next(end + 1) == b'/' && next(end + 2) == b'/' && body.iter().all(|&byte| byte < 0x80) {
                end = url_end(message, end + 3);
                push(tokens, start, end, Kind::Value, space);
                return end;
            }
            if body.len() == 1 && body[0].is_ascii_alphabetic() && next(end + 1) == b'\\' {
                end += 1;
                continue;
            }
            // A name space is one word.
            if next(end + 1) == b':' && next(end + 2).is_ascii_alphabetic() {
                end += 2;
                continue;
            }
        }
        if next(end) == b'\''
            && before
            && next(end + 1).is_ascii_alphabetic()
            && next(end - 1).is_ascii_alphabetic()
        {
            end += 1;
            continue;
        }
        break;
    }
    // Full stops and dashes at the end are punctuation, not part of the word.
    let body = message[start..end]
        .iter()
        .rposition(|byte| !b".-".contains(byte))
        .map_or(end, |last| start + last + 1);
    if next(body) == b'?' && message[start] == b'/' && class(next(body + 1)) == WORD {
        end = url_end(message, body);
        push(tokens, start, end, Kind::Value, space);
        return end;
    }
    if foreign && message[start..body].iter().any(u8::is_ascii_digit) {
        let mut from = start;
        while from < body {
            let ascii = message[from] < 0x80;
            let length = message[from..body].iter().take_while(|&&byte| (byte < 0x80) == ascii).count();
            classify(message, from, from + length, space && from == start, tokens);
            from += length;
        }
    } else {
        classify(message, start, body, space, tokens);
    }
    if body < end {
        push(tokens, body, end, Kind::Punct, false);
    }
    end
}

/// Where the URL ends whose host begins at `from`.
fn url_end(message: &[u8], from: usize) -> usize {
    let length = message[from..]
        .iter()
        .position(|byte| *byte <= b' ' || b"\"'<>`{}|()[]".contains(byte))
        .unwrap_or(message.len() - from);
    let body = message[from..from + length].iter().rposition(|byte| !b".,;:!?".contains(byte));
    from + body.map_or(0, |last| last + 1)
}

/// Pushes the token of `message[start..end]`, a run without blanks.
fn classify(message: &[u8], start: usize, end: usize, space: bool, tokens: &mut Vec<Token>) {
    let body = &message[start..end];
    let (mut digits, mut letters, mut slashes, mut dots, mut backslashes, mut at_signs) = (0, 0, 0, 0, 0, 0);
    for &byte in body {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => letters += 1,
            b'/' => slashes += 1,
            b'.' => dots += 1,
            b'\\' => backslashes += 1,
            b'@' => at_signs += 1,
            _ => {}
        }
    }
    let kind = if digits + letters == 0 {
        Kind::Punct
    } else if (slashes > 0 && is_path(body)) || backslashes > 1 || (at_signs == 1 && dots > 0 && letters > 0)
    {
        Kind::Value
    } else if digits == 0 {
        let random = letters == body.len() && (letters >= 32 || (letters >= 8 && is_hex(body)));
        if !random && let Some(prefix) = hex_tail(body) {
            push(tokens, start, start + prefix, Kind::Prefix, space);
            return;
        }
        if random { Kind::Value } else { Kind::Word }
    } else {
        let prefix = readable_prefix(body, dots);
        if prefix > 0 {
            push(tokens, start, start + prefix, Kind::Prefix, space);
            return;
        }
        Kind::Value
    };
    push(tokens, start, end, kind, space);
    if let Some(token) = tokens.last_mut() {
        let number = body.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        token.measured = number > 0 && is_unit(&body[number..]);
    }
}

/// `/usr/lib`, `./x`, `~/x`, `src/main.rs`, but not `seq/ack/win`.
fn is_path(body: &[u8]) -> bool {
    let rooted =
        body.len() > 1 && body[0] == b'/' && (body[1].is_ascii_alphanumeric() || b"_.".contains(&body[1]));
    if rooted || body.starts_with(b"./") || body.starts_with(b"../") || body.starts_with(b"~/") {
        return true;
    }
    // `nginx/1.2` is a name with its version.
    let slash = body.iter().position(|&byte| byte == b'/').unwrap_or(0);
    let version = body[slash + 1..].iter().all(|byte| byte.is_ascii_digit() || b"._-".contains(byte));
    body.contains(&b'.') && !version
}

fn is_hex(body: &[u8]) -> bool {
    body.iter().all(u8::is_ascii_hexdigit)
}

/// Bytes before a last segment that is an id without a digit by chance: `req_deadbeef`.
fn hex_tail(body: &[u8]) -> Option<usize> {
    let prefix = body.iter().rposition(|byte| b"-_".contains(byte))? + 1;
    (body.len() - prefix >= 8 && is_hex(&body[prefix..])).then_some(prefix)
}

/// Bytes of the part to keep of a run with digits: whole segments of letters before the first that has digits.
///
/// 0 when the run is a value as a whole: it starts with a digit, is hexadecimal, mixes letters and digits, or
/// is a host name.
fn readable_prefix(body: &[u8], dots: usize) -> usize {
    let hex = body.len() >= 6 && body.iter().all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(byte));
    let host = dots >= 2 && body[body.len() - 1].is_ascii_alphabetic();
    if hex || host || !body[0].is_ascii_alphabetic() && body[0] < 0x80 {
        return 0;
    }
    let first = body.iter().position(u8::is_ascii_digit).unwrap_or(body.len());
    let segment =
        body[..first].iter().rposition(|byte| !byte.is_ascii_alphabetic()).map_or(0, |last| last + 1);
    let plain = |byte: &u8| byte.is_ascii_digit() || b"._-/:".contains(byte);
    // A sign belongs to the value: `blk_-17`.
    let signed = segment >= 2 && b"+-".contains(&body[segment - 1]) && b"_.:/#".contains(&body[segment - 2]);
    let segment = segment - usize::from(signed);
    if segment == 0 {
        // No separator before the first digit: `eth0`, `node12.3`; one letter says nothing.
        return if first >= 2 && body[first..].iter().all(plain) { first } else { 0 };
    }
    // `core.17` keeps its name, `lib.x86.so` does not.
    if body[segment - 1] == b'.' && !body[segment..].iter().all(plain) {
        return 0;
    }
    segment
}
