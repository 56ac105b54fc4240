//! Which modules of a base model carry LoRA, and with which rank and alpha.
//!
//! The rules are PEFT's (`check_target_module_exists` and `get_pattern_key` of peft 0.21), so that what
//! is trained here is what PEFT would train from the same settings: a list of names matches whole
//! paths or their ends behind a dot, a pattern matches the whole path, `all-linear` is every
//! projection, `exclude` wins, and of the rank and alpha patterns the first that matches decides.
//! Where PEFT trains on after a name that matches nothing, [`ModuleRules::resolve`] refuses it.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use nightshift_core::config::nearest;

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::lora::{ModuleKey, Target};

/// Matching steps a pattern may take on one module path before it is called pathological.
const BACKTRACK_LIMIT: usize = 100_000;
/// Every projection, in PEFT's word.
const ALL_LINEAR: &str = "all-linear";

/// The rules by which modules are chosen.
#[derive(Debug, Clone)]
pub struct ModuleRules {
    pub(crate) targets: Names,
    pub(crate) exclude: Option<Names>,
    /// `layers_to_transform`: acts on names that match by their end only.
    pub(crate) layers: Option<Vec<usize>>,
    pub(crate) ranks: Vec<Pattern<usize>>,
    pub(crate) alphas: Vec<Pattern<f64>>,
}

/// Rank and alpha of one module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModuleForm {
    /// Rows of A, columns of B.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
}

/// `target_modules` or `exclude_modules`.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    AllLinear,
    List(Vec<String>),
    Path(Regex),
}

/// One entry of `rank_pattern` or `alpha_pattern`.
#[derive(Debug, Clone)]
pub(crate) struct Pattern<V> {
    /// As it was written.
    pub(crate) text: String,
    pub(crate) value: V,
    regex: Regex,
}

impl ModuleRules {
    /// Rules from settings. `targets` and `exclude` are names, or one entry alone that is `all-linear`
    /// or a regular expression on the whole path (`model.layers.0.self_attn.q_proj`); `exclude` may be
    /// empty. Patterns act in the order given.
    ///
    /// # Errors
    /// [`ModelError::Input`] for no target, a name that no projection has (with the nearest one that
    /// exists), an expression that does not compile, a rank or alpha that is not above zero.
    pub fn new(
        targets: &[String],
        exclude: &[String],
        rank_pattern: &[(String, usize)],
        alpha_pattern: &[(String, f64)],
    ) -> Result<Self> {
        if targets.is_empty() {
            return Err(input("no targets: name modules, or write all-linear".to_owned()));
        }
        let exclude = if exclude.is_empty() { None } else { Some(Names::from_settings(exclude)?) };
        if let Some((key, rank)) = rank_pattern.iter().find(|(_, rank)| *rank == 0) {
            return Err(input(format!("rank pattern `{key}`: {rank} is no rank")));
        }
        if let Some((key, alpha)) = alpha_pattern.iter().find(|(_, a)| !a.is_finite() || *a <= 0.0) {
            return Err(input(format!("alpha pattern `{key}`: {alpha} is not a positive number")));
        }
        Ok(Self {
            targets: Names::from_settings(targets)?,
            exclude,
            layers: None,
            ranks: patterns(rank_pattern)?,
            alphas: patterns(alpha_pattern)?,
        })
    }

    /// The modules of a model of this shape that carry LoRA. `rank` and `alpha` are those of modules
    /// that no pattern names.
    ///
    /// # Errors
    /// [`ModelError::Input`] when no module is left, when a name or a pattern matches none, and when a
    /// rank is larger than the smaller side of its matrix: beyond that A and B hold nothing more.
    pub fn resolve(
        &self,
        config: &ModelConfig,
        rank: usize,
        alpha: f64,
    ) -> Result<BTreeMap<ModuleKey, ModuleForm>> {
        let mut forms = BTreeMap::new();
        for layer in 0..config.num_layers {
            for target in Target::ALL {
                let path = module_path((layer, target));
                if !self.covers(&path, Some(layer))? {
                    continue;
                }
                let form =
                    ModuleForm { rank: self.rank_of(&path, rank)?, alpha: self.alpha_of(&path, alpha)? };
                let (out, inputs) = target.shape(config);
                if form.rank > out.min(inputs) {
                    return Err(input(format!(
                        "rank {} on `{path}`, whose matrix is {out} x {inputs}: at most {} is of use; \
                         lower the rank, or set another one for this module by a rank pattern",
                        form.rank,
                        out.min(inputs)
                    )));
                }
                forms.insert((layer, target), form);
            }
        }
        self.refuse_idle(config, &forms)?;
        Ok(forms)
    }

