//! Asking the members: in parallel, with retries, each answer stored as it arrives.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nightshift_core::config::{Council, Member, MemberPrompt};
use nightshift_core::interaction::Judged;
use nightshift_core::logfile::LogFile;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, OrFail};
use nightshift_net::Secret;
use nightshift_net::openai::{ChatRequest, ChatResponse, Client, ClientOptions, Timeouts};
use nightshift_net::retry::{Breaker, GaveUp, Pace, Policy};
use rand::RngExt;

use crate::calls::{self, Stored};
use crate::prompt;
use crate::report::{MemberReport, Report};

/// Answers by (item, member).
pub(crate) type Answers = BTreeMap<(usize, usize), Stored>;

struct Seat<'a> {
    member: &'a Member,
    client: Client,
    breaker: Breaker,
    report: Mutex<MemberReport>,
}

struct Task {
    item: usize,
    member: usize,
    key: String,
    request: ChatRequest,
}

/// Asks every member about every item. Answers of earlier runs are reused.
pub(crate) fn ask(
    ctx: &Ctx,
    log: &LogFile,
    store: &mut Store,
    items: &[Judged],
    report: &mut Report,
) -> Result<Answers, Failure> {
    let council = &ctx.config.harvest.council;
    let seats =
        council.members.iter().map(|member| seat(ctx, council, member)).collect::<Result<Vec<_>, _>>()?;
    let tasks = tasks(council, items, &seats);
    let keys: Vec<&str> = tasks.iter().map(|task| task.key.as_str()).collect();
    let known = calls::done(store, &keys)?;
    let (reused, open): (Vec<&Task>, Vec<&Task>) =
        tasks.iter().partition(|task| known.contains_key(&task.key));
    report.calls.reused = reused.len();
    let mut answers: Answers = reused
        .iter()
        .filter_map(|task| Some(((task.item, task.member), known.get(&task.key)?.clone())))
        .collect();
    if !open.is_empty() {
        preflight(log, ctx, &seats);
        let open: Vec<&Task> = open.into_iter().filter(|task| !is_out(&seats[task.member])).collect();
        let plan: Vec<(&str, &str, &str)> = open
            .iter()
            .map(|task| {
                (
                    task.key.as_str(),
                    items[task.item].interaction.id.as_str(),
                    seats[task.member].member.name.as_str(),
                )
            })
            .collect();
        calls::plan(ctx, store, &plan)?;
        answers.extend(send(ctx, log, store, &seats, &open, report)?);
    }
    report.calls.answered = answers.len();
    report.members = seats
        .into_iter()
        .map(|seat| seat.report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
        .collect();
    Ok(answers)
}

fn seat<'a>(ctx: &Ctx, council: &Council, member: &'a Member) -> Result<Seat<'a>, Failure> {
    let key = match &member.api_key_env {
        None => None,
        Some(name) => Some(Secret::new(ctx.env.get(name).ok_or_else(|| {
            Failure::config(format!(
                "council member `{}`: the environment variable {name} is not set",
                member.name
            ))
        })?)),
    };
    let total = Duration::try_from_secs_f64(council.timeout_s)
        .or_exit(Exit::Config, || "harvest.council.timeout_s is not a time".into())?;
    let timeouts = Timeouts { total, ..Timeouts::default() };
    let options = ClientOptions::new(member.base_url.clone()).api_key(key).timeouts(timeouts);
    let client = Client::new(options)
        .or_exit(Exit::Config, || format!("council member `{}` cannot be asked", member.name))?;
    let report =
        MemberReport { name: member.name.clone(), model: member.model.clone(), ..MemberReport::default() };
    Ok(Seat { member, client, breaker: Breaker::default(), report: Mutex::new(report) })
}

fn tasks(council: &Council, items: &[Judged], seats: &[Seat<'_>]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (item, row) in items.iter().enumerate() {
        for (index, seat) in seats.iter().enumerate() {
            let messages = prompt::messages(seat.member.prompt, &row.interaction);
            let request = ChatRequest {
                max_tokens: Some(council.max_tokens),
                temperature: Some(0.0),
                logprobs: council.min_vote_confidence.is_some(),
                ..ChatRequest::new(seat.member.model.clone(), messages)
            };
            let key = calls::key(seat.member, &row.interaction.id, &request);
            tasks.push(Task { item, member: index, key, request });
        }
    }
    tasks
}

fn is_out(seat: &Seat<'_>) -> bool {
    seat.breaker.is_open() || seat.report.lock().is_ok_and(|report| report.error.is_some())
}

