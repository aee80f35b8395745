//! Responses of HTTP/1.1 on connections that stay open.
//!
//! Owns: where a response ends, and whether it is a success. Never: requests.

use std::io;

/// Returns the length of the first response; `None` while it is incomplete. Its status has to begin with `status`.
///
/// # Errors
/// If it is no success, or has no length.
pub(crate) fn succeeded(input: &[u8], status: &str) -> io::Result<Option<usize>> {
    let Some(head) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&input[..head]);
    if !text.strip_prefix("HTTP/1.1 ").is_some_and(|rest| rest.starts_with(status)) {
        let refusal = String::from_utf8_lossy(input);
        return Err(io::Error::other(format!("a request was refused: {refusal}")));
    }
    let length = text.lines().filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: Option<usize> = length.filter_map(|(_, value)| value.trim().parse().ok()).next();
    let length = length.ok_or_else(|| io::Error::other("a response without a length"))?;
    let whole = head + 4 + length;
    Ok((input.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_with_its_body() {
        let response = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        for end in 0..response.len() {
            assert_eq!(
                succeeded(&response[..end], "20").unwrap(),
                None,
                "{end} bytes are not a whole response"
            );
        }
        assert_eq!(succeeded(response, "20").unwrap(), Some(response.len()));
        assert_eq!(succeeded(&[&response[..], b"HTTP/1.1"].concat(), "20").unwrap(), Some(response.len()));
    }

    #[test]
    fn a_refusal_is_an_error() {
        let error = succeeded(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"error\":1}", "20").unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
        assert!(succeeded(b"HTTP/1.1 201 Created\r\n\r\n", "20").is_err(), "its length is not known");
    }
}
