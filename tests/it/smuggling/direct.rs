//! The refused part of the corpus, sent to servers without a node before them.
//!
//! Owns: what each server accepts, as a table. Never: an expectation, because other servers may change.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::responses;
use super::servers::ServerBehind;
use crate::framing::SMUGGLED;
use crate::framing::corpus::{self, CorpusCase};

/// How long a server may think; one that waits for the rest of a request has not accepted it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Cases at a time.
const AT_A_TIME: usize = 8;

/// Cases of one reason: how many there are, how many each server accepts, and how many are understood in different ways.
#[derive(Default)]
struct Row {
    cases: usize,
    accepted: Vec<usize>,
    ambiguous: usize,
}

impl Row {
    fn add(&mut self, understood: &[Vec<Value>]) {
        self.cases += 1;
        self.accepted.resize(understood.len(), 0);
        let accepting: Vec<_> = understood.iter().filter(|requests| !requests.is_empty()).collect();
        for (count, requests) in self.accepted.iter_mut().zip(understood) {
            *count += usize::from(!requests.is_empty());
        }
        self.ambiguous += usize::from(accepting.iter().any(|requests| *requests != accepting[0]));
    }

    fn written(&self, name: &str) -> String {
        let accepted: String = self.accepted.iter().fold(String::new(), |mut text, count| {
            // writing to a text cannot fail
            let _ = write!(text, " {count} |");
            text
        });
        format!("| {name} | {} |{accepted} {} |\n", self.cases, self.ambiguous)
    }
}

/// Returns a table in Markdown with one row for each reason. `done` receives the number of cases.
pub(crate) async fn table(servers: &[ServerBehind], done: impl Fn(usize)) -> String {
    let count = AtomicUsize::new(0);
    let asked = futures_util::stream::iter(corpus::refused()).map(async |case| {
        let understood = understood_by_all(servers, &case).await;
        done(count.fetch_add(1, Ordering::Relaxed) + 1);
        (case, understood)
    });
    let outcomes: Vec<(CorpusCase, Vec<Vec<Value>>)> = asked.buffered(AT_A_TIME).collect().await;
    let (mut rows, mut all) = (BTreeMap::<String, Row>::new(), Row::default());
    for (case, understood) in outcomes {
        rows.entry(case.expectation).or_default().add(&understood);
        all.add(&understood);
    }
    let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
    let mut table = format!("| reason | requests | {} | understood differently |\n", names.join(" | "));
    table += &format!("|---{}|\n", "|---".repeat(names.len() + 2));
    table.extend(rows.iter().map(|(reason, row)| row.written(&format!("`{reason}`"))));
    table + &all.written("all")
}

async fn understood_by_all(servers: &[ServerBehind], case: &CorpusCase) -> Vec<Vec<Value>> {
    futures_util::future::join_all(servers.iter().map(|server| understood(server.direct(), case))).await
}

/// Returns what a server has understood of a stream: the requests that it has answered.
async fn understood(address: SocketAddr, case: &CorpusCase) -> Vec<Value> {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    let (mut reading, mut writing) = connection.split();
    let mut received = Vec::new();
    let stream = [&case.stream, SMUGGLED].concat();
    // the server may stop reading, and may keep the connection
    let both = async { tokio::join!(reading.read_to_end(&mut received), writing.write_all(&stream)) };
    let _ = tokio::time::timeout(PATIENCE, both).await;
    if !received.starts_with(b"HTTP/") {
        // an answer to HTTP/0.9 has no head
        return serde_json::from_slice(&received).into_iter().collect();
    }
    let (answers, _) = responses(&received, &[]);
    answers
        .iter()
        .filter(|answer| answer.status() == 200)
        .filter_map(|answer| answer.json())
        .map(plain)
        .collect()
}

/// Returns what was understood without the difference between no host and an empty one.
fn plain(mut understood: Value) -> Value {
    if understood["host"].is_null() {
        understood["host"] = Value::from("");
    }
    understood
}
