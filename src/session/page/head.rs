//! The part of a frame that belongs to one page: its number.

/// The head of a frame: `{"seq":17,` or `{`, on the stack.
pub(super) struct Head {
    text: [u8; 28],
    length: usize,
}

impl Head {
    pub(super) fn new(seq: Option<u64>) -> Self {
        let mut head = Self { text: [b'{'; 28], length: 1 };
        if let Some(seq) = seq {
            use std::io::Write;
            let mut rest = &mut head.text[..];
            // 8 characters, at most 20 digits: always fits
            let _ = write!(rest, "{{\"seq\":{seq},");
            head.length = 28 - rest.len();
        }
        head
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}
