//! Shared library of Pagewire's processes (nodes, workers, the CLI).
//!
//! Owns: ids, subjects, wire messages, time-outs, the three primitives (`engine`) and the domains built on
//! them. Never: sockets, HTTP, axum, the browser protocol. Only modules below `engine/nats` name NATS.
//!
//! # Layout
//!
//! - leaves: [`id`], [`subject`], [`wire`], [`code`], [`timing`], [`trace`], [`table`]; `simulation`, which only
//!   tests build
//! - primitives: [`engine`]
//! - domains: [`lease`] (node numbers), [`registry`] (rows and the view), [`peer`] (between nodes),
//!   [`keyring`] (the keys that sign page tokens), [`rollout`] (selects the lane for a user's work),
//!   [`worker`] (processes that run handlers), [`job`] (durable work), [`resident`] (objects of pages), [`state`] (trees at four levels),
//!   [`lock`] (one holder of a name at a time), [`login`] (ended ones), [`register`] (what legacy applications keep of their pages)

pub mod clock;
pub mod code;
pub mod engine;
pub mod id;
pub mod job;
pub mod keyring;
pub mod lease;
pub mod lock;
pub mod login;
pub mod peer;
pub mod register;
pub mod registry;
pub mod resident;
pub mod rollout;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod state;
pub mod subject;
pub mod table;
pub mod timing;
pub mod trace;
pub mod wire;
pub mod worker;
