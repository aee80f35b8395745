//! `pagewire users`: lists users.

use clap::Args;
use serde_json::Value;

use super::CommandFailure;
use super::api_client::{ApiClient, escape};
use super::output::{self, plain};

/// Arguments of `users`.
#[derive(Args)]
pub(super) struct Users {
    /// Only users with a page.
    #[arg(long, conflicts_with = "offline")]
    online: bool,
    /// Only users without a page, whose sessions or connections can still be joined.
    #[arg(long)]
    offline: bool,
    /// Continue after this entry: the cursor that the previous list ended with.
    #[arg(long)]
    cursor: Option<String>,
    /// The most users to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    #[command(flatten)]
    server: ApiClient,
}

impl Users {
    /// Prints one page of the list.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let mut path = format!("/users?limit={}", self.limit);
        if self.online || self.offline {
            path.push_str(&format!("&online={}", self.online));
        }
        if let Some(cursor) = &self.cursor {
            path.push_str(&format!("&cursor={}", escape(cursor)));
        }
        let list = self.server.get(&path).await?;
        if self.server.json {
            output::print_json(&list);
            return Ok(());
        }
        output::print(&table(&list));
        if let Some(next) = list["next_cursor"].as_str() {
            output::print_stderr(&format!("there are more: --cursor {next}"));
        }
        Ok(())
    }
}

fn table(list: &Value) -> String {
    let columns = ["user", "online", "connections", "sessions", "pages"];
    output::table(&["USER", "ONLINE", "CONNECTIONS", "SESSIONS", "PAGES"], &rows(list, &columns))
}

/// Returns the named members of each item in a list, `-` for a missing one.
pub(super) fn rows(list: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let cell = |item: &Value, name: &&str| match &item[*name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        value => value.to_string(),
    };
    let items = list["items"].as_array().into_iter().flatten();
    items.map(|item| columns.iter().map(|name| cell(item, name)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_user_has_its_line() {
        let user = json!({"user": "an\u{7}n", "online": true, "connections": 1, "sessions": 2, "pages": 3});
        assert_eq!(
            table(&json!({"items": [user]})),
            "USER  ONLINE  CONNECTIONS  SESSIONS  PAGES\nan n  true    1            2         3"
        );
    }
}
