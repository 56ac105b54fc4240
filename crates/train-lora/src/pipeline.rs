//! The nightly form: harvest rows and replay in, a published release out.
//!
//! Takes the lock `train`, resumes what an earlier run of the same rows left, and publishes under the
//! lock `loras`. Always a fresh adapter on the base: a night that is refused leaves no trace in the next.

use std::collections::HashSet;
use std::path::Path;

use nightshift_core::logfile::LogFile;
use nightshift_core::random::sha256_hex;
use nightshift_core::release::{self, NewRelease};
use nightshift_core::rusqlite::OptionalExtension;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome, files};
use nightshift_model::{Adapter, Threads};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Args;
use crate::base::{Base, Text};
use crate::checkpoint::Checkpoints;
use crate::curves::{self, Places};
use crate::data::{self, Dropped, Encoded, Noted, Reason, Record, question_key};
use crate::engine::{self, Request};
use crate::objective::Objective;
use crate::plan::{self, Draft, Plan};
use crate::publish::{self, Folder};
use crate::report::TrainReport;
use crate::seals::Seals;
use crate::select::{self, Accepted, Candidates};
use crate::settings::Settings;
use crate::train::{self, Job, News, Trained};
use crate::{device, gather, holdout, measure, memory};

/// Rows on which the speed is measured.
const PROBE_ROWS: usize = 32;
/// Rows named on the terminal; the log names all.
const SAID_ROWS: usize = 20;

/// Trains on the home's rows and publishes.
pub(crate) fn run(ctx: &Ctx, args: &Args) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(ctx, &args.settings, true)?;
    settings.learning(args)?;
    if let Some(file) = &args.mix.replay {
        settings.train.replay = Some(file.clone());
    }
    if ctx.dry_run {
        return dry_run(ctx, args, &settings);
    }
    let _lock = ctx.lock("train")?;
    let log = LogFile::open(ctx, "training")?;
    let result = train_and_publish(ctx, args, &settings, &log);
    if let Err(failure) = &result {
        log.write(ctx, &format!("{}: {}", failure.exit().status(), failure.chain()));
    }
    result
}

/// Prints the plan; makes and changes nothing.
fn dry_run(ctx: &Ctx, args: &Args, settings: &Settings) -> Result<Outcome, Failure> {
    let store = Store::open_read_only(&ctx.paths.store())?;
    let night = Night::gather(ctx, store.as_ref(), settings)?;
    let base = load_base(ctx, args, settings)?;
    let run_key = night.run_key(&base, settings)?;
    let plan = night.plan(ctx, store.as_ref(), &base, settings, &run_key, true)?;
    let mut report = planned(&plan, &base);
    let order = plan.order(settings);
    let rows = Rows::read(&base, &plan, settings, &night.seals)?;
    report.examples.evaluation = rows.evaluation.len();
    let adapter = fresh(&base, settings)?;
    report.add_form(&adapter, &base.model.config);
    let memory = match settings.engine {
        Some(_) => None,
        None => Some(memory::check(&rows.shape(&base, &adapter, settings), settings, &order)?),
    };
    report.memory = memory;
    report.steps = settings.max_steps.unwrap_or(usize::MAX).min(order.total_steps());
    report.estimated_s = plan.estimated_s;
    let text = format!(
        "would train {} rows ({} new, {} older) and {} replayed per epoch in {} steps, about {:.0} s, to an adapter of {:.1} MB{}",
        plan.rows.len(),
        report.examples.new,
        report.examples.older,
        report.examples.replay,
        report.steps,
        plan.estimated_s.unwrap_or_default(),
        report.adapter_bytes as f64 / 1e6,
        memory.map_or_else(String::new, |memory| format!(", with {}", memory.sentence())),
    );
    Ok(Outcome::done(&report, text).status("planned"))
}

