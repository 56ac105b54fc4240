//! The alarms of a watch: which there are, at which level, and what rings. Pure: outcomes in, alarms out.
//!
//! `deploy.alpha_failures` is split: one half goes to the alarm over all requests, the other half to the
//! request tags, of which the k-th gets the share 1 / (k (k + 1)); the shares of any number of tags sum to
//! at most 1, so tags may appear while the watch runs. Tags that the incumbent's history knows come first,
//! the most frequent one with the largest share; further ones follow as they appear.
//!
//! A history below [`ENOUGH`] requests is filled up to it: a tag's with the incumbent's rate over all tags,
//! the whole one with the failure rate that the documents allow (15 %).
//!
//! An opinion may arrive long after its answer. The outcome is then amended and the alarm replayed; until
//! then the counts hold at most as many failures as they will in the end, so the promise keeps: the
//! evidence grows with every failure.

use std::collections::{BTreeMap, HashMap};

use nightshift_core::Failure;
use nightshift_core::config::Deploy;
use nightshift_core::exchange::Exchange;
use nightshift_stats::StatsError;
use nightshift_stats::describe::median;
use nightshift_stats::eprocess::{AlarmState, MeanAlarm, RateAlarm, SlowAlarm, SwitchAlarm};

use crate::report::{Raised, TagReport};

/// Requests below which a history is filled up.
pub(crate) const ENOUGH: usize = 20;
/// Failure rate that fills up a history nobody has.
const ALLOWED: f64 = 0.15;
/// Tags that are watched one by one; further ones count in all only.
const MOST_TAGS: usize = 256;
/// What the tags of the history have of the tags' level, in equal parts: evidence on a rare kind of request is
/// scarce enough as it is. The rest is for tags that are seen for the first time.
const KNOWN_SHARE: f64 = 0.875;
/// The documents' rule: success rate, mean latency, and the fewest requests it says anything about.
const FIXED_SUCCESS: f64 = 0.85;
const FIXED_LATENCY_MS: f64 = 1000.0;
pub(crate) const FIXED_MIN_REQUESTS: usize = 5;
/// Evidence from which a tag is named beside the alarm over all requests.
const TELLING: f64 = 20.0;
/// A floor of exactly 1 allows no failure at all; this is the rate that it is read as.
const SMALLEST_RATE: f64 = 1e-3;

/// What became of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// It failed.
    pub(crate) failed: bool,
    /// Milliseconds, of an answer that can be used.
    pub(crate) latency_ms: Option<f64>,
    /// Cost that does not grow with the length of the answer, of an answer that can be used.
    pub(crate) cost_ms: Option<f64>,
    /// Labels.
    pub(crate) tags: Vec<String>,
}

/// Failures against the incumbent's history, or against a fixed rate.
#[derive(Debug, Clone)]
enum Against {
    History(SwitchAlarm),
    Rate(RateAlarm),
}

/// One alarm with the outcomes it has seen, so that one of them may be amended.
#[derive(Debug, Clone)]
struct Stream {
    fresh: Against,
    now: Against,
    outcomes: Vec<bool>,
    state: AlarmState,
    threshold: f64,
}

/// Where an outcome went.
#[derive(Debug, Clone)]
struct Place {
    failed: bool,
    tags: Vec<(String, usize)>,
}

/// Every alarm of one watch.
#[derive(Debug)]
pub(crate) struct Alarms {
    all: Stream,
    floor: Option<Stream>,
    tags: BTreeMap<String, Stream>,
    tag_alpha: f64,
    known: HashMap<String, (usize, usize)>,
    rate: f64,
    slow: Option<SlowAlarm>,
    slow_e: Option<f64>,
    usual_ms: Option<f64>,
    ceiling: Option<MeanAlarm>,
    places: Vec<Place>,
    settings: Deploy,
}

impl Against {
    fn observe(&mut self, fail: bool) -> AlarmState {
        match self {
            Self::History(alarm) => alarm.observe(fail),
            Self::Rate(alarm) => alarm.observe(fail),
        }
    }

    fn state(&self) -> AlarmState {
        match self {
            Self::History(alarm) => alarm.state(),
            Self::Rate(alarm) => alarm.state(),
        }
    }
}

