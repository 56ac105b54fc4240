//! A day of users, the users who are there during a watch, and the sealed examination.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nightshift_core::random::rng;
use nightshift_core::store::Store;
use nightshift_core::{Failure, pointer};
use rand::RngExt;

use crate::ask::{Answer, Asker};
use crate::home::Home;
use crate::questions::Question;
use crate::stage::Stage;

/// Chance that a user who got a wrong answer says so.
const THUMBS: f64 = 0.3;
/// Pause between two requests while a new adapter is watched.
const PACE: Duration = Duration::from_millis(25);

/// What users asked and got.
pub type Exchange = (Question, Answer);

impl Stage<'_> {
    /// Users ask these questions one after the other; some thumb a wrong answer down.
    pub fn users(&self, url: &str, questions: &[Question], what: &str) -> Result<Vec<Exchange>, Failure> {
        let user = Asker::user(url)?;
        let bar = self.ctx.printer.bar(questions.len() as u64, what);
        let mut rng = rng(self.seed, what);
        let mut exchanges = Vec::with_capacity(questions.len());
        for question in questions {
            self.ctx.stop.check()?;
            let answer = user.ask(question)?;
            if !question.right(&answer.text) && rng.random::<f64>() < THUMBS {
                user.thumb_down(&answer.id, None)?;
            }
            exchanges.push((question.clone(), answer));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(exchanges)
    }

    /// Runs `work` while users wait in the wings: they ask these questions (again and again) as long as the home's
    /// pointer is tentative, that is, while a new adapter is watched. Returns what they got.
    pub fn with_crowd<T>(
        &self,
        (home, url): (&Home, &str),
        questions: &[Question],
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<(T, Vec<Exchange>), Failure> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let crowd = scope.spawn(|| self.crowd(home, url, questions, &over));
            let done = work();
            over.store(true, Ordering::SeqCst);
            let exchanges = crowd.join().unwrap_or_else(|_| Err(Failure::failed("a crowd thread panicked")));
            Ok((done?, exchanges?))
        })
    }

    fn crowd(
        &self,
        home: &Home,
        url: &str,
        questions: &[Question],
        over: &AtomicBool,
    ) -> Result<Vec<Exchange>, Failure> {
        let user = Asker::user(url)?;
        let mut rng = rng(self.seed, "demo crowd");
        let mut exchanges: Vec<Exchange> = Vec::new();
        let store = Store::open_read_only(&home.dir().join("sandbox_data/learning.db"))?;
        let Some(store) = store else { return Ok(exchanges) };
        while !over.load(Ordering::SeqCst) {
            if !pointer::read(store.read(), "nightshift")?.tentative {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let question = &questions[exchanges.len() % questions.len()];
            let answer = user.ask(question)?;
            if !question.right(&answer.text) && rng.random::<f64>() < THUMBS {
                user.thumb_down(&answer.id, None)?;
            }
            exchanges.push((question.clone(), answer));
            std::thread::sleep(PACE);
        }
        Ok(exchanges)
    }

    /// Asks the whole report set of whatever is live; which answers are right, in the order of the set.
    pub fn examine(&self, url: &str) -> Result<Vec<bool>, Failure> {
        let examiner = Asker::examiner(url)?;
        let bar = self.ctx.printer.bar(self.sets.report.len() as u64, "report set");
        let answers = examiner.ask_all(&self.sets.report, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let judged = self.sets.report.iter().zip(&answers);
        Ok(judged.map(|(question, answer)| question.right(&answer.text)).collect())
    }
}
