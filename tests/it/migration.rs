//! The phases of `examples/migration`: each criterion of `docs/migration.md`, and the ways back.

mod mounted;
mod programs;
mod pushed;
mod registered;
mod resident;
mod soaked;
mod spread;
