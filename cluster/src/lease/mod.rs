//! Node numbers. (under construction)
