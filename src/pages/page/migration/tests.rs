//! Pages that move between nodes while frames are in transit, sockets break, replies get lost and nodes crash.

mod world;

use proptest::prelude::*;

use self::world::{NODES, World};

#[derive(Debug, Clone, Copy)]
enum Step {
    Push(usize),
    PushToAll { unseen: u64 },
    Command,
    LoseCommand,
    Read { frames: usize, arrives: bool },
    Acknowledge,
    Resume(usize),
    RequestHandover { reply_arrives: bool },
    Finish,
    Forwarded(usize),
    ApplyRow(usize),
    Crash(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..NODES).prop_map(Step::Push),
        6 => (0..4u64).prop_map(|unseen| Step::PushToAll { unseen }),
        3 => Just(Step::Command),
        1 => Just(Step::LoseCommand),
        6 => (1..5usize, prop::bool::weighted(0.9)).prop_map(|(frames, arrives)| Step::Read { frames, arrives }),
        2 => Just(Step::Acknowledge),
        3 => (0..NODES).prop_map(Step::Resume),
        4 => prop::bool::weighted(0.8).prop_map(|reply_arrives| Step::RequestHandover { reply_arrives }),
        4 => Just(Step::Finish),
        4 => (0..NODES).prop_map(Step::Forwarded),
        2 => (0..NODES).prop_map(Step::ApplyRow),
        1 => (0..NODES).prop_map(Step::Crash),
    ]
}

proptest! {
    #[test]
    fn a_page_that_moves_is_recovered_without_gap_or_duplicate_or_said_to_be_reset(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Push(node) => world.push(node),
                Step::PushToAll { unseen } => world.push_to_all(unseen),
                Step::Command => world.command(),
                Step::LoseCommand => world.lose_command(),
                Step::Read { frames, arrives } => world.read(frames, arrives),
                Step::Acknowledge => world.acknowledge(),
                Step::Resume(node) => world.resume(node),
                Step::RequestHandover { reply_arrives } => world.request_handover(reply_arrives),
                Step::Finish => world.finish(),
                Step::Forwarded(from) => world.deliver_forwarded(from),
                Step::ApplyRow(node) => world.apply_newest_row(node),
                Step::Crash(node) => world.crash(node),
            }
            world.check();
        }
        world.settle();
    }
}
