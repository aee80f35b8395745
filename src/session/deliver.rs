//! One road for every delivery: from here or elsewhere, to here or elsewhere.
//!
//! Owns: which nodes a scope is on, the acknowledged request to each, and this node's own share through the hub.
//! Never: encoding per socket (the hub shares one tail) or a retry of what may have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use pagewire_cluster::delivery::{Post, Unanswered};
use pagewire_cluster::id::{Address, Holder, Key, NodeNumber};
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::registry::Registry;
use pagewire_cluster::wire::{Answer, Delivery, JobNote, News, Question, Reach, Scope};
use serde_json::value::RawValue;

use super::hub::{Hub, Pushed};
use crate::protocol::{CommandError, ErrorCode, Tail};
use crate::telemetry::{self, Metrics};

/// What a push met, everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Pages with an open socket, and pages in their resume window.
    pub reach: Reach,
    /// The nodes that answered.
    pub nodes: Vec<NodeNumber>,
    /// The nodes that did not: their pages may or may not have got it.
    pub unreachable: Vec<NodeNumber>,
}

/// Sends messages to pages, wherever they are. Cheap to clone.
#[derive(Clone)]
pub struct Deliver {
    hub: Arc<Hub>,
    registry: Registry,
    lease: NodeLease,
    post: Post,
    metrics: Arc<Metrics>,
}

impl Deliver {
    /// Delivers through this node's hub and to other nodes by post.
    pub fn new(
        hub: Arc<Hub>,
        registry: Registry,
        lease: NodeLease,
        post: Post,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { hub, registry, lease, post, metrics }
    }

    /// A message to the pages of a scope. Refused while this node is cut off from its cluster.
    pub async fn send(
        &self,
        to: Scope,
        payload: Box<RawValue>,
        from: Option<Address>,
    ) -> Result<Outcome, CommandError> {
        let own = self.lease.holder().ok_or_else(CommandError::unavailable)?;
        let started = Instant::now();
        let delivery = Delivery { to, elsewhere: Vec::new(), payload, from };
        let outcome = match delivery.to {
            Scope::Page(address) => self.send_to_page(own, address, delivery).await,
            _ => self.send_to_scope(own, delivery).await,
        };
        self.metrics.pushed(started.elapsed());
        outcome
    }

    /// To this node's share directly, to every other node that has one with one request.
    async fn send_to_scope(&self, own: Holder, delivery: Delivery) -> Result<Outcome, CommandError> {
        let shares = self.shares(own, &delivery.to);
        let mut outcome = Outcome { nodes: vec![own.node], ..Outcome::default() };
        let elsewhere =
            shares.iter().filter(|(holder, _)| **holder != own).flat_map(|(_, pages)| pages).copied();
        let here = self.local(&delivery, &elsewhere.collect::<Vec<_>>());
        let others: Vec<Holder> = shares.keys().copied().filter(|holder| *holder != own).collect();
        let questions: Vec<_> =
            others.iter().map(|holder| Question::Deliver(share(&delivery, &shares, *holder))).collect();
        let asked = others
            .iter()
            .zip(&questions)
            .map(|(holder, question)| self.post.ask(*holder, question, telemetry::current_trace()));
        let (here, answers) = tokio::join!(here.settle(), join_all(asked));
        outcome.reach = here;
        for (holder, answer) in others.iter().zip(answers) {
            match answer {
                Ok(Answer::Delivered(reach)) => {
                    outcome.reach += reach;
                    outcome.nodes.push(holder.node);
                }
                Err(Unanswered::TooLarge) => return Err(too_large()),
                _ => outcome.unreachable.push(holder.node),
            }
        }
        Ok(outcome)
    }

