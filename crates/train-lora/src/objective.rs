//! What a training learns from its rows: answers to imitate, pairs to prefer by, judged answers.
//!
//! The flags, what they mean, and the share of a step's metrics that only judged answers have. The passes
//! themselves are in `train::judged`.

use nightshift_core::Failure;
use nightshift_core::config::{Objective as Name, Train};
use nightshift_model::{Dpo, Kto, PreferenceSum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::Teaches;

/// Flags of the objective. Those that are absent come from the config file.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Objective (section `train`)")]
pub struct ObjectiveFlags {
    /// What is learned: answers (sft), chosen over rejected (dpo), or judged answers (kto) [default: sft]
    #[arg(long, value_name = "NAME")]
    pub objective: Option<Name>,
    /// dpo and kto: how strongly the base, which is the reference, holds [default: 0.1]
    #[arg(long, value_name = "X", requires = "objective")]
    pub beta: Option<f64>,
    /// dpo: share of pairs that are taken to be judged the wrong way round [default: 0]
    #[arg(long, value_name = "P", requires = "objective")]
    pub label_smoothing: Option<f64>,
    /// kto: weight of wanted answers [default: 1]
    #[arg(long, value_name = "X", requires = "objective")]
    pub desirable_weight: Option<f64>,
    /// kto: weight of unwanted answers [default: 1]
    #[arg(long, value_name = "X", requires = "objective")]
    pub undesirable_weight: Option<f64>,
}

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    /// Answers.
    Imitate,
    /// Pairs.
    Dpo(Dpo),
    /// Judged answers.
    Kto(Kto),
}

impl Objective {
    /// What the flags ask for, and where they are silent the config; exit 2 for numbers out of range and for
    /// flags of another objective.
    pub(crate) fn new(train: &Train, flags: &ObjectiveFlags) -> Result<Self, Failure> {
        let name = flags.objective.unwrap_or(train.objective);
        let of_dpo = [("--label-smoothing", flags.label_smoothing.is_some())];
        let of_kto = [
            ("--desirable-weight", flags.desirable_weight.is_some()),
            ("--undesirable-weight", flags.undesirable_weight.is_some()),
        ];
        let foreign = match name {
            Name::Sft => [&[("--beta", flags.beta.is_some())][..], &of_dpo, &of_kto].concat(),
            Name::Dpo => of_kto.to_vec(),
            Name::Kto => of_dpo.to_vec(),
        };
        if let Some((flag, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(Failure::usage(format!("{flag} does not belong to this objective")));
        }
        let beta = positive("--beta", flags.beta.unwrap_or(train.beta))?;
        let label_smoothing = flags.label_smoothing.unwrap_or(train.label_smoothing);
        if !(0.0..0.5).contains(&label_smoothing) {
            let message =
                format!("--label-smoothing is {label_smoothing}, but it must be from 0 to below 0.5");
            return Err(Failure::usage(message));
        }
        Ok(match name {
            Name::Sft => Self::Imitate,
            Name::Dpo => Self::Dpo(Dpo { beta, label_smoothing }),
            Name::Kto => Self::Kto(Kto {
                beta,
                desirable: positive(
                    "--desirable-weight",
                    flags.desirable_weight.unwrap_or(train.desirable_weight),
                )?,
                undesirable: positive(
                    "--undesirable-weight",
                    flags.undesirable_weight.unwrap_or(train.undesirable_weight),
                )?,
            }),
        })
    }

    /// The rows it learns from.
    pub(crate) const fn teaches(&self) -> Teaches {
        match self {
            Self::Imitate => Teaches::Answers,
            Self::Dpo(_) => Teaches::Pairs,
            Self::Kto(_) => Teaches::Judgements,
        }
    }

    /// What has a say in the adapter's bytes, by name.
    pub(crate) fn identity(&self) -> Value {
        match self {
            Self::Imitate => json!("sft"),
            Self::Dpo(Dpo { beta, label_smoothing }) => {
                json!({"dpo": {"beta": beta, "label_smoothing": label_smoothing}})
            }
            Self::Kto(Kto { beta, desirable, undesirable }) => {
                json!({"kto": {"beta": beta, "desirable_weight": desirable, "undesirable_weight": undesirable}})
            }
        }
    }
}

fn positive(name: &str, value: f64) -> Result<f64, Failure> {
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(Failure::usage(format!("{name} is {value}, but it must be above 0")))
}

/// What a step on judged answers says beside its loss; the names are TRL's. Rewards are beta times the
/// difference of log-probabilities from the reference, in means over the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rewards {
    /// Of chosen or wanted answers; absent when there were none.
    pub(crate) chosen: Option<f64>,
    /// Of rejected or unwanted answers.
    pub(crate) rejected: Option<f64>,
    /// Share of pairs whose chosen answer has the larger reward; of judged answers whose reward has the
    /// right sign.
    pub(crate) accuracy: f64,
    /// Chosen minus rejected.
    pub(crate) margin: Option<f64>,
    /// KTO: estimated distance from the reference, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kl: Option<f64>,
}

