//! The children of a pool that are ready or drain, and the users that are assigned to them, as plain values.
//!
//! Owns: free slots, reservations and assignments. Never: processes, or who waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagewire_cluster::id::Key;
use pagewire_cluster::worker::{Affinity, WorkerType};

use super::choice::{Candidate, Choice, Wanted, choose};
use super::http_socket::HttpSocket;
use super::options::FreeAffinity;
use super::restarts::RecentFailures;
use super::scaling::Load;
use super::session::Session;
use super::status::{ChildPoolStatus, ChildStatus};
use super::wire::Method;
use crate::object::Seat;

/// How long a child stays assigned to a user without work.
const IDLE_USER: Duration = Duration::from_secs(600);

/// How a child is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChoiceRules {
    pub(super) affinity: FreeAffinity,
    /// Users of one child while more children may be started.
    pub(super) max_users: Option<usize>,
}

/// See the module.
#[derive(Default)]
pub(super) struct PoolState {
    pub(super) members: Vec<Member>,
    users: HashMap<Arc<str>, AssignedUser>,
    /// Number of decisions.
    turn: usize,
    /// The candidates of the last decision. The next decision uses their memory.
    candidates: Vec<Candidate>,
    /// Work that waits for a child, by its ticket.
    pub(super) waiting: HashMap<u64, QueuedWork>,
    /// Whether more children for assigned users may be started.
    pub(super) is_growing: bool,
    pub(super) failures: RecentFailures,
    /// Whether children go on because the program after them does not start.
    pub(super) is_outdated: bool,
    pub(super) restarts: u64,
    pub(super) lost: LostChildren,
    pub(super) last_error: Option<String>,
    pub(super) methods: Arc<BTreeMap<String, Method>>,
}

/// Children that were ready and have ended by themselves, or were ended because they did not work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostChildren {
    /// How many.
    pub count: u64,
    /// How the last one ended.
    pub reason: String,
}

/// A child that is ready or drains.
pub(super) struct Member {
    pub(super) session: Arc<Session>,
    pub(super) kind: WorkerType,
    /// The place that it has in the pool; the child after it has the same one.
    pub(super) place: u32,
    pub(super) slots: u32,
    pub(super) used: u32,
    /// Users that are assigned to it.
    pub(super) users: usize,
    pub(super) methods: Arc<BTreeMap<String, Method>>,
    /// Where it serves HTTP.
    pub(super) http: Option<Arc<HttpSocket>>,
    /// Since when it runs nothing.
    pub(super) idle_since: Option<Instant>,
    /// Whether it gets no more work.
    pub(super) closed: bool,
    /// The ticket of work that has to run here alone.
    pub(super) reserved: Option<u64>,
    pub(super) pid: u32,
    pub(super) sdk: String,
    pub(super) since: Instant,
    /// The objects of resident pages that live in it, by their pages.
    pub(super) objects: HashMap<Key, Seat>,
}

/// What a child has to have for a piece of work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need<'a> {
    /// The handler of this name.
    Handler(&'a str),
    /// A socket of HTTP. A child that ends gets no new requests.
    Http,
    /// A socket of HTTP, at this place.
    HttpAt(u32),
}

impl Member {
    pub(super) fn has(&self, need: Need<'_>) -> bool {
        match need {
            Need::Handler(method) => self.methods.contains_key(method),
            Need::Http => !self.closed && self.http.is_some(),
            Need::HttpAt(place) => self.place == place && self.has(Need::Http),
        }
    }

    /// Returns how many pieces of work and requests it has ended.
    fn done(&self) -> u64 {
        self.session.done() + self.http.as_ref().map_or(0, |http| http.done())
    }
}

/// A slot of the child in which an object lives.
pub(super) enum SeatedTake {
    /// It is taken.
    Taken(Arc<Session>),
    /// None is free.
    Full,
    /// The child is gone.
    Gone,
}

/// Work that waits for a child.
pub(super) struct QueuedWork {
    pub(super) affinity: Affinity,
    pub(super) since: Instant,
}

