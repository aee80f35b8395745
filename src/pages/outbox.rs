//! The frames that a page still has to receive. Pure.
//!
//! A frame gets its number when it leaves for a socket; numbers never skip. Frames that have left stay in the replay
//! ring until the client acknowledges them. So a client that resumes gets exactly the frames that it missed, or a reset
//! if that is impossible.

use std::collections::VecDeque;

use crate::protocol::FrameBody;

/// The cost of a frame in bytes: its content, as if it were not shared, plus its entry.
fn cost(tail: &FrameBody) -> usize {
    tail.len() + std::mem::size_of::<FrameBody>()
}

/// Maximum number of bytes that a page may keep.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of frames that wait for the socket.
    pub outbox: usize,
    /// Bytes of frames that have left and are not acknowledged.
    pub replay: usize,
}

/// Result of adding a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnqueueResult {
    /// The frame waits for the socket.
    Queued,
    /// No room: this frame and all later ones are lost to the page until it is reset.
    Overflow,
}

/// Result of a resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    /// The client gets every frame after the last one it saw.
    Recovered,
    /// At least one frame is missing: numbers start again.
    Reset,
}

/// The frames of a page that moves to another node.
#[derive(Debug, Clone)]
pub(super) struct OutboxSnapshot {
    /// The number of the last frame that left.
    pub(super) last: u64,
    /// Frames that have left and that the client has not seen; the last one has the number `last`.
    pub(super) sent: Vec<FrameBody>,
    /// Frames that have no number yet.
    pub(super) waiting: Vec<FrameBody>,
}

/// The frames of one page.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Frames outside the sequence, for the present socket only. They leave first.
    unsequenced: VecDeque<FrameBody>,
    /// First the `sent` frames that have left, the last of them numbered `last`, then the frames that wait for a
    /// number. Both share one queue because leaving is the most frequent operation: it moves a counter and no frame.
    frames: VecDeque<FrameBody>,
    sent: usize,
    last: u64,
    /// The number of the newest frames that have left and that the present socket must get again.
    again: usize,
    waiting_bytes: usize,
    sent_bytes: usize,
    lost: bool,
}

impl Outbox {
    /// Adds a sequenced frame.
    pub(super) fn push(&mut self, tail: FrameBody, budget: Budget) -> EnqueueResult {
        let cost = cost(&tail);
        // one frame always fits, so that no legal message is undeliverable
        if self.lost || (self.waiting_bytes + cost > budget.outbox && self.waits()) {
            self.lost = true;
            return EnqueueResult::Overflow;
        }
        self.waiting_bytes += cost;
        self.frames.push_back(tail);
        EnqueueResult::Queued
    }

    /// Adds a frame outside the sequence.
    pub(super) fn push_unsequenced(&mut self, tail: FrameBody) {
        self.unsequenced.push_back(tail);
    }

    /// Passes the next frame for the socket to `write`, with its number, or `None` for a frame outside the sequence.
    /// Returns `false` when there is no frame.
    pub(super) fn take(&mut self, budget: Budget, write: impl FnOnce(Option<u64>, &FrameBody)) -> bool {
        if let Some(tail) = self.unsequenced.pop_front() {
            write(None, &tail);
            return true;
        }
        if self.again > 0 {
            let again = &self.frames[self.sent - self.again];
            self.again -= 1;
            write(Some(self.last - self.again as u64), again);
            return true;
        }
        let Some(tail) = self.frames.get(self.sent) else { return false };
        let cost = cost(tail);
        self.waiting_bytes -= cost;
        self.sent_bytes += cost;
        self.sent += 1;
        self.last += 1;
        write(Some(self.last), tail);
        while self.sent_bytes > budget.replay {
            self.forget_oldest();
        }
        true
    }

    /// Whether [`Outbox::take`] has no frame.
    pub(super) fn is_empty(&self) -> bool {
        self.unsequenced.is_empty() && self.again == 0 && !self.waits()
    }

