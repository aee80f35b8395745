//! The user, connection, session or page that a command applies to.

use clap::Args;
use pagewire_cluster::id::Level;

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

impl TargetArgs {
    /// Returns the level and the id that was given.
    pub(super) fn named(&self) -> Option<(Level, &str)> {
        let named = [
            (Level::User, &self.user),
            (Level::Connection, &self.connection),
            (Level::Session, &self.session),
            (Level::Page, &self.page),
        ];
        named.into_iter().find_map(|(level, id)| Some((level, id.as_deref()?)))
    }

    /// Returns the path of the target in the server API.
    pub(super) fn path(&self) -> String {
        match self.named() {
            Some((Level::User, user)) => format!("/users/{}", segment(user)),
            Some((Level::Connection, id)) => format!("/connections/{}", escape(id)),
            Some((Level::Session, id)) => format!("/sessions/{}", escape(id)),
            Some((Level::Page, id)) => format!("/pages/{}", escape(id)),
            // clap requires one of the arguments
            None => String::new(),
        }
    }
}
