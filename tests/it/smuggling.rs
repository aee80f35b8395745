//! The corpus of HTTP/1 requests with gunicorn, granian and nginx, behind a node and without it.
//!
//! Invariants: what the node refuses reaches no server; what it accepts is understood by every server as the node has
//! understood it; the next request of the connection is answered, or the connection ends.

mod answers;
mod direct;
mod message;
mod processes;
mod servers;

use std::io::{IsTerminal, Write};

use pagewire::edge::framing::RequestFollower;

use self::servers::ServerBehind;
use crate::framing::MAX_HEAD;
use crate::framing::corpus::{self, CorpusCase};

/// Returns the corpus. Those whose bodies are refused come last, because the beginnings of these requests may reach a
/// server after the answer to their clients.
fn cases() -> Vec<CorpusCase> {
    let mut cases: Vec<_> = corpus::refused().into_iter().chain(corpus::accepted()).collect();
    cases.sort_by_key(|case| {
        let mut follower = RequestFollower::new(MAX_HEAD);
        follower.follow(&case.stream);
        follower.refusal().is_some_and(|refusal| refusal.is_in_body)
    });
    cases
}

/// Sends the corpus through each node and returns the differences. `done` receives the number of cases.
async fn differences(servers: &[ServerBehind], done: impl Fn(usize)) -> Vec<String> {
    let mut differences = Vec::new();
    for (index, case) in cases().into_iter().enumerate() {
        let passages = futures_util::future::join_all(servers.iter().map(|server| server.pass(&case))).await;
        for (server, passage) in servers.iter().zip(&passages) {
            differences.extend(server.differences(&case, passage));
        }
        done(index + 1);
    }
    differences
}

fn check(differences: &[String]) {
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_behind_a_node_sees_the_requests_that_the_node_has_understood_and_no_others() {
    let servers = servers::all().await;
    check(&differences(&servers, |_| {}).await);
}

/// A bar of a run, on a terminal; one line for each tenth elsewhere.
#[expect(clippy::print_stderr, reason = "the progress of a command")]
fn progress(what: &str, done: usize, all: usize) {
    const WIDTH: usize = 40;
    if std::io::stderr().is_terminal() {
        let full = WIDTH * done / all;
        let end = if done == all { "\n" } else { "" };
        eprint!("\r{what} [{}{}] {done}/{all}{end}", "#".repeat(full), "-".repeat(WIDTH - full));
        // a bar that is not shown is no failure
        let _ = std::io::stderr().flush();
    } else if done * 10 / all > (done - 1) * 10 / all {
        eprintln!("{what} {done}/{all}");
    }
}

#[ignore = "a command: python3 tests/run.py --only corpus"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_corpus_with_every_server_and_what_each_accepts_without_a_node() {
    let servers = servers::all().await;
    let (refused, accepted) = (corpus::refused().len(), corpus::accepted().len());
    let found = differences(&servers, |done| progress("behind nodes ", done, refused + accepted)).await;
    let table = direct::table(&servers, |done| progress("without nodes", done, refused)).await;
    eprintln!("\n{refused} malformed requests that Pagewire refuses, sent to each server itself:\n\n{table}");
    eprintln!(
        "{} requests through a node with each server behind it: {} differences",
        refused + accepted,
        found.len()
    );
    check(&found);
}
