//! Abort latches between processes: an abort that needs no quorum.
//!
//! Owns: the two subscriptions of a process, how a latch is announced, repeated, asked for and answered, and that only genuine
//! ones are applied. Never: what a latch does (`latch`).
//!
//! A latch travels on the Bus, which works while no stream has a leader. Every process that hears it applies it at once and
//! publishes it again each second until the document of the pool has a later revision. A process that starts or reconnects
//! asks for the latches of the others. Every node that holds one tries to write it; of several, one does.

mod announce;
mod write;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

pub use self::announce::{Abort, AbortOutcome};
pub use self::write::AbortWrite;
use self::write::AbortWriter;
use super::Rollouts;
use super::audience::WorkerProcess;
use super::latch::{HeldLatch, Holding};
use crate::engine::{BusEvent, Engine, Message, RequestError, Subscription, Unavailable};
use crate::id::{Holder, Key, NodeNumber};
use crate::keyring::Keyring;
use crate::subject::Subjects;
use crate::timing::Timing;
use crate::wire::{self, LatchMessage, LatchReply, SignedLatch};

/// Maximum unread bytes of each subscription.
const INBOX_BYTES: usize = 1024 * 1024;

/// The process that holds latches.
#[derive(Debug, Clone)]
pub enum LatchProcess {
    /// A node, with its current number.
    Node(watch::Receiver<Option<Holder>>),
    /// A process of workers outside the nodes.
    Workers(WorkerProcess),
}

/// The latches of this process on the Bus. Cheap to clone.
#[derive(Clone)]
pub struct Latches {
    engine: Engine,
    subjects: Arc<Subjects>,
    keyring: Keyring,
    rollouts: Rollouts,
    writer: AbortWriter,
    timing: Timing,
}

impl Latches {
    /// Creates the latches of a process that applies these rollouts; call [`Latches::follow`].
    pub fn new(
        engine: &Engine,
        subjects: &Subjects,
        keyring: &Keyring,
        rollouts: &Rollouts,
        timing: Timing,
    ) -> Self {
        Self {
            engine: engine.clone(),
            subjects: Arc::new(subjects.clone()),
            keyring: keyring.clone(),
            rollouts: rollouts.clone(),
            writer: AbortWriter::new(rollouts),
            timing,
        }
    }

    /// Subscribes and asks the other processes for their latches: from then on this process may assign work. The returned future
    /// follows the latches and ends only with the engine. The documents must be followed already.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn follow(
        &self,
        process: LatchProcess,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Unavailable> {
        // before the question, so that no latch falls between the two
        let announced = self.engine.subscribe(&self.subjects.latches(), None, INBOX_BYTES).await?;
        self.ask().await?;
        let asked = self.engine.subscribe(&self.subjects.latch_queries(), None, INBOX_BYTES).await?;
        let this = self.clone();
        Ok(async move {
            let is_node = matches!(process, LatchProcess::Node(_));
            tokio::select! {
                () = this.listen(announced, asked, process) => {}
                () = this.writer.write_held(this.timing.latch_repeat), if is_node => {}
            }
        })
    }

