//! The announcement of an abort.
//!
//! Owns: which latch an abort becomes, and which processes have applied it after how long, by the clock of this process. Never: how
//! other processes apply it.

use std::collections::BTreeMap;
use std::future::ready;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::time::{Instant, timeout};

use super::super::audience::{RolloutAudience, WorkerProcess};
use super::super::change::ChangeError;
use super::super::latch::{HeldLatch, Holding};
use super::super::plan::{RolloutStep, lane_to_abort};
use super::super::spec::{RolloutSpec, RolloutUpdate};
use super::{AbortWrite, INBOX_BYTES, Latches};
use crate::engine::{BusEvent, Message, RequestError, Subscription};
use crate::id::Key;
use crate::subject::{leaf, worker_leaf};
use crate::wire::{self, AbortLatch, Alive, LatchMessage, LatchReply, SignedLatch};

/// An abort that an operator or a controller wants.
#[derive(Debug, Clone)]
pub struct Abort {
    /// The pool.
    pub pool: String,
    /// The lane; `None` for that of the plan.
    pub lane: Option<String>,
    /// The revision that must be current in this process; `None` for any.
    pub revision: Option<u64>,
    /// Reason, for people.
    pub comment: String,
    /// Author.
    pub by: String,
}

/// What an abort has done so far.
#[derive(Debug, Clone)]
pub struct AbortOutcome {
    /// The latch, which holds until it is written.
    pub latch: AbortLatch,
    /// The living processes, and how long each took to apply it; `None` for one that has not said so.
    pub applied: BTreeMap<LatchReply, Option<Duration>>,
    /// What the document says now; `None` while the engine stores nothing: then the nodes write the abort as soon as it does.
    pub written: Option<AbortWrite>,
}

impl AbortOutcome {
    /// Returns how long it took until all had applied it.
    pub fn took(&self) -> Option<Duration> {
        self.applied.values().try_fold(Duration::ZERO, |longest, took| Some(longest.max((*took)?)))
    }
}

impl Latches {
    /// Takes a lane back: at once in every process that the Bus reaches, and in the document when the engine stores it. Returns
    /// when both have happened, at most after `Timing::deliver`.
    ///
    /// # Errors
    ///
    /// - [`ChangeError::Invalid`] when the pool has no such lane beside the base.
    /// - [`ChangeError::Conflict`] when this process applies another revision than the named one.
    /// - [`ChangeError::Unavailable`] when too many aborts wait to be written.
    pub async fn abort(&self, abort: Abort, audience: &RolloutAudience) -> Result<AbortOutcome, ChangeError> {
        let latch = self.latch(abort)?;
        let signed = SignedLatch::new(&latch, |content| self.keyring.sign(content));
        let until = Instant::now() + self.timing.deliver;
        let held = HeldLatch { latch: latch.clone(), signed: signed.clone() };
        if self.rollouts.applied.hold(held) == Holding::Full {
            return Err(ChangeError::Unavailable);
        }
        let write = timeout(self.timing.deliver, self.writer.write(&latch, true));
        let (applied, written) = tokio::join!(self.announce(signed, audience, until), write);
        // without the engine, the nodes write it later
        let written = written.ok().and_then(Result::ok);
        if let Some(AbortWrite::Written(document)) = &written {
            // so that what follows in this process sees the revision
            self.rollouts.state(&latch.pool, document.rev).await;
        }
        Ok(AbortOutcome { latch, applied, written })
    }

    fn latch(&self, Abort { pool, lane, revision, comment, by }: Abort) -> Result<AbortLatch, ChangeError> {
        let document = self.rollouts.applied_document(&pool);
        let document = document.unwrap_or_else(|| RolloutSpec::unwritten(&pool));
        if revision.is_some_and(|revision| revision != document.rev) {
            return Err(ChangeError::Conflict(Box::new(document)));
        }
        let lane = lane_to_abort(&document, lane)?;
        // a latch that cannot be written would not end
        let step = Some(RolloutStep::Abort { lane: Some(lane.clone()) });
        let wanted = RolloutUpdate { step, comment: comment.clone(), ..RolloutUpdate::default() };
        document.revise(wanted, String::new(), &by, 0)?;
        Ok(AbortLatch { pool, lane, revision: document.rev, origin: document.origin, by, comment })
    }

