//! The WebSocket codec (RFC 6455, server side), without I/O.
//!
//! Owns: decoding bytes to frames ([`FrameReader`]) and encoding frames to bytes ([`writer`]). Never: sockets, time,
//! or the meaning of a text. No extension is negotiated, so every reserved bit is an error.

mod reader;
pub mod writer;

pub use reader::{FrameEvent, FrameReader, Violation};

/// Type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// Returns `None` for a reserved opcode.
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    const fn control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// Maximum payload of a control frame, in bytes.
const MAX_CONTROL: usize = 125;

#[cfg(test)]
mod conformance;
