//! The user, connection, session or page that a command applies to.

use clap::Args;

use super::api_client::{escape, segment};

/// One of the four levels, by its id.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct TargetArgs {
    /// The user.
    #[arg(long)]
    user: Option<String>,
    /// ID of the connection (a browser).
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// ID of the session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// ID of the page.
    #[arg(long, value_name = "ID")]
    page: Option<String>,
}

/// The level of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetLevel {
    User,
    Connection,
    Session,
    Page,
}

impl TargetArgs {
    /// Returns the level and the id that was given.
    pub(super) fn named(&self) -> Option<(TargetLevel, &str)> {
        let named = [
            (TargetLevel::User, &self.user),
            (TargetLevel::Connection, &self.connection),
            (TargetLevel::Session, &self.session),
            (TargetLevel::Page, &self.page),
        ];
        named.into_iter().find_map(|(level, id)| Some((level, id.as_deref()?)))
    }

    /// Returns the path of the target in the server API.
    pub(super) fn path(&self) -> String {
        match self.named() {
            Some((TargetLevel::User, user)) => format!("/users/{}", segment(user)),
            Some((TargetLevel::Connection, id)) => format!("/connections/{}", escape(id)),
            Some((TargetLevel::Session, id)) => format!("/sessions/{}", escape(id)),
            Some((TargetLevel::Page, id)) => format!("/pages/{}", escape(id)),
            // clap requires one of the arguments
            None => String::new(),
        }
    }
}
