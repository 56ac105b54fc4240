//! The deep learners: networks that search replays of history for better weights.
//!
//! Training comes in rounds at fixed numbers of rows, each with draws of its own, so that observing in two parts
//! or at once, with a checkpoint between or without, gives the same bits.

mod actor;
mod net;
mod product;
mod q;
mod replay;
#[cfg(test)]
mod tests;

use actor::ActorCritic;
use candle_core::Result;
use nightshift_stats::rng::SplitMix64;
use q::Q;
use replay::{Moments, Replay};

use super::linear::{Vector, dot};
use super::{COUNT, Kind, Options, Sample};

/// Rows below which there is nothing to replay.
const FEWEST: u64 = 20;
/// Steps of a network in one round.
const STEPS: usize = 20;
/// Learning rates of a Q-learner and of an actor.
const RATES: (f64, f64) = (3e-3, 1e-2);
/// How far the actions that an actor's critics learn from lie around its own, in units of `SYNERGY_NOISE`.
const SPREADS: [f64; 2] = [3.0, 6.0];
/// Actions of the Q-learners: each weight up, each weight down, none.
const ACTIONS: usize = 2 * COUNT + 1;
/// Angle, about, by which one of their actions turns the direction: alone, and when started from the critic.
const TURN: (f64, f64) = (0.15, 0.05);
/// How far an actor may go from where it starts, per weight of a direction of length 1: alone, from the critic.
const REACH: (f64, f64) = (0.6, 0.15);
/// Reward that the networks see for a correlation of 1.
const SCALE: f64 = 10.0;

/// A deep learner.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deep {
    core: Core,
    /// Rows at which the next round is due.
    pub(super) due: u64,
    /// The direction that the last round ended with, per unit of each metric; `None` before the first.
    pub(super) answer: Option<Vector>,
    /// Whether it stood the comparison with the critic.
    pub(super) adopted: bool,
}

/// Its networks.
#[derive(Debug, Clone, PartialEq)]
enum Core {
    /// DQN, Double DQN.
    Q(Box<Q>),
    /// TD3, SAC.
    Actor(Box<ActorCritic>),
}

impl Deep {
    /// The learner asked for; `None` for the one without networks.
    pub(super) fn new(options: &Options) -> Option<Self> {
        let mut rng = SplitMix64::new(options.seed ^ 0x5eed_5eed);
        let hidden = vec![options.hidden; options.layers];
        let actor = |soft| {
            let rate = RATES.1 * options.rate;
            let shape = (COUNT, COUNT);
            Core::Actor(Box::new(ActorCritic::new(
                shape,
                &hidden,
                soft,
                0.0,
                rate,
                options.optimizer,
                &mut rng.clone(),
            )))
        };
        let core = match options.kind {
            Kind::ActorCritic => return None,
            Kind::Dqn | Kind::DoubleDqn => {
                let sizes = [&[2 * COUNT], &hidden[..], &[ACTIONS]].concat();
                let double = options.kind == Kind::DoubleDqn;
                let rate = RATES.0 * options.rate;
                let sync = options.target_sync;
                Core::Q(Box::new(Q::new(
                    &sizes,
                    double,
                    options.gamma,
                    rate,
                    sync,
                    options.optimizer,
                    &mut rng,
                )))
            }
            Kind::Td3 => actor(false),
            Kind::Sac => actor(true),
        };
        Some(Self { core, due: options.train_interval.max(FEWEST), answer: None, adopted: false })
    }

    /// Trains if a round is due at `rows` rows. `critic`: its direction in standard deviations.
    pub(super) fn round<'a>(
        &mut self,
        rows: u64,
        recent: impl Iterator<Item = &'a Sample> + Clone,
        critic: &Vector,
        options: &Options,
    ) -> Result<()> {
        if rows < self.due {
            return Ok(());
        }
        self.due = rows + options.train_interval.max(rows / 5);
        let replay = Replay::new(recent);
        if replay.len() < FEWEST as usize {
            return Ok(());
        }
        let mut rng = SplitMix64::new(options.seed.wrapping_mul(0x9e37_79b9) ^ rows);
        let resamples: Vec<Moments> = (0..options.batch).map(|_| replay.resample(&mut rng)).collect();
        let centre = unit(if options.from_scratch { &[1.0; COUNT] } else { critic });
        let mut round = Round { resamples: &resamples, centre, options, rng };
        let direction = match &mut self.core {
            Core::Q(q) => round.q(q)?,
            Core::Actor(actor) => round.actor(actor)?,
        };
        self.adopted = options.from_scratch || not_worse(&replay, &direction, critic, &mut round.rng);
        self.answer = Some(std::array::from_fn(|i| {
            if replay.sd[i] > 0.0 { direction[i].max(0.0) / replay.sd[i] } else { 0.0 }
        }));
        Ok(())
    }
}

