//! The comparison of the clocks of several servers. Pure.

use super::LARGEST_OFFSET_MS;
use super::estimate::ClockSample;

/// A server with a clock that differs from that of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOffset {
    /// The name of the server.
    pub server: String,
    /// How far its clock is ahead of the clock of the cluster, in milliseconds.
    pub ahead_ms: i64,
}

/// Returns the servers with clocks that certainly differ from the reference by more than [`LARGEST_OFFSET_MS`], each once.
/// The time that passed between two samples does not matter, because both are bracketed by one clock.
pub fn server_offsets(reference: &ClockSample, servers: &[(String, ClockSample)]) -> Vec<ServerOffset> {
    let allowed = LARGEST_OFFSET_MS.cast_signed() * 1000;
    let mut off: Vec<ServerOffset> = Vec::new();
    for (server, sample) in servers {
        let (least, most) = (sample.least() - reference.most(), sample.most() - reference.least());
        let is_known = off.iter().any(|known| known.server == *server);
        if !is_known && (least > allowed || most < -allowed) {
            off.push(ServerOffset { server: server.clone(), ahead_ms: (least + most) / 2000 });
        }
    }
    off
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(sent: u64, received: u64, shown: u64) -> ClockSample {
        let ms = Duration::from_millis;
        ClockSample { sent: ms(sent), received: ms(received), shown: ms(shown) }
    }

    #[test]
    fn a_server_is_named_once_when_its_clock_certainly_differs() {
        let reference = sample(1_000, 1_002, 50_001);
        let servers = [
            ("n1".to_owned(), sample(2_000, 2_002, 51_001)),
            ("n2".to_owned(), sample(3_000, 3_002, 57_001)),
            ("n2".to_owned(), sample(4_000, 4_002, 58_001)),
            ("n3".to_owned(), sample(5_000, 5_002, 44_001)),
            // two seconds and a half, but the answer took three
            ("n4".to_owned(), sample(6_000, 9_000, 59_000)),
        ];
        let off = server_offsets(&reference, &servers);
        let expected = [("n2", 5_000), ("n3", -10_000)];
        let off: Vec<_> = off.iter().map(|off| (off.server.as_str(), off.ahead_ms)).collect();
        assert_eq!(off, expected);
    }
}
