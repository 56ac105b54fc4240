//! TD3 and SAC: one network chooses an action in [-1, 1]^d, two others judge it.
//!
//! Two critics, of which the smaller counts, so that the actor does not climb errors. TD3 (Fujimoto, van Hoof and
//! Meger 2018): targets r + g min Q'(s', clip(mu'(s') + clipped noise)), slow copies of all networks, the actor and the
//! copies one step in two. SAC (Haarnoja et al. 2018): a random actor, tanh of a normal, whose entropy is worth a
//! temperature, itself adjusted until the entropy is -d.

use candle_core::{D, Result, Tensor};
use nightshift_stats::rng::SplitMix64;

use super::net::{Descent, Net, matrix, normal};
use crate::learn::Optimizer;

/// Share by which the slow copies follow.
const TAU: f32 = 0.005;
/// Noise on the target's action, and its bound.
const SMOOTHING: (f64, f64) = (0.2, 0.5);
/// Price of the square of what goes into the actor's tanh. Without it a wrong turn early on drives the tanh into
/// saturation, where no gradient leads back (measured: cosine 0.71 instead of 0.96 after 200 rows).
const CENTRING: f64 = 0.3;
/// Steps of the critics to one of TD3's actor.
const DELAY: u64 = 2;

/// What one step learns from, row-major.
pub(super) struct Tried<'a> {
    /// (batch, state).
    pub(super) states: &'a [f32],
    /// (batch, d).
    pub(super) actions: &'a [f32],
    /// (batch).
    pub(super) rewards: &'a [f32],
    /// (batch, state); empty where an episode ends with the action.
    pub(super) next: &'a [f32],
}

/// An actor with twin critics.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ActorCritic {
    state: usize,
    d: usize,
    gamma: f32,
    rate: f64,
    /// SAC's logarithm of the temperature; `None` is TD3.
    pub(super) temperature: Option<f32>,
    pub(super) actor: Net,
    pub(super) actor_target: Net,
    pub(super) critics: Net,
    pub(super) critics_target: Net,
    pub(super) actor_descent: Descent,
    pub(super) critics_descent: Descent,
}

impl ActorCritic {
    /// `hidden`: widths of the hidden layers of every network.
    pub(super) fn new(
        (state, d): (usize, usize),
        hidden: &[usize],
        soft: bool,
        gamma: f64,
        rate: f64,
        optimizer: Optimizer,
        rng: &mut SplitMix64,
    ) -> Self {
        let sizes = |input: usize, output: usize| [&[input], hidden, &[output]].concat();
        let actor = Net::new(1, &sizes(state, if soft { 2 * d } else { d }), rng);
        let critics = Net::new(2, &sizes(state + d, 1), rng);
        Self {
            state,
            d,
            gamma: gamma as f32,
            rate,
            temperature: soft.then_some(-3.0),
            actor_descent: Descent::new(optimizer, actor.values.len()),
            critics_descent: Descent::new(optimizer, critics.values.len()),
            actor_target: actor.clone(),
            critics_target: critics.clone(),
            actor,
            critics,
        }
    }

    /// The actions (batch, d) without exploration.
    pub(super) fn act(&self, states: &[f32]) -> Result<Vec<f32>> {
        let out = self.actor.forward(&self.actor.constant()?, &matrix(states, self.state)?)?.squeeze(0)?;
        out.narrow(D::Minus1, 0, self.d)?.tanh()?.flatten_all()?.to_vec1()
    }

    /// One step of the critics, and where it is due one of the actor.
    pub(super) fn learn(&mut self, tried: &Tried<'_>, rng: &mut SplitMix64) -> Result<()> {
        let states = matrix(tried.states, self.state)?;
        let targets = self.targets(tried, rng)?;
        let batch = targets.len();
        let targets = Tensor::from_vec(targets, (1, batch, 1), states.device())?;
        let inputs = Tensor::cat(&[&states, &matrix(tried.actions, self.d)?], 1)?;
        let variable = self.critics.variable()?;
        let judged = self.critics.forward(&variable, &inputs)?;
        // The sum over the two critics of the mean over the batch.
        let loss = (judged.broadcast_sub(&targets)?.sqr()?.mean_all()? * 2.0)?;
        self.critics_descent.step(&mut self.critics, &variable, &loss, self.rate)?;
        if self.temperature.is_some() {
            self.learn_actor(&states, rng)?;
            self.critics_target.follow(&self.critics, TAU);
        } else if self.critics_descent.steps.is_multiple_of(DELAY) {
            self.learn_actor(&states, rng)?;
            self.critics_target.follow(&self.critics, TAU);
            self.actor_target.follow(&self.actor, TAU);
        }
        Ok(())
    }