impl Stream {
    fn new(fresh: Against, alpha: f64) -> Self {
        Self { now: fresh.clone(), state: fresh.state(), fresh, outcomes: Vec::new(), threshold: 1.0 / alpha }
    }

    /// Position of the outcome.
    fn observe(&mut self, fail: bool) -> usize {
        self.outcomes.push(fail);
        self.state = self.now.observe(fail);
        self.outcomes.len() - 1
    }

    fn amend(&mut self, position: usize, fail: bool) {
        self.outcomes[position] = fail;
        self.now = self.fresh.clone();
        for fail in &self.outcomes {
            self.state = self.now.observe(*fail);
        }
    }

    fn raised(&self, alarm: &'static str, tag: Option<&str>) -> Option<Raised> {
        let AlarmState { e_value, alarm: rings, observed, events } = self.state;
        let whom = tag.map_or(String::new(), |tag| format!(" tagged `{tag}`"));
        let against = match self.now {
            Against::History(_) => "far more than the incumbent's own rate",
            Against::Rate(_) => "more than deploy.min_success_rate allows",
        };
        let text = format!(
            "{events} of {observed} requests{whom} failed, {against} (evidence {e_value:.0}, alarm at {:.0})",
            self.threshold
        );
        rings.then(|| Raised {
            alarm,
            tag: tag.map(str::to_owned),
            e_value: Some(e_value),
            threshold: Some(self.threshold),
            observed,
            events,
            text,
        })
    }
}

impl Raised {
    /// An alarm that counts no evidence.
    pub(crate) fn plain(alarm: &'static str, text: String) -> Self {
        Self { alarm, tag: None, e_value: None, threshold: None, observed: 0, events: 0, text }
    }
}

impl Alarms {
    /// The alarms against this history of the incumbent.
    pub(crate) fn new(history: &[Exchange], settings: &Deploy) -> Result<Self, Failure> {
        let failed = history.iter().filter(|exchange| exchange.failed()).count();
        let (failed, total) = filled(failed, history.len(), ALLOWED);
        let all = switch(failed, total, settings.alpha_failures / 2.0)?;
        let floor = settings.min_success_rate.filter(|rate| *rate > 0.0).map(|rate| {
            let alarm =
                RateAlarm::new((1.0 - rate).max(SMALLEST_RATE), settings.alpha_failures).map_err(unusable)?;
            Ok::<_, Failure>(Stream::new(Against::Rate(alarm), settings.alpha_failures))
        });
        let costs: Vec<f64> = history
            .iter()
            .filter(|exchange| exchange.ok)
            .map(|exchange| exchange.cost_ms() * settings.latency_tolerance)
            .collect();
        let slow = (costs.len() >= ENOUGH).then(|| SlowAlarm::new(&costs, settings.alpha_latency));
        let usual_ms = median(&costs).ok().map(|limit| limit / settings.latency_tolerance);
        let ceiling = settings.max_latency_ms.map(|limit| MeanAlarm::new(limit, settings.alpha_latency));
        let mut known: HashMap<String, (usize, usize)> = HashMap::new();
        for exchange in history {
            for tag in &exchange.tags {
                let (failed, total) = known.entry(tag.clone()).or_default();
                *failed += usize::from(exchange.failed());
                *total += 1;
            }
        }
        let mut order: Vec<(usize, String)> =
            known.iter().map(|(tag, (_, total))| (*total, tag.clone())).collect();
        order.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut alarms = Self {
            all,
            floor: floor.transpose()?,
            tags: BTreeMap::new(),
            tag_alpha: settings.alpha_failures / 2.0,
            known,
            rate: failed as f64 / total as f64,
            slow: slow.transpose().map_err(unusable)?,
            slow_e: None,
            usual_ms,
            ceiling: ceiling.transpose().map_err(unusable)?,
            places: Vec::new(),
            settings: settings.clone(),
        };
        for (_, tag) in order {
            alarms.start_tag(&tag)?;
        }
        Ok(alarms)
    }

