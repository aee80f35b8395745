//! A directory in the temporary directory of the system that only this user can enter.
//!
//! Owns: its creation, its end, and the end of those that killed processes have left. Never: what is in it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use pagewire_cluster::id::Key;
use pagewire_cluster::timing::DIRECTORY_LEFT;

/// What the names of all directories begin with.
const PREFIX: &str = "pagewire";
/// The file that is locked while a directory is in use. The system unlocks it when its process ends, also by a signal.
const LOCK: &str = "in-use";

/// The directory. It is removed with its content when this is dropped.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
    /// The locked file; `None` where the system has no locks: then no other process removes the directory.
    lock: Option<File>,
}

impl PrivateDirectory {
    /// Creates a directory with a name that begins with `pagewire` and `kind`. The first one of a process removes those of processes
    /// that were killed.
    ///
    /// # Errors
    ///
    /// When the system does not create it.
    pub fn create(kind: &str) -> io::Result<Self> {
        static SWEEP: Once = Once::new();
        let folder = std::env::temp_dir();
        SWEEP.call_once(|| sweep(&folder));
        Self::create_in(&folder, kind)
    }

    fn create_in(folder: &Path, kind: &str) -> io::Result<Self> {
        let path = folder.join(format!("{PREFIX}{kind}-{}", Key::random()));
        DirBuilder::new().mode(0o700).create(&path)?;
        // dropped, and so removed, on an error
        let mut this = Self { path, lock: None };
        let name = this.path.join(LOCK);
        let file = File::create(&name)?;
        match file.lock() {
            Ok(()) => this.lock = Some(file),
            Err(_) => fs::remove_file(name)?,
        }
        Ok(this)
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // an error leaves a directory behind, which a later process removes
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories in a folder that no process uses.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(is_named) {
        if is_left(&path).unwrap_or(false) {
            // an error leaves it to a later process
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Returns whether a directory is one of this user's that no process uses. One without the file may be that of an older release.
fn is_left(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let lock = File::open(path.join(LOCK))?;
    // a process creates the file before it locks it
    let age = lock.metadata()?.modified()?.elapsed().unwrap_or(Duration::ZERO);
    Ok(age >= DIRECTORY_LEFT && lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a directory look old enough to be left.
    fn age(directory: &Path) {
        let past = std::time::SystemTime::now() - DIRECTORY_LEFT * 2;
        File::options().write(true).open(directory.join(LOCK)).unwrap().set_modified(past).unwrap();
    }

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let create = || PrivateDirectory::create_in(folder.path(), "-test").unwrap();
        let (used, young) = (create(), create());
        age(used.path());
        let left = folder.path().join("pagewire-left");
        for path in [&left, &folder.path().join("other")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(LOCK), "").unwrap();
            age(path);
        }
        fs::write(left.join("socket"), "").unwrap();
        let of_an_older_release = folder.path().join("pagewire-old");
        fs::create_dir(&of_an_older_release).unwrap();
        sweep(folder.path());
        assert!(!left.exists());
        for path in [used.path(), young.path(), &of_an_older_release, &folder.path().join("other")] {
            assert!(path.exists(), "{}", path.display());
        }
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
