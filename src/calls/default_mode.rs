//! Where work runs, and how often it is retried, if its caller does not say it.
//!
//! Owns: the precedence: the caller, the configuration, the handler, the policy. Never: the policy itself (`placement`).

use std::collections::BTreeMap;

use pagewire_cluster::worker::{ExecMode, WorkerGroup, Workers};
use pagewire_worker::handlers::Handlers;

use super::placement::WantedMode;

/// What is known of handlers when a caller says nothing.
#[derive(Clone)]
pub(super) struct HandlerDefaults {
    /// `executors.mode`.
    pub(super) configured: BTreeMap<String, ExecMode>,
    /// The handlers of this process.
    pub(super) handlers: Handlers,
    pub(super) workers: Workers,
}

impl HandlerDefaults {
    /// Returns the mode of a piece of work: the caller's, else that of `executors.mode`, else the handler's own one.
    pub(super) fn mode(&self, asked: Option<ExecMode>, group: &WorkerGroup, method: &str) -> WantedMode {
        if asked.is_some() {
            return WantedMode { mode: asked, is_explicit: true };
        }
        let configured = self.configured.get(method).copied();
        let mode = configured.or_else(|| self.mode_of_handler(group, method));
        WantedMode { mode, is_explicit: false }
    }

    fn mode_of_handler(&self, group: &WorkerGroup, method: &str) -> Option<ExecMode> {
        match self.workers.roster().mode_of(group, method) {
            // a mode of a newer release is none
            Some(text) => ExecMode::parse(text).ok(),
            None => self.handlers.options(method).affinity.map(ExecMode::from),
        }
    }

    /// Returns how often a job is retried: as its submitter says, else as the handler says, else never.
    pub(super) fn retries(&self, asked: Option<u32>, group: &WorkerGroup, kind: &str) -> u32 {
        let of_handler = || self.workers.roster().retries_of(group, kind);
        let own = || self.handlers.options(kind).retries;
        asked.or_else(of_handler).or_else(own).unwrap_or(0).min(super::submit::MAX_RETRIES)
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};
    use pagewire_cluster::subject::Subjects;
    use pagewire_cluster::timing::Timing;
    use pagewire_cluster::worker::Affinity;
    use pagewire_worker::handlers::{HandlerOptions, HandlersBuilder};

    use super::*;

    #[test]
    fn the_caller_decides_before_the_configuration_before_the_handler() {
        let options =
            HandlerOptions { affinity: Some(Affinity::Assigned), retries: Some(3), ..Default::default() };
        let handlers = ["a", "b"].into_iter().fold(HandlersBuilder::default(), |all, name| {
            all.handler_with(name, options, |input| async move { Ok(input.params) })
        });
        let timing = Timing::TEST;
        let engine = Engine::Memory(Memory::with_timing(&timing));
        let defaults = HandlerDefaults {
            configured: [("a".to_owned(), ExecMode::Any)].into(),
            handlers: handlers.build(),
            workers: Workers::new(&engine, &Subjects::new("t"), timing),
        };
        let group = WorkerGroup::new("p", "l");
        for (asked, method, mode, is_explicit) in [
            (Some(ExecMode::Inline), "a", Some(ExecMode::Inline), true),
            (None, "a", Some(ExecMode::Any), false),
            (None, "b", Some(ExecMode::Assigned), false),
            (None, "c", None, false),
        ] {
            assert_eq!(defaults.mode(asked, &group, method), WantedMode { mode, is_explicit }, "{method}");
        }
        let retries = |asked, method| defaults.retries(asked, &group, method);
        assert_eq!([retries(Some(0), "a"), retries(None, "a"), retries(None, "c")], [0, 3, 0]);
    }
}
