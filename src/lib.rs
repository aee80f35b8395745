//! Pagewire, the service: pages, push, calls, over one engine of `pagewire-cluster`.
//!
//! # Layout
//!
//! [`cli`] subcommands · [`roles`] builds the parts · [`edge`] sockets · [`api`] what programs ask over HTTP ·
//! [`command`] what a page may ask · [`pages`] pages, hub, outboxes, delivery · [`calls`] who runs calls ·
//! [`protocol`] the browser wire · leaves: [`config`], [`auth`], [`telemetry`]

pub mod api;
pub mod auth;
pub mod calls;
pub mod cli;
pub mod command;
pub mod config;
pub mod edge;
pub mod pages;
pub mod protocol;
pub mod roles;
pub mod telemetry;
