//! The cases, in the order in which they run. Each module has the cases of one part of `docs/child.md`.
//!
//! Owns: what a program has to do. Never: how it is started, or what is reported.

mod cancels;
mod drains;
mod ends;
mod errors;
mod frames;
mod jobs;
mod messages;
mod output;
mod params;
mod ready;
mod requests;
mod volume;

use super::case::Case;

/// All cases.
pub(super) const ALL: &[&[Case]] = &[
    ready::CASES,
    messages::CASES,
    params::CASES,
    errors::CASES,
    frames::CASES,
    volume::CASES,
    jobs::CASES,
    requests::CASES,
    cancels::CASES,
    output::CASES,
    drains::CASES,
    ends::CASES,
];

/// A method that no program has.
const UNKNOWN_METHOD: &str = "check.no_such_handler";
