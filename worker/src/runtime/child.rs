//! Handlers in child processes, as described in `docs/child.md`.
//!
//! Owns: the processes of a pool, their sockets, and which child runs which work. Never: claims or retries of work, or
//! what a request of a handler does.
//!
//! - `wire`, `page_class`: the messages and their frames;
//! - [`guard`]: the small process above each child, which kills it when this process is gone;
//! - `adapter`: the wire of a program that serves HTTP and does not speak it, in its guard;
//! - `listener_address`, `prerequisites`: where programs listen; what has to be there before the first program starts;
//! - [`private_directory`]: where the sockets are;
//! - `process`: one program below its guard, and the last lines of its log;
//! - `handshake`: a program that has started connects and says what it has;
//! - `session`, `open_work`, `work_order`, `frame_reader`, `frame_writer`: the socket of a ready child, and the work that
//!   it runs;
//! - `child_slot`, `child_event`: one place of the pool, in which a child follows another one; `scaler`: as many places as are needed;
//! - [`http_lease`], `http_socket`: children that also serve HTTP, on private sockets;
//! - `choice`: which child runs a piece of work (pure), `restarts`: when a child starts again (pure), `recycling`: when a
//!   child is replaced (pure), `scaling`: how many children there are (pure);
//! - [`pool`], `members`: the children of a pool together; `objects`: the objects of resident pages in them;
//! - [`check`]: conformance cases for any program.

mod adapter;
pub mod check;
mod child_event;
mod child_slot;
mod choice;
mod frame_reader;
mod frame_writer;
pub mod guard;
mod handshake;
pub mod http_lease;
mod http_socket;
mod listener_address;
mod members;
mod objects;
mod open_work;
pub mod options;
mod page_class;
pub mod pool;
mod prerequisites;
pub mod private_directory;
mod process;
mod recycling;
mod restarts;
mod scaler;
mod scaling;
mod session;
pub mod status;
#[cfg(test)]
mod tests;
mod wire;
mod work_order;
