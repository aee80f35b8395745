//! Files that have been compressed, in memory.
//!
//! Owns: which compressed files are kept, and that none of them is served for another version of its file. Never: the
//! compression (`compression`), or files that are compressed on disk (`static_files`).
//!
//! Compressing a script takes longer than everything else in its request. A folder is asked by many browsers for the
//! same few scripts, so the result of the first request is sent to the others.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};

use super::body::MountBody;
use super::coding::Coding;
use super::static_files::FileVersion;

/// Maximum bytes of all compressed files of a mount.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Maximum bytes of one compressed file, so that a large one does not replace many small ones.
const MAX_FILE: usize = 1024 * 1024;
/// Maximum number of compressed files of a mount.
const MAX_FILES: usize = 4096;

/// The compressed files of a mount, the latest used ones.
#[derive(Debug, Default)]
pub(super) struct CompressedFiles(Mutex<KeptFiles>);

#[derive(Debug, Default)]
struct KeptFiles {
    by_place: HashMap<(PathBuf, Coding), CompressedFile>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct CompressedFile {
    version: Arc<FileVersion>,
    content: Bytes,
    used: u64,
}

impl CompressedFiles {
    /// Returns the compressed content of this version.
    pub(super) fn get(&self, version: &FileVersion, coding: Coding) -> Option<Bytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        let file = kept.by_place.get_mut(&(version.place().to_owned(), coding))?;
        if *file.version != *version {
            return None;
        }
        file.used = now;
        Some(file.content.clone())
    }

    fn insert(&self, version: Arc<FileVersion>, coding: Coding, content: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (version.place().to_owned(), coding);
        kept.remove(&key);
        while kept.bytes + content.len() > MAX_BYTES || kept.by_place.len() >= MAX_FILES {
            let oldest = kept.by_place.iter().min_by_key(|(_, file)| file.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            kept.remove(&oldest);
        }
        kept.clock += 1;
        kept.bytes += content.len();
        let used = kept.clock;
        kept.by_place.insert(key, CompressedFile { version, content, used });
    }
}

impl KeptFiles {
    fn remove(&mut self, key: &(PathBuf, Coding)) {
        if let Some(file) = self.by_place.remove(key) {
            self.bytes -= file.content.len();
        }
    }
}

/// A compressed body that is kept for its file once it has been read to its end.
pub(super) struct KeepingBody {
    body: MountBody,
    files: Arc<CompressedFiles>,
    version: Arc<FileVersion>,
    coding: Coding,
    /// What has been read; `None`: it is not kept.
    read: Option<BytesMut>,
}

impl KeepingBody {
    /// Wraps the compressed content of a file.
    pub(super) fn wrap(
        body: MountBody,
        files: Arc<CompressedFiles>,
        version: Arc<FileVersion>,
        coding: Coding,
    ) -> MountBody {
        Self { body, files, version, coding, read: Some(BytesMut::new()) }.boxed_unsync()
    }

    fn note(&mut self, part: &Bytes) {
        let fits = self.read.as_ref().is_some_and(|read| read.len() + part.len() <= MAX_FILE);
        match &mut self.read {
            Some(read) if fits => read.extend_from_slice(part),
            read => *read = None,
        }
    }
}

impl Body for KeepingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(part)) => {
                if let Some(part) = part.data_ref() {
                    self.note(part);
                }
            }
            Some(Err(_)) => self.read = None,
            None => {
                if let Some(content) = self.read.take() {
                    self.files.insert(self.version.clone(), self.coding, content.freeze());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // the end has to be polled, because the content is kept then
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
