//! A conformance case and its end.
//!
//! Owns: the types. Never: what a case expects (`cases`), or the order of cases.

use std::pin::Pin;

use super::Checker;
use crate::runtime::child::wire::WireError;

/// A rule of `docs/child.md` and how it is checked.
pub(super) struct Case {
    /// The rule.
    pub(super) name: &'static str,
    /// The handlers that the program provides for it.
    pub(super) needs: &'static [&'static str],
    pub(super) run: for<'a> fn(&'a mut Checker) -> CaseRun<'a>,
}

/// A case that runs.
pub(super) type CaseRun<'a> = Pin<Box<dyn Future<Output = Result<(), Deviation>> + 'a>>;

/// Why a case does not pass.
#[derive(Debug)]
pub(super) enum Deviation {
    Failed(String),
    Skipped(String),
}

impl From<WireError> for Deviation {
    fn from(WireError(reason): WireError) -> Self {
        Self::Failed(format!("it breaks the rules of the wire: {reason}"))
    }
}

/// Returns the deviation of a case that fails.
pub(super) fn failed(reason: impl Into<String>) -> Deviation {
    Deviation::Failed(reason.into())
}

/// Fails with a reason unless a condition holds.
pub(super) fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Result<(), Deviation> {
    if holds { Ok(()) } else { Err(Deviation::Failed(reason())) }
}

/// Makes a case of a function, with its name, and the handlers that it needs.
macro_rules! case {
    ($function:ident $(, $handler:literal)*) => {
        $crate::runtime::child::check::case::Case {
            name: stringify!($function),
            needs: &[$($handler),*],
            run: |checker| Box::pin($function(checker)),
        }
    };
}
pub(super) use case;
