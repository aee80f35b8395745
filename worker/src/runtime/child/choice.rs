//! Which child runs a piece of work. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use pagewire_cluster::worker::{Affinity, WorkerType};
use serde::{Deserialize, Serialize};

/// How the child for work is chosen that any executor may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreeAffinity {
    /// The child that runs the least.
    #[default]
    LeastLoaded,
    /// One child after the other.
    RoundRobin,
    /// The same child for a user as long as it is free, to profit from what it has cached.
    User,
}

/// A child that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) kind: WorkerType,
    /// Whether it has the handler.
    pub(super) has_method: bool,
    /// Pieces of work at a time.
    pub(super) slots: u32,
    /// Slots in use.
    pub(super) used: u32,
    /// Users that are assigned to it.
    pub(super) users: usize,
    /// Whether a new user has to wait for another child.
    pub(super) is_full_of_users: bool,
    /// Whether it ends, or is kept for work that has to run alone.
    pub(super) closed: bool,
    /// Whether the user of the work is assigned to it. A child that ends keeps only users whose work it still runs.
    pub(super) is_of_user: bool,
}

/// What has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    /// The user of the work, or what stands for one.
    pub(super) user: Option<&'a str>,
    /// Work that is assigned runs in the child of the user.
    pub(super) affinity: Affinity,
    /// Whether it has to run in a child that runs nothing else.
    pub(super) alone: bool,
    /// Whether it makes an object that lives on in the child, so that a child that ends is of no use.
    pub(super) stays: bool,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The child with this index takes the work.
    Take(usize),
    /// The work waits until something changes; a child with this index must take no other work meanwhile.
    Wait(Option<usize>),
}

/// Chooses a child. `turn` counts the decisions, for [`FreeAffinity::RoundRobin`].
///
/// An assigned user stays at one child, and at a child that ends until the work of the user has ended there: so there is
/// one child for a user at a time. A new user goes to the child with the fewest users.
pub(super) fn choose(
    children: &[Candidate],
    wanted: Wanted<'_>,
    free_affinity: FreeAffinity,
    turn: usize,
) -> Choice {
    if wanted.affinity == Affinity::Assigned
        && let Some(own) = children.iter().position(|child| child.is_of_user && child.has_method)
    {
        let child = &children[own];
        if wanted.alone && child.used > 0 {
            return Choice::Wait((!child.closed).then_some(own));
        }
        return if child.used < child.slots { Choice::Take(own) } else { Choice::Wait(None) };
    }
    let is_open = |child: &Candidate| child.has_method && !child.closed && child.kind.takes(wanted.affinity);
    let open = (0..children.len()).filter(|&index| is_open(&children[index]));
    if wanted.alone {
        return match open.min_by_key(|&index| children[index].used) {
            Some(index) if children[index].used == 0 => Choice::Take(index),
            reserved => Choice::Wait(reserved),
        };
    }
    if wanted.affinity == Affinity::Assigned {
        let has_room = |index: &usize| !children[*index].is_full_of_users;
        let fewest = open.filter(has_room).min_by_key(|&index| (children[index].users, children[index].used));
        return match fewest {
            Some(index) if children[index].used < children[index].slots => Choice::Take(index),
            _ => Choice::Wait(None),
        };
    }
    let mut free = open.filter(|&index| children[index].used < children[index].slots);
    let chosen = match (free_affinity, wanted.user) {
        (FreeAffinity::RoundRobin, _) => {
            let count = free.clone().count();
            turn.checked_rem(count).and_then(|turn| free.nth(turn))
        }
        (FreeAffinity::User, Some(user)) => free.max_by_key(|&index| rendezvous(user, index)),
        _ => free.min_by_key(|&index| children[index].used),
    };
    chosen.map_or(Choice::Wait(None), Choice::Take)
}