    /// Announces a latch. Returns which processes have applied it by `until`; one that is gone is none of them.
    async fn announce(
        &self,
        signed: SignedLatch,
        audience: &RolloutAudience,
        until: Instant,
    ) -> BTreeMap<LatchReply, Option<Duration>> {
        let mut applied: BTreeMap<_, _> = audience.processes().map(|process| (process, None)).collect();
        let to = self.subjects.latch_replies(Key::random());
        let replies = self.engine.subscribe(&to, None, INBOX_BYTES).await;
        let payload = wire::encode(&LatchMessage::Hold { latches: vec![signed] });
        let message = Message { reply: Some(to), ..Message::new(self.subjects.latches(), payload) };
        let sent = Instant::now();
        self.publish(message).await;
        let Ok(mut replies) = replies else { return applied };
        let mut gone = std::pin::pin!(self.gone(audience));
        let mut subjects = audience.subjects();
        while applied.values().any(Option::is_none) {
            tokio::select! {
                reply = next_reply(&mut replies) => match reply {
                    Some(process) => {
                        applied.entry(process).or_default().get_or_insert_with(|| sent.elapsed());
                    }
                    None => break,
                },
                Some(process) = gone.next() => {
                    let left = subjects.get_mut(&process).map(|left| {
                        *left -= 1;
                        *left
                    });
                    if left == Some(0) && applied.get(&process) == Some(&None) {
                        applied.remove(&process);
                    }
                }
                () = tokio::time::sleep_until(until) => break,
            }
        }
        applied
    }

    /// Returns the subjects of the audience that have no responder any more although their leases have not expired, each when
    /// that is known.
    fn gone(&self, audience: &RolloutAudience) -> impl Stream<Item = LatchReply> {
        let nodes = audience.nodes.iter().map(|node| {
            let subject = self.subjects.node(node.node, node.epoch, leaf::ALIVE);
            (LatchReply::Node { node: node.node }, subject)
        });
        let workers = audience
            .workers
            .iter()
            .map(|(worker, process)| (process.reply(), self.subjects.worker(*worker, worker_leaf::ALIVE)));
        let ask = async |(process, subject): (LatchReply, String)| {
            let question = Message::new(subject, wire::encode(&Alive {}));
            let answer = self.engine.request(question, self.timing.deliver).await;
            matches!(answer, Err(RequestError::NoResponder)).then_some(process)
        };
        let answers: FuturesUnordered<_> = nodes.chain(workers).map(ask).collect();
        answers.filter_map(ready)
    }
}

impl RolloutAudience {
    /// Returns the processes, and how many subjects each has.
    fn subjects(&self) -> BTreeMap<LatchReply, usize> {
        let mut subjects = BTreeMap::new();
        for process in self.processes() {
            *subjects.entry(process).or_default() += 1;
        }
        subjects
    }

    fn processes(&self) -> impl Iterator<Item = LatchReply> {
        let nodes = self.nodes.iter().map(|holder| LatchReply::Node { node: holder.node });
        nodes.chain(self.workers.iter().map(|(_, process)| process.reply()))
    }
}

impl WorkerProcess {
    pub(super) fn reply(&self) -> LatchReply {
        LatchReply::Workers { host: self.host.clone(), pid: self.pid }
    }
}

/// Returns the next process that has applied the latch; `None` without the engine.
async fn next_reply(replies: &mut Subscription) -> Option<LatchReply> {
    loop {
        match replies.next().await? {
            BusEvent::Message(message) => match serde_json::from_slice(&message.payload) {
                Ok(reply) => return Some(reply),
                Err(_) => continue,
            },
            BusEvent::Gap(_) => {}
        }
    }
}
