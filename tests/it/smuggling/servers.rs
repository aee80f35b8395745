//! Nodes with a server behind each, and what passes through them.

use std::net::SocketAddr;

use pagewire::edge::framing::RequestFollower;

use super::message::{Message, requests, responses};
use crate::environment::{Application, Node, SOON, Tap, WebServer, eventually};
use crate::framing::corpus::CorpusCase;
use crate::framing::{MAX_HEAD, SMUGGLED, exchange};
use crate::mount_processes::SITES;

/// The case whose path the node refuses after its framing.
const REFUSED_BY_ROUTE: &str = "dot segments, which routing decides";
/// Cases that a server behind refuses for their methods, which are `get`, `T` and `OPTIONS *`.
const REFUSED_BEHIND: [(&str, &str); 4] = [
    ("gunicorn", "a body that looks like a request"),
    ("gunicorn", "a method in lower case"),
    ("nginx", "a method in lower case"),
    ("nginx", "options of the server"),
];

/// A node and the server behind it.
pub(crate) struct ServerBehind {
    pub(crate) name: &'static str,
    server: WebServer,
    tap: Tap,
    node: Node,
}

/// What a node has done with a stream.
pub(crate) struct Passage {
    /// What the client has received.
    received: Vec<u8>,
    /// What the server behind has received on each connection.
    forwarded: Vec<Vec<u8>>,
}

/// Starts the three servers, each behind a node of its own.
pub(crate) async fn all() -> Vec<ServerBehind> {
    let echo = Application { name: "echo:application", directory: SITES, environment: &[] };
    let (gunicorn, granian, nginx) =
        tokio::join!(WebServer::gunicorn(&echo), WebServer::granian(&echo), WebServer::nginx());
    let servers = [("gunicorn", gunicorn), ("granian", granian), ("nginx", nginx)];
    futures_util::future::join_all(servers.map(|(name, server)| ServerBehind::start(name, server))).await
}

/// Returns the requests that the node's parser finds in an accepted case, and the one behind it unless it is the last one of
/// its connection.
pub(crate) fn expected(case: &CorpusCase) -> Vec<Message> {
    let mut follower = RequestFollower::new(MAX_HEAD);
    follower.follow(&case.stream);
    let (mut expected, _) = requests(&case.stream);
    expected.truncate(usize::try_from(follower.requests()).expect("a small number"));
    if !follower.has_ended() && !follower.is_released() {
        expected.extend(requests(SMUGGLED).0);
    }
    expected
}

impl ServerBehind {
    async fn start(name: &'static str, server: WebServer) -> Self {
        let tap = Tap::to(server.address).await;
        let file = format!("native = []\n[[mount]]\nhttp = \"{}\"\n", tap.url());
        let node = Node::setup().file(&file).start().await;
        eventually(&format!("{name} answers"), SOON, async || {
            node.api().get("/").await.0.is_success().then_some(())
        })
        .await;
        tap.taken();
        Self { name, server, tap, node }
    }

    /// Returns the address of the server behind the node.
    pub(crate) fn direct(&self) -> SocketAddr {
        self.server.address
    }

    /// Sends a case through the node, followed by a request that closes the connection.
    pub(crate) async fn pass(&self, case: &CorpusCase) -> Passage {
        let stream = [&case.stream, SMUGGLED].concat();
        let received = exchange(self.node.address(), &case.name, &stream).await;
        Passage { received, forwarded: self.tap.taken() }
    }

    /// Compares a passage with what the node's parser has understood. Returns the differences.
    pub(crate) fn differences(&self, case: &CorpusCase, passage: &Passage) -> Vec<String> {
        let mut follower = RequestFollower::new(MAX_HEAD);
        follower.follow(&case.stream);
        let mut found = match follower.refusal() {
            Some(refusal) => passage.of_refused(refusal.is_in_body),
            None => self.of_accepted(case, passage),
        };
        found.iter_mut().for_each(|text| *text = format!("{} behind: {}: {text}", self.name, case.name));
        found
    }

    fn of_accepted(&self, case: &CorpusCase, passage: &Passage) -> Vec<String> {
        let expected = expected(case);
        let methods: Vec<&str> = expected.iter().map(Message::method).collect();
        let (answers, rest) = responses(&passage.received, &methods);
        if answers.len() != expected.len() || !rest.is_empty() {
            return vec![format!(
                "{} answers to {} requests: {}",
                answers.len(),
                expected.len(),
                passage.shown()
            )];
        }
        let (mut forwarded, mut found) = passage.forwarded();
        for (request, answer) in expected.iter().zip(&answers) {
            let understood = request.understood();
            let is_it = |sent: &Message| sent.understood() == understood && sent.target() == request.target();
            let sent = forwarded.iter().position(is_it).map(|index| forwarded.remove(index));
            let is_same = match answer.status() {
                200 => sent.is_some() && (request.method() == "HEAD" || answer.json() == Some(understood)),
                400 if case.name == REFUSED_BY_ROUTE => sent.is_none(),
                400 => REFUSED_BEHIND.contains(&(self.name, &case.name)),
                _ => false,
            };
            if !is_same {
                found.push(format!("{request:?} was understood otherwise: {}", passage.shown()));
            }
        }
        found.extend(forwarded.iter().map(|sent| format!("one more request: {sent:?}")));
        found
    }
}

impl Passage {
    /// Returns what is wrong with the passage of a stream whose head or body is refused.
    fn of_refused(&self, is_in_body: bool) -> Vec<String> {
        let (answers, rest) = responses(&self.received, &[]);
        let mut found = Vec::new();
        let is_refusal =
            |status: u16| if is_in_body { status == 400 } else { matches!(status, 400 | 431 | 501 | 505) };
        if !matches!(&answers[..], [answer] if is_refusal(answer.status())) || !rest.is_empty() {
            found.push(format!("it is not refused: {}", self.shown()));
        }
        // of a request with a malformed body the head may arrive; its end never does
        let (complete, _) = self.forwarded();
        if !complete.is_empty() || (!is_in_body && !self.forwarded.is_empty()) {
            found.push(format!("it has reached the server: {}", self.shown()));
        }
        found
    }

    /// Returns the complete requests that the server has received, and what is wrong with their bytes.
    fn forwarded(&self) -> (Vec<Message>, Vec<String>) {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        for stream in &self.forwarded {
            let (messages, rest) = requests(stream);
            let mut follower = RequestFollower::new(2 * MAX_HEAD);
            follower.follow(stream);
            if !rest.is_empty()
                || follower.refusal().is_some()
                || follower.requests() != messages.len() as u64
            {
                wrong.push(format!("the server has received {:?}", String::from_utf8_lossy(stream)));
            }
            all.extend(messages);
        }
        (all, wrong)
    }

    fn shown(&self) -> String {
        let forwarded: Vec<_> = self.forwarded.iter().map(|stream| String::from_utf8_lossy(stream)).collect();
        format!("received {:?}, forwarded {forwarded:?}", String::from_utf8_lossy(&self.received))
    }
}
