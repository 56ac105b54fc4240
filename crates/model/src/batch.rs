//! `Packed`: sequences laid end to end, without padding, for training and evaluation.
//!
//! Positions restart at every segment and attention never crosses from one into another, so a packed
//! batch computes what its sequences would compute alone.

use std::ops::Range;

use crate::error::{ModelError, Result};

/// Several token sequences in one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// All tokens, one sequence after the other.
    pub tokens: Vec<u32>,
    /// Where each sequence begins; the first is 0.
    pub starts: Vec<usize>,
    /// For each position the token that is to be predicted there (the next one of its sequence), or
    /// `None` where nothing is scored.
    pub labels: Vec<Option<u32>>,
    /// For each sequence, which dropout masks and which noise it draws under the seed of the step
    /// ([`crate::Workspace::set_dropout_seed`]): its number in the batch, unless something else is put here.
    /// A number that stands for the record makes the masks the same however records are cut into batches.
    pub draws: Vec<u64>,
}

impl Packed {
    /// No sequences.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a sequence. `scored[i]` says whether the prediction of `tokens[i]` counts; the first
    /// token is never predicted, so `scored[0]` has no effect.
    ///
    /// # Panics
    /// When the two lengths differ, or the sequence is empty.
    pub fn push(&mut self, tokens: &[u32], scored: &[bool]) {
        assert_eq!(tokens.len(), scored.len(), "one flag for each token");
        assert!(!tokens.is_empty(), "an empty sequence");
        self.draws.push(self.starts.len() as u64);
        self.starts.push(self.tokens.len());
        self.tokens.extend_from_slice(tokens);
        let shifted = tokens.iter().zip(scored).skip(1).map(|(token, scored)| scored.then_some(*token));
        self.labels.extend(shifted);
        self.labels.push(None);
    }

    /// Number of sequences.
    pub fn segments(&self) -> usize {
        self.starts.len()
    }

    /// Number of labels.
    pub fn scored(&self) -> usize {
        self.labels.iter().flatten().count()
    }

    /// Rows of each sequence.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let ends = self.starts.iter().skip(1).copied().chain([self.tokens.len()]);
        self.starts.iter().copied().zip(ends).map(|(start, end)| start..end)
    }

    /// Refuses what a computation could not index.
    pub(crate) fn check(&self, vocab_size: usize) -> Result<()> {
        check_tokens(&self.tokens, vocab_size)?;
        if self.labels.len() != self.tokens.len() {
            let (labels, tokens) = (self.labels.len(), self.tokens.len());
            return Err(ModelError::Input(format!("packed batch: {labels} labels for {tokens} tokens")));
        }
        if self.draws.len() != self.starts.len() {
            let (draws, sequences) = (self.draws.len(), self.starts.len());
            return Err(ModelError::Input(format!("packed batch: {draws} draws for {sequences} sequences")));
        }
        if let Some(at) = self.labels.iter().position(|l| l.is_some_and(|l| l as usize >= vocab_size)) {
            return Err(ModelError::Input(format!(
                "packed batch: label at position {at} is outside the vocabulary of {vocab_size}"
            )));
        }
        let ordered = self.starts.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = self.starts.last().is_some_and(|last| *last < self.tokens.len());
        if self.starts.first() == Some(&0) && ordered && inside {
            return Ok(());
        }
        Err(ModelError::Input(
            "packed batch: starts must rise from 0 and stay below the number of tokens".to_owned(),
        ))
    }
}

/// Refuses an empty sequence and tokens outside the vocabulary.
pub(crate) fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    if tokens.is_empty() {
        return Err(ModelError::Input("no tokens given".to_owned()));
    }
    match tokens.iter().position(|token| *token as usize >= vocab_size) {
        None => Ok(()),
        Some(at) => Err(ModelError::Input(format!(
            "token {} at position {at} is outside the vocabulary of {vocab_size}",
            tokens[at]
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_shifted_inside_their_own_sequence() {
        let mut packed = Packed::new();
        packed.push(&[1, 2, 3], &[true, false, true]);
        packed.push(&[4, 5], &[true, true]);
        assert_eq!(packed.starts, [0, 3]);
        assert_eq!(packed.labels, [None, Some(3), None, Some(5), None]);
        assert_eq!((packed.segments(), packed.scored()), (2, 2));
        assert_eq!(packed.ranges().collect::<Vec<_>>(), [0..3, 3..5]);
        packed.check(6).unwrap();
    }

    #[test]
    fn what_cannot_be_indexed_is_refused() {
        let mut packed = Packed::new();
        assert!(packed.check(9).is_err());
        packed.push(&[1, 2, 3], &[true; 3]);
        assert!(packed.check(3).unwrap_err().to_string().contains("token 3 at position 2"));
        packed.starts = vec![1];
        assert!(packed.check(9).is_err());
        packed.starts = vec![0, 3];
        assert!(packed.check(9).is_err());
        packed.starts = vec![0];
        packed.labels.pop();
        assert!(packed.check(9).is_err());
    }
}
