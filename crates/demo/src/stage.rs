//! The stage on which the demo plays: world, models, council, homes and clocks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nightshift_core::clock::rfc3339;
use nightshift_core::evalset::EvalItem;
use nightshift_core::jiff::civil::{Date, date};
use nightshift_core::jiff::tz::TimeZone;
use nightshift_core::jiff::{Span, ToSpan};
use nightshift_core::training_row::TrainingRow;
use nightshift_core::{Ctx, Failure, OrFail, jsonl, process};

use crate::home::Home;
use crate::models::{MEMBERS, Models, STUDENT};
use crate::questions::{Question, Sets};
use crate::server::Server;
use crate::settings::{Places, yaml};
use crate::world::{Size, World};

/// Any free port of this machine.
const ANY_PORT: &str = "127.0.0.1:0";

/// Everything that the acts share.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The context of the demo itself.
    pub ctx: &'a Ctx,
    /// The seed.
    pub seed: u64,
    /// How large everything is.
    pub size: Size,
    /// The world: the answer key.
    pub world: World,
    /// The questions.
    pub sets: Sets,
    /// The folder with everything.
    pub dir: PathBuf,
    /// Seconds of watching after a switch.
    pub watch_s: f64,
    council: Vec<Server>,
    student: PathBuf,
    by_text: HashMap<String, Question>,
    peak_rss: AtomicU64,
}

impl<'a> Stage<'a> {
    /// Lays out the folder and starts the council.
    pub fn set_up(
        ctx: &'a Ctx,
        (seed, size): (u64, Size),
        (world, sets): (World, Sets),
        (models, dir): (&Models, &Path),
    ) -> Result<Self, Failure> {
        let student = dir.join("models").join(STUDENT);
        models.copy(STUDENT, &student)?;
        let mut council = Vec::new();
        for name in MEMBERS {
            let home = Home::create(&dir.join("council").join(name))?;
            models.copy(name, &home.dir().join("model"))?;
            home.write("nightshift.yaml", "base: model\nserve: {threads: 1, workers: 1, max_tokens: 64}\n")?;
            let arguments = ["--listen", ANY_PORT, "--target", name, "--no-follow", "--no-record"];
            council.push(Server::start(ctx, &home, &arguments, &clock(0))?);
        }
        let days = (0..32).flat_map(|day| sets.day(seed, day));
        let by_text = days.map(|question| (question.text.clone(), question)).collect();
        let watch_s = watch_s(size);
        let (dir, peak_rss) = (dir.to_owned(), AtomicU64::new(0));
        Ok(Self { ctx, seed, size, world, sets, dir, watch_s, council, student, by_text, peak_rss })
    }

    /// The base URLs of the honest council.
    pub fn council(&self) -> Vec<String> {
        self.council.iter().map(Server::url).collect()
    }

    /// Requests that the council has answered so far, by its own count.
    pub fn council_requests(&self) -> Result<u64, Failure> {
        let mut total = 0;
        for server in &self.council {
            let page = crate::ask::Asker::examiner(&server.url())?.page("/metrics")?;
            let counts = page.lines().filter(|line| line.starts_with("nightshift_requests_total{"));
            let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            total += counts.sum::<f64>() as u64;
        }
        Ok(total)
    }

    /// Starts the served student of a home with the clock of a day, asking this council at night. The home's
    /// `nightshift.yaml` is written anew with the port that the server took.
    pub fn serve(&self, home: &Home, council: &[String], day: usize) -> Result<Server, Failure> {
        self.configure(home, council, ANY_PORT)?;
        let server = Server::start(self.ctx, home, &[], &clock(day))?;
        self.configure(home, council, &server.address)?;
        Ok(server)
    }

    /// Writes a home's `nightshift.yaml`.
    pub fn configure(&self, home: &Home, council: &[String], listen: &str) -> Result<(), Failure> {
        let council = council.to_vec();
        let places = Places { base: &self.student, listen: listen.into(), council, watch_s: self.watch_s };
        home.write("nightshift.yaml", &yaml(&places))?;
        Ok(())
    }

    /// Registers an evaluation set in a home.
    pub fn register(
        &self,
        home: &Home,
        (name, purpose): (&str, &str),
        questions: &[&Question],
    ) -> Result<(), Failure> {
        let items: Vec<EvalItem> = questions
            .iter()
            .enumerate()
            .map(|(at, question)| question.item(format!("{name}-{at:04}")))
            .collect();
        let file = home.dir().join(format!("{name}.jsonl"));
        jsonl::write(&file, &items)?;
        let file = file.display().to_string();
        home.run(
            self.ctx,
            "memory",
            &["evalset", "add", name, &file, "--purpose", purpose],
            &clock(0),
            &[0],
        )?;
        Ok(())
    }

    /// The question with this text, where it belongs to traffic.
    pub fn question(&self, text: &str) -> Option<&Question> {
        self.by_text.get(text)
    }

    /// The rows that the harvest of a night accepted.
    pub fn accepted(&self, home: &Home, day: usize) -> Result<Vec<TrainingRow>, Failure> {
        let stamp = calendar(day).strftime("%Y%m%d").to_string();
        let file = home.dir().join(format!("training_data/harvest_{stamp}.jsonl"));
        if !file.exists() {
            return Ok(Vec::new());
        }
        let lines = jsonl::read::<TrainingRow>(&file)?;
        match lines.bad.first() {
            Some(bad) => Err(Failure::failed(format!("harvest wrote a line that is no row: {bad}"))),
            None => Ok(lines.rows.into_iter().map(|(_, row)| row).collect()),
        }
    }

    /// Share of rows that are right by the key; `None` without rows.
    pub fn precision(&self, rows: &[TrainingRow]) -> Option<f64> {
        let right = |row: &&TrainingRow| {
            self.question(&row.instruction).is_some_and(|question| question.right(&row.output))
        };
        let count = rows.iter().filter(right).count();
        (!rows.is_empty()).then(|| count as f64 / rows.len() as f64)
    }

    /// Takes note of the memory that a server, or a program that reported it, has used at most.
    pub fn note_rss(&self, bytes: u64) {
        self.peak_rss.fetch_max(bytes, Ordering::SeqCst);
    }

    /// Largest resident memory of any process, in MB.
    pub fn peak_rss_mb(&self) -> f64 {
        self.council.iter().for_each(|server| self.note_rss(server.peak_rss_bytes()));
        self.note_rss(process::peak_rss_bytes());
        self.peak_rss.load(Ordering::SeqCst) as f64 / 1e6
    }
}

/// Seconds of watching after a switch.
pub fn watch_s(size: Size) -> f64 {
    if size == Size::QUICK { 3.0 } else { 8.0 }
}

fn calendar(day: usize) -> Date {
    date(2026, 3, 1).saturating_add(span(day))
}

fn span(day: usize) -> Span {
    i64::try_from(day).unwrap_or(i64::MAX).days()
}

/// Two o'clock in the night in which a day begins: the pinned clock of that day's server and of the night before it.
pub fn clock(day: usize) -> String {
    let instant = calendar(day).at(2, 0, 0, 0).to_zoned(TimeZone::UTC).or_fail(|| "no such day".into());
    instant.map_or_else(|_| "2026-03-01T02:00:00Z".into(), |zoned| rfc3339(zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_each_other() {
        assert_eq!(clock(0), "2026-03-01T02:00:00.000000Z");
        assert_eq!(clock(31), "2026-04-01T02:00:00.000000Z");
    }
}
