//! Delivers work to a worker.
//!
//! Owns: the work of a worker as a stream of [`Work`]. Never: handlers; the receiver of the stream runs them and
//! reports how they ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, Jobs};
use pagewire_cluster::register::Registers;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::wire::CallAnswer;
use pagewire_cluster::worker::{WorkerGroup, WorkerLease};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::CallAdmission;
use super::affinity::AssignedJobs;
use super::assignment::Assignment;
use super::attempt::Attempt;
use super::call::IncomingCall;
use super::call_subscription::CallSubscription;
use super::claim::Claims;
use super::control::{ControlSubscriptions, WorkerControl, read};
use super::effects::Supervisor;
use super::entry::WorkerEntry;
use super::handlers::{Handlers, RunFailure};
use super::object::ObjectMessage;
use super::observer::WorkObserver;
use super::open_queue::OpenQueue;
use super::outgoing::WorkSubmitter;
use super::ownership::OwnershipEvents;
use super::quarantine::PoolQuarantine;
use super::queue::FreeJobs;
use super::residence::{ObjectLimits, Residence, ResidenceSetup, follow};
use super::running::RunningWork;
use super::slots::{SlotOptions, Slots};
use super::turn_runner::TurnRunner;
use super::user_turns::UserTurns;
use super::work::{Work, WorkerParts};

/// Who a worker is.
pub struct WorkerSetup {
    /// Id of the worker.
    pub id: Key,
    /// Pool and lane.
    pub group: WorkerGroup,
    /// Release of its handlers.
    pub release: String,
    /// Maximum number of units of work that run concurrently.
    pub slots: SlotOptions,
    /// Handlers of the worker: it gets no other work.
    pub methods: BTreeSet<String>,
    /// Whether the worker is given calls and jobs for any worker.
    pub free_work: bool,
    /// Whether the worker is inside a node, which calls it without the engine.
    pub is_inside_node: bool,
    /// Lease of the worker.
    pub lease: WorkerLease,
    /// The registers that its handlers use.
    pub registers: Registers,
    /// Submits the jobs and makes the calls of its handlers.
    pub outgoing: Arc<dyn WorkSubmitter>,
    /// The limits of its objects of resident pages.
    pub objects: ObjectLimits,
}

/// What a worker receives.
struct Incoming {
    work: mpsc::Receiver<Work>,
    calls: CallSubscription,
    leaving: CancellationToken,
    subscriptions: ControlSubscriptions,
    objects: ObjectLimits,
    object_messages: mpsc::UnboundedReceiver<ObjectMessage>,
}