fn train_and_publish(ctx: &Ctx, args: &Args, settings: &Settings, log: &LogFile) -> Result<Outcome, Failure> {
    let mut store = ctx.store()?;
    let night = Night::gather(ctx, Some(&store), settings)?;
    say_dropped(ctx, log, &night.candidates.dropped);
    let base = load_base(ctx, args, settings)?;
    let run_key = night.run_key(&base, settings)?;
    if let Some(outcome) = already_published(ctx, &store, &run_key, &night, &base)? {
        clear_work(ctx)?;
        return Ok(outcome);
    }
    let folder = ctx.paths.work(&format!("train-{run_key}"));
    if settings.control.fresh {
        files::remove_dir(&folder)?;
    }
    let plan = if let Some(plan) = Plan::find(&folder, &run_key, &night.seals)? {
        log.say(ctx, &format!("going on with the plan in {}", folder.display()));
        plan
    } else {
        // Whatever lies there belongs to other rows.
        files::remove_dir(&folder)?;
        let plan = night.plan(ctx, Some(&store), &base, settings, &run_key, false)?;
        plan.freeze(&folder)?;
        plan
    };
    let mut report = planned(&plan, &base);
    say_dropped(ctx, log, &plan.dropped[night.candidates.dropped.len().min(plan.dropped.len())..]);
    say_cut(ctx, log, &plan.truncated);
    let rows = Rows::read(&base, &plan, settings, &night.seals)?;
    report.examples.evaluation = rows.evaluation.len();
    let trained = train(ctx, &base, (&plan, &rows), settings, (&folder, log), &mut report)?;
    finish(ctx, &mut store, Finish { base: &base, plan: &plan, settings, log }, &mut report, &trained)
}

/// What the home holds tonight.
struct Night {
    seals: Seals,
    candidates: Candidates,
}

impl Night {
    fn gather(ctx: &Ctx, store: Option<&Store>, settings: &Settings) -> Result<Self, Failure> {
        let seals = store.map_or_else(|| Ok(Seals::none()), |store| Seals::load(store.read()))?;
        let candidates = select::accepted(ctx, &seals, settings.objective.teaches())?;
        enough(select::answers(&candidates.accepted), settings, &candidates.dropped)?;
        Ok(Self { seals, candidates })
    }

    /// The run's name: another base, other rows or other settings are another run.
    fn run_key(&self, base: &Base, settings: &Settings) -> Result<String, Failure> {
        let rows = plan::digest(self.candidates.accepted.iter().map(|row| &row.record));
        let newest = self.candidates.newest().unwrap_or_default();
        let mut text = format!("{}\n{rows}\n{newest}\n{}\n", base.fingerprint, settings.digest());
        for path in settings.control.eval_data.iter().chain(&settings.train.replay) {
            text.push_str(&sha256_hex(&files::read(path)?));
        }
        Ok(sha256_hex(text.as_bytes())[..16].to_owned())
    }

    fn plan(
        &self,
        ctx: &Ctx,
        store: Option<&Store>,
        base: &Base,
        settings: &Settings,
        run_key: &str,
        measure: bool,
    ) -> Result<Plan, Failure> {
        let now = ctx.clock.now();
        let text = Text::load(&base.dir, now)?;
        let (mut accepted, mut dropped) = (self.candidates.accepted.clone(), self.candidates.dropped.clone());
        let share = settings.control.eval_share;
        let file = holdout::file(&base.dir, now, settings, &self.seals)?;
        let asked: HashSet<&str> =
            file.iter().flat_map(|set| &set.lessons).map(|row| row.question.as_str()).collect();
        accepted.retain(|row| {
            let equal = asked.contains(question_key(&row.record.messages).as_str());
            if equal {
                let why = "its question is evaluated on";
                dropped.push(Dropped::new(row.record.name.clone(), Reason::Evaluation, why));
            }
            !equal
        });
        let (held, accepted): (Vec<Accepted>, Vec<Accepted>) =
            accepted.into_iter().partition(|row| holdout::holds(&row.record.messages, share));
        let evaluation: Vec<Record> = held.into_iter().map(|row| row.record).collect();
        let rows = evaluation.len() + file.as_ref().map_or(0, |set| set.lessons.len());
        holdout::refuse_empty(&settings.control, rows)?;
        let mut pool = match store {
            Some(store) if settings.train.replay_ratio > 0.0 => {
                let above = settings.train.replay_above;
                select::replay_pool(store.read(), &ctx.config.target, above, &self.seals, &accepted)?
            }
            _ => Vec::new(),
        };
        if settings.train.replay_ratio > 0.0 {
            let (more, left_out) = holdout::replayed(&base.dir, now, settings, &self.seals)?;
            let known: HashSet<String> = accepted
                .iter()
                .map(|row| &row.record)
                .chain(&pool)
                .map(|record| question_key(&record.messages))
                .collect();
            pool.extend(more.into_iter().filter(|record| !known.contains(&question_key(&record.messages))));
            dropped.extend(left_out);
        }
        match settings.objective {
            Objective::Imitate => {}
            // A replayed answer is wanted; better than which one, nobody knows.
            Objective::Kto(_) => pool.iter_mut().for_each(|record| record.wanted = Some(true)),
            Objective::Dpo(_) => pool.clear(),
        }
        // What is evaluated on is never trained on, wherever it comes from.
        pool.retain(|record| {
            let question = question_key(&record.messages);
            !holdout::holds_key(&question, share) && !asked.contains(question.as_str())
        });
        let draft = Draft::new(settings, &text, accepted, pool, evaluation, dropped)?;
        enough(draft.examples(), settings, draft.dropped())?;
        let speed = if measure || draft.has_older() {
            let rows = draft.probe(PROBE_ROWS, &text);
            let adapter = fresh(base, settings)?;
            Some(measure::tokens_per_s(ctx, base, &adapter, &rows, settings)?)
        } else {
            None
        };
        Ok(draft.decide(settings, run_key, now, speed))
    }
}

