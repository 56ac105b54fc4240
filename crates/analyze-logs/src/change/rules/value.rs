//! The new value of a key: what the rule computes, held within what it allows.

use serde_json::{Number, Value};

use super::{Direction, How, Kind, Rule, plain};
use crate::change::edit::{Edit, Tree, contains, to_json};
use crate::recommendation::Recommendation;

/// What follows for a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The edit, and what a bound did to the value asked for.
    Change(Edit, Option<String>),
    /// It is as it should be, or may not go farther.
    Unchanged(String),
    /// It may not be changed.
    Refused(String),
    /// The recommendation says too little.
    Unknown,
}

/// What a rule makes of a key's value; `old` is `None` where the key is missing.
pub fn next(rule: &Rule, advice: &Recommendation, old: Option<&Tree>) -> Next {
    if let Some(Value::String(text)) = old.map(to_json).as_ref()
        && text.contains("${")
    {
        return Next::Refused(format!("its value is `{text}`: change it where that is set"));
    }
    if rule.kind == Kind::List { list(rule, advice, old) } else { single(rule, advice, old) }
}

fn list(rule: &Rule, advice: &Recommendation, old: Option<&Tree>) -> Next {
    let item = rule.value.iter().find_map(|how| match how {
        How::Append(name) => advice.parameters.get(name).map(plain),
        _ => None,
    });
    let Some(item) = item else { return Next::Unknown };
    if !rule.allows(&item) {
        return Next::Refused(format!("`{item}` is not among the texts that the rule allows"));
    }
    match old {
        None => Next::Refused("the list is missing".into()),
        Some(list) if !to_json(list).is_array() => Next::Refused("it is no list".into()),
        Some(list) if contains(list, &item.as_str().into()) => {
            Next::Unchanged(format!("`{item}` is in it already"))
        }
        Some(_) => Next::Change(Edit::Append(item.into()), None),
    }
}

fn single(rule: &Rule, advice: &Recommendation, old: Option<&Tree>) -> Next {
    let written = old.map(to_json);
    let known = match written.clone().or_else(|| rule.default.clone()).filter(|value| !value.is_null()) {
        None => None,
        Some(value) => match Form::read(rule.kind, &value) {
            Some(form) => Some(form),
            None => return Next::Refused(format!("its value {value} is no {}", rule.kind.name())),
        },
    };
    let wanted = rule.value.iter().find_map(|how| wanted(how, rule.kind, advice, known.as_ref()));
    let Some(wanted) = wanted else { return Next::Unknown };
    let (value, limited) = match (wanted, rule.kind) {
        (Value::Number(number), Kind::Integer | Kind::Number) => {
            let asked = number.as_f64().unwrap_or(f64::NAN);
            match bounded(rule, asked, known.as_ref().and_then(Form::number)) {
                Ok(bounded) => bounded,
                Err(next) => return next,
            }
        }
        (Value::String(text), Kind::Text) if !rule.allows(&text) => {
            return Next::Refused(format!("`{text}` is not among the texts that the rule allows"));
        }
        (value @ Value::String(_), Kind::Text) | (value @ Value::Bool(_), Kind::Boolean) => (value, None),
        (value, kind) => {
            return Next::Refused(format!("{value} is asked for, but the key holds a {}", kind.name()));
        }
    };
    if known.as_ref().is_some_and(|known| known.value == value) {
        return Next::Unchanged(limited.unwrap_or_else(|| format!("it is {value} already")));
    }
    let written_as = match known.as_ref().filter(|_| written.is_some()) {
        Some(form) => form.write(&value),
        None => value,
    };
    let missing = old.is_none();
    Next::Change(if missing { Edit::Insert(written_as) } else { Edit::Set(written_as) }, limited)
}

fn wanted(how: &How, kind: Kind, advice: &Recommendation, old: Option<&Form>) -> Option<Value> {
    let number = |value: f64| Number::from_f64(value).map(Value::Number);
    let old_number = || old.and_then(Form::number);
    match how {
        How::From(name, factor) => {
            let value = advice.parameters.get(name)?;
            match (kind, value) {
                (Kind::Integer | Kind::Number, value) => number(value.as_f64()? * factor),
                (Kind::Text, value) => value.as_str().map(Value::from),
                (_, value) => Some(value.clone()),
            }
        }
        How::Times(by) => number(old_number()? * by),
        How::Add(by) => number(old_number()? + by),
        How::Set(value) => Some(value.clone()),
        How::Append(_) | How::Unclear => None,
    }
}

