//! What only the NATS engine can get wrong: its traps, against real servers that are killed, cut off and lost.

mod bus;
mod kv;
mod proxy;
mod queue;
mod server;
mod state;
mod watch;
