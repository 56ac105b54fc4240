//! The settings of one training: config with the flags laid over it, checked.

use nightshift_core::config::Train;
use nightshift_core::random::sha256_hex;
use nightshift_core::{Ctx, Failure};
use nightshift_model::{Adapter, ModelConfig, Place, Storage};
use serde_json::{Value, json};

use crate::args::{Args, SettingFlags};
use crate::base;
use crate::control::Control;
use crate::device;
use crate::engine::EngineSettings;
use crate::objective::Objective;
use crate::order::Order;
use crate::variant;

/// Seed of a run that names none.
const DEFAULT_SEED: u64 = 0;

/// Everything that decides how a training goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The section `train` with the flags over it.
    pub(crate) train: Train,
    /// Seed of the adapter, the order and the replay draw.
    pub(crate) seed: u64,
    /// Tokens of one forward pass under `--packing`.
    pub(crate) pack: Option<usize>,
    /// `--max-steps`.
    pub(crate) max_steps: Option<usize>,
    /// Mix the rows; else file order.
    pub(crate) shuffle: bool,
    /// How the run is watched and when it ends.
    pub(crate) control: Control,
    /// What is learned from the rows.
    pub(crate) objective: Objective,
    /// Where the arithmetic is done. No part of the identity: it changes last bits, as `threads` does.
    pub(crate) place: Place,
    /// Who trains, when it is not this program.
    pub(crate) engine: Option<EngineSettings>,
}

impl Settings {
    /// Lays the flags over the config.
    pub(crate) fn new(ctx: &Ctx, flags: &SettingFlags, shuffle: bool) -> Result<Self, Failure> {
        let mut train = ctx.config.train.clone();
        overlay(&mut train, flags);
        variant::overlay(&mut train, &flags.variant)?;
        flags.engine.overlay(&mut train)?;
        check(&train)?;
        let engine = EngineSettings::new(&train)?;
        let place = device::place(&train)?;
        let pack_len = flags.pack_len.filter(|_| flags.packing);
        if pack_len == Some(0) || flags.max_steps == Some(0) {
            return Err(Failure::usage("--pack-len and --max-steps must be above 0"));
        }
        let seed = ctx.seed.unwrap_or(DEFAULT_SEED);
        let control = Control::new(&train, &flags.control)?;
        Ok(Self {
            train,
            seed,
            pack: pack_len,
            max_steps: flags.max_steps,
            shuffle,
            control,
            // See `learning`.
            objective: Objective::Imitate,
            place,
            engine,
        })
    }

    /// Lays over them what both forms take besides [`SettingFlags`]: what is learned, and what becomes of rows
    /// that are too long.
    pub(crate) fn learning(&mut self, args: &Args) -> Result<(), Failure> {
        self.train.overlong = args.rows.overlong.unwrap_or(self.train.overlong);
        self.objective = Objective::new(&self.train, &args.objective)?;
        if self.engine.is_some() && self.objective != Objective::Imitate {
            return Err(Failure::usage("an external trainer imitates answers: it knows no train.objective")
                .hint("leave out --engine, or --objective"));
        }
        Ok(())
    }

    /// How the base is held.
    pub(crate) const fn storage(&self) -> Storage {
        base::storage(self.train.dtype, self.train.quantize)
    }

    /// A fresh adapter for a base of this shape; exit 2 when targets, patterns or ranks do not fit it.
    /// Has to be prepared before it is trained ([`Adapter::prepare`]).
    pub(crate) fn adapter(&self, shape: &ModelConfig) -> Result<Adapter, Failure> {
        let (lora, rules) = (variant::lora(&self.train), variant::rules(&self.train)?);
        let adapter = Adapter::init_by(lora, &rules, shape, self.seed);
        adapter.map_err(|error| Failure::usage(format!("train.targets: {error}")))
    }

    /// The order of `rows` rows joined in every epoch by `drawn` of `pool` others.
    pub(crate) fn order(&self, rows: usize, pool: usize, drawn: usize) -> Order {
        Order {
            rows,
            pool,
            drawn,
            epochs: self.train.num_epochs,
            window: self.train.batch_size * self.train.gradient_accumulation,
            batch: self.train.batch_size,
            pack: self.pack,
            shuffle: self.shuffle,
            seed: self.seed,
        }
    }

    /// Every setting that has a say in the adapter's bytes, by name.
    pub(crate) fn identity(&self) -> Value {
        let train = &self.train;
        json!({
            "rank": train.rank,
            "alpha": train.alpha,
            "variant": variant::identity(train),
            "objective": self.objective.identity(),
            "batch_size": train.batch_size,
            "gradient_accumulation": train.gradient_accumulation,
            "learning_rate": train.learning_rate,
            "num_epochs": train.num_epochs,
            "schedule": train.schedule,
            "warmup_steps": train.warmup_steps,
            "weight_decay": train.weight_decay,
            "max_grad_norm": train.max_grad_norm,
            "max_minutes": train.max_minutes,
            "max_length": train.max_length,
            "overlong": train.overlong,
            "replay_ratio": train.replay_ratio,
            "replay_above": train.replay_above,
            "dtype": train.dtype,
            "quantize": train.quantize,
            "seed": self.seed,
            "pack_len": self.pack,
            "max_steps": self.max_steps,
            "shuffle": self.shuffle,
            "control": self.control.identity(),
            "engine": self.engine.as_ref().map(|engine| &engine.command),
        })
    }

