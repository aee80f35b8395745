//! A field line: `name: value`.
//!
//! Owns: the syntax of names and lists. Never: the meaning of a field (`head`).

use super::FramingError;

/// The parts of a field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FieldLine<'a> {
    pub(super) name: &'a [u8],
    /// Value without the spaces around it.
    pub(super) value: &'a [u8],
}

impl<'a> FieldLine<'a> {
    /// Reads a line without its line end. It has no control characters.
    ///
    /// # Errors
    ///
    /// For a line that begins with a space, has no colon, or has a name that is not a token.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, FramingError> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(FramingError::FoldedLine);
        }
        let name = token(line);
        let rest = &line[name.len()..];
        match rest.first() {
            Some(b':') if !name.is_empty() => Ok(Self { name, value: rest[1..].trim_ascii() }),
            _ if !line.contains(&b':') => Err(FramingError::FieldLine),
            Some(b' ' | b'\t') if rest.trim_ascii_start().starts_with(b":") => {
                Err(FramingError::SpaceBeforeColon)
            }
            _ => Err(FramingError::FieldName),
        }
    }
}

/// Returns the longest token at the start of a line (RFC 9110, 5.6.2).
pub(super) fn token(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| !TOKEN[*byte as usize]).unwrap_or(line.len());
    &line[..end]
}

/// Returns whether a list of names contains `wanted`, without regard to case.
pub(super) fn lists(value: &[u8], wanted: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted))
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};
