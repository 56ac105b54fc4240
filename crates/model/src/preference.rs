//! Learning from judged answers: DPO on pairs, KTO on single answers with a verdict.
//!
//! Both compare the log-probability that the adapted model gives a whole answer with the one that the
//! reference gives it; the reference is the same base with the adapter switched off. Here are the losses
//! as functions of these log-probabilities (nats, summed over an answer's tokens) with their derivatives,
//! and the two training passes that send the derivatives through the model. Everything is f64 until it
//! enters the backward pass.

use crate::batch::Packed;
use crate::error::{ModelError, Result};
use crate::grads::Grads;
use crate::lora::Adapter;
use crate::loss::Loss;
use crate::params::Model;
use crate::real::Real;
use crate::train::sequence_grads;
use crate::workspace::Workspace;

/// Direct preference optimisation, sigmoid loss (Rafailov et al. 2023, arXiv 2305.18290, equation 7),
/// with label smoothing as in Mitchell's cDPO note (2023).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// How strongly the reference holds; 0.1 is common.
    pub beta: f64,
    /// Share of pairs that are taken to be judged the wrong way round, 0 to below 0.5.
    pub label_smoothing: f64,
}

/// Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306, equations 7 and 8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// How strongly the reference holds; 0.1 is common.
    pub beta: f64,
    /// Weight of answers judged good.
    pub desirable: f64,
    /// Weight of answers judged bad.
    pub undesirable: f64,
}

/// What a loss says of one pair (DPO) or one answer (KTO).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The loss.
    pub loss: f64,
    /// Derivative by the log-probability of the (chosen) answer; that by a rejected one is its negative.
    pub slope: f64,
}

impl Dpo {
    /// Loss of one pair. `policy` and `reference` are log-probabilities of the chosen and the rejected
    /// answer.
    pub fn score(&self, policy: [f64; 2], reference: [f64; 2]) -> Score {
        let margin = self.beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]));
        let wrong = self.label_smoothing;
        Score {
            loss: (1.0 - wrong) * softplus(-margin) + wrong * softplus(margin),
            slope: self.beta * (wrong * sigmoid(margin) - (1.0 - wrong) * sigmoid(-margin)),
        }
    }
}

impl Dpo {
    /// What one pair adds to the sums.
    pub fn judge(&self, policy: [f64; 2], reference: [f64; 2]) -> PreferenceSum {
        let rewards = [0, 1].map(|side| self.beta * (policy[side] - reference[side]));
        PreferenceSum {
            loss: self.score(policy, reference).loss,
            items: 1,
            chosen: (rewards[0], 1),
            rejected: (rewards[1], 1),
            right: usize::from(rewards[0] > rewards[1]),
            answers: Loss::default(),
        }
    }
}

impl Kto {
    /// What one answer adds to the sums.
    pub fn judge(&self, desirable: bool, policy: f64, reference: f64, kl: f64) -> PreferenceSum {
        let reward = self.beta * (policy - reference);
        PreferenceSum {
            loss: self.score(desirable, policy, reference, kl).loss,
            items: 1,
            chosen: if desirable { (reward, 1) } else { (0.0, 0) },
            rejected: if desirable { (0.0, 0) } else { (reward, 1) },
            right: usize::from((reward > 0.0) == desirable),
            answers: Loss::default(),
        }
    }

    /// Loss of one answer. `kl` is the estimate of [`Kto::kl`] for its window, a constant here.
    pub fn score(&self, desirable: bool, policy: f64, reference: f64, kl: f64) -> Score {
        let (weight, sign) = if desirable { (self.desirable, 1.0) } else { (self.undesirable, -1.0) };
        let value = sigmoid(sign * self.beta * (policy - reference - kl));
        Score { loss: weight * (1.0 - value), slope: -weight * sign * self.beta * value * (1.0 - value) }
    }

    /// How far the model has moved from the reference: the mean difference of log-probabilities of
    /// answers that belong to other questions, never below 0 (section 4.1; as TRL estimates it).
    pub fn kl(policy: &[f64], reference: &[f64]) -> f64 {
        if policy.is_empty() {
            return 0.0;
        }
        let sum: f64 = policy.iter().zip(reference).map(|(policy, reference)| policy - reference).sum();
        (sum / policy.len() as f64).max(0.0)
    }
}

