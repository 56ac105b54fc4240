//! How far back the baseline is of one piece.
//!
//! More weeks before a change make its verdict surer, but only if they are like the last one: a release, a new
//! customer or a changed prompt a month ago must not count for or against a change of today.

use nightshift_core::config::Judge;

use super::collect::Question;
use super::hours::{Calls, Hours, Sides};
use super::measure::measure;
use super::pairs::Pairs;
use crate::tally::HOUR_US;

/// Hours of a week.
const WEEK: i32 = 168;
/// A week is of another piece when so little speaks for it being of the same.
const DIFFERENT: f64 = 0.001;

/// Takes out the weeks of the baseline that are not like those after them, and all before.
pub fn steady(mut hours: Hours, rules: &Judge) -> Hours {
    let before = |sides: &Sides| sides.before.cell.calls > 0;
    let Some(last) = hours.0.iter().rev().find(|(_, sides)| before(sides)).map(|(hour, _)| *hour) else {
        return hours;
    };
    let week = |hour: i32| (last - hour) / WEEK;
    let oldest = hours.0.iter().find(|(_, sides)| before(sides)).map_or(0, |(hour, _)| week(*hour));
    let other = (1..=oldest).find(|older| {
        // Not worse is not enough: a baseline that was worse hides harm.
        [false, true].into_iter().any(|turned| moved(&hours, (*older, turned), week, last, rules))
    });
    if let Some(other) = other {
        for (hour, sides) in &mut hours.0 {
            if *hour <= last && week(*hour) >= other {
                sides.before = Calls::default();
            }
        }
    }
    hours
}

/// Whether the weeks since are worse than the `older` one, or turned around.
fn moved(
    hours: &Hours,
    (older, turned): (i32, bool),
    week: impl Fn(i32) -> i32,
    last: i32,
    rules: &Judge,
) -> bool {
    let mut both = Hours::default();
    for (hour, sides) in hours.0.iter().filter(|(hour, _)| **hour <= last && week(**hour) <= older) {
        let calls = sides.before.clone();
        let sides = if (week(*hour) == older) == turned {
            Sides { after: calls, ..Sides::default() }
        } else {
            Sides { before: calls, ..Sides::default() }
        };
        both.0.insert(*hour, sides);
    }
    let at = |hour: i32| i64::from(hour) * HOUR_US;
    let question = Question {
        scope: Vec::new(),
        at: at(last + 1 - older * WEEK),
        baseline_from: at(last + 1 - (older + 1) * WEEK),
        without: Vec::new(),
        until: at(last + 1),
        late_us: None,
        split: None,
    };
    let figures = measure(&Pairs::of(&both, &question), rules, &rules.guard, rules.alpha);
    figures.iter().any(|figure| figure.worse && figure.p < DIFFERENT)
}
