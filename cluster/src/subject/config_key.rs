//! Keys in the bucket `config`.

use super::SubjectToken;
use crate::id::Key;

/// Prefix of the rollouts of all pools.
pub const ROLLOUTS: &str = "rollout.";

/// Key of the rollout of a pool.
pub fn rollout(pool: &str) -> String {
    format!("{ROLLOUTS}{}", SubjectToken::new(pool))
}

/// Prefix of what the rollouts of all pools remember of users.
pub const ENROLLED: &str = "enrolled.";

/// Key of what a pool's rollout remembers of a user.
pub fn enrolled_user(pool: &str, user: &SubjectToken) -> String {
    format!("{ENROLLED}{}.user.{user}", SubjectToken::new(pool))
}

/// The same of an anonymous connection.
pub fn enrolled_connection(pool: &str, connection: Key) -> String {
    format!("{ENROLLED}{}.conn.{connection}", SubjectToken::new(pool))
}

/// Prefix of the users who are admitted to lanes with a limit on their users.
pub const ADMITTED: &str = "admitted.";

/// Prefixes of everything that a process applies of rollouts.
pub const OF_ROLLOUTS: [&str; 3] = [ROLLOUTS, ENROLLED, ADMITTED];

/// Key of the users who are admitted to a lane of a pool.
pub fn admitted(pool: &str, lane: &str) -> String {
    format!("{ADMITTED}{}.{}", SubjectToken::new(pool), SubjectToken::new(lane))
}

/// Prefix of the earlier revisions of a pool's rollout.
pub fn history(pool: &str) -> String {
    format!("history.{}.", SubjectToken::new(pool))
}

/// Key of one revision of a pool's rollout.
pub fn past(pool: &str, revision: u64) -> String {
    format!("{}{revision}", history(pool))
}
