//! The syntax of a host with an optional port.
//!
//! Owns: which values of `Host` are accepted. Never: which host this node is (`origin`).

/// Returns whether a value is a host name, an IPv4 address or an IPv6 address in brackets, with an optional port. RFC
/// 3986 permits more characters in a name, but no client needs them: internationalised names are sent in ASCII.
pub(super) fn is_valid(value: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let (host, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            (Some(&rest[..end]).filter(|host| host.iter().all(is_address)), &rest[end + 1..])
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            (Some(&value[..end]).filter(|host| host.iter().all(is_name)), &value[end..])
        }
    };
    host.is_some_and(|host| !host.is_empty()) && (port.is_empty() || is_port(port))
}

/// Returns whether the text is a colon and a port.
fn is_port(text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(b":") else { return false };
    let number = digits.iter().try_fold(0_u16, |number, byte| {
        let digit = u16::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        number.checked_mul(10)?.checked_add(digit)
    });
    number.is_some() && !digits.is_empty()
}
