//! A directory in the temporary directory of the system that only this user can enter.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pagewire_cluster::id::Key;

/// The directory. It is removed with its content when this is dropped.
#[derive(Debug)]
pub struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// Creates a directory whose name begins with `prefix`.
    ///
    /// # Errors
    ///
    /// When the system does not create it.
    pub fn create(prefix: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("{prefix}-{}", Key::random()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // an error leaves a directory behind
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
