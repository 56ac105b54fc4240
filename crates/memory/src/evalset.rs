//! Evaluation sets: registered, hashed, disjoint, and sealed against training.

use std::collections::BTreeSet;
use std::path::Path;

use nightshift_core::evalset::{self, EvalItem, Purpose};
use nightshift_core::interaction::in_window;
use nightshift_core::journal::{self, Change};
use nightshift_core::rusqlite::{Connection, Transaction};
use nightshift_core::{Ctx, Failure, OrFail, Outcome, jsonl};
use nightshift_verify::Check;
use nightshift_verify::similarity::EvalGuard;
use serde_json::{Value, json};

use crate::SpanArgs;
use crate::query::window;

pub(crate) fn add(ctx: &Ctx, name: &str, file: &Path, purpose: Purpose) -> Result<Outcome, Failure> {
    let lines = jsonl::read::<EvalItem>(file)?;
    // A set with a hole is another set: one bad line refuses all of it.
    if let Some(bad) = lines.bad.first() {
        return Err(Failure::refused(format!("{bad}")).hint("a set is registered whole or not at all"));
    }
    let mut ids = BTreeSet::new();
    let mut items = Vec::new();
    for (line, item) in lines.rows {
        let place = || format!("{}:{line}", file.display());
        if item.question().is_empty() {
            return Err(Failure::refused(format!("{}: item `{}` has no user message", place(), item.id)));
        }
        if !ids.insert(item.id.clone()) {
            return Err(Failure::refused(format!("{}: the id `{}` occurs twice", place(), item.id)));
        }
        items.push(check_item(item, purpose).map_err(|why| Failure::refused(format!("{}: {why}", place())))?);
    }
    if items.is_empty() {
        return Err(Failure::nothing(format!("{} holds no items", file.display())));
    }
    let mut store = ctx.store()?;
    disjoint(store.read(), name, purpose, &items)?;
    if ctx.dry_run {
        return Ok(Outcome::done(
            &json!({"items": items.len()}),
            format!("would register {} items", items.len()),
        ));
    }
    let source = file.display().to_string();
    let (set, sealed) = store.write(|tx| {
        let set = evalset::register(tx, ctx.clock.now(), (name, purpose, &source), &items)?;
        let sealed = if purpose == Purpose::Traffic { 0 } else { seal_known(ctx, tx, &items)? };
        let change = Change {
            kind: "evalset.register",
            subject: name,
            before: Value::Null,
            after: json!(set),
            why: "memory evalset add",
        };
        journal::append(ctx, tx, &change)?;
        Ok((set, sealed))
    })?;
    let text = format!(
        "{name} version {}: {} items for {}, sha256 {}; {sealed} recorded interactions sealed",
        set.version, set.items, set.purpose, set.sha256
    );
    Ok(Outcome::done(&json!({"set": set, "sealed": sealed}), text))
}

/// Fills in the default check and refuses one that could never decide.
fn check_item(mut item: EvalItem, purpose: Purpose) -> Result<EvalItem, String> {
    if item.check.is_null() {
        item.check = json!({"kind": "exact"});
    }
    let check: Check = serde_json::from_value(item.check.clone())
        .map_err(|error| format!("item `{}`: check: {error}", item.id))?;
    if purpose != Purpose::Traffic && check.needs_reference() && item.reference.is_none() {
        return Err(format!("item `{}` needs a reference for its check", item.id));
    }
    Ok(item)
}

/// The three uses never share a question.
fn disjoint(
    connection: &Connection,
    name: &str,
    purpose: Purpose,
    items: &[EvalItem],
) -> Result<(), Failure> {
    for other in evalset::list(connection)? {
        if other.name == name || other.purpose == purpose.name() {
            continue;
        }
        let known = evalset::items(connection, &other.name)?.unwrap_or_default();
        let questions: BTreeSet<&str> = known.iter().map(EvalItem::question).collect();
        if let Some(item) = items.iter().find(|item| questions.contains(item.question())) {
            return Err(Failure::refused(format!(
                "item `{}` is also in the {} set `{}`: the uses must not share a question",
                item.id, other.purpose, other.name
            )));
        }
    }
    Ok(())
}

/// Marks recorded interactions that match the new items, so that nothing trains on them.
fn seal_known(ctx: &Ctx, tx: &Transaction<'_>, items: &[EvalItem]) -> Result<usize, Failure> {
    let guard = EvalGuard::new(items.iter().map(EvalItem::question));
    let span = SpanArgs { since: None, until: None };
    let rows = in_window(tx, &ctx.config.target, window(ctx, &span)?)?;
    let mut sealed = 0;
    for row in rows.iter().filter(|row| !row.interaction.no_train) {
        if guard.check(&row.interaction.query).is_some() {
            sealed += tx
                .execute("UPDATE interactions SET no_train = 1 WHERE id = ?1", [&row.interaction.id])
                .or_fail(|| format!("interaction {} cannot be sealed", row.interaction.id))?;
        }
    }
    Ok(sealed)
}

pub(crate) fn list(ctx: &Ctx) -> Result<Outcome, Failure> {
    let store = ctx.store()?;
    let sets = evalset::list(store.read())?;
    if sets.is_empty() {
        return Err(Failure::nothing("no evaluation set is registered")
            .hint("memory evalset add NAME FILE --purpose gate"));
    }
    let mut text = String::new();
    for set in &sets {
        text.push_str(&format!(
            "{:<20} {:<8} version {:<3} {:>6} items  {}  {}\n",
            set.name, set.purpose, set.version, set.items, set.registered_at, set.sha256
        ));
    }
    Ok(Outcome::done(&json!({"sets": sets}), text))
}
