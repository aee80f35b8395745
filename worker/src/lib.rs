//! The worker side of Pagewire's executors: what runs handlers, in a process of its own or inside a node.
//!
//! Owns: the handlers of a process, the slots of a worker, its claims and the turns of its users. Never: serving HTTP, pages
//! or configuration; records and their transitions are `pagewire_cluster::job`.
//!
//! # Layout
//!
//! A job is followed through these modules:
//!
//! - [`stream`]: the work of one worker, as its receiver sees it;
//! - `queue`, `pull_schedule`: free jobs, pulled from the Queue in turn;
//! - `affinity`: assigned jobs, in the order of their rows (`open_watch`, `open_queue`, `open_jobs`), at the worker that
//!   their user is assigned to (`assignment`, `foreign_users`);
//! - `user_turns`, `turn_protocol`, `turn`: which worker owns a user ([`ownership`]), and which job of the user may run;
//! - `turn_runner`: the next job of a user;
//! - `claim`: how a job begins here, and how a claim without an attempt is given back;
//! - [`attempt`]: one attempt of a job, until its end is written;
//! - [`run`]: the loop that runs handlers ([`handlers`], [`demo`]), and what their ends say about a lane (`finished`).
//!
//! A kind that kills its executors is refused ([`quarantine`]).
//!
//! What a handler may do inside Pagewire goes through [`effects`] (`push`), which refuses it when the work does not stand
//! any more; [`requests`] are the same for handlers and programs outside of this process, and [`outgoing`] is what they ask of others.
//!
//! The objects of resident pages live in executors ([`object`]); `residence` knows which ones live here, `object_terms` which of
//! them may have effects.
//!
//! A call is followed through `call_subscription`, `control`, [`entry`] and `admission` to [`call`], and through `call_lines` if it
//! runs after others; `running`, [`slots`] and `work` are
//! what these parts share.
//!
//! [`tls`] is for every client of HTTP in these processes.

mod admission;
mod affinity;
mod assignment;
pub mod attempt;
pub mod call;
mod call_lines;
mod call_subscription;
mod claim;
mod control;
pub mod demo;
pub mod effects;
pub mod entry;
mod finished;
mod foreign_users;
pub mod handlers;
pub mod object;
mod object_terms;
pub mod observer;
mod open_jobs;
mod open_queue;
mod open_watch;
pub mod outgoing;
pub mod ownership;
mod pull_schedule;
mod push;
pub mod quarantine;
mod queue;
pub mod reporter;
pub mod requests;
pub mod residence;
pub mod run;
mod run_result;
mod running;
pub mod runtime;
pub mod slots;
mod stop;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
mod turn;
mod turn_protocol;
mod turn_runner;
mod user_turns;
pub mod work;
