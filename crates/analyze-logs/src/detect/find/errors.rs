//! Errors that recur, that are new, and that are seen no more.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Draft, Look, Loss, excerpts, numbers, percent, seconds, share, time_text, times, usd};
use crate::detect::{Few, Hours, Shape, Span};
use crate::pattern::{Pattern, PatternType};
use crate::read::NONE;
use crate::templates::Templates;

/// Names in a list.
const MOST_NAMES: usize = 10;
/// Hours without the error before it is new, or after it is gone.
const QUIET: i32 = 24;
/// The probability that chance alone leaves that much of the time without it, over all templates.
const CHANCE: f64 = 0.01;

/// The errors of one template.
#[derive(Default)]
struct Group {
    text: String,
    id: String,
    count: u64,
    timeouts: u64,
    /// Only leftovers of forgotten shapes.
    coarse: bool,
    us: u64,
    nano: i64,
    hours: Hours,
    operations: BTreeMap<Option<String>, u64>,
    tasks: BTreeMap<String, u64>,
    classes: BTreeMap<String, u64>,
    span: Span,
    first: Few,
}

pub(super) fn find(look: &Look<'_>) -> Vec<Pattern> {
    let groups = groups(look);
    let all: u64 = groups.iter().map(|group| group.count).sum();
    let recurring: Vec<&Group> = groups
        .iter()
        .filter(|group| !group.coarse && group.count >= look.settings.min_error_occurrences.max(1))
        .collect();
    let mut found = Vec::new();
    for group in &recurring {
        found.push(recurs(look, group, all));
        found.extend(comes_or_goes(look, group, recurring.len()));
    }
    found
}

fn groups(look: &Look<'_>) -> Vec<Group> {
    let errors = &look.findings.detected.errors;
    let (signatures, shapes) = errors.signatures();
    let templates = Templates::of_signatures(&signatures);
    let mut groups: Vec<Group> = templates
        .all()
        .iter()
        .map(|template| Group {
            text: template.text.clone(),
            id: template.id.clone(),
            coarse: true,
            ..Group::default()
        })
        .collect();
    for (place, shape) in shapes.iter().enumerate() {
        groups[templates.index_of(place as u32)].take(look, shape);
    }
    groups
}

impl Group {
    fn take(&mut self, look: &Look<'_>, shape: &Shape) {
        self.count += shape.count;
        self.coarse &= shape.coarse;
        self.hours.absorb(&shape.hours);
        self.first.absorb(shape.first.clone());
        for owner in &shape.owners {
            self.timeouts += owner.timeouts;
            self.us = self.us.saturating_add(owner.us);
            self.nano = self.nano.saturating_add(owner.nano);
            self.span.join(owner.span);
            *self.operations.entry(look.name(owner.op)).or_default() += owner.count;
            if let Some(task) = look.name(owner.task) {
                *self.tasks.entry(task).or_default() += owner.count;
            }
            if owner.class != NONE
                && let Some(class) = look.findings.detected.errors.class(owner.class)
            {
                *self.classes.entry(class.to_owned()).or_default() += owner.count;
            }
        }
    }

    /// Who had it most.
    fn operation(&self) -> Option<&str> {
        let named = self.operations.iter().filter_map(|(name, count)| Some((name.as_deref()?, *count)));
        named.max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0))).map(|(name, _)| name)
    }

    fn class(&self) -> Option<&str> {
        let most = self.classes.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        most.map(|(class, _)| class.as_str())
    }

    /// `tool:web` or `tool:web and 3 others`.
    fn who(&self) -> String {
        match (self.operation(), self.operations.keys().flatten().count()) {
            (None, _) => "something that is no call".into(),
            (Some(name), 0 | 1) => name.into(),
            (Some(name), 2) => format!("{name} and one other"),
            (Some(name), count) => format!("{name} and {} others", count - 1),
        }
    }

    fn loss(&self) -> Loss {
        Loss { failures: self.count as f64, seconds: seconds(self.us), usd: usd(self.nano) }
    }

    fn draft(&self, kind: PatternType, impact: f64, description: String) -> Draft {
        Draft {
            kind,
            operation: self.operation().map(str::to_owned),
            template: Some(self.text.clone()),
            occurrences: self.count,
            impact,
            span: self.span,
            description,
            metadata: numbers([("wasted_s", seconds(self.us)), ("wasted_usd", usd(self.nano))]),
        }
    }
}