/// The work of one worker, in the order of arrival.
pub struct WorkStream {
    work: mpsc::Receiver<Work>,
    calls: CallSubscription,
    entry: WorkerEntry,
    ownership: OwnershipEvents,
    supervisor: Arc<Supervisor>,
    quarantine: Arc<PoolQuarantine>,
    objects: ObjectLimits,
    /// Messages about objects, until they are followed.
    object_messages: Option<mpsc::UnboundedReceiver<ObjectMessage>>,
    /// Ends the messages to this worker.
    leaving: CancellationToken,
    control: tokio::task::JoinHandle<()>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl WorkStream {
    /// Opens the stream and returns when the engine has confirmed the subscriptions. After `draining` is set no new
    /// work comes; a message to this worker can set it, too.
    pub async fn open(
        jobs: &Jobs,
        rollouts: &Rollouts,
        setup: WorkerSetup,
        draining: watch::Sender<bool>,
    ) -> Result<Self, Unavailable> {
        let WorkerSetup { id, group, release, slots, methods, free_work, is_inside_node, .. } = setup;
        let WorkerSetup { lease, registers, outgoing, objects: limits, .. } = setup;
        let (object_messages, for_objects) = mpsc::unbounded_channel();
        // each unit of work has a slot, so the sender never waits
        let (sender, work) = mpsc::channel(slots.count.max(1) as usize);
        let subscriptions = ControlSubscriptions::open(jobs, &group, id, free_work).await?;
        let called = methods.iter().filter(|_| free_work).map(String::as_str);
        let unanswered = TaskTracker::new();
        let leaving = CancellationToken::new();
        let calls = CallSubscription::open(jobs, &group, called, is_inside_node, &leaving).await?;
        let parts = Arc::new(WorkerParts {
            jobs: jobs.clone(),
            registers,
            group,
            release,
            methods,
            lease,
            slots: Slots::new(slots),
            draining,
            running: Arc::new(RunningWork::default()),
            objects: Arc::default(),
            object_messages,
            unanswered,
            work: sender,
        });
        let (workers, rollouts, group) = (jobs.workers.clone(), rollouts.clone(), parts.group.clone());
        let assignment = Assignment { workers, rollouts, group, id };
        let incoming =
            Incoming { work, calls, leaving, subscriptions, objects: limits, object_messages: for_objects };
        Ok(Self::begin(parts, assignment, incoming, outgoing, free_work))
    }

    /// Starts the tasks of a worker.
    fn begin(
        parts: Arc<WorkerParts>,
        assignment: Assignment,
        incoming: Incoming,
        outgoing: Arc<dyn WorkSubmitter>,
        free_work: bool,
    ) -> Self {
        let (jobs, id) = (&parts.jobs, assignment.id);
        let Incoming { work, calls, leaving, subscriptions, objects, object_messages } = incoming;
        let (claims, admission) = (Arc::new(Claims::new(&parts)), Arc::new(CallAdmission::new(&parts)));
        let turns = Arc::new(UserTurns::new(jobs, &assignment, &parts.lease));
        let supervisor = Supervisor::new(&parts, turns.clone(), outgoing);
        let (open, ownership) = (Arc::new(OpenQueue::default()), turns.events().clone());
        let runner = TurnRunner { parts: parts.clone(), claims: claims.clone(), turns, open };
        let assigned = Arc::new(AssignedJobs::new(assignment.clone(), runner));
        let free = Arc::new(FreeJobs::new(&parts, &claims, assignment));
        let entry = WorkerEntry { id, parts: parts.clone(), admission, assigned: assigned.clone() };
        let control = WorkerControl {
            parts: parts.clone(),
            claims,
            entry: entry.clone(),
            assigned: assigned.clone(),
            free: free.clone(),
        };
        let quarantine = PoolQuarantine::new(jobs, &parts.group.pool, &parts.release);
        let control = tokio::spawn(Arc::new(control).listen(subscriptions, leaving.clone()));
        let mut tasks = vec![
            tokio::spawn(quarantine.clone().follow()),
            tokio::spawn(assigned.clone().feed()),
            tokio::spawn(assigned.clone().expire_idle()),
        ];
        if free_work {
            tasks.push(tokio::spawn(free.pull()));
        }
        Self {
            work,
            calls,
            entry,
            ownership,
            supervisor,
            quarantine,
            objects,
            object_messages: Some(object_messages),
            leaving,
            control,
            tasks,
        }
    }

    /// Lets the objects of resident pages live here. The work that uses them is run with the result.
    pub(crate) fn open_residence(
        &mut self,
        handlers: &Handlers,
        observer: &Arc<dyn WorkObserver>,
    ) -> Arc<Residence> {
        let residence = Residence::new(ResidenceSetup {
            parts: self.entry.parts.clone(),
            supervisor: self.supervisor(),
            handlers: handlers.clone(),
            observer: observer.clone(),
            limits: self.objects,
        });
        if let Some(messages) = self.object_messages.take() {
            self.tasks.push(tokio::spawn(follow(residence.clone(), messages)));
        }
        residence
    }

    /// Returns the events of the users that this worker owns.
    pub fn ownership(&self) -> &OwnershipEvents {
        &self.ownership
    }

    /// Returns what reaches this worker from inside its process.
    pub fn entry(&self) -> WorkerEntry {
        self.entry.clone()
    }

    /// Returns the next unit of work.
    pub async fn next(&mut self) -> Option<Work> {
        loop {
            // checked first, so that no number of calls delays it
            if let Ok(work) = self.work.try_recv() {
                return Some(work);
            }
            tokio::select! {
                biased;
                Some(question) = self.calls.next() => {
                    let Some(call) = read(&question) else { continue };
                    let asked = self.entry.asked_free(call, question);
                    if let Some(admitted) = self.entry.admission.admit(asked) {
                        return Some(Work::Call(Box::new(admitted)));
                    }
                }
                work = self.work.recv() => return work,
            }
        }
    }

    /// Returns the quarantine of this worker's pool.
    pub fn quarantine(&self) -> Arc<PoolQuarantine> {
        self.quarantine.clone()
    }

    /// Returns the supervisor that checks the effects of this worker's handlers.
    pub fn supervisor(&self) -> Arc<Supervisor> {
        self.supervisor.clone()
    }

    /// Resolves when no work runs here any more. Work that still arrives must be received meanwhile.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let parts = self.entry.parts.clone();
        async move {
            parts.slots.idle().await;
            parts.unanswered.close();
            parts.unanswered.wait().await;
        }
    }