    /// Starts the alarm of a tag, if it is not one too many.
    fn start_tag(&mut self, tag: &str) -> Result<(), Failure> {
        if self.tags.contains_key(tag) || self.tags.len() >= MOST_TAGS {
            return Ok(());
        }
        let known = self.known.len().min(MOST_TAGS);
        let share = if self.known.contains_key(tag) {
            KNOWN_SHARE / known as f64
        } else {
            // 1/2 + 1/6 + 1/12 + ... = 1: however many there will be, they share what is left.
            let k = self.tags.keys().filter(|tag| !self.known.contains_key(*tag)).count() as f64 + 1.0;
            (if known == 0 { 1.0 } else { 1.0 - KNOWN_SHARE }) / (k * (k + 1.0))
        };
        let (failed, total) = self.known.get(tag).copied().unwrap_or_default();
        let (failed, total) = filled(failed, total, self.rate);
        let stream = switch(failed, total, self.tag_alpha * share)?;
        self.tags.insert(tag.to_owned(), stream);
        Ok(())
    }

    /// Counts an outcome; its number, and the alarm that rings.
    pub(crate) fn observe(&mut self, outcome: &Outcome) -> Result<(usize, Option<Raised>), Failure> {
        self.all.observe(outcome.failed);
        if let Some(floor) = &mut self.floor {
            floor.observe(outcome.failed);
        }
        let mut place = Place { failed: outcome.failed, tags: Vec::new() };
        for tag in &outcome.tags {
            self.start_tag(tag)?;
            if let Some(stream) = self.tags.get_mut(tag)
                && place.tags.iter().all(|(known, _)| known != tag)
            {
                place.tags.push((tag.clone(), stream.observe(outcome.failed)));
            }
        }
        let mut raised = self.failures(&place);
        self.places.push(place);
        if let (Some(slow), Some(cost)) = (&mut self.slow, outcome.cost_ms) {
            let state = slow.observe(cost);
            let worse = if state.p50.e_value >= state.p90.e_value { state.p50 } else { state.p90 };
            self.slow_e = Some(worse.e_value);
            let threshold = 2.0 / self.settings.alpha_latency;
            raised =
                raised.or_else(|| state.alarm.then(|| slow_raised(slow, worse, threshold, &self.settings)));
        }
        if let (Some(ceiling), Some(latency)) = (&mut self.ceiling, outcome.latency_ms) {
            let state = ceiling.observe(latency);
            raised = raised.or_else(|| state.alarm.then(|| ceiling_raised(state, &self.settings)));
        }
        Ok((self.places.len() - 1, raised))
    }

    /// Changes what became of an earlier outcome.
    pub(crate) fn amend(&mut self, number: usize, failed: bool) -> Option<Raised> {
        let place = self.places.get_mut(number).filter(|place| place.failed != failed)?;
        place.failed = failed;
        let place = place.clone();
        self.all.amend(number, failed);
        if let Some(floor) = &mut self.floor {
            floor.amend(number, failed);
        }
        for (tag, position) in &place.tags {
            if let Some(stream) = self.tags.get_mut(tag) {
                stream.amend(*position, failed);
            }
        }
        self.failures(&place)
    }

    /// The failure alarm that rings, the most telling one first.
    fn failures(&self, place: &Place) -> Option<Raised> {
        let tagged =
            place.tags.iter().find_map(|(tag, _)| self.tags.get(tag)?.raised("tag_failures", Some(tag)));
        tagged
            .or_else(|| self.all.raised("failures", None).map(|raised| self.blame(raised)))
            .or_else(|| self.floor.as_ref()?.raised("success_floor", None))
    }

    /// The alarm over all requests, with the tag that most speaks for it, where one does.
    fn blame(&self, mut raised: Raised) -> Raised {
        let worst = self.tags.iter().max_by(|a, b| a.1.state.e_value.total_cmp(&b.1.state.e_value));
        if let Some((tag, stream)) = worst.filter(|(_, stream)| stream.state.e_value >= TELLING) {
            let AlarmState { observed, events, .. } = stream.state;
            raised.text = format!("{}; {events} of {observed} tagged `{tag}` failed", raised.text);
            raised.tag = Some(tag.clone());
        }
        raised
    }

    /// No more latency alarms: a look side by side has shown that it is the load, not the candidate.
    pub(crate) fn disarm_latency(&mut self) {
        self.slow = None;
    }