/// The most frequent names with their counts.
fn most(counts: &BTreeMap<String, u64>) -> Value {
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    counts.truncate(MOST_NAMES);
    counts
        .into_iter()
        .map(|(name, count)| (name.clone(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn recurs(look: &Look<'_>, group: &Group, all: u64) -> Pattern {
    let mut description = format!("{} failed {} with \"{}\"", group.who(), times(group.count), group.text);
    if let Some(class) = group.class() {
        description += &format!(" ({class})");
    }
    description += &format!(", {} of all errors", percent(share(group.count, all)));
    if group.us > 0 {
        description += &format!("; the failed calls took {}", time_text(seconds(group.us)));
    }
    description.push('.');
    let mut draft =
        group.draft(PatternType::RecurringError, look.impact(group.loss(), look.days), description);
    let operations = group.operations.iter();
    let operations =
        operations.map(|(name, count)| (name.clone().unwrap_or_else(|| "none".into()), *count)).collect();
    draft.metadata.extend(numbers([
        ("share_of_errors", share(group.count, all)),
        ("failures_per_day", group.count as f64 / look.days),
        ("hours_seen", group.hours.list().len() as f64),
    ]));
    let about = [
        ("timeouts", json!(group.timeouts)),
        ("template_id", json!(group.id)),
        ("error_type", json!(group.class())),
        ("error_types", most(&group.classes)),
        ("operations", most(&operations)),
        ("tasks", most(&group.tasks)),
    ];
    draft.metadata.extend(about.map(|(name, value)| (name.to_owned(), value)));
    draft.pattern(&[&group.text], excerpts(group.first.lines()))
}

/// Whether the error came or went in the middle: the calls of the hours before it was first (after it was last)
/// seen are more than chance leaves out. An hour counts by its calls: a weekend without an error says little.
fn comes_or_goes(look: &Look<'_>, group: &Group, templates: usize) -> Vec<Pattern> {
    let active = look.findings.detected.active.list();
    let seen = group.hours.list();
    let (Some((begin, _)), Some((end, _)), Some((first, _)), Some((last, _))) =
        (active.first(), active.last(), seen.first(), seen.last())
    else {
        return Vec::new();
    };
    let calls = |quiet: &dyn Fn(i32) -> bool| {
        active.iter().filter(|(hour, _)| quiet(*hour)).map(|(_, calls)| f64::from(*calls)).sum::<f64>()
    };
    let chance = |quiet: &dyn Fn(i32) -> bool| {
        let share = calls(quiet) / calls(&|_| true);
        (1.0 - share).powi(seen.len().min(10_000) as i32) * templates as f64
    };
    let before = chance(&|hour| hour < *first);
    let after = chance(&|hour| hour > *last);
    let mut found = Vec::new();
    let since = (f64::from(end - first) / 24.0).max(1.0);
    if before < CHANCE && first - begin >= QUIET {
        let quiet = time_text(f64::from(first - begin) * 3600.0);
        let text = format!(
            "The error \"{}\" is new: {} had it {}, and in the {quiet} before nobody.",
            group.text,
            group.who(),
            times(group.count)
        );
        found.push((PatternType::NewTemplate, look.impact(group.loss(), since), text, before, first - begin));
    }
    if after < CHANCE && end - last >= QUIET {
        let quiet = time_text(f64::from(end - last) * 3600.0);
        let text = format!(
            "The error \"{}\" is gone: {} had it {}, and in the last {quiet} nobody.",
            group.text,
            group.who(),
            times(group.count)
        );
        // Good news weigh half.
        let impact = look.impact(group.loss(), (f64::from(last - begin) / 24.0).max(1.0)) / 2.0;
        found.push((PatternType::VanishedTemplate, impact, text, after, end - last));
    }
    let pattern = |(kind, impact, text, chance, quiet): (PatternType, f64, String, f64, i32)| {
        let mut draft = group.draft(kind, impact, text);
        draft.metadata.extend(numbers([("p_value", chance.min(1.0)), ("quiet_hours", f64::from(quiet))]));
        draft.metadata.insert("template_id".into(), json!(group.id));
        draft.pattern(&[&group.text], excerpts(group.first.lines()))
    };
    found.into_iter().map(pattern).collect()
}
