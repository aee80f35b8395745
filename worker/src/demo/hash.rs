//! `hash`: CPU-bound work. Runs on a blocking thread; as many run at the same time as there are processors.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::{HandlerResult, value};
use crate::reporter::Reporter;

/// The most rounds of one request: about a second of work.
const MOST_ROUNDS: u32 = 100_000_000;
/// Rounds between two checks whether the caller still waits for the result.
const CHECK_INTERVAL: u32 = 10_000;

/// Arguments of `hash`: the text (empty by default) and the number of rounds (1 by default).
#[derive(Deserialize)]
pub(super) struct Hash {
    #[serde(default)]
    text: String,
    #[serde(default = "once")]
    rounds: u32,
}

const fn once() -> u32 {
    1
}

/// Stops the thread when the future is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the last digest in hexadecimal digits.
pub(super) async fn run(hash: Hash, reporter: &Reporter) -> HandlerResult {
    if hash.rounds > MOST_ROUNDS {
        let message = format!("at most {MOST_ROUNDS} rounds");
        return Err(HandlerError::new(ErrorCode::TooLarge, message));
    }
    let _turn = processors().acquire().await;
    let abandon = StopOnDrop(Arc::default());
    let (abandoned, reporter) = (abandon.0.clone(), reporter.clone());
    let digest = tokio::task::spawn_blocking(move || rounds(&hash, &abandoned, &reporter)).await;
    let internal = |error: JoinError| HandlerError::new(ErrorCode::Internal, error.to_string());
    value(&digest.map_err(internal)?)
}

fn processors() -> &'static Semaphore {
    static PROCESSORS: OnceLock<Semaphore> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    PROCESSORS.get_or_init(|| Semaphore::new(count()))
}

fn rounds(hash: &Hash, abandoned: &AtomicBool, reporter: &Reporter) -> String {
    let mut digest = Sha256::digest(&hash.text);
    for round in 1..hash.rounds {
        if round % CHECK_INTERVAL == 0 {
            if abandoned.load(Ordering::Relaxed) {
                break;
            }
            reporter.report(f64::from(round) / f64::from(hash.rounds), None);
        }
        digest = Sha256::digest(digest);
    }
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
