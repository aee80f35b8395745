//! The header `Connection`. Pure.
//!
//! Owns: whether a message is the last one of its connection. Never: the headers that it names (`forward`).

use http::header::{self, HeaderMap};

/// Returns whether the header names `close`.
pub(crate) fn names_close(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    let mut names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn close_is_found_in_every_line_and_spelling() {
        let closes = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONNECTION, HeaderValue::from_static(line));
            }
            names_close(&headers)
        };
        assert!(closes(&["close"]) && closes(&["upgrade, Close"]) && closes(&["te", "x , CLOSE"]));
        assert!(!closes(&[]) && !closes(&["keep-alive"]) && !closes(&["closed, close-notify"]));
    }
}
