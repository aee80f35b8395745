//! The WebSocket codec (RFC 6455, server side), without input or output.
//!
//! Owns: frames from bytes ([`FrameReader`]) and bytes from frames ([`writer`]). Never: sockets, time, what a text
//! says. No extension is negotiated, so every reserved bit is an error.

mod reader;
pub mod writer;

pub use reader::{FrameEvent, FrameReader, Violation};

/// What a frame is.
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
    /// `None` for the reserved ones.
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

/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;

#[cfg(test)]
mod conformance;
