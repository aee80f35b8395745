//! What is mounted at paths beside the native routes: folders of files.
//!
//! Owns: the answers of mounts. Never: the native routes (`edge`, `api`).
#![cfg_attr(not(test), expect(dead_code, reason = "no configuration mounts a folder yet"))]

pub(crate) mod body;
pub(crate) mod coding;
pub(crate) mod compression;
pub(crate) mod static_files;
