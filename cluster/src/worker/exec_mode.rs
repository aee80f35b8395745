//! Where a call or a job runs, as its caller, the configuration and the row of a worker name it.
//!
//! Owns: the names of the modes. Never: the mode of work without a named one, or which mode a piece of work may have.

use serde::{Deserialize, Serialize};

use super::availability::Affinity;

/// Where a call or a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecMode {
    /// In the node, for a handler of its binary.
    Inline,
    /// At any executor.
    Any,
    /// At the executor that the user is assigned to.
    Assigned,
}

/// The error of a text that names no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("exec_mode is inline, any or assigned")]
pub struct UnknownExecMode;

impl ExecMode {
    /// Parses the name of a mode.
    ///
    /// # Errors
    ///
    /// [`UnknownExecMode`] for any other text.
    pub fn parse(text: &str) -> Result<Self, UnknownExecMode> {
        let modes = [Self::Inline, Self::Any, Self::Assigned];
        modes.into_iter().find(|mode| mode.text() == text).ok_or(UnknownExecMode)
    }

    /// Returns its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Any => "any",
            Self::Assigned => "assigned",
        }
    }

    /// Returns which worker runs work in this mode; `None` for a mode in which no worker runs it.
    pub const fn affinity(self) -> Option<Affinity> {
        match self {
            Self::Inline => None,
            Self::Any => Some(Affinity::Free),
            Self::Assigned => Some(Affinity::Assigned),
        }
    }
}

impl From<Affinity> for ExecMode {
    fn from(affinity: Affinity) -> Self {
        match affinity {
            Affinity::Free => Self::Any,
            Affinity::Assigned => Self::Assigned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_one_name_in_texts_and_in_json() {
        for (mode, text) in
            [(ExecMode::Inline, "inline"), (ExecMode::Any, "any"), (ExecMode::Assigned, "assigned")]
        {
            assert_eq!((ExecMode::parse(text), mode.text()), (Ok(mode), text));
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("{text:?}"));
        }
        for wrong in ["", "Any", "free", "default"] {
            assert_eq!(ExecMode::parse(wrong), Err(UnknownExecMode), "{wrong}");
        }
    }

    #[test]
    fn an_affinity_is_that_of_its_mode() {
        for affinity in [Affinity::Free, Affinity::Assigned] {
            assert_eq!(ExecMode::from(affinity).affinity(), Some(affinity));
        }
    }
}
