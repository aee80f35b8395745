//! The service. (see README)
pub mod protocol;
