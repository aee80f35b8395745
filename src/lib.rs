//! Pagewire, the service: pages, push, calls and jobs over one engine of `pagewire-cluster`.
//!
//! # Layout
//!
//! [`cli`] subcommands · [`roles`] builds the parts · [`edge`] sockets · [`api`] HTTP endpoints for programs ·
//! [`mount`] upstreams and files · [`command`] commands of pages · [`pages`] pages, hub, outboxes, delivery · [`calls`] executors of calls ·
//! [`protocol`] protocol between browser and server · leaves: [`config`], [`auth`], [`telemetry`]

pub mod api;
pub mod auth;
pub mod calls;
pub mod cli;
pub mod command;
pub mod config;
pub mod edge;
pub mod mount;
pub mod pages;
pub mod protocol;
pub mod roles;
pub mod telemetry;
