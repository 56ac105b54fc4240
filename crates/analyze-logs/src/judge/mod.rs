//! Did a change help, do nothing, or do harm? Two sides of an operation's calls, compared hour for hour.
//!
//! The sides are the calls after the change and those in the same hours of the week before, or two arms of a
//! split. [`hours`] collects them, [`pairs`] matches them, [`measure`] compares each guarded figure, and
//! [`decide`] says keep, revert or wait, with a stated chance of being wrong however often it is asked.

pub mod collect;
pub mod decide;
pub mod hours;
pub mod measure;
pub mod pairs;

pub use collect::{Question, collect};
pub use decide::{Basis, Decision, Looks, Verdict, decide};
pub use hours::{Calls, Hours, Late, Sides};
pub use measure::{Measured, measure};
pub use pairs::{Baseline, Pairs, Period};
