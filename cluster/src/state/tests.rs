//! Tests of writers and feed together.

mod shells;
mod sim;
