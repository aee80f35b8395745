//! Leaves below [`Subjects::worker`](super::Subjects::worker). Each has its own message type in `wire`.

/// An offer of a free job from a worker that has no handler for it.
pub const OFFER: &str = "offer";
/// A call for the worker that is assigned to the user.
pub const CALL: &str = "call";
/// A call that any worker of the group may run, while one of the group drains.
pub const FREE_CALL: &str = "free_call";
/// A request to give up the object of a resident page.
pub const OBJECT: &str = "object";
/// A request to stop a running job.
pub const CANCEL: &str = "cancel";
/// A request to say which of these claimed jobs the worker runs.
pub const CLAIMS: &str = "claims";
/// A notification that a user has assigned jobs waiting.
pub const WAKE: &str = "wake";
/// A request for the state of the rollout of the worker's pool.
pub const ROLLOUT: &str = "rollout";
/// A liveness request.
pub const ALIVE: &str = "alive";
/// A request to accept no new work, finish the running work and leave.
pub const DRAIN: &str = "drain";
