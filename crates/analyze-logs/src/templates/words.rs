//! The few words that belong to a number: dates, units, zones.

fn lower<'a>(word: &[u8], buffer: &'a mut [u8; 12]) -> &'a [u8] {
    let length = word.len().min(buffer.len());
    buffer[..length].copy_from_slice(&word[..length]);
    buffer[..length].make_ascii_lowercase();
    &buffer[..length]
}

/// A month or a day of the week, in full or by its first three letters.
pub(super) fn is_calendar(word: &[u8]) -> bool {
    const NAMES: [&[u8]; 19] = [
        b"january",
        b"february",
        b"march",
        b"april",
        b"may",
        b"june",
        b"july",
        b"august",
        b"september",
        b"october",
        b"november",
        b"december",
        b"monday",
        b"tuesday",
        b"wednesday",
        b"thursday",
        b"friday",
        b"saturday",
        b"sunday",
    ];
    if word.len() < 3 || word.len() > 9 || !word[0].is_ascii_uppercase() {
        return false;
    }
    let mut buffer = [0; 12];
    let word = lower(word, &mut buffer);
    NAMES.iter().any(|name| *name == word || word.len() == 3 && name.starts_with(word))
}

/// A unit of time, size or share.
pub(super) fn is_unit(word: &[u8]) -> bool {
    const UNITS: [&[u8]; 44] = [
        b"ns",
        b"us",
        b"ms",
        b"s",
        b"sec",
        b"secs",
        b"second",
        b"seconds",
        b"min",
        b"mins",
        b"minute",
        b"minutes",
        b"hr",
        b"hrs",
        b"hour",
        b"hours",
        b"day",
        b"days",
        b"week",
        b"weeks",
        b"msec",
        b"msecs",
        b"usec",
        b"millis",
        b"millisecond",
        b"milliseconds",
        b"microseconds",
        b"nanoseconds",
        b"byte",
        b"bytes",
        b"kb",
        b"mb",
        b"gb",
        b"tb",
        b"kib",
        b"mib",
        b"gib",
        b"tib",
        b"kbytes",
        b"mbytes",
        b"kbps",
        b"mbps",
        b"percent",
        b"pct",
    ];
    let mut buffer = [0; 12];
    word == b"B" || word.len() <= 12 && UNITS.contains(&lower(word, &mut buffer))
}

/// A zone or a half of the day behind a time.
pub(super) fn is_zone(word: &[u8]) -> bool {
    matches!(
        word,
        b"UTC"
            | b"GMT"
            | b"EST"
            | b"EDT"
            | b"CST"
            | b"CDT"
            | b"MST"
            | b"MDT"
            | b"PST"
            | b"PDT"
            | b"CET"
            | b"CEST"
            | b"BST"
            | b"AM"
            | b"PM"
    )
}
