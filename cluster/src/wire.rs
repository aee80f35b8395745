//! Every message between processes. (under construction)
