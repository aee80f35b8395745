//! Finds a file of a folder on disk and opens it.
//!
//! Owns: which file answers a path, and that it is inside the folder. Never: HTTP.
//!
//! All of it blocks, and is done in one step on a thread for blocking work. Symbolic links may point to other places
//! inside the folder only. To check that, each name below the folder is looked at with one `lstat` (about a
//! microsecond), and the last one also says what the path is. Only if one of the names is a link are the folder and the
//! file resolved completely, which costs about as many system calls as both paths have names. The folder may be a link
//! itself, and may be replaced while it is served. A program that can write into the folder could replace a name between
//! the check and the opening of the file; it could also write the file itself.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

use super::file_path::FilePath;
use crate::mount::coding::Coding;

/// The file that answers for its folder.
const INDEX: &str = "index.html";

/// The largest file that is read at once, in bytes.
const SMALL: u64 = 64 * 1024;

/// What to look for.
#[derive(Debug)]
pub(super) struct Search<'a> {
    /// The folder.
    pub(super) directory: &'a Path,
    /// The path below it.
    pub(super) path: FilePath,
    /// The codings of precompressed files that the client accepts, the best one first.
    pub(super) codings: Vec<Coding>,
    /// Whether the content will be sent, so that a small file is read at once.
    pub(super) read: bool,
    /// The file that answers if there is no other one.
    pub(super) fallback: Option<FilePath>,
}

/// What a path is.
#[derive(Debug)]
pub(super) enum Found {
    /// A file.
    File(Box<OpenedFile>),
    /// A folder with an index, the path of which does not end with a slash.
    Folder,
    /// Nothing that is served.
    Missing,
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct OpenedFile {
    /// The path below the folder, without the extension of the coding.
    pub(super) path: FilePath,
    /// Whether this is the fallback.
    pub(super) is_fallback: bool,
    /// The coding of the content.
    pub(super) coding: Option<Coding>,
    /// What the system knows of the file.
    pub(super) metadata: Metadata,
    /// The content.
    pub(super) content: Content,
}

/// The content of a file.
#[derive(Debug)]
pub(super) enum Content {
    /// All of it.
    Read(Bytes),
    /// The open file.
    Open(File),
}

impl Search<'_> {
    /// Searches.
    ///
    /// # Errors
    /// An error of the system, except those that mean that there is no such file or that it may not be read.
    pub(super) fn run(self) -> io::Result<Found> {
        let found = self.find()?;
        match (&self.fallback, found) {
            (Some(fallback), Found::Missing) => Ok(match self.file(fallback)? {
                Some(file) => Found::File(Box::new(OpenedFile { is_fallback: true, ..file })),
                None => Found::Missing,
            }),
            (_, found) => Ok(found),
        }
    }

    fn find(&self) -> io::Result<Found> {
        let Some(metadata) = self.inside(&self.path)? else { return Ok(Found::Missing) };
        if metadata.is_dir() {
            let index = self.path.joined(INDEX);
            return Ok(match self.file(&index)? {
                Some(_) if !self.path.names_folder => Found::Folder,
                Some(file) => Found::File(Box::new(file)),
                None => Found::Missing,
            });
        }
        if self.path.names_folder || !metadata.is_file() {
            return Ok(Found::Missing);
        }
        Ok(self.opened(&self.path)?.map_or(Found::Missing, |file| Found::File(Box::new(file))))
    }

    /// Opens a path if it is a file.
    fn file(&self, path: &FilePath) -> io::Result<Option<OpenedFile>> {
        match self.inside(path)? {
            Some(metadata) if metadata.is_file() => self.opened(path),
            _ => Ok(None),
        }
    }

    /// Opens a file that exists, or its best precompressed neighbour.
    fn opened(&self, path: &FilePath) -> io::Result<Option<OpenedFile>> {
        for coding in &self.codings {
            let neighbour = path.with_suffix(coding.extension());
            if self.inside(&neighbour)?.is_some_and(|metadata| metadata.is_file())
                && let Some((metadata, content)) = self.open(&neighbour)?
            {
                let (path, coding) = (path.clone(), Some(*coding));
                return Ok(Some(OpenedFile { path, is_fallback: false, coding, metadata, content }));
            }
        }
        Ok(self.open(path)?.map(|(metadata, content)| {
            let path = path.clone();
            OpenedFile { path, is_fallback: false, coding: None, metadata, content }
        }))
    }

    fn open(&self, path: &FilePath) -> io::Result<Option<(Metadata, Content)>> {
        let Some(file) = existing(File::open(path.below(self.directory)))? else { return Ok(None) };
        // of the open file, because another one may have its name by now
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        if !self.read || metadata.len() > SMALL {
            return Ok(Some((metadata, Content::Open(file))));
        }
        let mut content = Vec::with_capacity(metadata.len() as usize);
        file.take(metadata.len()).read_to_end(&mut content)?;
        Ok(Some((metadata, Content::Read(content.into()))))
    }

    /// Returns what a path is if it exists inside the folder. Follows links.
    fn inside(&self, path: &FilePath) -> io::Result<Option<Metadata>> {
        let mut on_disk = self.directory.to_owned();
        let mut last = None;
        let mut has_link = path.segments().is_empty();
        for name in path.segments() {
            on_disk.push(name);
            let Some(metadata) = existing(on_disk.symlink_metadata())? else { return Ok(None) };
            has_link |= metadata.is_symlink();
            last = Some(metadata);
        }
        if !has_link {
            return Ok(last);
        }
        let (Some(root), Some(file)) =
            (existing(self.directory.canonicalize())?, existing(on_disk.canonicalize())?)
        else {
            return Ok(None);
        };
        match file.starts_with(root) {
            true => existing(file.metadata()),
            false => Ok(None),
        }
    }
}

/// Returns `None` for an error which means that there is no such file for a client.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    let absent = [NotFound, NotADirectory, InvalidInput, InvalidFilename];
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if absent.contains(&error.kind()) || is_circle_of_links(&error) => Ok(None),
        Err(error) if error.kind() == PermissionDenied => {
            tracing::debug!(%error, "a file may not be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_circle_of_links(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