/// The rows of a plan in tokens.
struct Rows {
    /// Rows, then the pool.
    examples: Vec<Encoded>,
    /// Rows that are evaluated on, in tokens and as an external trainer reads them.
    evaluation: Vec<Encoded>,
    wire: Vec<Value>,
}

impl Rows {
    fn read(base: &Base, plan: &Plan, settings: &Settings, seals: &Seals) -> Result<Self, Failure> {
        let text = Text::load(&base.dir, plan.template_time)?;
        let [examples, evaluation] = plan.encode(&text, settings)?;
        let Some(set) = holdout::file(&base.dir, plan.template_time, settings, seals)? else {
            return Ok(Self {
                examples,
                evaluation,
                wire: plan.evaluation.iter().map(Record::wire).collect(),
            });
        };
        let wire = set.lessons.iter().map(|row| row.wire.clone()).collect();
        Ok(Self { examples, evaluation: set.into_examples(), wire })
    }

    fn shape<'a>(&'a self, base: &'a Base, adapter: &'a Adapter, settings: &Settings) -> memory::Shape<'a> {
        memory::shape((&base.dir, &base.model.config), adapter, settings, [&self.examples, &self.evaluation])
    }
}

/// Exit 3 with the sentence that `nightly status` shows.
fn enough(rows: usize, settings: &Settings, dropped: &[Dropped]) -> Result<(), Failure> {
    let needed = settings.train.min_examples;
    if rows >= needed.max(1) {
        return Ok(());
    }
    let failure = Failure::nothing(format!("no adapter: {rows} of {needed} rows"));
    let counts = data::count(dropped);
    if counts.is_empty() {
        return Err(failure.hint("harvest first; train.min_examples says how many rows a training needs"));
    }
    let list: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(failure.hint(format!("left out: {}", list.join(", "))))
}

/// Reads the base, unless it alone is more than the memory there is.
fn load_base(ctx: &Ctx, args: &Args, settings: &Settings) -> Result<Base, Failure> {
    let dir = args.paths.base.clone().map_or_else(|| ctx.base(), Ok)?;
    memory::check_base(&dir, settings)?;
    device::load(&dir, settings.storage(), settings.place)
}

/// A fresh adapter, ready to be trained.
fn fresh(base: &Base, settings: &Settings) -> Result<Adapter, Failure> {
    let mut adapter = settings.adapter(&base.model.config)?;
    adapter.prepare(&base.model, Threads::new(train::threads(settings.train.threads)));
    Ok(adapter)
}

fn say_cut(ctx: &Ctx, log: &LogFile, truncated: &[Noted]) {
    for (number, row) in truncated.iter().enumerate() {
        let line = format!("cut: {}: {}", row.row, row.what);
        if number < SAID_ROWS { log.say(ctx, &line) } else { log.write(ctx, &line) }
    }
}

