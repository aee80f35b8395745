//! Which user, connection, session or page a command is about.

use clap::Args;

use super::api_client::{escape, segment};

/// One of the four levels, by its id.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct TargetArgs {
    /// A user.
    #[arg(long)]
    user: Option<String>,
    /// A connection (a browser), by its id.
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// A session, by its id.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// A page, by its id.
    #[arg(long, value_name = "ID")]
    page: Option<String>,
}

/// What an id is the id of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetLevel {
    User,
    Connection,
    Session,
    Page,
}

impl TargetArgs {
    /// Which one.
    pub(super) fn named(&self) -> Option<(TargetLevel, &str)> {
        let named = [
            (TargetLevel::User, &self.user),
            (TargetLevel::Connection, &self.connection),
            (TargetLevel::Session, &self.session),
            (TargetLevel::Page, &self.page),
        ];
        named.into_iter().find_map(|(level, id)| Some((level, id.as_deref()?)))
    }

    /// Where the server API has it.
    pub(super) fn path(&self) -> String {
        match self.named() {
            Some((TargetLevel::User, user)) => format!("/users/{}", segment(user)),
            Some((TargetLevel::Connection, id)) => format!("/connections/{}", escape(id)),
            Some((TargetLevel::Session, id)) => format!("/sessions/{}", escape(id)),
            Some((TargetLevel::Page, id)) => format!("/pages/{}", escape(id)),
            // the arguments have named one
            None => String::new(),
        }
    }
}
