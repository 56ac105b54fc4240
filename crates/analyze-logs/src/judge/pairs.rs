//! Which hours before answer for which hours after.

use std::collections::BTreeMap;

use serde::Serialize;

use super::collect::Question;
use super::hours::{Calls, Hours, Sides};
use crate::tally::HOUR_US;

/// Share of the calls after the change that must have a counterpart.
const ENOUGH: f64 = 0.8;

/// What the calls after a change are compared with, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The same hours of the weeks before.
    SameHoursOfWeek,
    /// The same hours of the days before: the logs do not reach back a week.
    SameHoursOfDay,
    /// Whatever was there before: not even those hours are there.
    AllBefore,
    /// The control arm in the same hours.
    ControlArm,
}

impl Baseline {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::SameHoursOfWeek => "the same hours of the weeks before",
            Self::SameHoursOfDay => "the same hours of the days before",
            Self::AllBefore => "all hours before",
            Self::ControlArm => "the control arm",
        }
    }

    const fn period(self) -> Option<i32> {
        match self {
            Self::SameHoursOfWeek => Some(168),
            Self::SameHoursOfDay => Some(24),
            Self::AllBefore => Some(1),
            Self::ControlArm => None,
        }
    }
}

/// One period: both sides, and for how many hours each was watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Period {
    /// The calls.
    pub sides: Sides,
    /// Hours watched before and after; 0 with arms, which share them.
    pub watched: (f64, f64),
}

/// An hour of the sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour<'a> {
    /// Hours since 1970.
    pub time: i32,
    /// The period that it belongs to, if the period has calls on both sides.
    pub period: Option<usize>,
    /// Its calls.
    pub sides: &'a Sides,
}

/// The two sides, matched; only periods that have calls on both.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs<'a> {
    /// What the side before is.
    pub baseline: Baseline,
    /// In the order of time, those without an answer too.
    pub by_hour: Vec<Hour<'a>>,
    /// In the order of time after the change.
    pub periods: Vec<Period>,
    /// Calls after the change that nothing answers for.
    pub unmatched: u64,
    /// Different hours with calls after the change.
    pub hours: usize,
}

impl<'a> Pairs<'a> {
    /// Matches the hours of a question.
    pub fn of(hours: &'a Hours, question: &Question) -> Self {
        if question.split.is_some() {
            return Self::matched(hours, question, Baseline::ControlArm);
        }
        let candidates = [Baseline::SameHoursOfWeek, Baseline::SameHoursOfDay];
        candidates
            .into_iter()
            .map(|baseline| Self::matched(hours, question, baseline))
            .find(|pairs| {
                let answered: u64 = pairs.periods.iter().map(|period| period.sides.after.cell.calls).sum();
                answered > 0 && answered as f64 >= ENOUGH * (answered + pairs.unmatched) as f64
            })
            .unwrap_or_else(|| Self::matched(hours, question, Baseline::AllBefore))
    }

    fn matched(hours: &'a Hours, question: &Question, baseline: Baseline) -> Self {
        let first = i32::try_from(question.at.div_euclid(HOUR_US)).unwrap_or_default();
        // Counted from the change on, so that periods are in the order in which they came after it.
        let key = |hour: i32| match baseline.period() {
            Some(period) => (hour - first).rem_euclid(period),
            None => hour,
        };
        let mut periods: BTreeMap<i32, Period> = BTreeMap::new();
        for (hour, sides) in &hours.0 {
            periods.entry(key(*hour)).or_default().sides.absorb(sides);
        }
        if baseline != Baseline::ControlArm {
            for (hour, before, after) in watched(question) {
                if let Some(period) = periods.get_mut(&key(hour)) {
                    period.watched.0 += before;
                    period.watched.1 += after;
                }
            }
        }
        let calls = |period: &Period| (period.sides.before.cell.calls, period.sides.after.cell.calls);
        let unmatched = periods.values().map(calls).filter(|calls| calls.0 == 0).map(|calls| calls.1).sum();
        periods.retain(|_, period| calls(period).0 > 0 && calls(period).1 > 0);
        let numbers: BTreeMap<i32, usize> =
            periods.keys().zip(0..).map(|(key, number)| (*key, number)).collect();
        let by_hour = hours.0.iter().map(|(time, sides)| Hour {
            time: *time,
            period: numbers.get(&key(*time)).copied(),
            sides,
        });
        Self {
            baseline,
            by_hour: by_hour.collect(),
            periods: periods.into_values().collect(),
            unmatched,
            hours: hours.0.values().filter(|sides| sides.after.cell.calls > 0).count(),
        }
    }

    /// All matched calls of one side.
    pub fn total(&self, side: impl Fn(&Sides) -> &Calls) -> Calls {
        let mut total = Calls::default();
        for period in &self.periods {
            total.absorb(side(&period.sides));
        }
        total
    }
}

/// The hours of a question, and which part of each lies before and after the change.
fn watched(question: &Question) -> impl Iterator<Item = (i32, f64, f64)> + '_ {
    let first = question.baseline_from.div_euclid(HOUR_US);
    let last = question.until.div_euclid(HOUR_US);
    (first..=last).filter_map(move |hour| {
        let (from, to) = (hour * HOUR_US, (hour + 1) * HOUR_US);
        let part = |a: i64, b: i64| (b.min(to) - a.max(from)).max(0) as f64 / HOUR_US as f64;
        let touched: f64 = question.without.iter().map(|(a, b)| part(*a, (*b).min(question.at))).sum();
        let before = (part(question.baseline_from, question.at) - touched).max(0.0);
        Some((i32::try_from(hour).ok()?, before, part(question.at, question.until)))
    })
}
