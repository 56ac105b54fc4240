//! The rules file: which action changes which key of a config, how the new value follows, and how far it may go.
//!
//! A rule is the allow-list: what no rule names is never changed.

mod value;

use std::collections::BTreeMap;
use std::path::Path;

use glob::Pattern;
use nightshift_core::{Failure, OrFail, files};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::edit::{Tree, lookup};
use super::path::KeyPath;
use crate::recommendation::{ActionType, Recommendation};

pub use value::{Next, next};

/// For the `config.yaml` of the documents, and for `nightshift.yaml`.
const SHIPPED: [(&str, &str); 2] =
    [("alpha", include_str!("alpha.yaml")), ("nightshift", include_str!("nightshift.yaml"))];

/// Longest key that is taken from a log.
const MAX_KEY: usize = 128;

/// A rules file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What kind of config it is for.
    pub name: String,
    /// Shipped rules: how such a config is told from others.
    #[serde(default)]
    pub shape: Shape,
    /// The first rule that fits and whose key is there decides.
    pub rules: Vec<Rule>,
}

/// How a config is recognised.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// It has one of these.
    pub any_of: Vec<KeyPath>,
    /// It has none of these.
    pub none_of: Vec<KeyPath>,
}

/// What one rule allows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Actions of recommendations.
    #[serde(deserialize_with = "one_or_many")]
    pub action: Vec<String>,
    /// Kind of action; any when absent.
    pub action_type: Option<ActionType>,
    /// Operations (`tool:web_*`), as patterns; any, or none, when absent.
    #[serde(default, deserialize_with = "one_or_many")]
    pub operation: Vec<String>,
    /// Parameters that must be there, with patterns of their values.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// The key. `{operation}` is the operation's name without its kind, any other `{name}` a parameter.
    pub key: KeyPath,
    /// The key may be missing when this much above it is there: it is then made.
    pub create_under: Option<KeyPath>,
    /// The value that counts as the old one where the key is missing.
    pub default: Option<Value>,
    /// How the new value follows: the first of these that can be computed.
    #[serde(deserialize_with = "one_or_many")]
    pub value: Vec<How>,
    /// What the key holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Least value.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// Farthest that one change may move it.
    pub step: Option<f64>,
    /// The most that one change may multiply or divide it by.
    pub max_factor: Option<f64>,
    /// The value is rounded to a multiple of this.
    pub round_to: Option<f64>,
    /// Texts that are allowed, as patterns; any when absent.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// The only way in which the value may move.
    pub direction: Option<Direction>,
    /// What the key does, for the plan.
    pub note: Option<String>,
}

/// How a value follows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "HowForm")]
pub enum How {
    /// A parameter, times a factor (1 unless a unit is changed).
    From(String, f64),
    /// The old value times this.
    Times(f64),
    /// The old value plus this.
    Add(f64),
    /// This.
    Set(Value),
    /// A parameter as one more item of the list.
    Append(String),
    /// None of the known forms, or several at once.
    Unclear,
}

/// The written form of [`How`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HowForm {
    from: Option<String>,
    factor: Option<f64>,
    times: Option<f64>,
    add: Option<f64>,
    set: Option<Value>,
    append: Option<String>,
}

impl From<HowForm> for How {
    fn from(form: HowForm) -> Self {
        match form {
            HowForm { from: Some(name), factor, times: None, add: None, set: None, append: None } => {
                Self::From(name, factor.unwrap_or(1.0))
            }
            HowForm { from: None, factor: None, times: Some(by), add: None, set: None, append: None } => {
                Self::Times(by)
            }
            HowForm { from: None, factor: None, times: None, add: Some(by), set: None, append: None } => {
                Self::Add(by)
            }
            HowForm { from: None, factor: None, times: None, add: None, set: Some(value), append: None } => {
                Self::Set(value)
            }
            HowForm { from: None, factor: None, times: None, add: None, set: None, append: Some(name) } => {
                Self::Append(name)
            }
            _ => Self::Unclear,
        }
    }
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// true or false.
    Boolean,
    /// A text.
    Text,
    /// A list of texts.
    List,
}

/// A way to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More only.
    Up,
    /// Less only.
    Down,
}

