//! Pure checks of an answer. No I/O, no clock, no model: text in, a judgement with its reason out.
//!
//! | module | job |
//! |---|---|
//! | [`mod@canonical`] | one form for answers that mean the same, so that two council members can be compared |
//! | [`check`] | the checks that evaluation items carry |
//! | [`schema`] | the part of JSON Schema that checks may use |
//! | [`arithmetic`] | re-computes the sums that an answer claims |
//! | [`language`] | is the answer written in the script of the prompt |
//! | [`degenerate`] | vetoes: empty, refusal, echo, truncation, injected verdicts, ... |
//! | [`scan`] | one answer or phrase over-represented across a night's unrelated questions |
//! | [`similarity`] | keeps evaluation items out of training |
//! | [`mod@legacy_score`] | the documents' old quality formula, for the record only |
//! | [`words`] | how all of the above cut text into words |
//!
//! Nothing here fails on hostile text: every function is total over `&str`, and the work is linear in its length
//! or documented otherwise.

pub mod arithmetic;
pub mod canonical;
pub mod check;
pub mod degenerate;
pub mod language;
pub mod legacy_score;
pub mod scan;
pub mod schema;
pub mod similarity;
pub mod words;

pub use canonical::{Canonical, Kind, canonical, final_number, is_closed_form, same_answer};
pub use check::{Check, Outcome};
pub use legacy_score::legacy_score;
