//! DQN and Double DQN: a network gives the value of every action in a state.
//!
//! Huber loss against r + g Q'(s', a*), where Q' is an older copy of the network. DQN takes a* = argmax Q'
//! (Mnih et al. 2015); the largest of noisy values is too large, so Double DQN lets the newer network choose and the older
//! one judge: a* = argmax Q (van Hasselt, Guez and Silver 2016).

use candle_core::Result;
use candle_nn::loss::huber;
use nightshift_stats::rng::SplitMix64;

use super::net::{Descent, Net, matrix};
use crate::learn::Optimizer;

/// What one step learns from: `batch` states, each with every action tried. Row-major.
pub(super) struct Tried<'a> {
    /// (batch, state).
    pub(super) states: &'a [f32],
    /// (batch, actions).
    pub(super) rewards: &'a [f32],
    /// (batch, actions, state); empty where an episode ends with the action.
    pub(super) next: &'a [f32],
}

/// A Q-learner.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Q {
    state: usize,
    actions: usize,
    pub(super) double: bool,
    gamma: f32,
    rate: f64,
    sync: u64,
    pub(super) online: Net,
    pub(super) target: Net,
    pub(super) descent: Descent,
}

impl Q {
    /// `sizes`: layers of the network, from the state to the actions.
    pub(super) fn new(
        sizes: &[usize],
        double: bool,
        gamma: f64,
        rate: f64,
        sync: u64,
        optimizer: Optimizer,
        rng: &mut SplitMix64,
    ) -> Self {
        let online = Net::new(1, sizes, rng);
        let descent = Descent::new(optimizer, online.values.len());
        let (state, actions) = (sizes[0], sizes[sizes.len() - 1]);
        Self {
            state,
            actions,
            double,
            gamma: gamma as f32,
            rate,
            sync,
            target: online.clone(),
            online,
            descent,
        }
    }

    /// Values (batch, actions) of all actions.
    pub(super) fn values(&self, states: &[f32]) -> Result<Vec<f32>> {
        values(&self.online, states, self.state)
    }

    /// What the values should be.
    pub(super) fn targets(&self, tried: &Tried<'_>) -> Result<Vec<f32>> {
        if tried.next.is_empty() || self.gamma == 0.0 {
            return Ok(tried.rewards.to_vec());
        }
        let judged = values(&self.target, tried.next, self.state)?;
        let chosen = if self.double { self.values(tried.next)? } else { judged.clone() };
        let later = judged
            .chunks(self.actions)
            .zip(chosen.chunks(self.actions))
            .map(|(judged, chosen)| judged[best(chosen)]);
        Ok(tried.rewards.iter().zip(later).map(|(reward, later)| reward + self.gamma * later).collect())
    }

    /// One step of the network.
    pub(super) fn learn(&mut self, tried: &Tried<'_>) -> Result<()> {
        let targets = matrix(&self.targets(tried)?, self.actions)?;
        let variable = self.online.variable()?;
        let values = self.online.forward(&variable, &matrix(tried.states, self.state)?)?.squeeze(0)?;
        self.descent.step(&mut self.online, &variable, &huber(&values, &targets, 1.0)?, self.rate)?;
        if self.descent.steps.is_multiple_of(self.sync) {
            self.target.values.clone_from(&self.online.values);
        }
        Ok(())
    }
}

fn values(net: &Net, states: &[f32], width: usize) -> Result<Vec<f32>> {
    net.forward(&net.constant()?, &matrix(states, width)?)?.flatten_all()?.to_vec1()
}

/// Position of the largest value, the first of equals.
pub(super) fn best(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}
