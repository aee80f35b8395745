//! The log: the groups of steps that are on disk and not in the store yet.
//!
//! Owns: two files that are written in turn, and which of their frames count after a restart. While one file gets the new
//! frames, the steps of the other one are written to the store; after that its space is used again. Space that was written
//! before is the reason for files of a fixed place: a sync there costs the file system no change of its own. Never: the
//! content of a frame (`frame`), or the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::JournalEntry;
use super::frame::{self, ALIGNMENT, Frame, Salt};

/// The number of files.
pub(super) const SEGMENTS: usize = 2;
/// The size from which a file is left for the other one, in bytes. In tests each file has its turn many times.
const FULL: u64 = if cfg!(test) { 32 * 1024 } else { 4 * 1024 * 1024 };
/// The step in which a file grows, in bytes.
const GROWTH: u64 = FULL / 16;

/// A file of the log.
pub(super) trait LogFile: Send {
    /// Returns the whole content.
    fn content(&self) -> io::Result<Vec<u8>>;
    /// Writes bytes at an offset.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything that was written is on disk.
    fn sync(&self) -> io::Result<()>;
}

impl LogFile for File {
    fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.metadata()?.len()).map_err(io::Error::other)?];
        self.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The files of a log.
pub(super) type LogFiles = [Box<dyn LogFile>; SEGMENTS];

/// What a store knows of its log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogPosition {
    /// The number of the last frame with steps that are in the store.
    pub(super) last: u64,
    pub(super) salt: Salt,
}

struct Segment {
    file: Box<dyn LogFile>,
    /// The size of the file.
    size: u64,
    /// Where the next frame begins.
    end: u64,
}

/// The log of a directory.
pub(super) struct Log {
    segments: [Segment; SEGMENTS],
    active: usize,
    salt: Salt,
    /// The number of the next frame.
    next: u64,
    buffer: Vec<u8>,
}

/// The steps that a log holds beyond those of the store.
pub(super) struct Recovered {
    /// The steps, in their order.
    pub(super) steps: Vec<JournalEntry>,
    /// The number of the last frame; that of the store if there is none.
    pub(super) last: u64,
}

impl Log {
    /// Opens a log. Every frame up to `last` is in the store, and its space may be used again.
    pub(super) fn new(files: LogFiles, position: LogPosition) -> io::Result<Self> {
        let mut segments = Vec::with_capacity(SEGMENTS);
        for file in files {
            let size = file.content()?.len() as u64;
            segments.push(Segment { file, size, end: 0 });
        }
        let segments = segments.try_into().map_err(|_| io::Error::other("a log has two files"))?;
        let LogPosition { salt, last } = position;
        Ok(Self { segments, active: 0, salt, next: last + 1, buffer: Vec::new() })
    }

    /// Writes a group: all of it or nothing. It is on disk when this returns. After an error the same group, with further
    /// steps behind it, may be written again.
    pub(super) fn append(&mut self, group: &[JournalEntry]) -> io::Result<()> {
        if group.iter().all(|step| step.changes.is_empty()) {
            return Ok(());
        }
        self.buffer.clear();
        frame::encode(self.salt, self.next, group, &mut self.buffer);
        let segment = &mut self.segments[self.active];
        let end = segment.end + self.buffer.len() as u64;
        if end > segment.size {
            let size = end.next_multiple_of(GROWTH);
            let zeros = vec![0; usize::try_from(size - segment.size).map_err(io::Error::other)?];
            segment.file.write(segment.size, &zeros)?;
            segment.size = size;
        }
        segment.file.write(segment.end, &self.buffer)?;
        segment.file.sync()?;
        segment.end = end;
        self.next += 1;
        Ok(())
    }

    /// Returns the number of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Returns whether the steps of the current file should be written to the store.
    pub(super) fn is_full(&self) -> bool {
        self.segments[self.active].end >= FULL
    }

    /// Continues in the other file. All of its frames are in the store.
    pub(super) fn switch(&mut self) {
        self.active = (self.active + 1) % SEGMENTS;
        self.segments[self.active].end = 0;
    }
}

/// Reads the steps that follow those of the store.
///
/// A frame is written after the one before it is on disk. So only the last frame can be incomplete after a power cut, and a
/// frame without its predecessor means damage.
///
/// # Errors
///
/// The error of the disk, or [`io::ErrorKind::InvalidData`] for a damaged log.
pub(super) fn recover(files: &LogFiles, position: LogPosition) -> io::Result<Recovered> {
    let LogPosition { salt, last } = position;
    let mut frames = Vec::new();
    for file in files {
        frames.extend(newer_frames(&file.content()?, salt, last));
    }
    frames.sort_by_key(|frame| frame.number);
    let mut recovered = Recovered { steps: Vec::new(), last };
    for frame in frames {
        if frame.number != recovered.last + 1 {
            let text = format!("the log is damaged: frame {} is not there", recovered.last + 1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        recovered.last = frame.number;
        recovered.steps.extend(frame.steps);
    }
    Ok(recovered)
}

/// Returns the frames after the frame `last`, wherever they are: a damaged frame must not hide those behind it.
fn newer_frames(content: &[u8], salt: Salt, last: u64) -> Vec<Frame> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < content.len() {
        offset += match frame::decode(salt, &content[offset..]) {
            Some(frame) => {
                let length = frame.length;
                if frame.number > last {
                    found.push(frame);
                }
                length
            }
            None => ALIGNMENT,
        };
    }
    found
}
