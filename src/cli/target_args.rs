//! Which user, connection, session or page a command is about.

use clap::Args;
use pagewire_cluster::id::Level;

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

impl TargetArgs {
    /// Which one.
    pub(super) fn named(&self) -> Option<(Level, &str)> {
        let named = [
            (Level::User, &self.user),
            (Level::Connection, &self.connection),
            (Level::Session, &self.session),
            (Level::Page, &self.page),
        ];
        named.into_iter().find_map(|(level, id)| Some((level, id.as_deref()?)))
    }

    /// Where the server API has it.
    pub(super) fn path(&self) -> String {
        match self.named() {
            Some((Level::User, user)) => format!("/users/{}", segment(user)),
            Some((Level::Connection, id)) => format!("/connections/{}", escape(id)),
            Some((Level::Session, id)) => format!("/sessions/{}", escape(id)),
            Some((Level::Page, id)) => format!("/pages/{}", escape(id)),
            // the arguments have named one
            None => String::new(),
        }
    }
}