fn say_dropped(ctx: &Ctx, log: &LogFile, dropped: &[Dropped]) {
    for (number, row) in dropped.iter().enumerate() {
        let line = format!("left out ({}): {}: {}", row.reason.name(), row.row, row.why);
        if number < SAID_ROWS { log.say(ctx, &line) } else { log.write(ctx, &line) }
    }
}

/// A run of the same rows that published before: nothing to train.
fn already_published(
    ctx: &Ctx,
    store: &Store,
    run_key: &str,
    night: &Night,
    base: &Base,
) -> Result<Option<Outcome>, Failure> {
    let known: Option<(String, String, Option<String>, String)> = store
        .read()
        .prepare_cached(
            "SELECT adapter_id, status, reason, facts FROM releases
             WHERE json_extract(facts, '$.run_key') = ?1 ORDER BY created_at DESC LIMIT 1",
        )?
        .query_row([run_key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((adapter_id, status, reason, facts)) = known else { return Ok(None) };
    if status == "bad" {
        let reason = reason.unwrap_or_else(|| "no reason given".into());
        let message = format!("no adapter: nothing new since {adapter_id}, which was taken back ({reason})");
        return Err(Failure::nothing(message).hint("more rows, or another --seed, give another adapter"));
    }
    let path = ctx.paths.loras().join(&adapter_id);
    let Ok(manifest) = release::verify(&path) else { return Ok(None) };
    let facts: Facts = serde_json::from_str(&facts).or_fail(|| format!("the facts of {adapter_id}"))?;
    let mut report = TrainReport {
        adapter_id: Some(adapter_id.clone()),
        path: Some(path.display().to_string()),
        dataset_sha256: manifest.dataset_sha256.unwrap_or_default(),
        base_fingerprint: base.fingerprint.clone(),
        base_held: base.held(),
        steps: facts.steps,
        tokens: facts.tokens,
        loss_first: facts.loss_first,
        loss_last: facts.loss_last,
        seconds: facts.seconds,
        tokens_per_s: facts.tokens_per_s,
        ..TrainReport::default()
    };
    report.add_dropped(&night.candidates.dropped);
    (report.examples.new, report.examples.older) = (facts.new, facts.older);
    report.examples.replay = facts.replay;
    let text = format!("{adapter_id} was already trained on these rows");
    Ok(Some(Outcome::done(&report, text).status("already_published")))
}

/// What the store keeps about a training.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    run_key: String,
    new: usize,
    older: usize,
    replay: usize,
    steps: usize,
    tokens: usize,
    loss_first: Option<f64>,
    loss_last: Option<f64>,
    seconds: f64,
    tokens_per_s: Option<f64>,
}

/// The report as far as the plan decides it.
fn planned(plan: &Plan, base: &Base) -> TrainReport {
    let (new, older) = plan.new_and_older();
    let mut report = TrainReport {
        dataset_sha256: plan.dataset_sha256(),
        base_fingerprint: base.fingerprint.clone(),
        base_held: base.held(),
        estimated_s: plan.estimated_s,
        ..TrainReport::default()
    };
    report.add_dropped(&plan.dropped);
    report.examples.truncated = plan.truncated.len();
    report.examples.new = new;
    report.examples.older = older;
    report.examples.replay = plan.drawn;
    report.examples.replay_pool = plan.pool.len();
    for row in &plan.rows {
        *report.nights.entry(row.date.clone()).or_default() += 1;
    }
    report
}

fn train(
    ctx: &Ctx,
    base: &Base,
    (plan, rows): (&Plan, &Rows),
    settings: &Settings,
    (folder, log): (&Path, &LogFile),
    report: &mut TrainReport,
) -> Result<Trained, Failure> {
    let adapter = fresh(base, settings)?;
    report.add_form(&adapter, &base.model.config);
    report.device = device::said(settings.place);
    report.warnings.iter().for_each(|warning| log.say(ctx, &format!("warning: {warning}")));
    let order = plan.order(settings);
    if let Some(engine) = &settings.engine {
        let records = plan.rows.iter().map(|row| &row.record).chain(&plan.pool);
        let wire: Vec<Value> = records.map(Record::wire).collect();
        let request = Request {
            ctx,
            base,
            settings,
            wire: &wire,
            examples: &rows.examples,
            held_out: (&rows.wire, &rows.evaluation),
            order: &order,
            run_key: &plan.run_key,
            folder,
            start: None,
        };
        let (trained, done) = engine::train(&request, engine)?;
        report.add_engine(done);
        return Ok(trained);
    }
    let memory = memory::check(&rows.shape(base, &adapter, settings), settings, &order)?;
    report.memory = Some(memory);
    log.say(ctx, &memory.sentence());
    let mut identity = settings.identity();
    identity["run_key"] = plan.run_key.as_str().into();
    identity["dataset_sha256"] = plan.dataset_sha256().into();
    identity["evaluation_sha256"] = gather::digest(&rows.evaluation, 0, 0).into();
    identity["base_fingerprint"] = base.fingerprint.as_str().into();
    let job = Job {
        ctx,
        model: &base.model,
        device: base.device.as_ref(),
        examples: &rows.examples,
        evaluation: &rows.evaluation,
        order,
        settings,
        checkpoints: Checkpoints {
            folder: folder.to_owned(),
            identity,
            shape: &base.model.config,
            base_name: base.dir.display().to_string(),
            // A night must not stop at what somebody put there.
            refuse_others: false,
            crash: ctx.crash.clone(),
        },
        places: Places::new(folder, settings.control.tensorboard.as_deref(), &plan.run_key),
    };
    let trained = train::train(&job, adapter, &|news| match news {
        News::Note(line) => log.say(ctx, line),
        News::Step(step) => log.write(ctx, &step.sentence()),
    })?;
    curves::complete_events(&job.places, &trained.steps, &trained.evals)?;
    Ok(trained)
}

struct Finish<'a> {
    base: &'a Base,
    plan: &'a Plan,
    settings: &'a Settings,
    log: &'a LogFile,
}

