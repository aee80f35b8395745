//! A simulated disk in memory. On demand it loses unsynced data, is full, fails or hangs.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, DatabaseError, StorageBackend};

/// The number of bytes that a disk writes atomically.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    /// The content that reads return.
    seen: Vec<u8>,
    /// The content that is on disk for certain.
    safe: Vec<u8>,
    unsynced: Vec<Unsynced>,
    fault: Option<io::ErrorKind>,
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
        Builder::new().set_check_integrity_on_open(true).create_with_backend(Head(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every write fail with this error from now on; `None` ends the fault.
    pub(super) fn fail(&self, fault: Option<io::ErrorKind>) {
        self.lock().fault = fault;
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
        let mut image = state.safe.clone();
        for change in &state.unsynced {
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
        let state = State { seen: image.clone(), safe: image, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
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

/// The storage backend of redb on a platter.
#[derive(Debug)]
struct Head(Arc<Platter>);

impl Head {
    fn writing(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.0.lock();
        match state.fault {
            None => Ok(state),
            Some(fault) => Err(fault.into()),
        }
    }
}

impl StorageBackend for Head {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.0.lock(), offset as usize);
        let found = state.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writing()?;
        state.seen.resize(len as usize, 0);
        state.unsynced.push(Unsynced::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.writing()?;
        state.waiting += 1;
        while state.held {
            self.0.changed.notify_all();
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.syncs += 1;
        state.unsynced.clear();
        let State { seen, safe, .. } = &mut *state;
        safe.clone_from(seen);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.writing()?;
        write(&mut state.seen, offset as usize, data);
        state.unsynced.push(Unsynced::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}
