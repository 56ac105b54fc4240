//! Adapters are switched again and again while users ask.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightshift_core::Failure;

use crate::ask::Asker;
use crate::nights::Story;
use crate::questions::Question;
use crate::report::Switching;
use crate::stage::{Stage, clock};

/// Questions that users ask in turn.
const QUESTIONS: usize = 60;

/// Plays it on the home's own server, after the last night.
pub fn play(stage: &Stage<'_>, story: &Story, nights: usize, least: usize) -> Result<Switching, Failure> {
    let now = clock(nights + 1);
    let states: Vec<Option<String>> =
        std::iter::once(None).chain(story.trained.iter().cloned().map(Some)).collect();
    let questions: Vec<Question> = stage.sets.day(stage.seed, 1).into_iter().take(QUESTIONS).collect();
    let examiner = Asker::examiner(&story.server.url())?;
    let go_to = |state: &Option<String>| {
        let name = state.as_deref().unwrap_or("none");
        let arguments = ["--to", name, "--keep", "--force", "--reason", "the demo switches under load"];
        story.home.run(stage.ctx, "rollback", &arguments, &now, &[0, 3])
    };
    // What each of them answers when it is alone.
    let mut alone: HashMap<Option<String>, Vec<String>> = HashMap::new();
    for state in &states {
        go_to(state)?;
        let answers = examiner.ask_all(&questions, &|| ())?;
        alone.insert(state.clone(), answers.into_iter().map(|answer| answer.text).collect());
    }
    let (sent, failed, mixed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let user = Asker::user(&story.server.url())?;
    let ask = || {
        loop {
            let number = sent.fetch_add(1, Ordering::SeqCst);
            if number >= least {
                sent.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            let index = number % questions.len();
            match user.ask(&questions[index]) {
                Err(_) => failed.fetch_add(1, Ordering::SeqCst),
                Ok(answer) => {
                    let expected = alone.get(&answer.adapter).map(|answers| answers[index].as_str());
                    mixed.fetch_add(usize::from(expected != Some(answer.text.as_str())), Ordering::SeqCst)
                }
            };
        }
    };
    let mut switches = 0;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let users: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        while users.iter().any(|user| !user.is_finished()) {
            switches += 1;
            go_to(&states[switches % states.len()])?;
        }
        Ok(())
    })?;
    go_to(&story.live)?;
    let report =
        Switching { requests: sent.into_inner(), failed: failed.into_inner(), mixed: mixed.into_inner() };
    stage.ctx.printer.note(&format!(
        "  {} requests around {switches} switches between {} states: {} failed, {} mixed",
        report.requests,
        states.len(),
        report.failed,
        report.mixed
    ));
    Ok(report)
}