/// The number that the rule allows, and what was cut off it.
fn bounded(rule: &Rule, asked: f64, old: Option<f64>) -> Result<(Value, Option<String>), Next> {
    let (min, max) = (rule.min.unwrap_or(f64::NEG_INFINITY), rule.max.unwrap_or(f64::INFINITY));
    if !asked.is_finite() {
        return Err(Next::Refused("the value asked for is no finite number".into()));
    }
    let mut value = asked;
    let mut limits = Vec::new();
    let mut hold = |value: &mut f64, low: f64, high: f64, name: String| {
        let held = value.max(low).min(high);
        if held != *value {
            limits.push(name);
            *value = held;
        }
    };
    if let Some(old) = old {
        if let Some(step) = rule.step {
            hold(&mut value, old - step, old + step, format!("step {step}"));
        }
        if let Some(factor) = rule.max_factor.filter(|_| old > 0.0) {
            hold(&mut value, old / factor, old * factor, format!("max_factor {factor}"));
        }
    }
    if let Some(unit) = rule.round_to {
        value = (value / unit).round() * unit;
    }
    if rule.kind == Kind::Integer {
        // Half a second of a limit is not taken away.
        value = if rule.direction == Some(Direction::Down) { value.floor() } else { value.ceil() };
    }
    hold(&mut value, min, max, format!("{min} to {max}"));
    if let Some(old) = old {
        let backwards = match rule.direction {
            Some(Direction::Up) => value < old,
            Some(Direction::Down) => value > old,
            None => false,
        };
        if backwards {
            return Err(Next::Unchanged(format!("it is {old}, and {asked} is asked for")));
        }
        if value == old && !limits.is_empty() {
            return Err(Next::Unchanged(format!(
                "it is {old}: the rule allows no more ({})",
                limits.join(", ")
            )));
        }
    }
    let limited =
        (!limits.is_empty()).then(|| format!("{asked} is asked for, the rule allows {}", limits.join(", ")));
    let number = if rule.kind == Kind::Integer { Number::from(value as i64) } else { number_like(value) };
    Ok((Value::Number(number), limited))
}

/// Without `.0` where it is whole: `45` reads as any kind of number.
fn number_like(value: f64) -> Number {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        Number::from(value as i64)
    } else {
        Number::from_f64((value * 1e9).round() / 1e9).unwrap_or_else(|| Number::from(0))
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Integer => "whole number",
            Self::Number => "number",
            Self::Boolean => "switch",
            Self::Text => "text",
            Self::List => "list",
        }
    }
}

impl Rule {
    fn allows(&self, text: &str) -> bool {
        let fits = |pattern: &String| glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text));
        (self.allowed.is_empty() || self.allowed.iter().any(fits))
            && text.len() <= super::MAX_KEY
            && !text.chars().any(char::is_control)
    }
}

/// A value and how it is written: numbers and switches may stand as texts (`"30"`, `yes`).
#[derive(Debug)]
struct Form {
    value: Value,
    /// The words for false and true.
    words: Option<(&'static str, &'static str)>,
    text: bool,
    float: bool,
}

const WORDS: [(&str, &str); 6] =
    [("no", "yes"), ("off", "on"), ("No", "Yes"), ("Off", "On"), ("false", "true"), ("False", "True")];

impl Form {
    fn read(kind: Kind, value: &Value) -> Option<Self> {
        let float = value.is_f64();
        let form = |value, words, text| Some(Self { value, words, text, float });
        match (kind, value) {
            (Kind::Integer, Value::Number(number)) if number.is_f64() => {
                let whole = number.as_f64().filter(|value| value.fract() == 0.0)?;
                form(Number::from(whole as i64).into(), None, false)
            }
            (Kind::Integer | Kind::Number, Value::Number(number)) => {
                form(Value::Number(number_like(number.as_f64()?)), None, false)
            }
            (Kind::Integer | Kind::Number, Value::String(text)) => {
                let number: f64 = text.trim().parse().ok().filter(|number: &f64| number.is_finite())?;
                form(Value::Number(number_like(number)), None, true)
            }
            (Kind::Boolean, Value::Bool(_)) | (Kind::Text, Value::String(_)) => {
                form(value.clone(), None, false)
            }
            (Kind::Boolean, Value::String(text)) => {
                let words = WORDS.iter().find(|(no, yes)| text == no || text == yes)?;
                form(Value::Bool(text == words.1), Some(*words), true)
            }
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    fn write(&self, value: &Value) -> Value {
        match (value, self.words) {
            (Value::Bool(yes), Some(words)) => (if *yes { words.1 } else { words.0 }).into(),
            (value, _) if self.text => plain(value).into(),
            // A reader that told 30.0 from 30 goes on to do so.
            (Value::Number(number), _) if self.float => {
                number.as_f64().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
            }
            (value, _) => value.clone(),
        }
    }
}
