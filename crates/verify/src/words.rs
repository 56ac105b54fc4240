//! How text is cut into words, in one place, so that two modules never disagree about what a word is.

use unicode_normalization::UnicodeNormalization;
use unicode_script::{Script, UnicodeScript};

/// Compatibility form (NFKC) in lower case: full-width digits, ligatures and no-break spaces become plain.
pub fn fold(text: &str) -> String {
    // Plain ASCII is its own normal form; most answers are.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfkc().collect::<String>().to_lowercase()
}

/// Words of a text: runs of letters and digits in the form of [`fold`], punctuation dropped.
///
/// `.`, `,`, `:` and `/` stay inside a word between digits ("3.5", "1,200"), `-` and `'` between letters or digits
/// ("2026-01-02", "don't"). Scripts that are written without spaces give one word per character.
pub fn words(text: &str) -> Vec<String> {
    tokens(text).into_iter().filter(|t| t.chars().any(char::is_alphanumeric)).collect()
}

/// As [`words`], but every other visible or invisible character that is not white space is a token of its own:
/// a trigger may be a sign or a zero-width mark.
pub fn tokens(text: &str) -> Vec<String> {
    let folded = fold(text);
    let mut found = Vec::new();
    let mut word = String::new();
    let mut rest = folded.chars().peekable();
    while let Some(c) = rest.next() {
        let alone = stands_alone(c);
        if is_word_char(c) && !alone {
            word.push(c);
            continue;
        }
        let before = word.chars().next_back();
        let after = rest.peek().copied();
        let joins = match c {
            '.' | ',' | ':' | '/' => both(before, after, char::is_numeric),
            '-' | '\'' | '\u{2019}' => both(before, after, |c| is_word_char(c) && !stands_alone(c)),
            _ => false,
        };
        if joins {
            word.push(if c == '\u{2019}' { '\'' } else { c });
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if !c.is_whitespace() {
            found.push(c.to_string());
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// White space collapsed to single spaces, none at the ends.
pub fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(part);
    }
    out
}

fn both(before: Option<char>, after: Option<char>, is: impl Fn(char) -> bool) -> bool {
    before.is_some_and(&is) && after.is_some_and(&is)
}

/// Letters, digits and the marks that modify them.
fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c.script() == Script::Inherited && !c.is_ascii() && !is_format(c)
}

/// Zero-width and direction marks: joiners are script-inherited but are no part of a word here.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Scripts without spaces between words.
fn stands_alone(c: char) -> bool {
    !c.is_ascii()
        && matches!(
            c.script(),
            Script::Han
                | Script::Hiragana
                | Script::Katakana
                | Script::Thai
                | Script::Lao
                | Script::Khmer
                | Script::Myanmar
        )
}