impl Rewards {
    /// From the sums of a window.
    pub(crate) fn of(sum: &PreferenceSum, kl: Option<f64>) -> Self {
        let mean = |(sum, count): (f64, usize)| (count > 0).then(|| sum / count as f64);
        let (chosen, rejected) = (mean(sum.chosen), mean(sum.rejected));
        let margin = chosen.zip(rejected).map(|(chosen, rejected)| chosen - rejected);
        let accuracy = sum.right as f64 / sum.items.max(1) as f64;
        Self { chosen, rejected, accuracy, margin, kl }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(name: Name) -> ObjectiveFlags {
        ObjectiveFlags { objective: Some(name), ..ObjectiveFlags::default() }
    }

    #[test]
    fn every_objective_takes_its_own_flags_only() {
        assert_eq!(
            Objective::new(&Train::default(), &ObjectiveFlags::default()).unwrap(),
            Objective::Imitate
        );
        let dpo = Objective::new(&Train::default(), &flags(Name::Dpo)).unwrap();
        assert_eq!(dpo, Objective::Dpo(Dpo { beta: 0.1, label_smoothing: 0.0 }));
        assert_eq!(dpo.teaches(), Teaches::Pairs);
        let refusal = |flags: ObjectiveFlags| Objective::new(&Train::default(), &flags).unwrap_err().chain();
        let with = flags(Name::Sft);
        assert!(refusal(ObjectiveFlags { beta: Some(0.1), ..with }).contains("--beta"));
        let with = flags(Name::Kto);
        assert!(refusal(ObjectiveFlags { label_smoothing: Some(0.1), ..with.clone() }).contains("--label"));
        assert!(refusal(ObjectiveFlags { beta: Some(-1.0), ..with }).contains("--beta is -1"));
        let with = flags(Name::Dpo);
        assert!(refusal(ObjectiveFlags { label_smoothing: Some(0.5), ..with.clone() }).contains("below 0.5"));
        assert!(refusal(ObjectiveFlags { desirable_weight: Some(2.0), ..with }).contains("--desirable"));
        // What the config says holds where no flag does.
        let train = Train { objective: Name::Kto, beta: 0.3, undesirable_weight: 2.0, ..Train::default() };
        let kto = Kto { beta: 0.3, desirable: 1.0, undesirable: 2.0 };
        assert_eq!(Objective::new(&train, &ObjectiveFlags::default()).unwrap(), Objective::Kto(kto));
        let dpo = Objective::new(&train, &flags(Name::Dpo)).unwrap();
        assert_eq!(dpo, Objective::Dpo(Dpo { beta: 0.3, label_smoothing: 0.0 }));
        assert_eq!(Objective::new(&train, &flags(Name::Sft)).unwrap(), Objective::Imitate);
    }

    #[test]
    fn rewards_are_means_and_absent_where_nothing_was_judged() {
        let sum =
            PreferenceSum { items: 4, chosen: (1.0, 2), rejected: (-0.5, 2), right: 3, ..Default::default() };
        let rewards = Rewards::of(&sum, None);
        assert_eq!((rewards.chosen, rewards.rejected, rewards.margin), (Some(0.5), Some(-0.25), Some(0.75)));
        assert_eq!(rewards.accuracy, 0.75);
        let alone =
            Rewards::of(&PreferenceSum { chosen: (1.0, 2), items: 2, ..Default::default() }, Some(0.1));
        assert_eq!((alone.rejected, alone.margin, alone.kl), (None, None, Some(0.1)));
    }
}