    /// By its address alone; if it is not there any more, its row is read once and it is tried once again.
    async fn send_to_page(
        &self,
        own: Holder,
        address: Address,
        delivery: Delivery,
    ) -> Result<Outcome, CommandError> {
        let mut question = Question::Deliver(delivery);
        let first = self.ask_page(own, address, &question).await?;
        if !matches!(first, Err(Unanswered::Gone) | Ok(Answer::Unknown)) {
            return Ok(page_outcome(address.node, first));
        }
        let row = self.registry.row(address.key).await.map_err(|_| CommandError::unavailable())?;
        let moved = row.map(|(row, _)| Address { node: row.node, ..address });
        match moved.filter(|moved| *moved != address) {
            None => Ok(page_outcome(address.node, first)),
            Some(moved) => {
                if let Question::Deliver(delivery) = &mut question {
                    delivery.to = Scope::Page(moved);
                }
                let second = self.ask_page(own, moved, &question).await?;
                Ok(page_outcome(moved.node, second))
            }
        }
    }

    async fn ask_page(
        &self,
        own: Holder,
        address: Address,
        question: &Question,
    ) -> Result<Result<Answer, Unanswered>, CommandError> {
        if address.node == own.node
            && let Question::Deliver(delivery) = question
        {
            return Ok(Ok(match self.receive(delivery) {
                Some(pushed) => Answer::Delivered(pushed.settle().await),
                None => Answer::Unknown,
            }));
        }
        match self.post.ask_page(address, question, telemetry::current_trace()).await {
            Err(Unanswered::TooLarge) => Err(too_large()),
            answer => Ok(answer),
        }
    }

    /// A delivery for this node's pages; `None` when it is for a page that is not here.
    pub fn receive(&self, delivery: &Delivery) -> Option<Pushed> {
        match delivery.to {
            Scope::Page(address) if self.hub.page(address.key).is_none() => None,
            _ => Some(self.local(delivery, &delivery.elsewhere)),
        }
    }

    /// What became of a job, for a page of this node; `None` when the page is not here.
    pub fn receive_job(&self, note: &JobNote) -> Option<Pushed> {
        let page = self.hub.page(note.page)?;
        let tail = Tail::job(note);
        let mut pushed = Pushed::default();
        pushed.count(match note.news {
            News::Progress(_) => page.push(&tail),
            News::Ended(_) => page.conclude(note.job, note.frame.get(), &tail),
        });
        Some(pushed)
    }

    fn local(&self, delivery: &Delivery, elsewhere: &[Key]) -> Pushed {
        let topic = match &delivery.to {
            Scope::Topic(topic) => Some(topic.as_str()),
            _ => None,
        };
        self.hub.push(&delivery.to, elsewhere, &Tail::message(&delivery.payload, delivery.from, topic))
    }

    /// Which pages of a scope this node counts on which node: its own it knows best, the rest the view tells.
    fn shares(&self, own: Holder, scope: &Scope) -> BTreeMap<Holder, Vec<Key>> {
        let view = self.registry.view();
        let mut shares: BTreeMap<Holder, Vec<Key>> =
            view.holders(scope).into_iter().map(|holder| (holder, Vec::new())).collect();
        for (page, seen) in view.pages_of(scope) {
            let here = self.hub.page(page).is_some_and(|page| page.is_here());
            shares.entry(if here { own } else { seen.holder }).or_default().push(page);
        }
        shares
    }
}

/// What one node is asked: the scope, without the pages that others have.
fn share(delivery: &Delivery, shares: &BTreeMap<Holder, Vec<Key>>, holder: Holder) -> Delivery {
    let elsewhere =
        shares.iter().filter(|(other, _)| **other != holder).flat_map(|(_, pages)| pages).copied();
    Delivery { elsewhere: elsewhere.collect(), ..delivery.clone() }
}

fn page_outcome(node: NodeNumber, answer: Result<Answer, Unanswered>) -> Outcome {
    match answer {
        Ok(Answer::Delivered(reach)) => Outcome { reach, nodes: vec![node], unreachable: Vec::new() },
        // the node answered for its pages: it does not hold this one
        Ok(Answer::Unknown) => Outcome { nodes: vec![node], ..Outcome::default() },
        _ => Outcome { unreachable: vec![node], ..Outcome::default() },
    }
}

fn too_large() -> CommandError {
    CommandError::new(ErrorCode::TooLarge, "the message is too large to travel between nodes")
}
