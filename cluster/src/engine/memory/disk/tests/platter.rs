//! A simulated disk in memory with the files of a store. On demand it loses unsynced data, is full, fails or hangs.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::super::log::{LogFile, LogFiles, SEGMENTS};

/// The number of bytes that a disk writes atomically.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A file of the disk.
#[derive(Debug, Default)]
struct Content {
    /// The content that reads return.
    seen: Vec<u8>,
    /// The content that is on disk for certain.
    safe: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

/// The files of the log, then the store.
const FILES: usize = SEGMENTS + 1;
const STORE: usize = SEGMENTS;

#[derive(Debug, Default)]
struct State {
    files: [Content; FILES],
    fault: Option<io::ErrorKind>,
    /// A fault of the store alone.
    store_fault: Option<io::ErrorKind>,
    held: bool,
    waiting: usize,
    syncs: usize,
}

#[derive(Debug, Default)]
pub(super) struct Platter {
    state: Mutex<State>,
    changed: Condvar,
}

impl Platter {
    pub(super) fn open(self: &Arc<Self>) -> Result<Database, DatabaseError> {
        Builder::new().set_check_integrity_on_open(true).create_with_backend(Head(self.clone(), STORE))
    }

    /// Opens the files of the log.
    pub(super) fn open_log(self: &Arc<Self>) -> LogFiles {
        std::array::from_fn(|number| Box::new(Head(self.clone(), number)) as Box<dyn LogFile>)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every write fail with this error from now on; `None` ends the fault.
    pub(super) fn fail(&self, fault: Option<io::ErrorKind>) {
        self.lock().fault = fault;
    }

    /// Makes every write to the store fail with this error, and none to the log.
    pub(super) fn fail_store(&self, fault: Option<io::ErrorKind>) {
        self.lock().store_fault = fault;
    }

    /// Makes every sync hang until the returned value is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.lock().held = true;
        Held(self.clone())
    }

    /// Waits until a sync hangs.
    pub(super) fn until_held(&self) {
        let mut state = self.lock();
        while state.waiting == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Returns the disk after a power cut at this moment: each unsynced sector is present or not.
    pub(super) fn cut(&self, mut arrived: impl FnMut() -> bool) -> Arc<Self> {
        let state = self.lock();
        let files = std::array::from_fn(|file| state.files[file].cut(&mut arrived));
        let state = State { files, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Changes one byte of a file of the log.
    pub(super) fn damage_log(&self, number: usize, offset: usize) {
        let state = &mut *self.lock();
        for content in [&mut state.files[number].seen, &mut state.files[number].safe] {
            content[offset] ^= 0x5a;
        }
    }

    /// Returns the content of a file of the log.
    pub(super) fn log(&self, number: usize) -> Vec<u8> {
        self.lock().files[number].seen.clone()
    }
}

impl Content {
    /// Returns the file after a power cut.
    fn cut(&self, arrived: &mut impl FnMut() -> bool) -> Self {
        let mut image = self.safe.clone();
        for change in &self.unsynced {
            match change {
                Unsynced::Length(length) if arrived() => image.resize(*length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(offset, data) => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        if arrived() {
                            write(&mut image, offset + number * SECTOR, sector);
                        }
                    }
                }
            }
        }
        Self { seen: image.clone(), safe: image, unsynced: Vec::new() }
    }
}

/// A guard. Syncs hang until it is dropped, which also happens when a test fails, so that the engine can end.
pub(super) struct Held(Arc<Platter>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().held = false;
        self.0.changed.notify_all();
    }
}

fn write(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

/// A file on a platter.
#[derive(Debug)]
struct Head(Arc<Platter>, usize);

impl Head {
    fn writing(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.0.lock();
        match state.fault.or(state.store_fault.filter(|_| self.1 == STORE)) {
            None => Ok(state),
            Some(fault) => Err(fault.into()),
        }
    }

    fn write_at(&self, offset: usize, data: &[u8]) -> io::Result<()> {
        let content = &mut self.writing()?.files[self.1];
        write(&mut content.seen, offset, data);
        content.unsynced.push(Unsynced::Write(offset, data.to_vec()));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.writing()?;
        state.waiting += 1;
        while state.held {
            self.0.changed.notify_all();
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.syncs += 1;
        let Content { seen, safe, unsynced } = &mut state.files[self.1];
        // only what was written since the last sync differs
        for change in unsynced.drain(..) {
            match change {
                Unsynced::Length(length) => safe.resize(length, 0),
                Unsynced::Write(offset, data) => write(safe, offset, &data),
            }
        }
        debug_assert_eq!(seen.len(), safe.len());
        Ok(())
    }
}

impl StorageBackend for Head {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().files[self.1].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.0.lock(), offset as usize);
        let found =
            state.files[self.1].seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let content = &mut self.writing()?.files[self.1];
        content.seen.resize(len as usize, 0);
        content.unsynced.push(Unsynced::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset as usize, data)
    }
}

impl LogFile for Head {
    fn content(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().files[self.1].seen.clone())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset as usize, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