    /// Whether the module at `path` carries LoRA; `layer` is its layer, if it is in one.
    pub(crate) fn covers(&self, path: &str, layer: Option<usize>) -> Result<bool> {
        if let Some(exclude) = &self.exclude
            && exclude.matches(path)?
        {
            return Ok(false);
        }
        if matches!(self.targets, Names::AllLinear) {
            return Ok(layer.is_some());
        }
        let found = self.targets.matches(path)?;
        let exact = matches!(&self.targets, Names::List(names) if names.iter().any(|name| name == path));
        let by_regex = matches!(self.targets, Names::Path(_));
        match (&self.layers, layer) {
            // PEFT applies layers_to_transform to suffix matches only.
            (Some(layers), Some(layer)) if found && !exact && !by_regex => Ok(layers.contains(&layer)),
            _ => Ok(found),
        }
    }

    /// Rank of the module at `path`.
    pub(crate) fn rank_of(&self, path: &str, general: usize) -> Result<usize> {
        Ok(first_match(&self.ranks, path)?.unwrap_or(general))
    }

    /// Alpha of the module at `path`.
    pub(crate) fn alpha_of(&self, path: &str, general: f64) -> Result<f64> {
        Ok(first_match(&self.alphas, path)?.unwrap_or(general))
    }

    /// Settings that act on nothing are mistakes.
    fn refuse_idle(&self, config: &ModelConfig, forms: &BTreeMap<ModuleKey, ModuleForm>) -> Result<()> {
        let layers = config.num_layers;
        let all = || (0..layers).flat_map(|layer| Target::ALL.map(|target| module_path((layer, target))));
        for names in [Some(&self.targets), self.exclude.as_ref()].into_iter().flatten() {
            let Names::List(list) = names else { continue };
            for name in list {
                if !all().any(|path| ends_with(&path, name)) {
                    return Err(input(format!(
                        "`{name}` names no module of this base, which has {layers} layers"
                    )));
                }
            }
        }
        if forms.is_empty() {
            return Err(input("the targets match no module of this base".to_owned()));
        }
        let chosen: Vec<String> = forms.keys().copied().map(module_path).collect();
        let ranks = self.ranks.iter().map(|pattern| ("rank", &pattern.text, &pattern.regex));
        let alphas = self.alphas.iter().map(|pattern| ("alpha", &pattern.text, &pattern.regex));
        for (kind, text, regex) in ranks.chain(alphas) {
            let mut acts = false;
            for path in &chosen {
                acts |= is_match(regex, path)?;
            }
            if !acts {
                return Err(input(format!("{kind} pattern `{text}` matches no module that is trained")));
            }
        }
        Ok(())
    }
}

impl Names {
    /// One regular expression on the whole path, or `all-linear`; what is wrong with it otherwise.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case(ALL_LINEAR) {
            return Ok(Self::AllLinear);
        }
        compile(&format!("^(?:{text})$")).map(Self::Path)
    }

    fn from_settings(entries: &[String]) -> Result<Self> {
        match entries {
            [one] if one.eq_ignore_ascii_case(ALL_LINEAR) => return Ok(Self::AllLinear),
            [one] if is_expression(one) => return Self::from_text(one).map_err(input),
            _ => {}
        }
        for name in entries {
            if is_expression(name) || name.eq_ignore_ascii_case(ALL_LINEAR) {
                return Err(input(format!("`{name}` must stand alone, not in a list of names")));
            }
            refuse_unknown(name)?;
        }
        Ok(Self::List(entries.to_vec()))
    }

    fn matches(&self, path: &str) -> Result<bool> {
        match self {
            Self::AllLinear => Ok(true),
            Self::List(names) => Ok(names.iter().any(|name| ends_with(path, name))),
            Self::Path(regex) => is_match(regex, path),
        }
    }
}

