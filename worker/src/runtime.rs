//! How handlers run that are not functions of this binary.
//!
//! Owns: the runtimes, each with its executors. Never: leases, claims, or which handler runs which work.

pub mod child;
pub mod http;
