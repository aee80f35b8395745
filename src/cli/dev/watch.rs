//! The files of an application below the working directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Changes within this time are one change: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(150);
/// Folders whose files are no part of an application.
const IGNORED: [&str; 5] = ["__pycache__", "node_modules", "target", "venv", "site-packages"];
/// Ends of files that programs write while they run.
const WRITTEN: [&str; 12] = [
    "pyc",
    "swp",
    "tmp",
    "log",
    "pid",
    "db",
    "db-journal",
    "db-wal",
    "db-shm",
    "sqlite",
    "sqlite3",
    "sqlite3-journal",
];

/// The changes of files, until this is dropped.
pub(super) struct FileChanges {
    root: PathBuf,
    paths: mpsc::UnboundedReceiver<PathBuf>,
    watcher: RecommendedWatcher,
}

/// Follows the files below the working directory.
///
/// # Errors
/// When the system does not report changes, for example because too many folders are followed.
pub(super) fn changes() -> notify::Result<FileChanges> {
    changes_below(std::env::current_dir().map_err(notify::Error::io)?)
}

fn changes_below(root: PathBuf) -> notify::Result<FileChanges> {
    let (sender, paths) = mpsc::unbounded_channel();
    let below = root.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let mut sources = event.paths.iter().filter_map(|path| path.strip_prefix(&below).ok());
        if !matches!(event.kind, EventKind::Access(_))
            && let Some(path) = sources.find(|path| is_source(path))
        {
            // an error means that nothing is loaded any more
            let _ = sender.send(path.to_owned());
        }
    })?;
    let mut changes = FileChanges { root, paths, watcher };
    changes.follow(&changes.root.clone())?;
    Ok(changes)
}

impl FileChanges {
    /// Returns a file that has changed, when no other one has changed for a moment.
    pub(super) async fn recv(&mut self) -> Option<PathBuf> {
        let first = self.paths.recv().await?;
        self.follow_new(&first);
        while let Ok(Some(next)) = tokio::time::timeout(SETTLE, self.paths.recv()).await {
            self.follow_new(&next);
        }
        Some(first)
    }

    /// Follows a folder and those below it. Folders that are no part of an application may have thousands below them.
    fn follow(&mut self, folder: &Path) -> notify::Result<()> {
        self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_followed = is_folder && path.strip_prefix(&self.root).is_ok_and(is_source);
            if is_followed
                && let Err(error) = self.follow(&path)
                && path.exists()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Follows what has changed if it is a new folder.
    fn follow_new(&mut self, path: &Path) {
        let path = self.root.join(path);
        if path.is_dir() {
            // an error means that the folder has gone
            let _ = self.follow(&path);
        }
    }
}

/// Returns whether a file may be part of an application: nothing hidden, no cache, nothing installed, nothing that
/// programs write. The path is relative to the working directory.
fn is_source(path: &Path) -> bool {
    let mut names = path.iter().map(|name| name.to_string_lossy());
    let ignored = |name: &str| name.starts_with('.') || name.ends_with('~') || IGNORED.contains(&name);
    let written = path.extension().is_some_and(|end| WRITTEN.iter().any(|other| end == *other));
    !path.as_os_str().is_empty() && !written && !names.any(|name| ignored(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_followed_and_caches_are_not() {
        for source in ["app.py", "board/views.py", "pagewire.toml", "templates/a.html"] {
            assert!(is_source(Path::new(source)), "{source}");
        }
        for other in
            ["", ".git/index", "__pycache__/app.pyc", ".venv/lib/a.py", "app.py~", ".app.py.swp", "orders.db"]
        {
            assert!(!is_source(Path::new(other)), "{other}");
        }
    }

    #[tokio::test]
    async fn a_change_in_a_new_folder_is_followed_and_one_in_a_folder_of_builds_is_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str| std::fs::write(root.path().join(file), "x").unwrap();
        std::fs::create_dir_all(root.path().join("target/debug")).unwrap();
        let mut changes = changes_below(root.path().to_owned()).unwrap();
        write("target/debug/app.py");
        std::fs::create_dir_all(root.path().join("board/views")).unwrap();
        assert_eq!(changes.recv().await.unwrap(), Path::new("board"));
        write("board/views/list.py");
        assert_eq!(changes.recv().await.unwrap(), Path::new("board/views/list.py"));
    }
}