    /// Digest of [`Settings::identity`].
    pub(crate) fn digest(&self) -> String {
        sha256_hex(format!("train-lora settings 2\n{}", self.identity()).as_bytes())
    }
}

fn overlay(train: &mut Train, flags: &SettingFlags) {
    fn set<T: Clone>(slot: &mut T, flag: Option<&T>) {
        if let Some(value) = flag {
            *slot = value.clone();
        }
    }
    set(&mut train.rank, flags.rank.as_ref());
    set(&mut train.alpha, flags.alpha.as_ref());
    set(&mut train.targets, flags.targets.as_ref());
    set(&mut train.batch_size, flags.batch_size.as_ref());
    set(&mut train.gradient_accumulation, flags.gradient_accumulation.as_ref());
    set(&mut train.learning_rate, flags.learning_rate.as_ref());
    set(&mut train.num_epochs, flags.num_epochs.as_ref());
    set(&mut train.schedule, flags.schedule.map(Into::into).as_ref());
    set(&mut train.warmup_steps, flags.warmup_steps.as_ref());
    set(&mut train.weight_decay, flags.weight_decay.as_ref());
    set(&mut train.max_grad_norm, flags.max_grad_norm.as_ref());
    set(&mut train.min_examples, flags.min_examples.as_ref());
    set(&mut train.max_minutes, flags.max_minutes.as_ref());
    set(&mut train.max_length, flags.max_length.as_ref());
    set(&mut train.replay_ratio, flags.replay_ratio.as_ref());
    set(&mut train.replay_above, flags.replay_above.as_ref());
    set(&mut train.dtype, flags.dtype.as_ref());
    set(&mut train.quantize, flags.quantize.as_ref());
    set(&mut train.checkpoint_steps, flags.checkpoint_steps.as_ref());
    set(&mut train.threads, flags.threads.as_ref());
    set(&mut train.device, flags.device.as_ref());
}

fn check(train: &Train) -> Result<(), Failure> {
    let above_zero = [
        ("rank", train.rank as f64),
        ("alpha", train.alpha),
        ("batch_size", train.batch_size as f64),
        ("gradient_accumulation", train.gradient_accumulation as f64),
        ("learning_rate", train.learning_rate),
        ("num_epochs", train.num_epochs as f64),
        ("max_grad_norm", train.max_grad_norm),
        ("max_minutes", train.max_minutes),
        ("max_length", train.max_length as f64),
    ];
    for (name, value) in above_zero {
        if !value.is_finite() || value <= 0.0 {
            return Err(Failure::usage(format!("train.{name} is {value}, but it must be above 0")));
        }
    }
    for (name, value) in [("weight_decay", train.weight_decay), ("replay_ratio", train.replay_ratio)] {
        if !value.is_finite() || value < 0.0 {
            return Err(Failure::usage(format!("train.{name} is {value}, but it must not be below 0")));
        }
    }
    if !(0.0..=1.0).contains(&train.replay_above) {
        let message = format!("train.replay_above is {}, but it is a share from 0 to 1", train.replay_above);
        return Err(Failure::usage(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &SettingFlags) -> Result<Settings, Failure> {
        let dir = tempfile::tempdir().unwrap();
        Settings::new(&Ctx::for_test(dir.path()), flags, true)
    }

    #[test]
    fn flags_win_and_the_digest_follows_what_matters() {
        let plain = settings(&SettingFlags::default()).unwrap();
        assert_eq!((plain.train.rank, plain.train.targets.len(), plain.pack), (16, 4, None));
        let flags = SettingFlags { rank: Some(4), ..SettingFlags::default() };
        assert_ne!(settings(&flags).unwrap().digest(), plain.digest());
        let flags = SettingFlags {
            quantize: Some(nightshift_core::config::Quantize::Nf4),
            ..SettingFlags::default()
        };
        assert_ne!(settings(&flags).unwrap().digest(), plain.digest());
        let flags =
            SettingFlags { dtype: Some(nightshift_core::config::Dtype::Bf16), ..SettingFlags::default() };
        assert_ne!(settings(&flags).unwrap().digest(), plain.digest());
        let flags = SettingFlags { threads: Some(1), checkpoint_steps: Some(3), ..SettingFlags::default() };
        assert_eq!(settings(&flags).unwrap().digest(), plain.digest(), "these change no byte");
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        let targets =
            |name: &str| SettingFlags { targets: Some(vec![name.into()]), ..SettingFlags::default() };
        let failure = settings(&targets("q_porj")).unwrap_err();
        assert_eq!(failure.exit().code(), 2);
        assert!(failure.chain().contains("train.targets: `q_porj`"), "{}", failure.chain());
        assert!(failure.chain().contains("did you mean `q_proj`?"), "{}", failure.chain());
        assert!(settings(&targets("all-linear")).is_ok());
        let flags = SettingFlags { rank: Some(0), ..SettingFlags::default() };
        assert!(settings(&flags).unwrap_err().chain().contains("train.rank"));
        let flags = SettingFlags { learning_rate: Some(f64::NAN), ..SettingFlags::default() };
        assert!(settings(&flags).unwrap_err().chain().contains("train.learning_rate"));
    }
}
