//! The follower against the corpus of `tests/corpus/http1`, and in any division of the bytes.

mod corpus;
mod hyper_agrees;
mod properties;

use super::{FramingRefusal, RequestFollower};

/// Maximum bytes of a head in these tests; the default of the configuration.
const LIMIT: usize = 16_384;

/// What a follower found in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    requests: u64,
    /// Bytes that may be read.
    released: usize,
    refusal: Option<FramingRefusal>,
    is_last: bool,
}

/// Follows a stream that arrives in these parts.
fn follow<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut follower = RequestFollower::new(LIMIT);
    let (mut pending, mut released) = (Vec::new(), 0);
    for part in parts {
        pending.extend_from_slice(part);
        let checked = follower.follow(&pending);
        pending.drain(..checked);
        released += checked;
    }
    Outcome {
        requests: follower.requests(),
        released,
        refusal: follower.refusal(),
        is_last: follower.has_ended() || follower.is_released(),
    }
}

fn whole(stream: &[u8]) -> Outcome {
    follow(std::iter::once(stream))
}
