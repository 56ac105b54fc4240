//! What kind of LoRA is trained, and the arithmetic around it that is not the plain rule.
//!
//! The flags, and what they mean together with the section `train`: the variants of LoRA (rank-stabilised,
//! weight-decomposed), learning rates of their own (LoRA+), noise (dropout, NEFTune), patterns of rank and
//! alpha, memory against time (gradient checkpointing). All but the last decide the adapter's bytes.

use std::sync::Arc;

use nightshift_core::Failure;
use nightshift_core::config::{Ordered, Train};
use nightshift_model::{DeviceModel, LoraConfig, ModelConfig, ModuleRules, Target, Workspace};
use serde_json::{Value, json};

/// Flags of the variants. Those that are absent come from the config file.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Variants of LoRA (section `train`)")]
pub struct VariantFlags {
    /// Modules left out again, written as --targets are
    #[arg(long, value_name = "NAMES", value_parser = names)]
    pub exclude: Option<Names>,
    /// Ranks of modules that have another one: `q_proj=8,layers.1.mlp.down_proj=2`; the first match counts
    #[arg(long, value_name = "NAME=N,...", value_parser = pairs::<usize>)]
    pub rank_pattern: Option<Ordered<usize>>,
    /// Alphas of modules that have another one, likewise
    #[arg(long, value_name = "NAME=X,...", value_parser = pairs::<f64>)]
    pub alpha_pattern: Option<Ordered<f64>>,
    /// Scale by alpha / sqrt(rank) instead of alpha / rank (rsLoRA)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub rslora: Option<bool>,
    /// Train a magnitude for every output as well (DoRA); vLLM and llama.cpp take it merged only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub dora: Option<bool>,
    /// Probability of dropping an input of A while training [default: 0]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,
    /// How much faster B learns than A (LoRA+): 1 is off, 16 is common [default: 1]
    #[arg(long, value_name = "X")]
    pub loraplus_lr_ratio: Option<f64>,
    /// Noise on the embeddings while training (NEFTune): 0 is off, 5 is common [default: 0]
    #[arg(long, value_name = "ALPHA")]
    pub neftune_noise_alpha: Option<f64>,
    /// Compute each layer again in the backward pass: less memory, the same numbers, a third more time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub gradient_checkpointing: Option<bool>,
}

/// Module names, or one regular expression.
pub(crate) type Names = Vec<String>;

