//! Integration tests of Pagewire: real processes, real sockets, a real nats-server.
//!
//! One binary. `environment` starts and ends processes; every other module has one subject, and a test's name is the
//! statement that it proves. `tidy` starts nothing: it reads the source tree.

mod api;
mod assets;
mod browser;
mod calls;
mod chaos;
mod child_check;
mod child_pools;
mod children;
mod clocks;
mod cluster;
mod comparison;
mod dev;
mod discovery;
mod environment;
mod examples;
mod executors;
mod fairness;
mod framing;
mod http_calls;
mod http_pool;
mod httpbin;
mod identity;
mod jobs;
mod jobs_api;
mod jobs_cli;
mod jobs_lanes;
mod lanes;
mod lifecycle;
mod lifetimes;
mod limits;
mod methods;
mod mount_processes;
mod mounts;
mod pages;
mod push;
mod python_effects;
mod python_ways;
mod python_workers;
mod readme;
mod registry;
mod restarts;
mod resume;
mod rollouts;
mod smuggling;
mod sockets;
mod state;
mod state_api;
mod static_files;
mod telemetry;
mod tidy;
mod topics;
mod unregister;
mod workers;
