//! Checks which pools a page may name.
//!
//! A program may submit work for a pool that starts later. A page may not, because made-up names would fill the cluster
//! with work that no worker ever runs.

use super::Executors;
use super::placement::DEFAULT_POOL;
use crate::protocol::{CommandError, ErrorCode};
use crate::similar_name::{most_similar, similarity};

impl Executors {
    /// Rejects a pool that has never had a worker and has no rollout, with `unknown`; `unavailable` if the engine does
    /// not reply.
    pub(super) async fn check_known(&self, pool: &str) -> Result<(), CommandError> {
        if pool == DEFAULT_POOL || self.rollouts.has_pool(pool) {
            return Ok(());
        }
        match self.workers.has_pool(pool).await? {
            true => Ok(()),
            false => Err(unknown(pool, self.known_pools())),
        }
    }

    fn known_pools(&self) -> Vec<String> {
        let mut pools: Vec<_> = self.workers.roster().pools().map(str::to_owned).collect();
        pools.extend(self.rollouts.documents().into_iter().map(|document| document.pool));
        pools.push(DEFAULT_POOL.to_owned());
        pools.sort();
        pools.dedup();
        pools
    }
}

fn unknown(pool: &str, known: Vec<String>) -> CommandError {
    let nearest = most_similar(known, |known| similarity(known, pool)).unwrap_or_default();
    let message = format!(
        "no worker has ever served the pool {pool}, and it has no rollout; the nearest known one is {nearest}"
    );
    CommandError::new(ErrorCode::Unknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_pool_is_refused_with_the_nearest_known_name() {
        let known = ["default", "gpu", "mail"].map(str::to_owned).to_vec();
        let refused = unknown("gpus", known);
        assert_eq!(refused.code, ErrorCode::Unknown);
        assert!(refused.message.ends_with("the nearest known one is gpu"), "{}", refused.message);
    }
}