    /// What the critics should say of the actions tried.
    pub(super) fn targets(&self, tried: &Tried<'_>, rng: &mut SplitMix64) -> Result<Vec<f32>> {
        if tried.next.is_empty() || self.gamma == 0.0 {
            return Ok(tried.rewards.to_vec());
        }
        let next = matrix(tried.next, self.state)?;
        let (actions, worth) = match self.temperature {
            None => (self.smoothed(&next, rng)?, None),
            Some(log) => {
                let (actions, surprise) = self.sample(&self.actor.constant()?, &next, rng)?;
                (actions, Some((surprise * -f64::from(log.exp()))?))
            }
        };
        let inputs = Tensor::cat(&[&next, &actions], 1)?;
        let mut later =
            self.critics_target.forward(&self.critics_target.constant()?, &inputs)?.min(0)?.squeeze(1)?;
        if let Some(worth) = worth {
            later = (later + worth)?;
        }
        let later = later.to_vec1::<f32>()?;
        Ok(tried.rewards.iter().zip(later).map(|(reward, later)| reward + self.gamma * later).collect())
    }

    /// TD3's target policy smoothing: the slow actor's actions (batch, d) with clipped noise.
    pub(super) fn smoothed(&self, next: &Tensor, rng: &mut SplitMix64) -> Result<Tensor> {
        let actions = self.actor_target.forward(&self.actor_target.constant()?, next)?.squeeze(0)?.tanh()?;
        let (deviation, bound) = SMOOTHING;
        let noise: Vec<f32> = (0..actions.elem_count())
            .map(|_| (deviation * normal(rng)).clamp(-bound, bound) as f32)
            .collect();
        (actions + matrix(&noise, self.d)?)?.clamp(-1f32, 1f32)
    }

    /// SAC's actions (batch, d) and the logarithms of their densities (batch).
    fn sample(&self, values: &Tensor, states: &Tensor, rng: &mut SplitMix64) -> Result<(Tensor, Tensor)> {
        let out = self.actor.forward(values, states)?.squeeze(0)?;
        let mean = out.narrow(1, 0, self.d)?;
        let log_sd = out.narrow(1, self.d, self.d)?.affine(1.0, -1.0)?.clamp(-5f32, 1f32)?;
        let draws: Vec<f32> = (0..mean.elem_count()).map(|_| normal(rng) as f32).collect();
        let draws = matrix(&draws, self.d)?;
        let actions = (mean + (log_sd.exp()? * &draws)?)?.tanh()?;
        // ln N(u) - ln |d tanh(u) / du|
        let squash = (actions.sqr()?.affine(-1.0, 1.0 + 1e-6)?).log()?;
        let density = draws.sqr()?.affine(-0.5, -0.5 * std::f64::consts::TAU.ln())?;
        let density = ((density - log_sd)? - squash)?.sum(1)?;
        Ok((actions, density))
    }

    fn learn_actor(&mut self, states: &Tensor, rng: &mut SplitMix64) -> Result<()> {
        let variable = self.actor.variable()?;
        let critics = self.critics.constant()?;
        let judge = |actions: &Tensor| self.critics.forward(&critics, &Tensor::cat(&[states, actions], 1)?);
        let loss = match self.temperature {
            None => {
                let out = self.actor.forward(&variable, states)?.squeeze(0)?;
                let worth = judge(&out.tanh()?)?.narrow(0, 0, 1)?.mean_all()?;
                ((out.sqr()?.mean_all()? * CENTRING)? - worth)?
            }
            Some(log) => {
                let (actions, density) = self.sample(&variable, states, rng)?;
                let worth = judge(&actions)?.min(0)?.squeeze(1)?;
                let mean = density.mean_all()?.to_scalar::<f32>()?;
                let loss = ((density * f64::from(log.exp()))? - worth)?.mean_all()?;
                // Gradient of -ln(temperature) * (ln density + target entropy), target entropy -d.
                self.temperature = Some(
                    (log + 10.0 * self.rate as f32 * (mean - self.d as f32).clamp(-1.0, 1.0))
                        .clamp(-10.0, 2.0),
                );
                loss
            }
        };
        self.actor_descent.step(&mut self.actor, &variable, &loss, self.rate)
    }
}
