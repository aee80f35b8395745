//! The frames of the log: each is one group of steps, complete or absent.
//!
//! Owns: the bytes of a frame and their checksum. Never: files, or the order of frames (`log`).
//!
//! A frame is a header of 20 bytes (magic, length of the payload, number, checksum of all of these and of the payload),
//! then the payload, padded to a multiple of eight bytes. All numbers are little-endian. The checksum includes a salt that
//! nothing outside of the directory knows, so that no stored value can be taken for a frame.

use bytes::Bytes;

use super::{JournalChange, JournalEntry, JournalStream, StoredItem};
use crate::engine::{Bucket, Entry, OperationId};

/// A number that the checksums of a log include.
pub(super) type Salt = u64;

/// Frames begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
const HEADER: usize = 20;
const CHECKSUM: std::ops::Range<usize> = 16..20;
const MAGIC: [u8; 4] = *b"PwJ1";

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    /// The number of the frame; each frame has the next one.
    pub(super) number: u64,
    pub(super) steps: Vec<JournalEntry>,
    /// Bytes of the whole frame.
    pub(super) length: usize,
}

/// Appends a frame with a group of steps.
pub(super) fn encode(salt: Salt, number: u64, group: &[JournalEntry], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for step in group.iter().filter(|step| !step.changes.is_empty()) {
        encode_step(step, out);
    }
    let length = out.len() - start - HEADER;
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out[start + 4..start + 8].copy_from_slice(&(length as u32).to_le_bytes());
    let checksum = checksum(salt, &out[start..start + HEADER + length]);
    out[start + CHECKSUM.start..start + CHECKSUM.end].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the frame at the start of these bytes. Returns `None` if there is none, or it is not complete.
pub(super) fn decode(salt: Salt, bytes: &[u8]) -> Option<Frame> {
    let mut header = ByteReader(bytes.get(..HEADER)?);
    if header.array()? != MAGIC {
        return None;
    }
    let length = header.length()?;
    let number = u64::from_le_bytes(header.array()?);
    let stored = u32::from_le_bytes(header.array()?);
    let frame = bytes.get(..HEADER.checked_add(length)?)?;
    if checksum(salt, frame) != stored {
        return None;
    }
    let (mut payload, mut steps) = (ByteReader(&frame[HEADER..]), Vec::new());
    while !payload.0.is_empty() {
        steps.push(payload.step()?);
    }
    Some(Frame { number, steps, length: frame.len().next_multiple_of(ALIGNMENT) })
}

/// Returns the checksum of a frame, without the bytes of the checksum itself.
fn checksum(salt: Salt, frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&frame[..CHECKSUM.start]);
    hasher.update(&frame[CHECKSUM.end..]);
    hasher.finalize()
}

