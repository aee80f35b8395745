//! The part of a frame that belongs to one page: its number.

const BEFORE: &[u8; 7] = b"{\"seq\":";
/// Includes the digits of any `u64` and the comma.
const MAX_PREFIX: usize = BEFORE.len() + 20 + 1;

/// The start of a frame, `{"seq":17,` or `{`, on the stack and written from its end. Every frame to every page has one,
/// so the standard formatting code would add measurable cost to a delivery.
pub(super) struct SeqPrefix {
    text: [u8; MAX_PREFIX],
    start: usize,
}

impl SeqPrefix {
    pub(super) fn new(seq: Option<u64>) -> Self {
        let mut head = Self { text: [b'{'; MAX_PREFIX], start: MAX_PREFIX - 1 };
        let Some(mut rest) = seq else { return head };
        head.text[head.start] = b',';
        loop {
            head.start -= 1;
            head.text[head.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        head.start -= BEFORE.len();
        head.text[head.start..][..BEFORE.len()].copy_from_slice(BEFORE);
        head
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[self.start..]
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
