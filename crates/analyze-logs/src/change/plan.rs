//! What recommendations would change: pure reading, printable.

use nightshift_core::clock::rfc3339;
use nightshift_core::random::{new_id, sha256_hex};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure};
use serde::Serialize;

use super::edit::{Edit, Tree, edit, lookup};
use super::file::ConfigFile;
use super::path::KeyPath;
use super::record::{ConfigChange, Status, open_change};
use super::rules::{Next, Rule, next};
use super::{Target, diff};
use crate::recommendation::Recommendation;

/// What came out for a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It can be applied.
    Ready,
    /// The key is as it should be already.
    Unchanged,
    /// No rule maps it to a key that is there.
    NotApplicable,
    /// A check says no.
    Refused,
}

/// What a recommendation would change.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// The id of the recommendation.
    pub recommendation: String,
    /// Its title.
    pub title: String,
    /// What came out.
    pub verdict: Verdict,
    /// Why, for a person.
    pub reason: String,
    /// The rules that decided.
    pub rules: String,
    /// The change; its status is `planned`. Only of what is ready.
    pub change: Option<ConfigChange>,
    /// As `diff -u` prints it.
    pub diff: String,
}

/// Plans every recommendation by itself, as if it were the only one. Changes nothing; fails only when the
/// config cannot be read. `store` is `None` where there is none yet.
pub fn plan(
    ctx: &Ctx,
    store: Option<&Store>,
    target: &Target,
    advice: &[Recommendation],
) -> Result<Vec<Planned>, Failure> {
    let file = ConfigFile::read(&target.file)?;
    let documents = file.documents()?;
    advice.iter().map(|advice| one(ctx, store, target, &file, &documents, advice)).collect()
}

fn one(
    ctx: &Ctx,
    store: Option<&Store>,
    target: &Target,
    file: &ConfigFile,
    documents: &[Tree],
    advice: &Recommendation,
) -> Result<Planned, Failure> {
    let answer = |verdict, reason: String| Planned {
        recommendation: advice.id.clone(),
        title: advice.title.clone(),
        verdict,
        reason,
        rules: target.rules.name.clone(),
        change: None,
        diff: String::new(),
    };
    let Some((rule, key)) = chosen(target, documents, advice) else {
        return Ok(answer(Verdict::NotApplicable, no_rule(target, advice)));
    };
    let holding: Vec<&Tree> = documents.iter().filter_map(|document| lookup(document, &key)).collect();
    let (wanted, limited) = match next(rule, advice, holding.first().copied()) {
        Next::Change(edit, limited) => (edit, limited),
        Next::Unchanged(why) => return Ok(answer(Verdict::Unchanged, format!("{key}: {why}"))),
        Next::Refused(why) => return Ok(answer(Verdict::Refused, format!("{key}: {why}"))),
        Next::Unknown => {
            return Ok(answer(
                Verdict::NotApplicable,
                format!("{key}: the recommendation names no value for it"),
            ));
        }
    };
    if let Some(store) = store
        && let Some(open) = open_change(store.read(), &file.path, &key)?
    {
        let since = open.applied_at.as_deref().unwrap_or(&open.planned_at);
        let why =
            format!("{key}: change {} of {since} is not judged yet: one change a key at a time", open.id);
        return Ok(answer(Verdict::Refused, why));
    }
    if let Err(failure) = file.check_writable() {
        return Ok(answer(Verdict::Refused, failure.chain()));
    }
    let edited = match edit(file.format, &file.text, &key, &wanted, None) {
        Ok(edited) => edited,
        Err(error) => return Ok(answer(Verdict::Refused, error.to_string())),
    };
    let now = ctx.clock.now();
    let mut reason = rule.note.clone().unwrap_or_else(|| advice.action.clone());
    if let Some(limited) = limited {
        reason = format!("{reason} ({limited})");
    }
    let change = ConfigChange {
        id: new_id(now),
        recommendation: advice.clone(),
        file: file.path.clone(),
        key_path: key,
        edit: wanted,
        before: edited.before,
        after: edited.after.unwrap_or_default(),
        raw: edited.raw,
        sha256_before: file.sha256.clone(),
        sha256_after: sha256_hex(edited.text.as_bytes()),
        status: Status::Planned,
        why: reason.clone(),
        planned_at: rfc3339(now),
        applied_at: None,
        ended_at: None,
        reload: None,
    };
    let diff = diff::unified(&target.file.display().to_string(), &file.text, &edited.text);
    Ok(Planned { change: Some(change), diff, ..answer(Verdict::Ready, reason) })
}

/// The first rule that fits and whose key is there, or may be made.
fn chosen<'a>(
    target: &'a Target,
    documents: &[Tree],
    advice: &Recommendation,
) -> Option<(&'a Rule, KeyPath)> {
    let there = |path: &KeyPath| documents.iter().any(|document| lookup(document, path).is_some());
    target.rules.rules.iter().filter(|rule| rule.fits(advice)).find_map(|rule| {
        let key = rule.key_for(advice)?;
        (there(&key) || rule.create_under.as_ref().is_some_and(there)).then_some((rule, key))
    })
}

fn no_rule(target: &Target, advice: &Recommendation) -> String {
    let rules = &target.rules;
    let keys: Vec<String> =
        rules.rules.iter().filter(|rule| rule.fits(advice)).map(|rule| rule.key.to_string()).collect();
    let operation = advice.operation.as_deref().map_or(String::new(), |operation| format!(" of {operation}"));
    if keys.is_empty() {
        format!("no applicable action: the rules `{}` have none for {}{operation}", rules.name, advice.action)
    } else {
        format!("no applicable action: the config has no {}", keys.join(", "))
    }
}

impl Edit {
    /// What takes this edit back, given the value before.
    pub(super) fn inverse(&self, before: Option<&serde_json::Value>) -> Self {
        match (self, before) {
            (Self::Append(item), _) => Self::Take(item.clone()),
            (Self::Take(item), _) => Self::Append(item.clone()),
            (_, Some(before)) => Self::Set(before.clone()),
            (_, None) => Self::Remove,
        }
    }
}
