//! Page rows and the view. (under construction)
