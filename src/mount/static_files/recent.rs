//! Small files that were served a moment ago, in memory.
//!
//! Owns: when such a file may be served again without a search. Never: the search (`folder`), or the answer.
//!
//! A search costs four times as much as sending a small file, mostly because it happens on another thread. A file that
//! was found less than [`KEEP`] ago is served from memory if one `stat` says that its place has the same file,
//! unchanged. That `stat` happens on the thread of the request: the kernel knows the place from the search. What it
//! does not see, such as a new precompressed neighbour, is seen after [`KEEP`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderMap;

use super::backend::OneFile;
use super::version::FileVersion;
use crate::mount::coding::Coding;

/// How long a file is served without a search.
const KEEP: Duration = Duration::from_secs(1);
/// Maximum bytes of the files of a folder in memory.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// What a file takes beside its content. A client can ask for one file under many paths, by other spellings of it.
const ENTRY: usize = 2 * 1024;
/// Maximum bytes of a path that is kept.
const MAX_PATH: usize = 1024;

/// A file in memory.
#[derive(Debug)]
pub(super) struct RecentFile {
    /// The file.
    pub(super) file: OneFile,
    /// The headers of the whole file.
    pub(super) headers: HeaderMap,
    /// The version on disk.
    pub(super) version: Arc<FileVersion>,
    codings: Vec<Coding>,
    found: Instant,
}

impl RecentFile {
    /// A version of a file that was found now for a client that accepts the codings. `None`: it is not in memory.
    pub(super) fn new(
        file: OneFile,
        version: Arc<FileVersion>,
        codings: Vec<Coding>,
        headers: HeaderMap,
    ) -> Option<Self> {
        file.in_memory()?;
        Some(Self { file, headers, version, codings, found: Instant::now() })
    }

    fn size(&self) -> usize {
        ENTRY + self.file.in_memory().map_or(0, |content| content.len())
    }
}

/// The small files of a folder that were served a moment ago, by the raw path of the request.
#[derive(Debug, Default)]
pub(super) struct RecentFiles(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// One file for each order of codings that clients ask for.
    by_path: HashMap<String, Vec<Arc<RecentFile>>>,
    bytes: usize,
}

impl RecentFiles {
    /// Returns the file of a path for a client that accepts the codings, if it is still the same.
    pub(super) fn get(&self, path: &str, codings: &[Coding]) -> Option<Arc<RecentFile>> {
        let found = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.by_path.get(path)?.iter().find(|file| file.codings == codings)?.clone()
        };
        (found.found.elapsed() < KEEP && found.version.is_current()).then_some(found)
    }

    /// Keeps a file, if there is space after files that are not recent have been removed.
    pub(super) fn insert(&self, path: &str, file: RecentFile) {
        if path.len() > MAX_PATH {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + file.size() > MAX_BYTES {
            kept.retain(|file| file.found.elapsed() < KEEP);
        }
        if kept.bytes + file.size() <= MAX_BYTES {
            kept.insert(path, file);
        }
    }
}

impl Kept {
    fn insert(&mut self, path: &str, file: RecentFile) {
        self.bytes += file.size();
        let files = self.by_path.entry(path.to_owned()).or_default();
        match files.iter_mut().find(|before| before.codings == file.codings) {
            Some(before) => {
                self.bytes -= before.size();
                *before = Arc::new(file);
            }
            None => files.push(Arc::new(file)),
        }
    }

    fn retain(&mut self, keeps: impl Fn(&RecentFile) -> bool) {
        self.by_path.retain(|_, files| {
            files.retain(|file| keeps(file));
            !files.is_empty()
        });
        self.bytes = self.by_path.values().flatten().map(|file| file.size()).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::super::file_path::FilePath;
    use super::super::folder::{Content, OpenedFile};
    use super::*;

    #[test]
    fn an_empty_file_that_is_asked_for_under_many_paths_takes_bounded_memory() {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let metadata = place.metadata().unwrap();
        let version = Arc::new(FileVersion::at(&place).unwrap());
        let (files, most) = (RecentFiles::default(), MAX_BYTES / ENTRY);
        for number in 0..2 * most {
            let opened = OpenedFile {
                path: FilePath::parse("/empty").unwrap(),
                is_fallback: false,
                coding: None,
                metadata: metadata.clone(),
                content: Content::Read(Bytes::new()),
            };
            let file = RecentFile::new(OneFile::new(opened), version.clone(), Vec::new(), HeaderMap::new());
            files.insert(&format!("/{number}"), file.unwrap());
        }
        let kept = files.0.lock().unwrap().by_path.len();
        assert!((1..=most).contains(&kept), "{kept} of {most}");
    }
}
