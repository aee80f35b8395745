//! Any bytes in any chunks: following requests never panics, releases the same bytes for any chunking, and what it has
//! released is followed alike without the bytes behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagewire::edge::framing::{FramingRefusal, RequestFollower};

const MAX_HEAD: usize = 2000;

fn follow(stream: &[u8], chunk: usize) -> (u64, usize, Option<FramingRefusal>) {
    let mut follower = RequestFollower::new(MAX_HEAD);
    let (mut pending, mut released) = (Vec::new(), 0);
    for bytes in stream.chunks(chunk) {
        pending.extend_from_slice(bytes);
        let checked = follower.follow(&pending);
        pending.drain(..checked);
        released += checked;
    }
    (follower.requests(), released, follower.refusal())
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let whole = follow(stream, stream.len().max(1));
    assert_eq!(whole, follow(stream, usize::from(size).max(1)));
    let (requests, released, _) = whole;
    assert_eq!(follow(&stream[..released], usize::MAX), (requests, released, None));
});