    /// Evidence over all requests, and of the latency alarm.
    pub(crate) fn evidence(&self) -> (f64, Option<f64>) {
        (self.all.state.e_value, self.slow_e)
    }

    /// Median milliseconds per token of the incumbent's own traffic.
    pub(crate) const fn usual_ms(&self) -> Option<f64> {
        self.usual_ms
    }

    /// Whether latency is watched against the incumbent.
    pub(crate) const fn watches_latency(&self) -> bool {
        self.slow.is_some()
    }

    /// The tags that were seen.
    pub(crate) fn tag_reports(&self) -> BTreeMap<String, TagReport> {
        let seen = self.tags.iter().filter(|(_, stream)| !stream.outcomes.is_empty());
        let report = |stream: &Stream| TagReport {
            requests: stream.state.observed,
            failures: stream.state.events,
            e_value: stream.state.e_value,
            threshold: stream.threshold,
        };
        seen.map(|(tag, stream)| (tag.clone(), report(stream))).collect()
    }
}

/// The documents' rule over a whole window: (failed, latency) of each request.
pub(crate) fn fixed(window: &[(bool, f64)], settings: &Deploy) -> Option<Raised> {
    let n = window.len();
    if n < FIXED_MIN_REQUESTS {
        return None;
    }
    let floor = settings.min_success_rate.unwrap_or(FIXED_SUCCESS);
    let limit = settings.max_latency_ms.unwrap_or(FIXED_LATENCY_MS);
    let failed = window.iter().filter(|(failed, _)| *failed).count();
    let success = 1.0 - failed as f64 / n as f64;
    let mean_ms = window.iter().map(|(_, latency)| latency).sum::<f64>() / n as f64;
    let (alarm, text) = if success < floor {
        ("fixed_success", format!("success {success:.3} below {floor} over {n} requests (fixed rule)"))
    } else if mean_ms > limit {
        (
            "fixed_latency",
            format!("mean latency {mean_ms:.0} ms above {limit} ms over {n} requests (fixed rule)"),
        )
    } else {
        return None;
    };
    Some(Raised { observed: n as u64, events: failed as u64, ..Raised::plain(alarm, text) })
}

fn slow_raised(slow: &SlowAlarm, state: AlarmState, threshold: f64, settings: &Deploy) -> Raised {
    let (p50, p90) = slow.limits();
    let text = format!(
        "answers are slower than {} times the incumbent's ({} of {} above {p50:.1} or {p90:.1} ms a token; evidence {:.0}, alarm at {threshold:.0})",
        settings.latency_tolerance, state.events, state.observed, state.e_value
    );
    Raised {
        e_value: Some(state.e_value),
        threshold: Some(threshold),
        observed: state.observed,
        events: state.events,
        ..Raised::plain("latency", text)
    }
}

fn ceiling_raised(state: AlarmState, settings: &Deploy) -> Raised {
    let limit = settings.max_latency_ms.unwrap_or_default();
    let threshold = 1.0 / settings.alpha_latency;
    let text = format!(
        "mean latency above deploy.max_latency_ms = {limit} ({} of {} requests above it; evidence {:.0}, alarm at {threshold:.0})",
        state.events, state.observed, state.e_value
    );
    Raised {
        e_value: Some(state.e_value),
        threshold: Some(threshold),
        observed: state.observed,
        events: state.events,
        ..Raised::plain("latency_ceiling", text)
    }
}

fn switch(failed: usize, total: usize, alpha: f64) -> Result<Stream, Failure> {
    let alarm = SwitchAlarm::new(failed as u64, total as u64, alpha).map_err(unusable)?;
    Ok(Stream::new(Against::History(alarm), alpha))
}

/// A short history filled up with a rate, in whole requests, rounded against the alarm.
fn filled(failed: usize, total: usize, rate: f64) -> (usize, usize) {
    let missing = ENOUGH.saturating_sub(total);
    (failed + (missing as f64 * rate).ceil() as usize, total + missing)
}

fn unusable(error: StatsError) -> Failure {
    Failure::config("the settings of the watch cannot be used").because(error)
}

#[cfg(test)]
mod tests;