/// Reads `q_proj,v_proj`, `all-linear`, or one regular expression on the whole path, which may hold commas.
pub(crate) fn names(text: &str) -> Result<Names, String> {
    let list: Names = if is_expression(text) {
        vec![text.to_owned()]
    } else {
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    if list.is_empty() { Err("names nothing".to_owned()) } else { Ok(list) }
}

/// No module name has a character of a regular expression other than the dot.
fn is_expression(text: &str) -> bool {
    text.contains(['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '^', '$', '\\'])
}

/// Reads `q_proj=8,layers.1.mlp.down_proj=2`.
fn pairs<V: std::str::FromStr>(text: &str) -> Result<Ordered<V>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.rsplit_once('=').ok_or_else(|| format!("`{pair}` is not NAME=NUMBER"))?;
        let number =
            value.trim().parse().map_err(|_| format!("`{value}` in `{pair}` is not such a number"))?;
        Ok((name.trim().to_owned(), number))
    };
    text.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect::<Result<_, _>>().map(Ordered)
}

/// Lays the flags over the section and checks it.
pub(crate) fn overlay(train: &mut Train, flags: &VariantFlags) -> Result<(), Failure> {
    fn set<T: Clone>(slot: &mut T, flag: Option<&T>) {
        if let Some(value) = flag {
            *slot = value.clone();
        }
    }
    set(&mut train.exclude, flags.exclude.as_ref());
    set(&mut train.rank_pattern, flags.rank_pattern.as_ref());
    set(&mut train.alpha_pattern, flags.alpha_pattern.as_ref());
    set(&mut train.rslora, flags.rslora.as_ref());
    set(&mut train.dora, flags.dora.as_ref());
    set(&mut train.dropout, flags.dropout.as_ref());
    set(&mut train.loraplus_lr_ratio, flags.loraplus_lr_ratio.as_ref());
    set(&mut train.neftune_noise_alpha, flags.neftune_noise_alpha.as_ref());
    set(&mut train.gradient_checkpointing, flags.gradient_checkpointing.as_ref());
    if !(0.0..1.0).contains(&train.dropout) {
        let message = format!("train.dropout is {}, but it must be from 0 to below 1", train.dropout);
        return Err(Failure::usage(message));
    }
    for (name, value, least) in [
        ("loraplus_lr_ratio", train.loraplus_lr_ratio, 1.0),
        ("neftune_noise_alpha", train.neftune_noise_alpha, 0.0),
    ] {
        if !value.is_finite() || value < least {
            return Err(Failure::usage(format!("train.{name} is {value}, but it must not be below {least}")));
        }
    }
    rules(train).map(|_| ())
}

/// Which modules carry LoRA, with which rank and alpha; exit 2 for names and patterns that no base has.
pub(crate) fn rules(train: &Train) -> Result<ModuleRules, Failure> {
    ModuleRules::new(&train.targets, &train.exclude, &train.rank_pattern.0, &train.alpha_pattern.0)
        .map_err(|error| Failure::usage(format!("train.targets: {error}")))
}

/// The modules of a base of this shape that carry LoRA: short names where a projection carries it in every
/// layer, else whole paths.
pub(crate) fn module_names(train: &Train, shape: &ModelConfig) -> Result<Vec<String>, Failure> {
    let forms = rules(train)?.resolve(shape, train.rank, train.alpha);
    let forms = forms.map_err(|error| Failure::usage(format!("train.targets: {error}")))?;
    let mut names = Vec::new();
    for target in Target::ALL {
        let layers: Vec<usize> = forms.keys().filter(|key| key.1 == target).map(|key| key.0).collect();
        if layers.len() == shape.num_layers {
            names.push(target.name().to_owned());
        } else {
            let path = |layer| format!("model.layers.{layer}.{}", target.path());
            names.extend(layers.into_iter().map(path));
        }
    }
    Ok(names)
}

/// Settings of a fresh adapter; which modules carry it is decided by [`rules`].
pub(crate) fn lora(train: &Train) -> LoraConfig {
    LoraConfig {
        rank: train.rank,
        alpha: train.alpha,
        targets: Vec::new(),
        rslora: train.rslora,
        dropout: train.dropout as f32,
        dora: train.dora,
    }
}

/// Memory for training passes of this section on so many threads, or on a device.
pub(crate) fn workspace(train: &Train, threads: usize, device: Option<&Arc<DeviceModel>>) -> Workspace {
    let mut workspace = Workspace::new(threads);
    if let Some(device) = device {
        workspace.set_device(Arc::clone(device));
    }
    workspace.set_noise(train.neftune_noise_alpha);
    workspace.set_checkpointing(train.gradient_checkpointing);
    workspace
}

/// What of the variants has a say in the adapter's bytes, by name.
pub(crate) fn identity(train: &Train) -> Value {
    json!({
        "targets": train.targets,
        "exclude": train.exclude,
        "rank_pattern": train.rank_pattern,
        "alpha_pattern": train.alpha_pattern,
        "rslora": train.rslora,
        "dora": train.dora,
        "dropout": train.dropout,
        "loraplus_lr_ratio": train.loraplus_lr_ratio,
        "neftune_noise_alpha": train.neftune_noise_alpha,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_expressions_and_pairs_are_read() {
        assert_eq!(names("q_proj, v_proj").unwrap(), ["q_proj", "v_proj"]);
        assert_eq!(names(r".*\.\d{1,2}\..*(q|v)_proj").unwrap().len(), 1);
        assert!(names(" ,").is_err());
        let ranks = pairs::<usize>("q_proj=8,layers.1.mlp.down_proj=2").unwrap();
        assert_eq!(ranks.0, [("q_proj".to_owned(), 8), ("layers.1.mlp.down_proj".to_owned(), 2)]);
        assert!(pairs::<usize>("q_proj").unwrap_err().contains("NAME=NUMBER"));
        assert!(pairs::<usize>("q_proj=x").unwrap_err().contains("`x`"));
    }

    #[test]
    fn out_of_range_is_refused_by_name() {
        let refusal = |flags: &VariantFlags| overlay(&mut Train::default(), flags).unwrap_err().chain();
        let plain = VariantFlags::default();
        assert!(refusal(&VariantFlags { dropout: Some(1.0), ..plain.clone() }).contains("train.dropout"));
        let ratio = VariantFlags { loraplus_lr_ratio: Some(0.5), ..plain.clone() };
        assert!(refusal(&ratio).contains("train.loraplus_lr_ratio"));
        let noise = VariantFlags { neftune_noise_alpha: Some(f64::NAN), ..plain.clone() };
        assert!(refusal(&noise).contains("train.neftune_noise_alpha"));
        let exclude = VariantFlags { exclude: Some(vec!["q_porj".to_owned()]), ..plain };
        assert!(refusal(&exclude).contains("did you mean `q_proj`?"));
    }

    #[test]
    fn checkpointing_is_no_part_of_the_identity() {
        let mut train = Train::default();
        let plain = identity(&train);
        train.gradient_checkpointing = true;
        assert_eq!(identity(&train), plain, "it changes no byte");
        train.dora = true;
        assert_ne!(identity(&train), plain);
    }
}
