//! Keys that sign page tokens. (under construction)