impl Deep {
    /// Every vector that training changes, under its name in a checkpoint.
    pub(super) fn vectors(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        match &mut self.core {
            Core::Q(q) => vec![
                ("online", &mut q.online.values),
                ("target", &mut q.target.values),
                ("online.first", &mut q.descent.first),
                ("online.second", &mut q.descent.second),
            ],
            Core::Actor(a) => vec![
                ("actor", &mut a.actor.values),
                ("actor_target", &mut a.actor_target.values),
                ("critics", &mut a.critics.values),
                ("critics_target", &mut a.critics_target.values),
                ("actor.first", &mut a.actor_descent.first),
                ("actor.second", &mut a.actor_descent.second),
                ("critics.first", &mut a.critics_descent.first),
                ("critics.second", &mut a.critics_descent.second),
            ],
        }
    }

    /// Steps of the networks so far, and SAC's temperature: the rest of what training changes.
    pub(super) fn counters(&mut self) -> (Vec<&mut u64>, Option<&mut f32>) {
        match &mut self.core {
            Core::Q(q) => (vec![&mut q.descent.steps], None),
            Core::Actor(a) => {
                (vec![&mut a.actor_descent.steps, &mut a.critics_descent.steps], a.temperature.as_mut())
            }
        }
    }
}

/// One round of training.
struct Round<'a> {
    resamples: &'a [Moments],
    /// Where it starts: the critic's direction, or equal weights for a learner that is on its own.
    centre: Vector,
    options: &'a Options,
    rng: SplitMix64,
}

