//! Processes that count the jobs of one account over one row, with their steps in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::Account;

const PERIOD: Duration = Duration::from_millis(100);
const PAGES: u128 = 3;

fn quota(page: u128, limits: (usize, usize)) -> Quota {
    let (per_page, per_account) = limits;
    Quota { account: Account::User("ann".into()), page: Key::from_bits(page), per_page, per_account }
}

#[derive(Debug, Clone)]
enum Action {
    Submit {
        process: usize,
        page: u128,
    },
    /// A process does the next step of its task: it reads and begins a write, or its write reaches the engine.
    Act {
        process: usize,
        response_lost: bool,
    },
    /// An open job ends, and the process that counted it is notified or not.
    End {
        job: usize,
        notified: bool,
    },
    Pass {
        ms: u64,
    },
}

fn action(processes: usize) -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..processes, 0..PAGES).prop_map(|(process, page)| Action::Submit { process, page }),
        8 => (0..processes, prop::bool::weighted(0.1))
            .prop_map(|(process, response_lost)| Action::Act { process, response_lost }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(job, notified)| Action::End { job, notified }),
        2 => (1..80u64).prop_map(|ms| Action::Pass { ms }),
    ]
}

#[derive(Default)]
struct Process {
    count: QuotaCount,
    waiting: Vec<Reservation>,
    /// A write under way, and when it was sent.
    in_flight: Option<(QuotaWrite, Instant)>,
}

struct World {
    limits: (usize, usize),
    now: Instant,
    rev: Option<u64>,
    row: QuotaRow,
    processes: Vec<Process>,
    /// The admitted jobs that have not ended, with their page and the process that has admitted them.
    open: BTreeMap<Key, (Key, usize)>,
    submitted: u128,
}

impl World {
    fn new(processes: usize, limits: (usize, usize)) -> Self {
        Self {
            limits,
            now: Instant::now(),
            rev: None,
            row: QuotaRow::default(),
            processes: std::iter::repeat_with(Process::default).take(processes).collect(),
            open: BTreeMap::new(),
            submitted: 0,
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Submit { process, page } => self.submit(process, page),
            Action::Act { process, response_lost } if self.processes[process].in_flight.is_some() => {
                self.write_arrives(process, response_lost);
            }
            Action::Act { process, .. } => self.begin(process),
            Action::End { job, notified } => self.end(job, notified),
            Action::Pass { ms } => self.now += Duration::from_millis(ms),
        }
        self.check();
    }

    fn submit(&mut self, process: usize, page: u128) {
        self.submitted += 1;
        let job = Key::from_bits(self.submitted);
        let reservation = Reservation { quota: quota(page, self.limits), job, until: 0, added: 0 };
        if self.processes[process].count.admit_unwritten(&reservation, self.now, PERIOD) {
            self.admitted(process, &reservation);
        } else {
            self.processes[process].waiting.push(reservation);
        }
    }

    fn admitted(&mut self, process: usize, reservation: &Reservation) {
        self.open.insert(reservation.job, (reservation.quota.page, process));
    }

    /// Returns the jobs that have not ended. Those that wait have no record yet, but are too recent to be removed.
    fn not_ended(&self) -> HashSet<Key> {
        let waiting = self.processes.iter().flat_map(|process| &process.waiting);
        self.open.keys().copied().chain(waiting.map(|one| one.job)).collect()
    }