    /// Releases the users of this worker and leaves its subject. No work may run here any more. A call that arrives
    /// meanwhile is refused, so that another worker runs it.
    pub async fn close(mut self) {
        let timing = self.entry.parts.jobs.timing;
        let entry = self.entry();
        let leaving = self.leaving.clone();
        let leave = async {
            entry.marked().await;
            tokio::join!(entry.assigned.release(), entry.objects_left());
            tokio::time::sleep(timing.leave_wait).await;
            leaving.cancel();
        };
        // an engine that is down brings no call
        let _ = tokio::time::timeout(timing.operation, self.refuse_rest(leave)).await;
        // users that were acquired for a look-up meanwhile
        entry.assigned.release().await;
    }

    /// Refuses the calls that this worker still receives, and returns the jobs that it has claimed, until `leave` has ended
    /// and the last one is answered.
    async fn refuse_rest(&mut self, leave: impl Future<Output = ()>) {
        let unanswered = self.entry.parts.unanswered.clone();
        unanswered.close();
        let (control, calls, work, entry) = (&mut self.control, &mut self.calls, &mut self.work, &self.entry);
        let left = async {
            leave.await;
            // an error means that a message was not handled
            let _ = control.await;
        };
        let last_calls = async {
            while let Some(question) = calls.next().await {
                if let Some(call) = read(&question) {
                    entry.accept_free(call, question);
                }
            }
        };
        let last = async {
            tokio::join!(left, last_calls);
            unanswered.wait().await;
        };
        let refused = async {
            while let Some(work) = work.recv().await {
                match work {
                    Work::Call(call) => tokio::spawn(refuse(entry.clone(), *call)),
                    Work::Job(attempt) => tokio::spawn(unanswered.track_future(give_back(*attempt))),
                };
            }
        };
        tokio::select! {
            // first, so that no work is left when the last call is answered
            biased;
            () = refused => {}
            () = last => {}
        }
    }
}

/// Returns a claimed job that does not begin here, so that another worker runs it.
async fn give_back(attempt: Attempt) {
    attempt.end(Err(RunFailure::Returned)).await;
}

/// Refuses a call at a worker that drains.
async fn refuse(entry: WorkerEntry, call: IncomingCall) {
    // before that, the view of this process names this worker as the next one
    entry.marked().await;
    let refusal = match call.affinity {
        Affinity::Free => {
            // the caller, which may be the next one to see the mark, asks only a few times
            tokio::time::sleep(entry.parts.jobs.timing.slot_wait).await;
            CallAnswer::Busy
        }
        Affinity::Assigned => entry.refer(&call.call).await,
    };
    call.answer(refusal).await;
}

impl Drop for WorkStream {
    fn drop(&mut self) {
        self.control.abort();
        for task in &self.tasks {
            task.abort();
        }
    }
}