/// What a training pass on judged answers adds up. Rewards are beta * (policy - reference).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PreferenceSum {
    /// Sum of the losses.
    pub loss: f64,
    /// Pairs (DPO) or answers (KTO).
    pub items: usize,
    /// Sum of the rewards of chosen or desirable answers, and their number.
    pub chosen: (f64, usize),
    /// The same of rejected or undesirable ones.
    pub rejected: (f64, usize),
    /// Pairs whose chosen answer has the larger reward; for KTO answers whose reward has the right sign.
    pub right: usize,
    /// All answers; zero where only log-probabilities were judged.
    pub answers: Loss,
}

impl std::ops::AddAssign for PreferenceSum {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.items += other.items;
        self.chosen = (self.chosen.0 + other.chosen.0, self.chosen.1 + other.chosen.1);
        self.rejected = (self.rejected.0 + other.rejected.0, self.rejected.1 + other.rejected.1);
        self.right += other.right;
        self.answers += other.answers;
    }
}

/// One training pass of DPO: sequences 2i and 2i + 1 of `batch` are the chosen and the rejected answer of
/// pair i, `reference` holds the reference's log-probability of each sequence. Adds
/// d(scale * sum of losses) to `grads`.
///
/// # Errors
/// As [`sequence_grads`]; [`ModelError::Input`] when the numbers of sequences and references differ or are
/// odd.
pub fn dpo_loss_and_grads<T: Real>(
    dpo: &Dpo,
    (model, adapter): (&Model<T>, &Adapter<T>),
    batch: &Packed,
    reference: &[f64],
    scale: f64,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) -> Result<PreferenceSum> {
    check_references(batch, reference)?;
    if !batch.segments().is_multiple_of(2) {
        return Err(ModelError::Input(format!("{} sequences are no pairs", batch.segments())));
    }
    let policy = |pair: &[Loss]| [-pair[0].nll_sum, -pair[1].nll_sum];
    let known = |pair: usize| [reference[2 * pair], reference[2 * pair + 1]];
    let losses = sequence_grads(
        model,
        adapter,
        batch,
        grads,
        ws,
        (2, &|pair, losses| {
            let Score { slope, .. } = dpo.score(policy(losses), known(pair));
            vec![-slope * scale, slope * scale]
        }),
    )?;
    let mut judged = PreferenceSum::default();
    for (number, pair) in losses.chunks_exact(2).enumerate() {
        judged += dpo.judge(policy(pair), known(number));
        for answer in pair {
            judged.answers += *answer;
        }
    }
    Ok(judged)
}

/// One training pass of KTO: `desirable` and `reference` hold the verdict on each sequence of `batch` and
/// the reference's log-probability of it. Adds d(scale * sum of losses) to `grads`.
///
/// # Errors
/// As [`sequence_grads`]; [`ModelError::Input`] when the numbers of sequences, verdicts and references
/// differ.
pub fn kto_loss_and_grads<T: Real>(
    (kto, kl): (&Kto, f64),
    (model, adapter): (&Model<T>, &Adapter<T>),
    batch: &Packed,
    (desirable, reference): (&[bool], &[f64]),
    scale: f64,
    grads: &mut Grads<T>,
    ws: &mut Workspace<T>,
) -> Result<PreferenceSum> {
    check_references(batch, reference)?;
    if desirable.len() != batch.segments() {
        let (verdicts, answers) = (desirable.len(), batch.segments());
        return Err(ModelError::Input(format!("{verdicts} verdicts on {answers} answers")));
    }
    let losses = sequence_grads(
        model,
        adapter,
        batch,
        grads,
        ws,
        (1, &|at, losses| {
            let Score { slope, .. } = kto.score(desirable[at], -losses[0].nll_sum, reference[at], kl);
            vec![-slope * scale]
        }),
    )?;
    let mut judged = PreferenceSum::default();
    for ((answer, &desirable), &reference) in losses.iter().zip(desirable).zip(reference) {
        judged += kto.judge(desirable, -answer.nll_sum, reference, kl);
        judged.answers += *answer;
    }
    Ok(judged)
}

fn check_references(batch: &Packed, reference: &[f64]) -> Result<()> {
    if reference.len() == batch.segments() {
        return Ok(());
    }
    let (found, wanted) = (reference.len(), batch.segments());
    Err(ModelError::Input(format!("{found} log-probabilities of the reference for {wanted} answers")))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// log(1 + e^x) = -log sigmoid(-x), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests;
