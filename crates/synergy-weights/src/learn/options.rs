//! Which learner, and its settings under the names that their environment variables have.

use std::fmt;
use std::str::FromStr;

use super::LearnError;

/// The learners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Natural actor-critic on a linear critic; the default, and the only one that needs no network.
    #[default]
    ActorCritic,
    /// Deep Q-network (Mnih et al. 2015).
    Dqn,
    /// DQN that chooses with one network and judges with the other (van Hasselt, Guez and Silver 2016).
    DoubleDqn,
    /// Twin delayed deterministic policy gradient (Fujimoto, van Hoof and Meger 2018).
    Td3,
    /// Soft actor-critic (Haarnoja et al. 2018).
    Sac,
}

impl Kind {
    /// Every learner, the default first.
    pub const ALL: [Self; 5] = [Self::ActorCritic, Self::Dqn, Self::DoubleDqn, Self::Td3, Self::Sac];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActorCritic => "actor_critic",
            Self::Dqn => "dqn",
            Self::DoubleDqn => "double_dqn",
            Self::Td3 => "td3",
            Self::Sac => "sac",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = LearnError;

    /// Takes every spelling that `SYNERGY_LEARNER` ever had, in any case, `-` for `_`.
    fn from_str(text: &str) -> Result<Self, LearnError> {
        match text.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            "actor_critic" | "actorcritic" | "default" => Ok(Self::ActorCritic),
            "dqn" => Ok(Self::Dqn),
            "double_dqn" | "double" | "ddqn" => Ok(Self::DoubleDqn),
            "td3" => Ok(Self::Td3),
            "sac" => Ok(Self::Sac),
            _ => Err(LearnError::UnknownKind(text.to_owned())),
        }
    }
}

/// How a network's weights follow their gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// Adam (Kingma and Ba 2015).
    Adam,
    /// Plain gradient descent with momentum 0.9.
    Sgd,
}

/// Settings of a learner. Those of the networks concern the deep learners only.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The learner.
    pub kind: Kind,
    /// Everything random is drawn from this.
    pub seed: u64,
    /// Size of a step relative to the default: `SYNERGY_WEIGHTS_LR` / 0.1. At 1 the actor goes all the way to
    /// what the evidence supports, below 1 that share of it with each row; a network's step is multiplied by it.
    pub rate: f64,
    /// The learner alone: it starts from the weights instead of the critic, and its answer is taken as it is.
    pub from_scratch: bool,
    /// Newest rows that replays and tests draw from (`SYNERGY_REPLAY_SIZE`).
    pub replay: usize,
    /// States in one step of a network (`SYNERGY_BATCH_SIZE`).
    pub batch: usize,
    /// Discount of the Q-learners (`SYNERGY_GAMMA`). Low, since each turn is paid at once; TD3 and SAC choose all
    /// weights at once: nothing follows.
    pub gamma: f64,
    /// Standard deviation of the exploration, as a share of an action's range (`SYNERGY_NOISE`).
    pub noise: f64,
    /// Width of a hidden layer (`SYNERGY_HIDDEN_SIZE`).
    pub hidden: usize,
    /// Number of hidden layers (`SYNERGY_LAYERS`).
    pub layers: usize,
    /// Steps between two copies of a Q-network into its target (`SYNERGY_TARGET_SYNC`).
    pub target_sync: u64,
    /// Rows between two rounds of training (`SYNERGY_TRAIN_INTERVAL`), or a fifth of the rows seen where that is
    /// more: the work grows with the logarithm of a long history.
    pub train_interval: u64,
    /// `SYNERGY_OPTIMIZER`.
    pub optimizer: Optimizer,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kind: Kind::ActorCritic,
            seed: 0,
            rate: 1.0,
            from_scratch: false,
            replay: 1000,
            batch: 32,
            gamma: 0.5,
            noise: 0.1,
            hidden: 64,
            layers: 2,
            target_sync: 10,
            train_interval: 10,
            optimizer: Optimizer::Adam,
        }
    }
}

impl Options {
    /// The environment variables that [`Options::set`] understands.
    pub const VARIABLES: [&'static str; 11] = [
        "SYNERGY_LEARNER",
        "SYNERGY_WEIGHTS_LR",
        "SYNERGY_REPLAY_SIZE",
        "SYNERGY_BATCH_SIZE",
        "SYNERGY_GAMMA",
        "SYNERGY_NOISE",
        "SYNERGY_HIDDEN_SIZE",
        "SYNERGY_LAYERS",
        "SYNERGY_TARGET_SYNC",
        "SYNERGY_TRAIN_INTERVAL",
        "SYNERGY_OPTIMIZER",
    ];
    /// The learning rate at which `rate` is 1.
    pub const DEFAULT_LR: f64 = 0.1;

