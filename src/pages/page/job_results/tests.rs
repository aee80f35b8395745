//! Results that are delivered repeatedly while their page moves, loses its socket and is reset.

use std::collections::BTreeSet;
use std::sync::Arc;

use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::wire::{Ending, JobNotification, JobUpdate};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::pages::outbox::Budget;
use crate::pages::page::migration::Handover;
use crate::pages::page::{AttachKind, AttachmentId, Membership, Page, PushOutcome};
use crate::protocol::{FrameBody, FrameId, JobReference, ResumeOutcome, pong};

/// So small that a client that was away has often missed too much.
const BUDGET: Budget = Budget { outbox: 1_000_000, replay: 1500 };

fn number(node: usize) -> NodeNumber {
    NodeNumber::new(node as u16 + 1).unwrap()
}

fn page(generation: u32) -> Arc<Page> {
    let at = |bits| Address { key: Key::from_bits(bits), node: number(0) };
    let place = Membership::new(at(2), at(3), None);
    Arc::new(Page::new(Key::from_bits(1), place, 0, 1, generation, BUDGET))
}

fn key(job: u64) -> Key {
    Key::from_bits(1000 + u128::from(job))
}

/// The page's own id of a job, or the job's id if a program submitted it for the page.
fn frame(job: u64) -> String {
    if job % 10 == 9 { format!("\"{}\"", key(job)) } else { job.to_string() }
}

fn end(job: u64) -> FrameBody {
    let ending = Ending { state: "succeeded".into(), value: None, error: None };
    let frame = serde_json::from_str(&frame(job)).unwrap();
    let news = JobUpdate::Ended(Box::new(ending));
    FrameBody::job(&JobNotification { page: Key::from_bits(1), frame, job: key(job), news })
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The page submits this many jobs.
    Submit(u64),
    /// Running jobs end, and a worker delivers their results to the page.
    End(prop::sample::Index, u64),
    /// A worker delivers a result again, at a former address of the page or the present one.
    Deliver(prop::sample::Index, bool),
    /// The node looks up the results that it has missed.
    CatchUp,
    /// The client reads all frames, or its socket breaks and the frames in transit are lost.
    Read(bool),
    /// The client resumes at the same node or at the other one; the handover request to the first node is answered or
    /// lost.
    Resume { elsewhere: bool, replied: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1u64..120).prop_map(Step::Submit),
        3 => (any::<prop::sample::Index>(), 1u64..120).prop_map(|(at, count)| Step::End(at, count)),
        4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(job, old)| Step::Deliver(job, old)),
        1 => Just(Step::CatchUp),
        3 => prop::bool::weighted(0.8).prop_map(Step::Read),
        2 => (any::<bool>(), prop::bool::weighted(0.7))
            .prop_map(|(elsewhere, replied)| Step::Resume { elsewhere, replied }),
    ]
}

