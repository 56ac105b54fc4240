//! Did a change help, do nothing, or do harm? Two sides of an operation's calls, compared hour for hour.
//!
//! The sides are the calls after the change and those in the same hours of the weeks before, or two arms of a
//! split. [`ask`] says which, [`hours`] has them, [`collect()`] fills them in one reading of the logs, [`steady()`] takes
//! out weeks that are of another piece, [`pairs`] matches them, [`measure()`] compares each guarded figure, and [`decide()`] says keep, revert or wait, with a stated chance of being
//! wrong however often it is asked. [`open`] does all that for the changes that wait for a verdict.

pub mod ask;
pub mod collect;
pub mod command;
pub mod decide;
pub mod hours;
pub mod measure;
pub mod open;
pub mod pairs;
pub mod steady;

pub use collect::{Question, Selector, collect};
pub use decide::{Asked, Basis, Decision, Looks, Paid, Verdict, decide};
pub use hours::{Calls, Hours, Late, Sides};
pub use measure::{Measured, measure};
pub use pairs::{Baseline, Hour, Pairs, Period};
pub use steady::steady;