fn finish(
    ctx: &Ctx,
    store: &mut Store,
    run: Finish<'_>,
    report: &mut TrainReport,
    trained: &Trained,
) -> Result<Outcome, Failure> {
    let Finish { base, plan, settings, log } = run;
    report.add(trained);
    // A base inside the home is named from there, so that a home may move without changing any digest.
    let base_name = base.dir.strip_prefix(ctx.paths.home()).unwrap_or(&base.dir).display().to_string();
    let loras = ctx.paths.loras();
    let places = [&base.dir, &ctx.paths.training_data(), &loras].map(|path| path.display().to_string());
    let folder = Folder::new(trained, base, &base_name, (ctx, settings, report, places));
    let facts = Facts {
        run_key: plan.run_key.clone(),
        new: report.examples.new,
        older: report.examples.older,
        replay: report.examples.replay,
        steps: report.steps,
        tokens: report.tokens,
        loss_first: report.loss_first,
        loss_last: report.loss_last,
        seconds: report.seconds,
        tokens_per_s: report.tokens_per_s,
    };
    let new = NewRelease {
        base_fingerprint: base.fingerprint.clone(),
        dataset_sha256: Some(report.dataset_sha256.clone()),
        parents: Vec::new(),
        rank: settings.train.rank,
        facts: serde_json::to_value(facts).or_fail(|| "the facts of a training".into())?,
    };
    let manifest = publish::publish(ctx, store, &plan.run_key, &folder, &new)?;
    publish::record_metrics(store, report)?;
    clear_work(ctx)?;
    report.adapter_id = Some(manifest.adapter_id.clone());
    report.path = Some(loras.join(&manifest.adapter_id).display().to_string());
    for warning in &report.warnings {
        log.say(ctx, &format!("warning: {warning}"));
    }
    let text = format!("published {}: {}", manifest.adapter_id, report.sentence());
    log.write(ctx, &text);
    Ok(Outcome::new(Exit::Done, report, text))
}

/// Removes the work folders of all trainings: this one is published, older ones will not come back.
fn clear_work(ctx: &Ctx) -> Result<(), Failure> {
    let any = ctx.paths.work("train-");
    let parent = any.parent().ok_or_else(|| Failure::failed("the work folder has no parent"))?;
    for path in files::list(parent)? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("train-")) {
            files::remove_dir(&path)?;
        }
    }
    Ok(())
}