/// Takes out members that cannot be reached or do not offer their model, before anything is spent.
fn preflight(log: &LogFile, ctx: &Ctx, seats: &[Seat<'_>]) {
    for seat in seats {
        let error = match seat.client.models() {
            // A server without this list is asked all the same.
            Err(error) if error.status().is_some_and(|code| (400..500).contains(&code) && code != 401) => {
                None
            }
            Err(error) => Some(error.to_string()),
            Ok(list) => {
                let offered: Vec<&str> = list.body.data.iter().map(|model| model.id.as_str()).collect();
                let missing = !offered.is_empty() && !offered.contains(&seat.member.model.as_str());
                missing.then(|| {
                    format!(
                        "the model `{}` is not offered; offered: {}",
                        seat.member.model,
                        offered.join(", ")
                    )
                })
            }
        };
        if let Some(error) = error {
            log.say(ctx, &format!("member {} is out: {error}", seat.member.name));
            if let Ok(mut report) = seat.report.lock() {
                report.error = Some(error);
            }
        }
    }
}

/// Sends the open calls over `council.concurrency` threads.
fn send(
    ctx: &Ctx,
    log: &LogFile,
    store: &mut Store,
    seats: &[Seat<'_>],
    open: &[&Task],
    report: &mut Report,
) -> Result<Answers, Failure> {
    let next = AtomicUsize::new(0);
    let (sent, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let bar = ctx.printer.bar(open.len() as u64, "council");
    let shared = Mutex::new((store, Answers::new()));
    let worker = |number: usize| -> Result<(), Failure> {
        let mut rng = ctx.rng(&format!("council-{number}"));
        while let Some(task) = open.get(next.fetch_add(1, Ordering::SeqCst)) {
            let seat = &seats[task.member];
            if ctx.stop.requested().is_some() || is_out(seat) {
                continue;
            }
            sent.fetch_add(1, Ordering::SeqCst);
            let outcome = call(ctx, seat, task, &mut || rng.random::<f64>());
            let mut guard = shared.lock().map_err(|_| Failure::failed("a council thread panicked"))?;
            let (store, answers) = &mut *guard;
            match outcome {
                Ok((stored, attempts, tokens)) => {
                    calls::answered(ctx, store, &task.key, &stored, attempts, tokens)?;
                    ctx.crash.reach("harvest.answer_stored", &(answers.len() + 1).to_string());
                    answers.insert((task.item, task.member), stored);
                    count(seat, |report| report.answered += 1);
                }
                Err(gave_up) => {
                    failed.fetch_add(1, Ordering::SeqCst);
                    let error = gave_up.error.to_string();
                    log.write(ctx, &format!("member {}: {error}", seat.member.name));
                    calls::failed(ctx, store, &task.key, &error, gave_up.error.status(), gave_up.attempts)?;
                    count(seat, |report| report.failed += 1);
                    if seat.breaker.is_open() {
                        count(seat, |report| {
                            report.error = Some(format!("left alone after repeated failures: {error}"));
                        });
                    }
                }
            }
            bar.inc(1);
        }
        Ok(())
    };
    let threads = ctx.config.harvest.council.concurrency.clamp(1, open.len().max(1));
    std::thread::scope(|scope| {
        let worker = &worker;
        let handles: Vec<_> = (0..threads).map(|number| scope.spawn(move || worker(number))).collect();
        handles.into_iter().try_for_each(|handle| {
            handle.join().unwrap_or_else(|_| Err(Failure::failed("a council thread panicked")))
        })
    })?;
    bar.finish_and_clear();
    report.calls.sent = sent.into_inner();
    report.calls.failed = failed.into_inner();
    Ok(shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1)
}

fn count(seat: &Seat<'_>, change: impl FnOnce(&mut MemberReport)) {
    if let Ok(mut report) = seat.report.lock() {
        change(&mut report);
    }
}

/// One call with its retries.
fn call(
    ctx: &Ctx,
    seat: &Seat<'_>,
    task: &Task,
    uniform: &mut dyn FnMut() -> f64,
) -> Result<(Stored, u32, (i64, i64)), GaveUp> {
    let policy = Policy { attempts: ctx.config.harvest.council.attempts.max(1), ..Policy::default() };
    let mut pace = Pace {
        elapsed: &|| ctx.clock.elapsed(),
        now: &|| ctx.clock.now(),
        sleep: &mut |time| ctx.clock.sleep(time, &ctx.stop),
        uniform,
        deadline: None,
    };
    let outcome = policy.run(&mut pace, |_| seat.client.chat(&task.request));
    seat.breaker.record(&outcome);
    let done = outcome?;
    let body = done.value.body;
    let usage = body.usage.unwrap_or_default();
    let stored = Stored {
        min_token_prob: answer_probability(seat.member.prompt, &body),
        finish_reason: body.finish_reason().map(str::to_owned),
        text: body.text().unwrap_or_default().to_owned(),
    };
    Ok((stored, done.attempts, (usage.prompt_tokens as i64, usage.completion_tokens as i64)))
}

/// Smallest token probability of the answer part: of its own tokens when the endpoint sends
/// log-probabilities, else of the whole reply when it says that.
fn answer_probability(kind: MemberPrompt, body: &ChatResponse) -> Option<f64> {
    let tokens = body.choices.first()?.logprobs.as_ref().map(|logprobs| &logprobs.content);
    let whole = body.nightshift.as_ref().and_then(|extra| extra.min_token_prob);
    let Some(tokens) = tokens.filter(|tokens| !tokens.is_empty()) else { return whole };
    let offset = prompt::parse(kind, body.text()?)?.offset;
    let mut position = 0;
    let mut smallest: Option<f64> = None;
    for token in tokens {
        let end = position + token.bytes.as_ref().map_or(token.token.len(), Vec::len);
        if end > offset {
            let probability = token.logprob.exp();
            smallest = Some(smallest.map_or(probability, |known| known.min(probability)));
        }
        position = end;
    }
    smallest.or(whole)
}