impl Round<'_> {
    fn alone(&self) -> bool {
        self.options.from_scratch
    }

    /// A Q-learner walks over directions, one walker for each resample, and learns from all actions of each place.
    fn q(&mut self, q: &mut Q) -> Result<Vector> {
        let turn = if self.alone() { TURN.0 } else { TURN.1 };
        let mut places: Vec<Vector> = vec![self.centre; self.resamples.len()];
        // Every other walker begins anywhere, so that the network knows more than its own path.
        for place in places.iter_mut().step_by(2) {
            let wild: Vector = std::array::from_fn(|i| place[i] + 3.0 * turn * net::normal(&mut self.rng));
            *place = unit(&wild);
        }
        for _ in 0..STEPS {
            let states = self.states(&places);
            let mut rewards = Vec::with_capacity(places.len() * ACTIONS);
            let mut next = Vec::with_capacity(places.len() * ACTIONS * 2 * COUNT);
            for (place, resample) in places.iter().zip(self.resamples) {
                let now = resample.reward(&clipped(place));
                let known = resample.correlations();
                for action in 0..ACTIONS {
                    let there = step(place, action, turn);
                    rewards.push((SCALE * (resample.reward(&clipped(&there)) - now)) as f32);
                    next.extend(state(&known, &there));
                }
            }
            q.learn(&q::Tried { states: &states, rewards: &rewards, next: &next })?;
            let values = q.values(&states)?;
            for (place, values) in places.iter_mut().zip(values.chunks(ACTIONS)) {
                let wild = self.rng.chance(self.options.noise);
                let action = if wild { self.rng.below(ACTIONS) } else { q::best(values) };
                *place = step(place, action, turn);
            }
        }
        self.walk(q, turn)
    }

    /// Where the walkers end that always take the best action: the mean over resamples and last places.
    fn walk(&mut self, q: &Q, turn: f64) -> Result<Vector> {
        let mut places: Vec<Vector> = vec![self.centre; self.resamples.len()];
        let steps = if self.alone() { 16 } else { 6 };
        let mut sum = [0.0; COUNT];
        for at in 0..steps {
            let values = q.values(&self.states(&places))?;
            for (place, values) in places.iter_mut().zip(values.chunks(ACTIONS)) {
                *place = step(place, q::best(values), turn);
                if at * 2 >= steps {
                    sum = std::array::from_fn(|i| sum[i] + place[i]);
                }
            }
        }
        Ok(unit(&clipped(&sum)))
    }

    fn states(&self, places: &[Vector]) -> Vec<f32> {
        places.iter().zip(self.resamples).flat_map(|(place, r)| state(&r.correlations(), place)).collect()
    }

    /// An actor answers the correlations of a resample with a direction; its critics learn from many directions that it
    /// did not take.
    fn actor(&mut self, actor: &mut ActorCritic) -> Result<Vector> {
        let states: Vec<f32> =
            self.resamples.iter().flat_map(Moments::correlations).map(|c| c as f32).collect();
        let reach = if self.alone() { REACH.0 } else { REACH.1 };
        let centre = self.centre;
        let place =
            |action: &[f32]| -> Vector { std::array::from_fn(|i| centre[i] + reach * f64::from(action[i])) };
        for _ in 0..STEPS {
            let answers = actor.act(&states)?;
            let mut actions = Vec::with_capacity(SPREADS.len() * answers.len());
            let mut rewards = Vec::with_capacity(SPREADS.len() * self.resamples.len());
            for spread in SPREADS.map(|spread| spread * self.options.noise) {
                for (answer, resample) in answers.chunks(COUNT).zip(self.resamples) {
                    let tried: Vec<f32> = answer
                        .iter()
                        .map(|a| {
                            (f64::from(*a) + spread * net::normal(&mut self.rng)).clamp(-1.0, 1.0) as f32
                        })
                        .collect();
                    rewards.push((SCALE * resample.reward(&place(&tried))) as f32);
                    actions.extend(tried);
                }
            }
            let states = states.repeat(SPREADS.len());
            let tried = actor::Tried { states: &states, actions: &actions, rewards: &rewards, next: &[] };
            actor.learn(&tried, &mut self.rng)?;
        }
        let mut sum = [0.0; COUNT];
        for answer in actor.act(&states)?.chunks(COUNT) {
            let place = unit(&place(answer));
            sum = std::array::from_fn(|i| sum[i] + place[i]);
        }
        Ok(unit(&clipped(&sum)))
    }
}

fn clipped(w: &Vector) -> Vector {
    w.map(|v| v.max(0.0))
}

/// Length 1; equal weights where there is no direction.
fn unit(w: &Vector) -> Vector {
    let length = dot(w, w).sqrt();
    if length > 1e-9 { w.map(|v| v / length) } else { [1.0 / (COUNT as f64).sqrt(); COUNT] }
}

fn step(place: &Vector, action: usize, turn: f64) -> Vector {
    let mut next = *place;
    if action < 2 * COUNT {
        let up = action.is_multiple_of(2);
        next[action / 2] = (next[action / 2] + if up { turn } else { -turn }).max(0.0);
    }
    unit(&next)
}

/// What a Q-learner sees: the correlations of a resample, and where it is. Stretched to about the size of 1.
fn state(correlations: &Vector, place: &Vector) -> [f32; 2 * COUNT] {
    let middle = 1.0 / (COUNT as f64).sqrt();
    let seen = |i: usize| if i < COUNT { correlations[i] } else { place[i - COUNT] - middle };
    std::array::from_fn(|i| (3.0 * seen(i)) as f32)
}

/// Whether `direction` does not fall behind the critic by more than a correlation of 0.01 on the newest fifth of the
/// rows, with 90 % confidence (bootstrap, one-sided).
fn not_worse(replay: &Replay, direction: &Vector, critic: &Vector, rng: &mut SplitMix64) -> bool {
    let newest = replay.newest(replay.len() - (replay.len() / 5).max(4));
    let mut gains: Vec<f64> = (0..200)
        .map(|_| {
            let resample = newest.resample(rng);
            resample.reward(direction) - resample.reward(critic)
        })
        .collect();
    gains.sort_by(f64::total_cmp);
    gains[20] >= -0.01
}
