//! The part of a frame that belongs to one page: its number.

const BEFORE: &[u8; 7] = b"{\"seq\":";
/// Includes the digits of any `u64` and the comma.
const MAX_PREFIX: usize = BEFORE.len() + 20 + 1;

/// The start of a frame, `{"seq":17,` or `{`, on the stack. Every frame to every page has one, so the standard
/// formatting code would add measurable cost to a delivery.
pub(super) struct SeqPrefix {
    text: [u8; MAX_PREFIX],
    length: usize,
}

impl SeqPrefix {
    pub(super) fn new(seq: Option<u64>) -> Self {
        let mut prefix = Self { text: [b'{'; MAX_PREFIX], length: 1 };
        let Some(seq) = seq else { return prefix };
        let mut digits = itoa::Buffer::new();
        let (digits, start) = (digits.format(seq).as_bytes(), BEFORE.len());
        let end = start + digits.len();
        prefix.text[..start].copy_from_slice(BEFORE);
        prefix.text[start..end].copy_from_slice(digits);
        prefix.text[end] = b',';
        prefix.length = end + 1;
        prefix
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_names_any_number() {
        assert_eq!(SeqPrefix::new(None).bytes(), b"{");
        for seq in [0, 1, 9, 10, 12_345, u64::MAX] {
            assert_eq!(SeqPrefix::new(Some(seq)).bytes(), format!("{{\"seq\":{seq},").as_bytes());
        }
    }
}