    /// Takes one setting by the name of its environment variable.
    ///
    /// # Errors
    /// A name that is none of [`Options::VARIABLES`], a value that is no number or outside of its range; nothing changes then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LearnError> {
        let wrong =
            |expected| LearnError::Setting { name: name.to_owned(), value: value.to_owned(), expected };
        let number = |low: f64, high: f64, expected| {
            let parsed = value.trim().parse::<f64>().ok().filter(|v| (low..=high).contains(v));
            parsed.ok_or_else(|| wrong(expected))
        };
        let whole = |low: usize, high: usize, expected| {
            let parsed = value.trim().parse::<usize>().ok().filter(|v| (low..=high).contains(v));
            parsed.ok_or_else(|| wrong(expected))
        };
        match name {
            "SYNERGY_LEARNER" => self.kind = value.parse()?,
            "SYNERGY_WEIGHTS_LR" => {
                self.rate = number(1e-6, 10.0, "a number from 0.000001 to 10")? / Self::DEFAULT_LR;
            }
            "SYNERGY_REPLAY_SIZE" => self.replay = whole(20, 1_000_000, "a whole number from 20 to 1000000")?,
            "SYNERGY_BATCH_SIZE" => self.batch = whole(1, 4096, "a whole number from 1 to 4096")?,
            "SYNERGY_GAMMA" => self.gamma = number(0.0, 0.999, "a number from 0 to 0.999")?,
            "SYNERGY_NOISE" => self.noise = number(0.0, 1.0, "a number from 0 to 1")?,
            "SYNERGY_HIDDEN_SIZE" => self.hidden = whole(1, 1024, "a whole number from 1 to 1024")?,
            "SYNERGY_LAYERS" => self.layers = whole(1, 8, "a whole number from 1 to 8")?,
            "SYNERGY_TARGET_SYNC" => {
                self.target_sync = whole(1, 1_000_000, "a whole number from 1 to 1000000")? as u64;
            }
            "SYNERGY_TRAIN_INTERVAL" => {
                self.train_interval = whole(1, 1_000_000, "a whole number from 1 to 1000000")? as u64;
            }
            "SYNERGY_OPTIMIZER" => {
                self.optimizer = match value.trim().to_ascii_lowercase().as_str() {
                    "adam" => Optimizer::Adam,
                    "sgd" => Optimizer::Sgd,
                    _ => return Err(wrong("choose adam or sgd")),
                }
            }
            _ => return Err(wrong("is no setting of a learner")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_learner() {
        for (text, kind) in [
            ("dqn", Kind::Dqn),
            ("double", Kind::DoubleDqn),
            ("double_dqn", Kind::DoubleDqn),
            ("ddqn", Kind::DoubleDqn),
            ("Double-DQN", Kind::DoubleDqn),
            ("sac", Kind::Sac),
            (" TD3", Kind::Td3),
            ("actor_critic", Kind::ActorCritic),
        ] {
            assert_eq!(text.parse::<Kind>().unwrap(), kind, "{text}");
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        }
        let error = "ppo".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("ppo") && error.contains("double_dqn"), "{error}");
    }

    #[test]
    fn settings_by_their_variables() {
        let mut options = Options::default();
        for name in Options::VARIABLES {
            let error = options.set(name, "moon").unwrap_err().to_string();
            assert!(error.contains("moon"), "{error}");
        }
        assert_eq!(options, Options::default(), "a bad value changes nothing");
        options.set("SYNERGY_WEIGHTS_LR", "0.05").unwrap();
        options.set("SYNERGY_OPTIMIZER", "SGD").unwrap();
        options.set("SYNERGY_LAYERS", "1").unwrap();
        assert_eq!((options.rate, options.optimizer, options.layers), (0.5, Optimizer::Sgd, 1));
        assert!(options.set("SYNERGY_GAMMA", "1.5").is_err() && options.set("SYNERGY_GAMMA", "nan").is_err());
        assert!(options.set("SYNERGY_COLOUR", "1").is_err());
    }
}