fn encode_step(step: &JournalEntry, out: &mut Vec<u8>) {
    out.push(number_of(step.place));
    out.extend_from_slice(&step.mark.to_le_bytes());
    out.extend_from_slice(&(step.changes.len() as u32).to_le_bytes());
    for change in &step.changes {
        match change {
            JournalChange::Put { entry: Entry { key, rev, op, meta, value }, expires } => {
                out.push(0);
                out.extend_from_slice(&rev.to_le_bytes());
                out.extend_from_slice(&op.0);
                // no row expires at the end of time
                out.extend_from_slice(&expires.unwrap_or(u64::MAX).to_le_bytes());
                [key.as_bytes(), meta, value].into_iter().for_each(|part| encode_bytes(part, out));
            }
            JournalChange::Delete { key } => {
                out.push(1);
                encode_bytes(key.as_bytes(), out);
            }
            JournalChange::Item(StoredItem { number, id, route, payload, due }) => {
                out.push(2);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&due.to_le_bytes());
                [id.as_bytes(), route.as_bytes(), payload]
                    .into_iter()
                    .for_each(|part| encode_bytes(part, out));
            }
            JournalChange::Settled { number } => {
                out.push(3);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
}

/// Returns the number of a stream in frames. Numbers never change, so that a later version reads older frames.
fn number_of(stream: JournalStream) -> u8 {
    match stream {
        JournalStream::Bucket(Bucket::Nodes) => 0,
        JournalStream::Bucket(Bucket::Pages) => 1,
        JournalStream::Bucket(Bucket::Cluster) => 2,
        JournalStream::Bucket(Bucket::Config) => 3,
        JournalStream::Bucket(Bucket::Jobs) => 4,
        JournalStream::Bucket(Bucket::State) => 5,
        JournalStream::Queue => 6,
        JournalStream::Bucket(Bucket::Register) => 7,
    }
}

/// Returns the stream with a number; `None` for one of a later version.
fn stream_of(number: u8) -> Option<JournalStream> {
    let buckets = Bucket::ALL.map(JournalStream::Bucket).into_iter();
    buckets.chain([JournalStream::Queue]).find(|stream| number_of(*stream) == number)
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes values from the start of bytes. Each method returns `None` if there are too few, or the value is none.
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.length()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn step(&mut self) -> Option<JournalEntry> {
        let [place] = self.array()?;
        let place = stream_of(place)?;
        let (mark, count) = (self.number()?, self.length()?);
        let changes = (0..count).map(|_| self.change()).collect::<Option<Vec<_>>>()?;
        Some(JournalEntry { place, mark, changes, notifications: Vec::new() })
    }

    fn change(&mut self) -> Option<JournalChange> {
        Some(match self.array()? {
            [0] => {
                let (rev, op, expires) = (self.number()?, OperationId(self.array()?), self.number()?);
                let (key, meta, value) = (self.text()?, self.bytes()?, self.bytes()?);
                let expires = (expires != u64::MAX).then_some(expires);
                JournalChange::Put { entry: Entry { key, rev, op, meta, value }, expires }
            }
            [1] => JournalChange::Delete { key: self.text()? },
            [2] => {
                let (number, due) = (self.number()?, self.number()?);
                let (id, route, payload) = (self.text()?, self.text()?, self.bytes()?);
                JournalChange::Item(StoredItem { number, id, route, payload, due })
            }
            [3] => JournalChange::Settled { number: self.number()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = JournalChange> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        prop_oneof![
            ("[a-z.]{1,9}", 0u64..9, any::<[u8; 16]>(), bytes(), bytes(), prop::option::of(0u64..9))
                .prop_map(|(key, rev, op, meta, value, expires)| {
                    let entry = Entry { key, rev, op: OperationId(op), meta, value };
                    JournalChange::Put { entry, expires }
                }),
            "[a-z.]{1,9}".prop_map(|key| JournalChange::Delete { key }),
            (0u64..9, "[a-z]{1,9}", "[a-z.]{1,9}", bytes(), 0u64..9).prop_map(
                |(number, id, route, payload, due)| {
                    JournalChange::Item(StoredItem { number, id, route, payload, due })
                }
            ),
            (0u64..9).prop_map(|number| JournalChange::Settled { number }),
        ]
    }

    fn step() -> impl Strategy<Value = JournalEntry> {
        (0..=Bucket::ALL.len(), 0u64..99, prop::collection::vec(change(), 1..4)).prop_map(
            |(place, mark, changes)| {
                let place =
                    Bucket::ALL.get(place).map_or(JournalStream::Queue, |b| JournalStream::Bucket(*b));
                JournalEntry { place, mark, changes, notifications: Vec::new() }
            },
        )
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written_and_never_in_part(
            steps in prop::collection::vec(step(), 1..5), salt: Salt, number: u64,
            flip: prop::sample::Index,
        ) {
            let mut bytes = Vec::new();
            encode(salt, number, &steps, &mut bytes);
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            let frame = decode(salt, &bytes).unwrap();
            prop_assert!(decode(salt ^ 1, &bytes).is_none(), "of another log");
            prop_assert_eq!((frame.number, frame.length), (number, bytes.len()));
            prop_assert_eq!(format!("{:?}", frame.steps), format!("{steps:?}"));
            let length = HEADER + u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            prop_assert!(decode(salt, &bytes[..length - 1]).is_none());
            let damaged = flip.index(length);
            bytes[damaged] ^= 0x40;
            prop_assert!(decode(salt, &bytes).is_none(), "byte {damaged}");
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut framed = MAGIC.to_vec();
            framed.extend(&bytes);
            decode(0, &bytes);
            decode(0, &framed);
        }
    }
}
