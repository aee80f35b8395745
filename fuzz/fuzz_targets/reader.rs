//! Any bytes in any chunks: the reader never panics, never buffers more than its limit, and returns the same frames for
//! any chunking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagewire::edge::websocket::{FrameEvent, FrameReader, Violation};

const MAX: usize = 300;

fn read(stream: &[u8], chunk: usize) -> (Vec<String>, Option<Violation>) {
    let mut reader = FrameReader::default();
    let mut events = Vec::new();
    for bytes in stream.chunks(chunk) {
        let mut bytes = bytes.to_vec();
        let mut input = bytes.as_mut_slice();
        loop {
            match reader.read(&mut input, MAX) {
                Ok(Some(event)) => {
                    if let FrameEvent::Text(text) = &event {
                        assert!(text.len() <= MAX);
                    }
                    events.push(format!("{event:?}"));
                }
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(input.is_empty());
    }
    (events, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    let chunked = read(stream, usize::from(size).max(1));
    assert_eq!(whole, chunked);
});
