//! Tests of problems that only the NATS engine can have, on real servers that are killed, cut off and wiped.

mod bus;
mod clock;
mod kv;
mod proxy;
mod queue;
mod register;
mod server;
mod state;
mod watch;
