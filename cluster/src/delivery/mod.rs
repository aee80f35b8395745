//! Between nodes. (under construction)