    fn begin(&mut self, number: usize) {
        let (now, row, rev) = (self.now, self.row.clone(), self.rev);
        let Process { count, waiting, .. } = &mut self.processes[number];
        let due = count.next_write(PERIOD).is_some_and(|due| due <= now);
        if waiting.is_empty() && !due {
            return;
        }
        if count.needs_read(waiting, now, PERIOD) {
            count.read(row, rev, now);
        }
        let at_once: Vec<_> = waiting.extract_if(.., |one| count.admit_unwritten(one, now, PERIOD)).collect();
        for reservation in at_once {
            self.admitted(number, &reservation);
        }
        let not_ended = self.not_ended();
        let Process { count, waiting, in_flight } = &mut self.processes[number];
        if waiting.is_empty() && !due {
            return;
        }
        if count.plan_write(waiting).unwrap().outcomes.iter().any(Result::is_err) {
            for (job, ..) in count.open() {
                if !not_ended.contains(&job) {
                    count.is_over(job);
                }
            }
        }
        let write = count.plan_write(waiting).unwrap();
        let refused = write.outcomes.iter().any(Result::is_err);
        if refused && self.limits.0 >= self.limits.1 {
            assert!(write.row.open.len() >= self.limits.1, "refused with {:?}", write.row.open);
        }
        let counts_ended = write.row.open.iter().any(|(job, ..)| !not_ended.contains(job));
        assert!(!refused || !counts_ended, "an ended job fills the limit");
        if !count.has_unwritten() && write.outcomes.iter().all(Result::is_err) {
            return waiting.clear();
        }
        count.begin_write();
        *in_flight = Some((write, now));
    }

    fn write_arrives(&mut self, number: usize, response_lost: bool) {
        let Process { count, waiting, in_flight } = &mut self.processes[number];
        let (QuotaWrite { row, rev, outcomes }, seen) = in_flight.take().unwrap();
        if rev != self.rev {
            return count.not_written();
        }
        (self.row, self.rev) = (row.clone(), Some(rev.unwrap_or_default() + 1));
        if response_lost {
            return count.not_written();
        }
        count.written(row, rev.unwrap_or_default() + 1, seen);
        // what was submitted during the write waits for the next one
        let batch: Vec<_> = waiting.drain(..outcomes.len()).collect();
        for (reservation, outcome) in batch.iter().zip(outcomes) {
            if outcome.is_ok() {
                self.admitted(number, reservation);
            }
        }
    }

    fn end(&mut self, job: usize, notified: bool) {
        if self.open.is_empty() {
            return;
        }
        let (&job, &(_, process)) = self.open.iter().nth(job % self.open.len()).unwrap();
        self.open.remove(&job);
        if notified {
            self.processes[process].count.is_over(job);
        }
    }

    fn check(&self) {
        let further = self.processes.len() - 1;
        let (per_page, per_account) = self.limits;
        let most = |limit: usize| limit + further * Quota::slack(limit);
        assert!(self.open.len() <= most(per_account), "{} open jobs", self.open.len());
        for page in (0..PAGES).map(Key::from_bits) {
            let open = self.open.values().filter(|(of, _)| *of == page).count();
            assert!(open <= most(per_page), "{open} open jobs of one page");
        }
        let stored = self.row.jobs();
        for process in 0..self.processes.len() {
            let unwritten =
                self.open.iter().filter(|(job, (_, by))| *by == process && !stored.contains(job)).count();
            assert!(unwritten <= Quota::slack(per_account), "{unwritten} jobs would be forgotten");
        }
    }

    /// Lets every process finish. What waited before is written a period after it was admitted.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.now += PERIOD;
            for process in (0..self.processes.len()).cycle().take(self.processes.len() * 8) {
                self.perform(Action::Act { process, response_lost: false });
            }
        }
    }
}

