//! Pagewire, the service: pages, push, calls, over one engine of `pagewire-cluster`.
//!
//! # Layout
//!
//! [`cli`] subcommands · [`node`] builds the parts · [`edge`] sockets · [`api`] what programs ask over HTTP ·
//! [`command`] what a page may ask · [`session`] pages, hub, outboxes, delivery · [`executor`] who runs calls ·
//! [`protocol`] the browser wire · leaves: [`config`], [`auth`], [`telemetry`]

pub mod api;
pub mod auth;
pub mod cli;
pub mod command;
pub mod config;
pub mod edge;
pub mod executor;
pub mod node;
pub mod protocol;
pub mod session;
pub mod telemetry;
