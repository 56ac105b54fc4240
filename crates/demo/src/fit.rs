//! Training of all weights, from scratch or from another model.
//!
//! Every batch is half facts, half skills. It is split in as many equal parts as there are threads; the parts'
//! gradients are added in a fixed order, so the result depends on seed and number of parts only, never on timing.

use nightshift_core::random::rng;
use nightshift_core::signal::Stop;
use nightshift_core::{Failure, OrFail};
use nightshift_model::{
    AdamW, Grads, Model, Packed, Schedule, ScheduleKind, Tokenizer, Workspace, loss_and_grads,
};
use rand::seq::SliceRandom;

use crate::material::{Material, Row};
use crate::tokenizer::{ANSWER_TOKEN, END_TOKEN, QUESTION_TOKEN};

/// How a model is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Optimiser steps.
    pub steps: usize,
    /// Rows of one step; even.
    pub rows: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up; then a cosine down to 5 %.
    pub warmup: usize,
}

/// What a training was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// Tokens seen.
    pub tokens: usize,
    /// Mean loss of the last 20 steps, per scored token.
    pub loss: f64,
}

/// A row as tokens.
#[derive(Debug, Clone)]
struct Encoded {
    tokens: Vec<u32>,
    scored: Vec<bool>,
}

/// Rows that are dealt in a random order, again and again.
struct Dealer {
    rows: Vec<Encoded>,
    order: Vec<usize>,
    at: usize,
}

impl Dealer {
    fn new(rows: Vec<Encoded>) -> Self {
        Self { order: (0..rows.len()).collect(), at: rows.len(), rows }
    }

    fn next(&mut self, rng: &mut nightshift_core::random::Rng) -> &Encoded {
        if self.at == self.order.len() {
            self.order.shuffle(rng);
            self.at = 0;
        }
        self.at += 1;
        &self.rows[self.order[self.at - 1]]
    }
}

/// One share of the work: what a thread needs for its part of every batch.
struct Part {
    batch: Packed,
    grads: Grads,
    workspace: Workspace,
}

/// Trains every weight of `model` in place. `parts` threads work on each batch.
pub fn fit(
    model: &mut Model,
    tokenizer: &Tokenizer,
    material: &Material,
    recipe: Recipe,
    (seed, parts): (u64, usize),
    (stop, each_step): (&Stop, &(dyn Fn() + Sync)),
) -> Result<Fitted, Failure> {
    let mut rng = rng(seed, "demo batches");
    let mut facts = Dealer::new(encode(tokenizer, &material.facts)?);
    let mut skills = Dealer::new(encode(tokenizer, &material.skills)?);
    let part = || Part { batch: Packed::new(), grads: Grads::full(model), workspace: Workspace::new(1) };
    let mut parts: Vec<Part> = (0..parts).map(|_| part()).collect();
    let mut optimiser = AdamW::new(0.9, 0.99, 1e-8, 0.01);
    let schedule =
        Schedule { kind: ScheduleKind::Cosine { floor: 0.05 }, warmup: recipe.warmup, total: recipe.steps };
    let (mut tokens, mut recent) = (0, Vec::new());
    for step in 0..recipe.steps {
        stop.check()?;
        let count = parts.len();
        for part in &mut parts {
            part.batch = Packed::new();
        }
        for row in 0..recipe.rows {
            let dealt = if row % 2 == 0 { facts.next(&mut rng) } else { skills.next(&mut rng) };
            parts[row / 2 % count].batch.push(&dealt.tokens, &dealt.scored);
        }
        let scored: usize = parts.iter().map(|part| part.batch.scored()).sum();
        tokens += parts.iter().map(|part| part.batch.tokens.len()).sum::<usize>();
        let nll = batch_gradients(model, &mut parts, 1.0 / scored as f32)?;
        recent.push(nll / scored as f64);
        let grads = &mut parts[0].grads;
        grads.clip_global_norm(1.0).or_fail(|| format!("training went wrong in step {}", step + 1))?;
        let rate = recipe.learning_rate * schedule.factor(step);
        let mut parameters = grads.with_model(model);
        optimiser.step(&mut parameters, rate).or_fail(|| "training went wrong".into())?;
        each_step();
    }
    let last = &recent[recent.len().saturating_sub(20)..];
    Ok(Fitted { tokens, loss: last.iter().sum::<f64>() / last.len().max(1) as f64 })
}

/// Gradients of the whole batch, into the first part; the sum of the losses.
fn batch_gradients(model: &Model, parts: &mut [Part], scale: f32) -> Result<f64, Failure> {
    let work = |part: &mut Part| {
        part.grads.zero();
        loss_and_grads(model, None, &part.batch, scale, &mut part.grads, &mut part.workspace)
            .or_fail(|| "training went wrong".into())
    };
    let (first, rest) = parts.split_first_mut().ok_or_else(|| Failure::failed("no thread to train with"))?;
    let losses = std::thread::scope(|scope| {
        let others: Vec<_> = rest.iter_mut().map(|part| scope.spawn(|| work(part))).collect();
        let mut losses = vec![work(first)];
        losses.extend(others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(Failure::failed("a training thread panicked")))
        }));
        losses
    });
    for part in rest {
        for (sum, more) in first.grads.iter_mut().into_iter().zip(part.grads.iter()) {
            sum.values.iter_mut().zip(more.values).for_each(|(sum, more)| *sum += more);
        }
    }
    let mut total = 0.0;
    for loss in losses {
        total += loss?.nll_sum;
    }
    Ok(total)
}

fn encode(tokenizer: &Tokenizer, rows: &[Row]) -> Result<Vec<Encoded>, Failure> {
    rows.iter()
        .map(|row| {
            let tokens_of = |text: &str| tokenizer.encode(text).or_fail(|| "the tokenizer fails".into());
            let mut tokens = tokens_of(&format!("{QUESTION_TOKEN}{}{ANSWER_TOKEN}", row.question))?;
            let asked = tokens.len();
            tokens.extend(tokens_of(&format!("{}{END_TOKEN}", row.answer))?);
            let scored = (0..tokens.len()).map(|at| at >= asked).collect();
            Ok(Encoded { tokens, scored })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::questions::Sets;
    use crate::world::{Size, World};

    #[test]
    fn training_lowers_the_loss_and_repeats_to_the_last_bit() {
        let world = World::new(9, Size::QUICK);
        let sets = Sets::new(9, &world, Size::QUICK);
        let material = Material::student(9, &world, &sets, Size::QUICK);
        let text = crate::tokenizer::train(&material).unwrap();
        let tokenizer = Tokenizer::parse(PathBuf::from("tokenizer.json"), &text, vec![0]).unwrap();
        let fitted = |steps| {
            let mut model = Model::random(crate::models::tiny(&tokenizer), 9);
            let recipe = Recipe { steps, rows: 16, learning_rate: 3e-3, warmup: 5 };
            let fitted =
                fit(&mut model, &tokenizer, &material, recipe, (9, 2), (&Stop::default(), &|| ())).unwrap();
            (fitted, model)
        };
        let (short, _) = fitted(20);
        let (long, model) = fitted(120);
        assert!(long.loss < 0.75 * short.loss, "{short:?} {long:?}");
        assert!(long.tokens > 5 * short.tokens);
        assert_eq!(fitted(120).1.weights, model.weights);
    }
}