/// Returns the weight of a child for a user: the highest one wins, so that a change of the children moves few users.
fn rendezvous(user: &str, child: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (user, child).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Candidate = Candidate {
        kind: WorkerType::Both,
        has_method: true,
        slots: 2,
        used: 0,
        users: 0,
        is_full_of_users: false,
        closed: false,
        is_of_user: false,
    };
    const ANY: Wanted<'_> = Wanted { user: None, affinity: Affinity::Free, alone: false, stays: false };
    const OWN: Wanted<'_> =
        Wanted { user: Some("ann"), affinity: Affinity::Assigned, alone: false, stays: false };

    fn chosen(children: &[Candidate], wanted: Wanted<'_>) -> Choice {
        choose(children, wanted, FreeAffinity::LeastLoaded, 0)
    }

    #[test]
    fn free_work_goes_to_the_child_that_runs_the_least_and_never_to_one_of_assigned_users() {
        let children = [
            Candidate { kind: WorkerType::Assigned, ..IDLE },
            Candidate { used: 1, ..IDLE },
            Candidate { kind: WorkerType::Free, ..IDLE },
        ];
        assert_eq!(chosen(&children, ANY), Choice::Take(2));
        assert_eq!(chosen(&children[..1], ANY), Choice::Wait(None));
    }

    #[test]
    fn a_user_stays_at_the_child_that_runs_work_of_the_user_even_when_it_ends() {
        let own = Candidate { is_of_user: true, closed: true, used: 1, users: 5, ..IDLE };
        assert_eq!(chosen(&[IDLE, own], OWN), Choice::Take(1));
        assert_eq!(chosen(&[IDLE, Candidate { used: 2, ..own }], OWN), Choice::Wait(None));
        assert_eq!(chosen(&[Candidate { users: 3, ..IDLE }, IDLE], OWN), Choice::Take(1));
        let full = Candidate { is_full_of_users: true, ..IDLE };
        assert_eq!(chosen(&[full], OWN), Choice::Wait(None));
        assert_eq!(chosen(&[Candidate { is_of_user: true, ..full }], OWN), Choice::Take(0));
    }

    #[test]
    fn work_that_must_run_alone_reserves_a_child_until_it_is_idle() {
        let alone = Wanted { alone: true, ..ANY };
        let busy = Candidate { used: 1, ..IDLE };
        assert_eq!(chosen(&[busy, Candidate { used: 2, ..IDLE }], alone), Choice::Wait(Some(0)));
        assert_eq!(chosen(&[busy, IDLE], alone), Choice::Take(1));
        assert_eq!(chosen(&[Candidate { closed: true, ..IDLE }], ANY), Choice::Wait(None));
    }

    #[test]
    fn round_robin_takes_one_after_the_other_and_user_affinity_the_same_one() {
        let three = [IDLE; 3];
        let turns = [0, 1, 2, 3].map(|turn| choose(&three, ANY, FreeAffinity::RoundRobin, turn));
        assert_eq!(turns, [0, 1, 2, 0].map(Choice::Take));
        let wanted = Wanted { user: Some("ann"), ..ANY };
        let again = [0, 1, 2].map(|turn| choose(&three, wanted, FreeAffinity::User, turn));
        assert!(again.iter().all(|choice| *choice == again[0]));
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let kind = prop_oneof![Just(WorkerType::Free), Just(WorkerType::Assigned), Just(WorkerType::Both)];
        let one = (kind, any::<bool>(), 1..4u32, 0..4u32, 0..3usize, any::<bool>()).prop_map(
            |(kind, has_method, slots, used, users, closed)| Candidate {
                kind,
                has_method,
                slots,
                used: used.min(slots),
                users,
                is_full_of_users: users > 1,
                closed,
                is_of_user: false,
            },
        );
        proptest::collection::vec(one, 0..6)
    }

    proptest! {
        #[test]
        fn a_chosen_child_is_open_has_the_handler_and_a_free_slot(
            children in candidates(),
            assigned: bool,
            alone: bool,
            turn: usize,
        ) {
            let affinity = if assigned { Affinity::Assigned } else { Affinity::Free };
            let wanted = Wanted { user: Some("ann"), affinity, alone, stays: false };
            for free_affinity in [FreeAffinity::LeastLoaded, FreeAffinity::RoundRobin, FreeAffinity::User] {
                if let Choice::Take(index) = choose(&children, wanted, free_affinity, turn) {
                    let child = &children[index];
                    prop_assert!(child.has_method && !child.closed && child.used < child.slots);
                    prop_assert!(child.kind.takes(affinity));
                    prop_assert!(!alone || child.used == 0);
                }
            }
        }
    }
}
