//! Ids of older deployments.
//!
//! Owns: the key that such an id becomes. Never: who may use it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{KEY_LENGTH, Key};

/// Returns the key of an id of an older deployment; `None` for a text that is no such id.
///
/// - 22 characters of `0-9`, `A-Z`, `a-z` that a key has as well are that key.
/// - A UUID, in its usual form with hyphens, is the key with its 128 bits.
/// - Other 22 characters of `0-9`, `A-Z`, `a-z`, `_` become the first 128 bits of their SHA-256.
pub fn key_of_older_id(text: &str) -> Option<Key> {
    if let Ok(key) = text.parse() {
        return Some(key);
    }
    let is_of_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.len() == KEY_LENGTH && text.bytes().all(is_of_id) {
        let digest = Sha256::digest(text.as_bytes());
        let first: [u8; 16] = digest[..16].try_into().ok()?;
        return Some(Key::from_bits(u128::from_be_bytes(first)));
    }
    let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::try_parse(text).ok().filter(|_| is_hyphenated).map(|uuid| Key::from_bits(uuid.as_u128()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adopted(text: &str) -> Option<String> {
        key_of_older_id(text).map(|key| key.to_string())
    }

    #[test]
    fn an_id_that_is_a_key_stays_as_it_is_and_others_become_one() {
        assert_eq!(adopted("0000000000000000000abc").as_deref(), Some("0000000000000000000abc"));
        let uuid = "00000000-0000-0000-0000-00000000003e";
        assert_eq!(adopted(uuid).as_deref(), Some("0000000000000000000010"));
        assert_eq!(adopted(&uuid.to_uppercase()), adopted(uuid));
        // `printf Abcdefghij_klmnopqrst1 | sha256sum`
        let (underscore, large) = ("Abcdefghij_klmnopqrst1", "zzzzzzzzzzzzzzzzzzzzzz");
        let digest = Sha256::digest(underscore.as_bytes());
        let bits = u128::from_be_bytes(digest[..16].try_into().unwrap());
        assert_eq!(key_of_older_id(underscore), Some(Key::from_bits(bits)));
        assert!(adopted(large).is_some_and(|key| key != large), "it has more than 128 bits");
    }

    #[test]
    fn other_texts_are_no_ids() {
        let short = "0000000000000000000ab";
        let braced = "{00000000-0000-0000-0000-00000000003e}";
        for text in [
            "",
            short,
            "0000000000000000000ab-",
            "0000000000000000000ab|p01",
            braced,
            "é000000000000000000ab",
        ] {
            assert_eq!(adopted(text), None, "{text}");
        }
    }
}
