//! Which ends of jobs a page has been told.
//!
//! A worker tells an end until it is answered, and a page that comes back asks for what it waits for: both may happen,
//! and the page hears it once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use pagewire_cluster::id::Key;

use super::{Met, Page};
use crate::protocol::Tail;

/// How many ends a page remembers.
const KEPT: usize = 64;

/// By job and the page's own id of it, the newest last.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<VecDeque<(Key, Box<str>)>>);

impl Page {
    /// Adds the end of a job that the page knows by `frame`. However often it is told, the page hears it once.
    pub fn conclude(&self, job: Key, frame: &str, tail: &Tail) -> Met {
        let mut ends = self.ends.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.iter().any(|(told, by)| *told == job && **by == *frame) {
            return if self.is_live() { Met::Reached } else { Met::Held };
        }
        let met = self.push(tail);
        if !matches!(met, Met::Missed) {
            if ends.len() == KEPT {
                ends.pop_front();
            }
            ends.push_back((job, frame.into()));
        }
        met
    }
}
