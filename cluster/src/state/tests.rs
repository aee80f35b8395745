//! What only writers and feed together can get wrong.

mod shells;
mod sim;