impl<V> Pattern<V> {
    /// `(.*\.)?(KEY)$`, as PEFT builds it; what is wrong with KEY otherwise.
    pub(crate) fn new(text: &str, value: V) -> Result<Self, String> {
        let regex = compile(&format!(r"^(?:.*\.)?(?:{text})$"))?;
        Ok(Self { text: text.to_owned(), value, regex })
    }
}

/// Path of a module inside the model, as PEFT names it.
pub(crate) fn module_path((layer, target): ModuleKey) -> String {
    format!("model.layers.{layer}.{}", target.path())
}

/// No module name has a character of a regular expression other than the dot.
fn is_expression(text: &str) -> bool {
    text.contains(['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '^', '$', '\\'])
}

/// Refuses a name that no layer of any base could have.
fn refuse_unknown(name: &str) -> Result<()> {
    if ["lm_head", "embed_tokens", "model.embed_tokens"].contains(&name) {
        return Err(input(format!(
            "`{name}`: LoRA on the embedding or the output head is not supported; llama.cpp refuses it for \
             models that tie the two"
        )));
    }
    let fits = |target: Target| {
        let front = match name.strip_suffix(target.path()) {
            _ if name == target.name() => return true,
            Some("") => return true,
            front => front.and_then(|front| front.strip_suffix('.')),
        };
        let Some(front) = front else { return false };
        let number = front.rsplit('.').next().unwrap_or_default();
        let before = front.strip_suffix(number).unwrap_or_default();
        number.parse::<usize>().is_ok() && ["", "layers.", "model.layers."].contains(&before)
    };
    if Target::ALL.into_iter().any(fits) {
        return Ok(());
    }
    let known = Target::ALL.map(Target::name);
    let last = name.rsplit('.').next().unwrap_or(name);
    Err(input(match nearest(last, known.into_iter().chain([ALL_LINEAR])) {
        Some(near) => format!("`{name}` is no module that LoRA can be put on; did you mean `{near}`?"),
        None => format!(
            "`{name}` is no module that LoRA can be put on; there are {} and {ALL_LINEAR}",
            known.join(", ")
        ),
    }))
}

fn ends_with(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
}

fn is_match(regex: &Regex, path: &str) -> Result<bool> {
    let failed = |error| input(format!("the pattern `{regex}` cannot be matched against `{path}`: {error}"));
    regex.is_match(path).map_err(failed)
}

fn first_match<V: Copy>(patterns: &[Pattern<V>], path: &str) -> Result<Option<V>> {
    for pattern in patterns {
        if is_match(&pattern.regex, path)? {
            return Ok(Some(pattern.value));
        }
    }
    Ok(None)
}

fn patterns<V: Copy>(list: &[(String, V)]) -> Result<Vec<Pattern<V>>> {
    list.iter().map(|(text, value)| Pattern::new(text, *value).map_err(input)).collect()
}

fn compile(pattern: &str) -> Result<Regex, String> {
    fancy_regex::RegexBuilder::new(pattern)
        .backtrack_limit(BACKTRACK_LIMIT)
        .build()
        .map_err(|error| format!("`{pattern}` is not a pattern: {error}"))
}

const fn input(message: String) -> ModelError {
    ModelError::Input(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn rules(targets: &[&str], exclude: &[&str], ranks: &[(&str, usize)]) -> Result<ModuleRules> {
        let ranks: Vec<_> = ranks.iter().map(|(key, rank)| ((*key).to_owned(), *rank)).collect();
        ModuleRules::new(&list(targets), &list(exclude), &ranks, &[])
    }

    /// The paths that rules choose in a model of two layers, without `model.layers.`.
    fn chosen(targets: &[&str], exclude: &[&str]) -> Vec<String> {
        let forms = rules(targets, exclude, &[]).unwrap().resolve(&tiny::config(), 2, 4.0).unwrap();
        forms.into_keys().map(|key| module_path(key).replace("model.layers.", "")).collect()
    }

    fn refusal(result: Result<ModuleRules>) -> String {
        match result.and_then(|rules| rules.resolve(&tiny::config(), 2, 4.0)) {
            Err(error) => error.to_string(),
            Ok(forms) => panic!("not refused: {forms:?}"),
        }
    }

    #[test]
    fn names_patterns_and_all_linear_choose_what_peft_chooses() {
        assert_eq!(chosen(&["q_proj"], &[]), ["0.self_attn.q_proj", "1.self_attn.q_proj"]);
        assert_eq!(
            chosen(&["layers.1.mlp.up_proj", "0.self_attn.q_proj"], &[]),
            ["0.self_attn.q_proj", "1.mlp.up_proj"]
        );
        assert_eq!(chosen(&[r".*\.1\..*(q|v)_proj"], &[]), ["1.self_attn.q_proj", "1.self_attn.v_proj"]);
        assert_eq!(chosen(&["all-linear"], &[]).len(), 14);
        assert_eq!(chosen(&["all-linear"], &[r".*mlp.*"]).len(), 8);
        assert_eq!(chosen(&["q_proj", "v_proj"], &["layers.0.self_attn.v_proj"]).len(), 3);
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let patterns = [("layers.1.mlp.down_proj", 1), ("down_proj", 3)];
        let alphas = [(".*_proj".to_owned(), 9.0)];
        let ranks: Vec<_> = patterns.iter().map(|(key, rank)| ((*key).to_owned(), *rank)).collect();
        let rules = ModuleRules::new(&list(&["all-linear"]), &[], &ranks, &alphas).unwrap();
        let forms = rules.resolve(&tiny::config(), 2, 4.0).unwrap();
        assert_eq!(forms[&(0, Target::Down)], ModuleForm { rank: 3, alpha: 9.0 });
        assert_eq!(forms[&(1, Target::Down)], ModuleForm { rank: 1, alpha: 9.0 });
        assert_eq!(forms[&(1, Target::Q)].rank, 2);
    }

    #[test]
    fn what_would_act_on_nothing_is_refused_with_the_nearest_name() {
        assert!(refusal(rules(&["q_porj"], &[], &[])).contains("did you mean `q_proj`?"));
        assert!(refusal(rules(&["mlp.q_proj"], &[], &[])).contains("mlp.q_proj"));
        assert!(refusal(rules(&["transformer"], &[], &[])).contains("down_proj and all-linear"));
        assert!(refusal(rules(&["q_proj", "lm_head"], &[], &[])).contains("output head"));
        assert!(refusal(rules(&["q_proj"], &["v_porj"], &[])).contains("did you mean `v_proj`?"));
        assert!(refusal(rules(&["layers.7.mlp.up_proj"], &[], &[])).contains("2 layers"));
        assert!(refusal(rules(&["q_proj|k_proj"], &[], &[])).contains("match no module"));
        assert!(refusal(rules(&["(q_proj"], &[], &[])).contains("not a pattern"));
        assert!(refusal(rules(&["q_proj", ".*"], &[], &[])).contains("must stand alone"));
        assert!(refusal(rules(&["all-linear"], &["all-linear"], &[])).contains("match no module"));
        assert!(refusal(rules(&["q_proj"], &[], &[("down_proj", 3)])).contains("rank pattern `down_proj`"));
        assert!(refusal(rules(&["q_proj"], &[], &[("q_proj", 0)])).contains("no rank"));
        assert!(refusal(rules(&[], &[], &[])).contains("no targets"));
    }

    #[test]
    fn a_rank_larger_than_the_matrix_is_refused_with_the_numbers() {
        let message = refusal(rules(&["k_proj"], &[], &[("k_proj", 9)]));
        assert!(message.contains("rank 9 on `model.layers.0.self_attn.k_proj`"), "{message}");
        assert!(message.contains("8 x 12: at most 8"), "{message}");
        assert!(rules(&["k_proj"], &[], &[("k_proj", 8)]).unwrap().resolve(&tiny::config(), 2, 4.0).is_ok());
    }
}
