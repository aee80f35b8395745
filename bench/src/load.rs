//! Runs many operations, some of them concurrently.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use pagewire_cluster::engine::batches_sent;

use crate::helper_protocol::HelperResponse;
use crate::plan::Plan;
use crate::report::Times;

/// Runs all operations and returns their times. The first failure is returned as the error.
pub(crate) async fn run_load<F, W>(plan: Plan, work: F) -> io::Result<HelperResponse>
where
    F: Fn(u64) -> W + Clone + Send + 'static,
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let tasks = (0..plan.in_flight).map(|_| tokio::spawn(lane(plan, next.clone(), work.clone())));
    let lanes = try_join_all(tasks).await.map_err(io::Error::other)?;
    let seconds = started.elapsed().as_secs_f64();
    let each = lanes.into_iter().collect::<io::Result<Vec<_>>>()?.concat();
    Ok(HelperResponse::Took { seconds, each: Times::of(each), batches: batches_sent() })
}

/// Runs operations one after the other while there are any. Returns their times in microseconds.
async fn lane<F, W>(plan: Plan, next: Arc<AtomicU64>, work: F) -> io::Result<Vec<f64>>
where
    F: Fn(u64) -> W,
    W: Future<Output = io::Result<()>>,
{
    let mut each = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.pieces {
            return Ok(each);
        }
        if plan.rest_ms > 0 {
            tokio::time::sleep(Duration::from_millis(plan.rest_ms)).await;
        }
        let started = Instant::now();
        work(number).await?;
        each.push(started.elapsed().as_secs_f64() * 1e6);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn every_piece_is_done_once() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let work = {
            let done = done.clone();
            move |number| {
                let done = done.clone();
                async move {
                    tokio::task::yield_now().await;
                    done.lock().unwrap().push(number);
                    Ok(())
                }
            }
        };
        let response = run_load(Plan::together(100, 8), work).await.unwrap();
        assert!(matches!(response, HelperResponse::Took { each, .. } if each.p50_us <= each.p99_us));
        let mut done = done.lock().unwrap().clone();
        done.sort_unstable();
        assert!(done.into_iter().eq(0..100));
    }

    #[tokio::test]
    async fn a_piece_that_fails_is_told() {
        let work =
            |number| async move { if number == 5 { Err(io::Error::other("the sixth")) } else { Ok(()) } };
        let error = run_load(Plan::together(10, 2), work).await.unwrap_err();
        assert_eq!(error.to_string(), "the sixth");
    }
}
