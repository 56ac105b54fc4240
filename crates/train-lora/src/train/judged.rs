//! Steps and evaluations on judged answers: DPO on pairs, KTO on answers with a verdict.
//!
//! The reference is the base itself, so its log-probabilities of the rows never change: they are computed
//! once, before the first step, in passes that do not depend on the run. The distance from the reference
//! that KTO needs is estimated in every window from answers to other questions: each question with the
//! answer of the row before it in the window, the first with that of the last (as TRL has it; TRL's unit is
//! the micro-batch, ours the window, so that the numbers do not depend on how rows are cut into passes).

use nightshift_model::{
    Adapter, Example, Kto, Loss, Packed, PreferenceSum, Workspace, dpo_loss_and_grads, evaluate,
    kto_loss_and_grads,
};

use super::{Failure, Job, ModelError, Objective, Run, refused};
use crate::data::{Encoded, Verdict};
use crate::measure::{evaluation_passes, pack};
use crate::objective::Rewards;

/// Log-probabilities of the answers of each row.
pub(super) type LogProbs = Vec<Vec<f64>>;

/// What a window or an evaluation found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    /// Sums over its rows.
    pub(super) sum: PreferenceSum,
    /// The rewards.
    pub(super) rewards: Rewards,
}

impl Judgement {
    /// Mean loss of a pair or answer, as a loss of that many items.
    pub(super) fn loss(&self) -> Loss {
        Loss { nll_sum: self.sum.loss, tokens: self.sum.items, correct: self.sum.right }
    }
}

impl Run<'_> {
    /// One window: adds its gradients.
    pub(super) fn judge(&mut self, window: &[usize]) -> Result<Judgement, Failure> {
        let job = self.job;
        let kl = match &job.settings.objective {
            Objective::Kto(_) => Some(self.kl(window.iter().map(|&row| &job.examples[row]).collect())?),
            _ => None,
        };
        let scale = 1.0 / window.len() as f64;
        let batch = self.lay_out(window);
        let reference: Vec<f64> =
            window.iter().flat_map(|&row| self.references[row].iter().copied()).collect();
        let (models, grads, ws) = ((job.model, &self.adapter), &mut self.grads, &mut self.workspace);
        let judged = match &job.settings.objective {
            Objective::Kto(kto) => {
                let wanted: Vec<bool> = window.iter().map(|&row| job.examples[row].is_wanted()).collect();
                let sides = (wanted.as_slice(), reference.as_slice());
                kto_loss_and_grads((kto, kl.unwrap_or(0.0)), models, &batch, sides, scale, grads, ws)
            }
            Objective::Dpo(dpo) => dpo_loss_and_grads(dpo, models, &batch, &reference, scale, grads, ws),
            Objective::Imitate => Err(ModelError::Input("answers to imitate are not judged".to_owned())),
        };
        let sum = judged.map_err(|error| self.ran_away(error, window, true))?;
        Ok(Judgement { sum, rewards: Rewards::of(&sum, kl) })
    }

    /// The objective on rows that are not trained on. What is not finite is in the sum.
    pub(super) fn judge_evaluation(&mut self) -> Result<Judgement, Failure> {
        let job = self.job;
        let policy = log_probs(job, Some(&self.adapter), job.evaluation, &mut self.workspace)?;
        let mut sum = PreferenceSum::default();
        let mut kl = None;
        match &job.settings.objective {
            Objective::Kto(kto) => {
                let distance = self.kl(job.evaluation.iter().collect())?;
                kl = Some(distance);
                for (row, (policy, reference)) in
                    job.evaluation.iter().zip(policy.iter().zip(&self.evaluation_references))
                {
                    sum += kto.judge(row.is_wanted(), policy[0], reference[0], distance);
                }
            }
            Objective::Dpo(dpo) => {
                for (policy, reference) in policy.iter().zip(&self.evaluation_references) {
                    sum += dpo.judge([policy[0], policy[1]], [reference[0], reference[1]]);
                }
            }
            Objective::Imitate => {}
        }
        Ok(Judgement { sum, rewards: Rewards::of(&sum, kl) })
    }

    /// KTO's distance from the reference, from each question with another row's answer.
    fn kl(&mut self, rows: Vec<&Encoded>) -> Result<f64, Failure> {
        let job = self.job;
        let strangers: Vec<Encoded> = (0..rows.len())
            .map(|at| {
                let other = rows[(at + rows.len() - 1) % rows.len()];
                Encoded { example: mismatched(&rows[at].example, &other.example), ..rows[at].clone() }
            })
            .collect();
        let policy = log_probs(job, Some(&self.adapter), &strangers, &mut self.workspace)?;
        let reference = log_probs(job, None, &strangers, &mut self.workspace)?;
        Ok(Kto::kl(&policy.concat(), &reference.concat()))
    }
}

/// Log-probabilities of the answers of each row, without dropout; without an adapter the reference's.
pub(super) fn log_probs(
    job: &Job<'_>,
    adapter: Option<&Adapter>,
    rows: &[Encoded],
    ws: &mut Workspace,
) -> Result<LogProbs, Failure> {
    let mut found = Vec::with_capacity(rows.len());
    for pass in evaluation_passes(rows) {
        job.ctx.stop.check()?;
        let batch: Packed = pack(pass.iter());
        let losses = evaluate(job.model, adapter, &batch, ws).map_err(refused)?;
        let mut each = losses.into_iter().map(|loss| -loss.nll_sum);
        found.extend(pass.iter().map(|row| each.by_ref().take(row.examples().count()).collect()));
    }
    Ok(found)
}

/// The prompt of one example with the answer of another.
fn mismatched(question: &Example, answer: &Example) -> Example {
    let (prompt, from) = (question.prompt_len(), answer.prompt_len());
    Example {
        tokens: [&question.tokens[..prompt], &answer.tokens[from..]].concat(),
        scored: [&question.scored[..prompt], &answer.scored[from..]].concat(),
    }
}

/// Refuses (exit 2) windows in which a question has only its own answer.
pub(super) fn check_window(objective: &Objective, window: usize) -> Result<(), Failure> {
    if !matches!(objective, Objective::Kto(_)) || window > 1 {
        return Ok(());
    }
    Err(Failure::usage(
        "kto needs at least two rows in an optimiser step, to tell how far the model has moved",
    )
    .hint("raise --batch-size or --gradient-accumulation"))
}

impl Encoded {
    /// KTO: whether the answer is wanted.
    fn is_wanted(&self) -> bool {
        matches!(self.verdict, Verdict::Wanted(true))
    }
}