/// The child of a user.
struct AssignedUser {
    child: u64,
    running: u32,
    since: Instant,
}

impl PoolState {
    /// Returns the child with this number.
    pub(super) fn member(&mut self, number: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.session.number == number)
    }

    /// Removes a child with its users. Returns the seats of the objects that lived in it.
    pub(super) fn remove(&mut self, number: u64) -> Vec<Seat> {
        let objects = self.member(number).map(|member| std::mem::take(&mut member.objects));
        self.members.retain(|member| member.session.number != number);
        self.users.retain(|_, assigned| assigned.child != number);
        objects.into_iter().flat_map(HashMap::into_values).collect()
    }

    /// Takes slots of a child for a piece of work. Returns the child, its slots and the user who is assigned to it, or
    /// `None` when the work has to wait; then a child may be reserved for its `ticket`.
    pub(super) fn take(
        &mut self,
        need: Need<'_>,
        wanted: Wanted<'_>,
        rules: ChoiceRules,
        ticket: u64,
    ) -> Option<(Arc<Session>, u32, Option<Arc<str>>)> {
        self.turn = self.turn.wrapping_add(1);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        candidates.extend(self.candidates(need, wanted, rules.max_users, ticket));
        let choice = choose(&candidates, wanted, rules.affinity, self.turn);
        self.candidates = candidates;
        let index = match choice {
            Choice::Take(index) => index,
            Choice::Wait(reserved) => {
                if let Some(index) = reserved {
                    self.members[index].reserved = Some(ticket);
                }
                return None;
            }
        };
        let member = &mut self.members[index];
        let slots = if wanted.alone { member.slots } else { 1 };
        member.used += slots;
        member.idle_since = None;
        let session = member.session.clone();
        let user = wanted
            .user
            .filter(|_| wanted.affinity == Affinity::Assigned)
            .map(|user| self.assign(user, session.number));
        Some((session, slots, user))
    }

    /// Takes a slot of the child in which an object lives.
    pub(super) fn take_at(&mut self, number: u64) -> SeatedTake {
        let Some(member) = self.member(number) else { return SeatedTake::Gone };
        if member.used >= member.slots {
            return SeatedTake::Full;
        }
        member.used += 1;
        member.idle_since = None;
        SeatedTake::Taken(member.session.clone())
    }

    /// Records that an object lives in a child from now on. Returns whether the child ends; `None` when it is gone.
    pub(super) fn seat(&mut self, number: u64, seat: &Seat) -> Option<bool> {
        let member = self.member(number)?;
        member.objects.insert(seat.page(), seat.clone());
        Some(member.closed)
    }

    /// Records that an object does not live in a child any more.
    pub(super) fn unseat(&mut self, number: u64, seat: &Seat) {
        if let Some(member) = self.member(number)
            && member.objects.get(&seat.page()).is_some_and(|known| known.is(seat))
        {
            member.objects.remove(&seat.page());
        }
    }

    /// Gives slots of a child back.
    pub(super) fn give_back(&mut self, child: u64, slots: u32, user: Option<&Arc<str>>) {
        if let Some(member) = self.member(child) {
            member.used = member.used.saturating_sub(slots);
            member.idle_since = (member.used == 0).then(Instant::now);
        }
        if let Some(assigned) = user.and_then(|user| self.users.get_mut(user)) {
            assigned.running = assigned.running.saturating_sub(1);
        }
    }

    /// Returns the places with a child that serves HTTP, in order.
    pub(super) fn http_places(&self) -> Vec<u32> {
        let serving = self.members.iter().filter(|member| member.has(Need::Http));
        let mut places: Vec<u32> = serving.map(|member| member.place).collect();
        places.sort_unstable();
        // the child before and the one after it for a moment
        places.dedup();
        places
    }

    /// Gives up the reservations of work that waits no more.
    pub(super) fn unreserve(&mut self, ticket: u64) {
        for member in &mut self.members {
            member.reserved = member.reserved.filter(|other| *other != ticket);
        }
    }

    /// Returns what the children of one kind do; `children` is the number of their places.
    pub(super) fn load(&self, kind: WorkerType, children: usize, max_users: Option<usize>) -> Load {
        let ready: Vec<&Member> =
            self.members.iter().filter(|member| member.kind == kind && !member.closed).collect();
        let waits = self.waiting.values().filter(|work| kind.takes(work.affinity));
        let is_full = |member: &&Member| max_users.is_some_and(|most| member.users >= most);
        // a child with objects is in use
        let idle = |member: &&Member| {
            let since = member.idle_since.filter(|_| member.objects.is_empty())?;
            Some((member.session.number, since.elapsed()))
        };
        Load {
            children,
            ready: ready.len(),
            waited: waits.map(|work| work.since.elapsed()).max().unwrap_or_default(),
            is_full_of_users: !ready.is_empty() && ready.iter().all(is_full),
            idlest: ready.iter().filter_map(idle).max_by_key(|(_, since)| *since),
            lightest: ready.iter().min_by_key(|member| member.used).map(|member| member.session.number),
        }
    }

    /// Returns what the pool does now.
    pub(super) fn status(&self) -> ChildPoolStatus {
        let child = |member: &Member| ChildStatus {
            child: member.session.number,
            pid: member.pid,
            kind: member.kind.text(),
            state: if member.closed { "draining" } else { "ready" },
            sdk: member.sdk.clone(),
            running: member.used,
            slots: member.slots,
            users: member.users,
            done: member.done(),
            age_s: member.since.elapsed().as_secs(),
        };
        ChildPoolStatus {
            children: self.members.iter().map(child).collect(),
            queued: self.waiting.len(),
            restarts: self.restarts,
            failing: self.failures.are_reported(Instant::now()),
            outdated: self.is_outdated,
            last_error: self.last_error.clone(),
        }
    }

    /// Counts the users of each child again.
    fn count_users(&mut self) {
        for member in &mut self.members {
            let number = member.session.number;
            member.users = self.users.values().filter(|assigned| assigned.child == number).count();
        }
    }

    fn candidates(
        &self,
        need: Need<'_>,
        wanted: Wanted<'_>,
        max_users: Option<usize>,
        ticket: u64,
    ) -> impl Iterator<Item = Candidate> {
        let own = wanted.user.and_then(|user| self.users.get(user));
        let most = max_users.filter(|_| self.is_growing).unwrap_or(usize::MAX);
        let candidate = move |member: &Member| {
            let number = member.session.number;
            let ends = member.closed && (wanted.stays || own.is_none_or(|own| own.running == 0));
            let stays = |own: &AssignedUser| own.child == number && !ends;
            Candidate {
                kind: member.kind,
                has_method: member.has(need),
                slots: member.slots,
                used: member.used,
                users: member.users,
                is_full_of_users: member.users >= most,
                closed: member.closed || member.reserved.is_some_and(|other| other != ticket),
                is_of_user: own.is_some_and(stays),
            }
        };
        self.members.iter().map(candidate)
    }

    /// Assigns a user to a child, with one more piece of work. Users without work for long are forgotten.
    fn assign(&mut self, user: &str, child: u64) -> Arc<str> {
        let now = Instant::now();
        if let Some((user, _)) = self.users.get_key_value(user).filter(|(_, own)| own.child == child) {
            let user = user.clone();
            if let Some(own) = self.users.get_mut(&user) {
                (own.running, own.since) = (own.running + 1, now);
            }
            return user;
        }
        if self.users.len().is_power_of_two() {
            self.users.retain(|_, own| own.running > 0 || now.duration_since(own.since) < IDLE_USER);
            self.count_users();
        }
        let user: Arc<str> = user.into();
        let before = self.users.insert(user.clone(), AssignedUser { child, running: 1, since: now });
        if let Some(left) = before.and_then(|before| self.member(before.child)) {
            left.users -= 1;
        }
        if let Some(joined) = self.member(child) {
            joined.users += 1;
        }
        user
    }
}
