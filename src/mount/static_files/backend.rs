//! A file that is open already, as tower-http's `ServeDir` sees it.
//!
//! Owns: the file system of one request, which has one file. Never: which file that is (`folder`).
//!
//! `ServeDir` decides conditions, ranges and their headers. Its own file system would go to another thread five to
//! seven times per request, knows no links that leave the folder, and gives a precompressed file no tag of its own.

use std::future::{Ready, ready};
use std::io::{self, Cursor, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

use super::folder::{Content, OpenedFile};
use crate::mount::coding::Coding;

/// The file system of one request: each path is the same file.
#[derive(Debug, Clone)]
pub(super) struct OneFile(Arc<OpenedFile>);

impl OneFile {
    /// A file system with this file.
    pub(super) fn new(file: OpenedFile) -> Self {
        Self(Arc::new(file))
    }

    /// The file.
    pub(super) fn file(&self) -> &OpenedFile {
        &self.0
    }

    /// The content, if it has been read.
    pub(super) fn in_memory(&self) -> Option<&Bytes> {
        match &self.0.content {
            Content::Read(bytes) => Some(bytes),
            Content::Open(_) => None,
        }
    }

    /// The size of the file, in bytes.
    pub(super) fn length(&self) -> u64 {
        // the file may have become shorter since its size was read
        self.in_memory().map_or_else(|| self.0.metadata.len(), |bytes| bytes.len() as u64)
    }

    fn facts(&self) -> FileFacts {
        FileFacts {
            length: self.length(),
            modified: self.0.metadata.modified().ok().map(|at| at + self.mark()),
        }
    }

    /// An addition to the time of change. The tag of a file has its size and time, so that a file and its precompressed
    /// neighbours would share one if all sizes and times were equal. `Last-Modified` has whole seconds only.
    fn mark(&self) -> Duration {
        Duration::from_nanos(match self.0.coding {
            None => 0,
            Some(Coding::Gzip) => 1,
            Some(Coding::Brotli) => 2,
        })
    }
}

impl Backend for OneFile {
    type File = FileReader;
    type Metadata = FileFacts;
    type OpenFuture = Ready<io::Result<FileReader>>;
    type MetadataFuture = Ready<io::Result<FileFacts>>;

    fn open(&self, _: PathBuf) -> Self::OpenFuture {
        let source = match &self.0.content {
            Content::Read(bytes) => Ok(Source::Read(Cursor::new(bytes.clone()))),
            Content::Open(file) => file.try_clone().map(|file| Source::Open(tokio::fs::File::from_std(file))),
        };
        ready(source.map(|source| FileReader { source, facts: self.facts() }))
    }

    fn metadata(&self, _: PathBuf) -> Self::MetadataFuture {
        ready(Ok(self.facts()))
    }
}

/// Size and time of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileFacts {
    length: u64,
    modified: Option<SystemTime>,
}

impl Metadata for FileFacts {
    fn is_dir(&self) -> bool {
        false
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.length
    }
}

/// Reads a file.
#[derive(Debug)]
pub(super) struct FileReader {
    source: Source,
    facts: FileFacts,
}

#[derive(Debug)]
enum Source {
    Read(Cursor<Bytes>),
    Open(tokio::fs::File),
}

impl File for FileReader {
    type Metadata = FileFacts;
    type MetadataFuture<'a> = Ready<io::Result<FileFacts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.facts))
    }
}

impl AsyncRead for FileReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.source {
            Source::Read(bytes) => Pin::new(bytes).poll_read(context, buffer),
            Source::Open(file) => Pin::new(file).poll_read(context, buffer),
        }
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        match &mut self.source {
            Source::Read(bytes) => Pin::new(bytes).start_seek(position),
            Source::Open(file) => Pin::new(file).start_seek(position),
        }
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        match &mut self.source {
            Source::Read(bytes) => Pin::new(bytes).poll_complete(context),
            Source::Open(file) => Pin::new(file).poll_complete(context),
        }
    }
}
