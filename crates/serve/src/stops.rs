//! Stop strings: found across token borders, never given out, not even in part.

/// Splits growing text into what may be sent and what may yet be a stop string.
#[derive(Debug, Clone)]
pub(crate) struct Stops {
    stops: Vec<String>,
    held: String,
    hit: bool,
}

impl Stops {
    /// Ends at the first of these.
    pub(crate) const fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), hit: false }
    }

    /// Adds text; what is certain to belong to the answer. After [`Stops::hit`] there is no more.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.hit {
            return String::new();
        }
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.hit = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let certain = self.held.len() - keep;
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop string came.
    pub(crate) const fn hit(&self) -> bool {
        self.hit
    }

    /// What was held back, once no more text comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest)
        .rev()
        .filter(|length| text.is_char_boundary(text.len() - length))
        .find(|length| stop.as_bytes().starts_with(&text.as_bytes()[text.len() - length..]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stop = Stops::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut text: String = pieces.iter().map(|piece| stop.push(piece)).collect();
        let hit = stop.hit();
        text.push_str(&stop.finish());
        (text, hit)
    }

    #[test]
    fn stops_are_found_wherever_tokens_are_cut() {
        let text = "one\n\nUser: two";
        for cut in 0..text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(run(&["\n\nUser:", "zzz"], &[a, b]), ("one".into(), true), "cut at {cut}");
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(run(&["\n\nUser:"], &letters), ("one".into(), true));
    }

    #[test]
    fn nothing_is_lost_without_a_stop() {
        assert_eq!(run(&["##"], &["a#", "b#"]), ("a#b#".into(), false));
        assert_eq!(run(&["é!"], &["caf", "é", "?"]), ("café?".into(), false));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), false));
    }

    #[test]
    fn the_earliest_stop_wins() {
        assert_eq!(run(&["c", "b"], &["abc"]), ("a".into(), true));
        assert_eq!(run(&["aab"], &["aa", "ab"]), ("a".into(), true));
    }
}
