//! Tests of the runtime over socket pairs.
