//! `pagewire token`: creates tokens signed with the configured secret.

use std::time::Duration;

use clap::{Args, Subcommand};
use pagewire_cluster::id::check_user;
use serde_json::json;

use super::config::ConfigFile;
use super::{CommandFailure, Exit, output};
use crate::auth;

/// Arguments of `token`.
#[derive(Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Create a token for a user, signed with auth.hs256_secret.
    Create(Create),
}

#[derive(Args)]
struct Create {
    /// User of the token (its `sub`).
    #[arg(long)]
    user: String,
    /// Role of the token: push, admin, or one of the application; can be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// How long the token is valid: a number with s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = duration)]
    expires: Duration,
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Token {
    /// Prints the token.
    pub(super) fn run(self) -> Result<(), CommandFailure> {
        let TokenCommand::Create(create) = self.command;
        check_user(&create.user).map_err(|error| Exit::Usage.with_message(error.to_string()))?;
        let auth = create.config.load(Vec::new())?.auth;
        let token = auth::issue(&auth, &create.user, &create.roles, create.expires).ok_or_else(|| {
            Exit::Usage.with_message("auth.hs256_secret is not set, so there is nothing to sign with")
        })?;
        if create.json {
            let (user, roles, expires_in_s) = (create.user, create.roles, create.expires.as_secs());
            output::print_json(
                &json!({"token": token, "user": user, "roles": roles, "expires_in_s": expires_in_s}),
            );
        } else {
            output::print(&token);
        }
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86400,
        _ => return Err("write a number with s, m, h or d, e.g. 90s or 7d".to_owned()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| "that is not a number".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86400)));
        for wrong in ["", "7", "d", "-1h", "1.5h", "99999999999999999999d", "18446744073709551615d", "1é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