    async fn listen(&self, mut announced: Subscription, mut asked: Subscription, process: LatchProcess) {
        let mut process = ReplyingProcess { process, number: None };
        let mut repeat = interval(self.timing.latch_repeat);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = announced.next() => match event {
                    Some(BusEvent::Message(message)) => self.receive(&message, &mut process).await,
                    Some(BusEvent::Gap(_)) => {
                        let this = self.clone();
                        tokio::spawn(async move {
                            if let Err(error) = this.ask().await {
                                tracing::debug!(%error, "aborts not asked for");
                            }
                        });
                    }
                    None => return,
                },
                event = asked.next() => match event {
                    Some(BusEvent::Message(message)) => self.answer(&message).await,
                    Some(BusEvent::Gap(_)) => {}
                    None => return,
                },
                _ = repeat.tick() => self.repeat().await,
            }
        }
    }

    /// Applies the latches of a message, and says so if its sender wants to know.
    async fn receive(&self, message: &Message, process: &mut ReplyingProcess) {
        let Ok(LatchMessage::Hold { latches }) = serde_json::from_slice(&message.payload) else { return };
        let mut are_applied = true;
        for signed in latches {
            are_applied &= self.apply(signed);
        }
        let Some(reply) = process.reply().filter(|_| are_applied) else { return };
        if let Some(reply) = message.reply_with(wire::encode(&reply)) {
            self.publish(reply).await;
        }
    }

    /// Applies a latch. Returns whether the lane is closed in this process: by the latch, or by a later document.
    fn apply(&self, signed: SignedLatch) -> bool {
        // each process publishes what it holds each second: most messages say nothing new
        if self.rollouts.applied.holds(&signed) {
            return true;
        }
        let is_genuine = self.keyring.verify_known(&signed.signed(), &signed.signature);
        let Some(latch) = signed.read().filter(|_| is_genuine) else {
            self.rollouts.applied.count_refused();
            tracing::debug!("an abort of a rollout without a signature of the cluster was refused");
            return false;
        };
        let (pool, lane) = (latch.pool.clone(), latch.lane.clone());
        match self.rollouts.applied.hold(HeldLatch { latch, signed }) {
            Holding::New | Holding::Known => true,
            Holding::Passed => self.rollouts.applied.is_closed_by_document(&pool, &lane),
            Holding::Foreign | Holding::Full => false,
        }
    }

    /// Asks the other processes for their latches and applies the answers. Returns at once if there is no other process.
    async fn ask(&self) -> Result<(), Unavailable> {
        let to = self.subjects.latch_replies(Key::random());
        let mut answers = self.engine.subscribe(&to, None, INBOX_BYTES).await?;
        let until = Instant::now() + self.timing.latch_answers;
        let question = Message::new(self.subjects.latch_queries(), wire::encode(&LatchMessage::Ask));
        let everyone = Message { reply: Some(to), ..question.clone() };
        self.engine.publish(everyone).await.map_err(|_| Unavailable)?;
        // the engine knows at once if no process is there to answer
        let first = self.engine.request(question, self.timing.latch_answers).await;
        if matches!(first, Err(RequestError::NoResponder)) {
            return Ok(());
        }
        while let Ok(Some(event)) = timeout_at(until, answers.next()).await {
            if let BusEvent::Message(message) = event
                && let Ok(LatchMessage::Hold { latches }) = serde_json::from_slice(&message.payload)
            {
                for signed in latches {
                    self.apply(signed);
                }
            }
        }
        Ok(())
    }

    /// Answers a process that asks.
    async fn answer(&self, message: &Message) {
        let answer = LatchMessage::Hold { latches: self.held() };
        if let Some(reply) = message.reply_with(wire::encode(&answer)) {
            self.publish(reply).await;
        }
    }

    async fn repeat(&self) {
        let latches = self.held();
        if !latches.is_empty() {
            let message = wire::encode(&LatchMessage::Hold { latches });
            self.publish(Message::new(self.subjects.latches(), message)).await;
        }
    }

    fn held(&self) -> Vec<SignedLatch> {
        self.rollouts.applied.latches().into_iter().map(|held| held.signed).collect()
    }

    /// Publishes a message. One that is lost is published again, or asked for.
    async fn publish(&self, message: Message) {
        if let Err(error) = self.engine.publish(message).await {
            tracing::debug!(%error, "message about an abort not sent");
        }
    }
}

/// What a process answers.
struct ReplyingProcess {
    process: LatchProcess,
    /// The last number of a node: one that cannot renew its lease now applies latches all the same.
    number: Option<NodeNumber>,
}

impl ReplyingProcess {
    /// Returns the answer; `None` for a node that has never had a number.
    fn reply(&mut self) -> Option<LatchReply> {
        match &self.process {
            LatchProcess::Node(holder) => {
                let holder = *holder.borrow();
                self.number = holder.map(|holder| holder.node).or(self.number);
                self.number.map(|node| LatchReply::Node { node })
            }
            LatchProcess::Workers(process) => Some(process.reply()),
        }
    }
}

#[cfg(test)]
mod tests;