fn limits() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![Just((4, 8)), Just((8, 16)), Just((16, 16)), Just((3, 5))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn processes_admit_the_limit_and_at_most_a_slack_for_each_further_process(
        limits in limits(),
        actions in (1..5usize).prop_flat_map(|processes| {
            (Just(processes), prop::collection::vec(action(processes), 0..300))
        }),
    ) {
        let (processes, actions) = actions;
        let mut world = World::new(processes, limits);
        for action in actions {
            world.perform(action);
        }
        world.settle();
        let stored = world.row.jobs();
        prop_assert!(world.open.keys().all(|job| stored.contains(job)), "an open job is not written");
    }

    #[test]
    fn processes_that_submit_one_after_the_other_admit_exactly_the_limit(
        limits in limits(),
        phases in prop::collection::vec((0..3usize, prop::collection::vec(action(1), 0..60)), 0..6),
    ) {
        let mut world = World::new(3, limits);
        for (by, actions) in phases {
            for action in actions {
                world.perform(match action {
                    Action::Submit { page, .. } => Action::Submit { process: by, page },
                    Action::Act { response_lost, .. } => Action::Act { process: by, response_lost },
                    other => other,
                });
                prop_assert!(world.open.len() <= limits.1, "{} open jobs", world.open.len());
            }
            world.settle();
            prop_assert!(world.open.len() <= limits.1, "{} open jobs", world.open.len());
            world.now += Duration::from_millis(1);
        }
    }

    #[test]
    fn after_all_jobs_have_ended_the_whole_limit_is_free_again(
        limits in limits(),
        actions in prop::collection::vec(action(2), 0..200),
    ) {
        let mut world = World::new(2, limits);
        for action in actions {
            world.perform(action);
        }
        world.settle();
        world.open.clear();
        for page in (0..PAGES).cycle().take(limits.1 * 3) {
            world.perform(Action::Submit { process: 0, page });
            world.settle();
        }
        prop_assert_eq!(world.open.len(), limits.1.min(limits.0 * PAGES as usize));
    }
}

#[test]
fn a_job_that_ends_within_the_period_is_in_no_row() {
    let (mut count, now) = (QuotaCount::default(), Instant::now());
    let job = |bits| Reservation { quota: quota(1, (16, 16)), job: Key::from_bits(bits), until: 0, added: 0 };
    assert!(!count.admit_unwritten(&job(1), now, PERIOD), "the row was never read");
    count.read(QuotaRow::default(), None, now);
    assert!(count.admit_unwritten(&job(1), now, PERIOD));
    assert!(count.admit_unwritten(&job(2), now, PERIOD));
    count.is_over(Key::from_bits(1));
    assert_eq!(count.next_write(PERIOD), Some(now + PERIOD));
    let row = count.plan_write(&[]).unwrap().row;
    assert_eq!(row.open.iter().map(|(job, ..)| *job).collect::<Vec<_>>(), [Key::from_bits(2)]);
    count.is_over(Key::from_bits(2));
    assert_eq!(count.next_write(PERIOD), None);
    let later = now + PERIOD * 2;
    assert!(!count.admit_unwritten(&job(3), later, PERIOD), "another process may have written meanwhile");
    assert!(count.needs_read(&[job(3)], later, PERIOD));
}

#[test]
fn near_a_limit_a_job_is_written_before_it_is_admitted_and_the_row_is_not_read_again() {
    let (mut count, now) = (QuotaCount::default(), Instant::now());
    let job = |bits| Reservation { quota: quota(1, (16, 16)), job: Key::from_bits(bits), until: 0, added: 0 };
    let open = (0..8).map(|bits| job(bits).place()).collect();
    count.read(QuotaRow { until: 0, open }, Some(1), now);
    assert!(!count.admit_unwritten(&job(9), now, PERIOD));
    assert!(!count.needs_read(&[job(9)], now + PERIOD * 2, PERIOD));
    assert_eq!(count.plan_write(&[job(9)]).unwrap().outcomes, [Ok(())]);
}

#[test]
fn a_job_that_has_ended_does_not_count_after_its_row_is_read_again_and_is_not_written_again() {
    let (mut count, now) = (QuotaCount::default(), Instant::now());
    let job = |bits| Reservation { quota: quota(1, (2, 2)), job: Key::from_bits(bits), until: 0, added: 0 };
    let row = || QuotaRow { until: 0, open: vec![job(1).place(), job(2).place()] };
    count.read(row(), Some(1), now);
    assert_eq!(count.plan_write(&[job(3)]).unwrap().outcomes, [Err(QuotaError::PageFull)]);
    count.is_over(Key::from_bits(1));
    count.not_written();
    count.is_over(Key::from_bits(2));
    count.read(row(), Some(1), now);
    let write = count.plan_write(&[job(3), job(4), job(5)]).unwrap();
    assert_eq!(write.outcomes, [Ok(()), Ok(()), Err(QuotaError::PageFull)]);
    assert_eq!(write.row.jobs(), HashSet::from([Key::from_bits(3), Key::from_bits(4)]));
}
