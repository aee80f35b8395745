//! Encodes the frames of the server: unmasked, never fragmented, appended to one buffer so that they leave in one
//! write.

use super::{MAX_CONTROL, Opcode};

const FINAL: u8 = 0x80;
/// Maximum bytes of a close frame's reason.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// Appends a text frame. Its payload comes in parts, so that a shared part is copied only once, into the write
/// buffer.
pub fn text(out: &mut Vec<u8>, parts: &[&[u8]]) {
    header(out, Opcode::Text, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends a ping without payload. Any byte from the client counts as the reply.
pub fn ping(out: &mut Vec<u8>) {
    header(out, Opcode::Ping, 0);
}

/// Appends the response to a client's ping, with its payload.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    header(out, Opcode::Pong, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close frame of the server. A reason over the protocol's limit is left out, because a truncated JSON text
/// is useless.
pub fn close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = if reason.len() > MAX_REASON { "" } else { reason };
    header(out, Opcode::Close, reason.len() + 2);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Returns `{"reason":…}` with as much of the text as a close frame can carry.
pub fn reason(text: &str) -> String {
    let mut text = text;
    loop {
        let json = format!("{{\"reason\":{}}}", serde_json::Value::from(text));
        if json.len() <= MAX_REASON || text.is_empty() {
            return json;
        }
        let over = (json.len() - MAX_REASON).div_ceil(6);
        text = &text[..text.floor_char_boundary(text.len().saturating_sub(over))];
    }
}

/// Appends the response to a client's close: the same code, or no code if the client sent none.
pub fn close_echo(out: &mut Vec<u8>, code: Option<u16>) {
    let code = code.map(u16::to_be_bytes);
    let payload = code.as_ref().map_or(&[][..], |bytes| bytes);
    header(out, Opcode::Close, payload.len());
    out.extend_from_slice(payload);
}

fn header(out: &mut Vec<u8>, opcode: Opcode, length: usize) {
    out.push(FINAL | opcode.bits());
    match length {
        0..=125 => out.push(length as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
