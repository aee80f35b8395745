//! What Pagewire's processes share.
//!
//! Owns: ids, subjects, wire messages, time-outs, the three primitives (`engine`) and the domains built on
//! them. Never knows: sockets, HTTP, axum, the browser protocol. NATS is named only below `engine/nats`.
//!
//! # Layout
//!
//! leaves: [`id`], [`subject`], [`wire`], [`timing`], [`trace`] · primitives: [`engine`] ·
//! domains: [`lease`] (node numbers), [`registry`] (rows and the view), [`delivery`] (between nodes),
//! [`keyring`] (the keys that sign page tokens), [`rollout`] (which lane a user's work goes to), [`worker`] (who runs
//! handlers), [`job`] (durable work), [`state`] (trees at four levels)

pub mod delivery;
pub mod engine;
pub mod id;
pub mod job;
pub mod keyring;
pub mod lease;
pub mod registry;
pub mod rollout;
pub mod state;
pub mod subject;
pub mod timing;
pub mod trace;
pub mod wire;
pub mod worker;
