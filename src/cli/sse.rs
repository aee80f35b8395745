//! Parses a stream of server-sent events. Pure.

use serde_json::Value;

/// A server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SseEvent {
    pub(super) name: String,
    pub(super) data: Value,
}

/// An incremental parser: takes bytes as they arrive and returns events once they are complete.
#[derive(Debug, Default)]
pub(super) struct SseReader {
    line: Vec<u8>,
    name: String,
    data: String,
}

impl SseReader {
    /// Returns the events that these bytes complete. Skips comments and data that is not JSON.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                events.extend(self.line(&String::from_utf8_lossy(&line)));
            } else {
                self.line.push(byte);
            }
        }
        events
    }

    /// Parses a line. An empty line completes an event.
    fn line(&mut self, line: &str) -> Option<SseEvent> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                return Some(SseEvent { name, data: serde_json::from_str(&data).ok()? });
            }
            "event" => self.name = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const STREAM: &str = ":\n\nevent: job\ndata: {\"state\":\ndata: \"queued ü\"}\n\n:\n\nevent:progress\r\ndata:{\"progress\":0.5}\r\n\r\n";

    fn all() -> Vec<SseEvent> {
        vec![
            SseEvent { name: "job".into(), data: json!({"state": "queued ü"}) },
            SseEvent { name: "progress".into(), data: json!({"progress": 0.5}) },
        ]
    }

    proptest! {
        #[test]
        fn events_are_the_same_however_the_bytes_are_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut reader = SseReader::default();
            let events: Vec<_> =
                cuts.windows(2).flat_map(|cut| reader.feed(&STREAM.as_bytes()[cut[0]..cut[1]])).collect();
            prop_assert_eq!(events, all());
        }
    }
}