impl Rules {
    /// Reads a rules file; exit 9 with file and place when it is wrong.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path)
            .map_err(|error| Failure::from(error).with_exit(nightshift_core::Exit::Config))?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let rules: Self = serde_yaml::from_str(text)
            .or_exit(nightshift_core::Exit::Config, || format!("{name} is no rules file"))?;
        for (number, rule) in rules.rules.iter().enumerate() {
            rule.check().map_err(|why| {
                Failure::config(format!("{name}: rule {} ({}): {why}", number + 1, rule.key))
            })?;
        }
        Ok(rules)
    }

    /// The shipped rules for a config of this shape; exit 4 when none or several fit.
    pub fn shipped_for(documents: &[Tree], file: &Path) -> Result<Self, Failure> {
        let mut fitting = Vec::new();
        for (name, text) in SHIPPED {
            let rules = Self::parse(name, text)?;
            if rules.shape.fits(documents) {
                fitting.push(rules);
            }
        }
        match (fitting.pop(), fitting.is_empty()) {
            (Some(rules), true) => Ok(rules),
            (one, _) => {
                let how = if one.is_none() { "no shipped rules fit" } else { "several shipped rules fit" };
                Err(Failure::refused(format!("{how} {}: nothing in it may be changed", file.display()))
                    .hint("give the rules for it with --rules FILE, or set analyze_logs.rules"))
            }
        }
    }
}

impl Shape {
    fn fits(&self, documents: &[Tree]) -> bool {
        let has = |path: &KeyPath| documents.iter().any(|document| lookup(document, path).is_some());
        self.any_of.iter().any(has) && !self.none_of.iter().any(has)
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        for text in self.operation.iter().chain(self.when.values()).chain(&self.allowed) {
            Pattern::new(text).map_err(|error| format!("`{text}` is no pattern: {error}"))?;
        }
        if self.value.is_empty() || self.value.contains(&How::Unclear) {
            return Err("`value` is one of from (with factor), times, add, set, append".into());
        }
        let numeric = matches!(self.kind, Kind::Integer | Kind::Number);
        let bounds = [self.min, self.max, self.step, self.max_factor, self.round_to];
        if numeric && (self.min.is_none() || self.max.is_none()) {
            return Err("a number needs min and max".into());
        }
        if !numeric && bounds.iter().any(Option::is_some) {
            return Err("min, max, step, max_factor and round_to are for numbers".into());
        }
        if bounds.iter().flatten().any(|bound| !bound.is_finite())
            || self.min.zip(self.max).is_some_and(|(a, b)| a > b)
        {
            return Err("the bounds leave no value".into());
        }
        if [self.step, self.round_to].iter().flatten().any(|bound| *bound <= 0.0)
            || self.max_factor.is_some_and(|f| f <= 1.0)
        {
            return Err("step and round_to are above 0, max_factor above 1".into());
        }
        let lists = self.value.iter().any(|how| matches!(how, How::Append(_)));
        if lists != (self.kind == Kind::List) {
            return Err("append is for type list, and only that".into());
        }
        if self.create_under.as_ref().is_some_and(|above| !self.key.keys().starts_with(above.keys())) {
            return Err("create_under is not above the key".into());
        }
        Ok(())
    }

    /// Whether the rule is about a recommendation.
    pub fn fits(&self, advice: &Recommendation) -> bool {
        let matches =
            |pattern: &String, text: &str| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text));
        let operation = advice.operation.as_deref().unwrap_or_default();
        self.action.contains(&advice.action)
            && self.action_type.is_none_or(|kind| kind == advice.action_type)
            && (self.operation.is_empty() || self.operation.iter().any(|pattern| matches(pattern, operation)))
            && self.when.iter().all(|(name, pattern)| {
                advice.parameters.get(name).is_some_and(|value| matches(pattern, &plain(value)))
            })
    }

    /// The key for a recommendation; nothing when it lacks what the key names.
    pub fn key_for(&self, advice: &Recommendation) -> Option<KeyPath> {
        let filled = self.key.keys().iter().map(|key| fill(key, advice)).collect::<Option<Vec<_>>>()?;
        Some(KeyPath(filled))
    }
}

/// A parameter as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn fill(key: &str, advice: &Recommendation) -> Option<String> {
    let Some(name) = key.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Some(key.to_owned());
    };
    let text = match name {
        "operation" => {
            let operation = advice.operation.as_deref()?;
            operation.split_once(':').map_or(operation, |(_, name)| name).to_owned()
        }
        name => plain(advice.parameters.get(name)?),
    };
    // Names come from logs, which anybody may write.
    let fit = !text.is_empty() && text.len() <= MAX_KEY && !text.chars().any(char::is_control);
    fit.then_some(text)
}

fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::One(one) => vec![one],
        Form::Many(many) => many,
    })
}
