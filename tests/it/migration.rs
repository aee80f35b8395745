//! The phases of `examples/migration`: each criterion of `docs/migration.md`, and the ways back.

mod mounted;
