//! Pagewire as its users meet it: real processes, real sockets, a real nats-server.
//!
//! One binary. `environment` starts and ends things; every other module is one subject, and a test's name is
//! the sentence that it proves. `tidy` needs nothing started: it reads the tree.

mod api;
mod browser;
mod calls;
mod chaos;
mod cluster;
mod environment;
mod identity;
mod jobs;
mod jobs_api;
mod jobs_cli;
mod lifecycle;
mod lifetimes;
mod limits;
mod pages;
mod push;
mod readme;
mod registry;
mod restarts;
mod resume;
mod rollouts;
mod sockets;
mod state;
mod state_api;
mod tidy;
mod topics;
mod unregister;
mod workers;