    /// Removes the frames up to `seq`, because the client has received them.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        while self.sent > self.again && seq > self.last - self.sent as u64 {
            self.forget_oldest();
        }
        self.release_memory();
    }

    /// Prepares the frames for a new socket of a client that has seen everything up to `seq`.
    pub(super) fn resume(&mut self, seq: u64) -> Resumed {
        self.unsequenced.clear();
        let first_kept = self.last - self.sent as u64;
        if self.lost || seq < first_kept || seq > self.last {
            self.reset();
            return Resumed::Reset;
        }
        self.again = 0;
        self.acknowledge(seq);
        self.again = self.sent;
        Resumed::Recovered
    }

    /// The frames that a client with everything up to `seq` still has to get, for another node; `None` when some of
    /// them are lost.
    pub(super) fn hand_over(&self, seq: u64) -> Option<OutboxSnapshot> {
        let first_kept = self.last - self.sent as u64;
        if self.lost || seq < first_kept || seq > self.last {
            return None;
        }
        let seen = (seq - first_kept) as usize;
        let frames = |range| self.frames.range(range).cloned().collect();
        let (sent, waiting) = (frames(seen..self.sent), frames(self.sent..self.frames.len()));
        Some(OutboxSnapshot { last: self.last, sent, waiting })
    }

    /// Whether a frame waits for a number.
    pub(super) fn is_waiting(&self, tail: &FrameBody) -> bool {
        self.frames.iter().skip(self.sent).any(|waiting| waiting == tail)
    }

    /// Consumes the outbox and returns the frames that have no number yet.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = FrameBody> {
        self.frames.into_iter().skip(self.sent)
    }

    /// Installs the frames from another node. Frames that already wait here are newer than the installed ones.
    pub(super) fn install(&mut self, moving: OutboxSnapshot) {
        let early = std::mem::take(&mut self.frames).into_iter().skip(self.sent);
        self.last = moving.last;
        self.sent = moving.sent.len();
        self.sent_bytes = moving.sent.iter().map(cost).sum();
        self.frames = moving.sent.into_iter().chain(moving.waiting).chain(early).collect();
        self.waiting_bytes = self.frames.range(self.sent..).map(cost).sum();
    }

    /// Bytes of frames that wait for the socket.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Restarts the numbers. Waiting frames are kept unless a frame between them was lost.
    fn reset(&mut self) {
        let Self { mut frames, sent, waiting_bytes, lost, .. } = std::mem::take(self);
        if !lost {
            frames.drain(..sent);
            (self.frames, self.waiting_bytes) = (frames, waiting_bytes);
        }
    }

    /// Whether a frame has no number yet.
    fn waits(&self) -> bool {
        self.frames.len() > self.sent
    }

    /// Removes the oldest frame that has left.
    fn forget_oldest(&mut self) {
        if self.sent > 0
            && let Some(tail) = self.frames.pop_front()
        {
            self.sent -= 1;
            self.sent_bytes -= cost(&tail);
        }
        self.again = self.again.min(self.sent);
    }

    /// Frees empty queues, so that an idle page keeps no buffers.
    fn release_memory(&mut self) {
        for queue in [&mut self.unsequenced, &mut self.frames] {
            if queue.is_empty() && queue.capacity() > 0 {
                *queue = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    const BUDGET: Budget = Budget { outbox: 1000, replay: 1000 };

    fn frame(number: u32) -> FrameBody {
        FrameBody::message(&RawValue::from_string(number.to_string()).unwrap(), None, None)
    }

    fn number(tail: &FrameBody) -> u32 {
        let text = format!("{{{}", std::str::from_utf8(tail.bytes()).unwrap());
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["payload"].as_u64().unwrap() as u32
    }

    fn take(outbox: &mut Outbox, budget: Budget) -> Option<(Option<u64>, FrameBody)> {
        let mut taken = None;
        outbox.take(budget, |seq, tail| taken = Some((seq, tail.clone())));
        taken
    }

    #[test]
    fn a_frame_without_a_number_goes_first_and_takes_none() {
        let mut outbox = Outbox::default();
        outbox.push(frame(1), BUDGET);
        outbox.push_unsequenced(crate::protocol::pong());
        assert_eq!(take(&mut outbox, BUDGET).map(|(seq, _)| seq), Some(None));
        assert_eq!(take(&mut outbox, BUDGET).map(|(seq, _)| seq), Some(Some(1)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_ring_that_is_too_short_means_reset_and_numbers_start_again() {
        let mut outbox = Outbox::default();
        let tight = Budget { outbox: 10_000, replay: 200 };
        for n in 0..20 {
            outbox.push(frame(n), tight);
            take(&mut outbox, tight);
        }
        assert_eq!(outbox.resume(3), Resumed::Reset);
        outbox.push(frame(99), tight);
        assert_eq!(take(&mut outbox, tight).map(|(seq, tail)| (seq, number(&tail))), Some((Some(1), 99)));
    }

    #[test]
    fn an_overflow_is_told_to_the_sender_and_at_the_next_resume() {
        let mut outbox = Outbox::default();
        let tight = Budget { outbox: 80, replay: 80 };
        assert_eq!(outbox.push(frame(1), tight), EnqueueResult::Queued);
        assert_eq!(outbox.push(frame(2), tight), EnqueueResult::Overflow);
        assert_eq!(outbox.resume(0), Resumed::Reset);
        assert!(outbox.is_empty());
        assert_eq!(outbox.push(frame(3), tight), EnqueueResult::Queued);
    }

    #[test]
    fn a_seq_that_was_never_given_means_reset() {
        assert_eq!(Outbox::default().resume(5), Resumed::Reset);
    }

    #[test]
    fn an_idle_page_keeps_no_buffers() {
        let mut outbox = Outbox::default();
        outbox.push(frame(1), BUDGET);
        take(&mut outbox, BUDGET);
        outbox.acknowledge(1);
        assert_eq!(outbox.frames.capacity() + outbox.unsequenced.capacity(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        /// The socket takes one frame; the client sees it, or it is lost with the connection.
        Take {
            arrives: bool,
        },
        Acknowledge,
        Reconnect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            4 => any::<bool>().prop_map(|arrives| Step::Take { arrives }),
            1 => Just(Step::Acknowledge),
            1 => Just(Step::Reconnect),
        ]
    }

    proptest! {
        /// For any sequence of steps the client sees every frame once and in order, or gets a reset.
        #[test]
        fn recovered_means_no_gap_and_no_duplicate(steps in prop::collection::vec(step(), 0..200), replay in 100usize..2000) {
            let budget = Budget { outbox: 100_000, replay };
            let mut outbox = Outbox::default();
            let (mut pushed, mut seen, mut seq) = (0u32, Vec::new(), 0u64);
            let mut connected = true;
            for step in steps {
                match step {
                    Step::Push => {
                        outbox.push(frame(pushed), budget);
                        pushed += 1;
                    }
                    Step::Take { arrives } if connected => {
                        if let Some((Some(given), tail)) = take(&mut outbox, budget) {
                            if arrives {
                                prop_assert_eq!(given, seq + 1, "numbers never skip");
                                seq = given;
                                seen.push(number(&tail));
                            } else {
                                connected = false; // bytes lost with the socket
                            }
                        }
                    }
                    Step::Take { .. } => {}
                    Step::Acknowledge => outbox.acknowledge(seq),
                    Step::Reconnect => {
                        connected = true;
                        if outbox.resume(seq) == Resumed::Reset {
                            seq = 0;
                            seen.clear();
                        }
                    }
                }
            }
            if !connected && outbox.resume(seq) == Resumed::Reset {
                seen.clear();
            }
            while let Some((_, tail)) = take(&mut outbox, budget) {
                seen.push(number(&tail));
            }
            let contiguous = seen.windows(2).all(|pair| pair[1] == pair[0] + 1);
            prop_assert!(contiguous, "{seen:?}");
            if let Some(last) = seen.last() {
                prop_assert_eq!(*last, pushed - 1);
            }
        }
    }
}