struct World {
    copies: [Option<Arc<Page>>; 2],
    at: usize,
    generation: u32,
    ticket: Option<AttachmentId>,
    /// The state of the client: the last number, and the jobs with a received result.
    seq: u64,
    received: Vec<u64>,
    submitted: u64,
    over: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let first = page(1);
        let ticket = first.attach(AttachKind::New, |_| pong());
        let copies = [Some(first), None];
        Self {
            copies,
            at: 0,
            generation: 1,
            ticket,
            seq: 0,
            received: vec![],
            submitted: 0,
            over: BTreeSet::new(),
        }
    }

    fn here(&self) -> Arc<Page> {
        self.copies[self.at].clone().unwrap()
    }

    fn submit(&mut self, jobs: u64) {
        for job in self.submitted..self.submitted + jobs {
            if job % 10 != 9 {
                self.here().track_job(key(job), &frame(job));
            }
        }
        self.submitted += jobs;
    }

    /// A command that began at a node from which the page has just moved away.
    fn submit_at(&mut self, old: &Page) {
        let job = self.submitted;
        self.submitted += 1;
        if job % 10 != 9 {
            let id: FrameId = serde_json::from_str(&frame(job)).unwrap();
            old.push(&FrameBody::accepted(&id, key(job)));
            old.track_job(key(job), &frame(job));
        }
    }

    fn finish_all(&mut self) {
        for job in 0..self.submitted {
            if self.over.insert(job) {
                self.deliver_result(job, false);
            }
        }
    }

    fn finish(&mut self, at: prop::sample::Index, jobs: u64) {
        let running: Vec<u64> = (0..self.submitted).filter(|job| !self.over.contains(job)).collect();
        let from = if running.is_empty() { 0 } else { at.index(running.len()) };
        for &job in running[from..].iter().take(jobs as usize) {
            self.over.insert(job);
            self.deliver_result(job, false);
        }
    }

    /// Delivers as a worker does: first to the address that it knows, then to the one that the row names.
    fn deliver_result(&self, job: u64, old_address: bool) {
        let first = if old_address { 1 - self.at } else { self.at };
        for node in [first, self.at] {
            let Some(page) = &self.copies[node] else { continue };
            if !matches!(page.deliver_job_result(key(job), &frame(job), &end(job)), PushOutcome::Missed) {
                return;
            }
        }
    }

    fn catch_up(&self) {
        for waits in self.here().waits_for() {
            if let Some(&job) = self.over.iter().find(|job| key(**job) == waits.job) {
                self.here().deliver_job_result(key(job), &waits.frame, &end(job));
            }
        }
    }

    fn read(&mut self, arrives: bool) {
        let Some(ticket) = self.ticket else { return };
        let (mut seq, mut received) = (self.seq, Vec::new());
        self.here().take(ticket, usize::MAX, &mut |head, tail| {
            let frame: Value = serde_json::from_slice(&[head, tail.bytes()].concat()).unwrap();
            if let Some(number) = frame["seq"].as_u64() {
                assert_eq!(number, seq + 1, "numbers never skip");
                seq = number;
            }
            if frame["type"] == "result" {
                let job: Key = frame["job"].as_str().unwrap().parse().unwrap();
                received.push((job.bits() - 1000) as u64);
            }
        });
        if !arrives {
            return self.ticket = None;
        }
        self.seq = seq;
        for job in received {
            assert!(!self.received.contains(&job), "the end of job {job} was delivered twice");
            self.received.push(job);
        }
    }

    fn resume(&mut self, elsewhere: bool, replied: bool) {
        let mut kind = AttachKind::Resumed { seq: self.seq };
        if elsewhere {
            let (old, to) = (self.here(), 1 - self.at);
            self.generation += 1;
            let new = page(self.generation);
            new.expect_handover();
            self.copies[to] = Some(new.clone());
            self.at = to;
            let rev = u64::from(self.generation) * 10;
            let (handover, mut forwarding) =
                old.freeze(number(to), self.generation, rev, self.seq).expect("it is held there");
            match handover {
                Handover::Complete(handed) if replied => assert!(new.install(&handed)),
                _ => kind = AttachKind::Elsewhere,
            }
            self.submit_at(&old);
            while let Ok(late) = forwarding.frames.try_recv() {
                let frame: Box<RawValue> = late.tail.to_frame().unwrap();
                let about = JobReference::read(&frame).expect("a frame about a job");
                if about.is_end() {
                    new.deliver_job_result(about.job, about.id.get(), &late.tail);
                } else {
                    new.track_job(about.job, about.id.get());
                    new.push(&late.tail);
                }
            }
        }
        let mut recovered = ResumeOutcome::New;
        self.ticket = self.here().attach(kind, |welcome| {
            recovered = welcome.recovered;
            pong()
        });
        let reset = recovered == ResumeOutcome::Reset;
        if reset {
            self.seq = 0;
        }
        self.deliver_if_ended(reset);
    }

    /// The client names the jobs that it waits for.
    fn deliver_if_ended(&self, reset: bool) {
        let page = self.here();
        for job in (0..self.submitted).filter(|job| job % 10 != 9 && !self.received.contains(job)) {
            let (key, frame) = (key(job), frame(job));
            if reset {
                page.track_job(key, &frame);
            }
            match self.over.contains(&job) {
                true if reset => drop(page.redeliver_job_result(key, &frame, &end(job))),
                true => drop(page.deliver_job_result(key, &frame, &end(job))),
                false => {}
            }
        }
    }

    /// A client that reads and resumes has the results of all jobs that have ended by then.
    fn settle(&mut self) {
        self.finish_all();
        self.read(true);
        self.resume(false, true);
        self.read(true);
        let expected: Vec<u64> =
            (0..self.submitted).filter(|job| job % 10 != 9 && !self.received.contains(job)).collect();
        assert!(expected.is_empty(), "never delivered: {expected:?}");
    }
}

proptest! {
    #[test]
    fn a_page_hears_every_end_once_however_often_and_wherever_it_is_told(
        steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Submit(jobs) => world.submit(jobs),
                Step::End(at, jobs) => world.finish(at, jobs),
                Step::Deliver(job, old) if !world.over.is_empty() => {
                    let job = *job.get(&world.over.iter().copied().collect::<Vec<_>>());
                    // results of a program's job are remembered for a while only
                    if job % 10 != 9 {
                        world.deliver_result(job, old);
                    }
                }
                Step::Deliver(..) => {}
                Step::CatchUp => world.catch_up(),
                Step::Read(arrives) => world.read(arrives),
                Step::Resume { elsewhere, replied } => world.resume(elsewhere, replied),
            }
        }
        world.settle();
    }
}
