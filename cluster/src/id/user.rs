//! The limits of the text of a user.

/// Maximum length of a user in bytes.
const MAX_USER: usize = 256;

/// The text is empty or too long for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user has 1 to {MAX_USER} bytes")]
pub struct InvalidUser;

/// Checks the length of a user.
///
/// # Errors
///
/// [`InvalidUser`] when the text is empty or too long.
pub fn check_user(user: &str) -> Result<(), InvalidUser> {
    if (1..=MAX_USER).contains(&user.len()) { Ok(()) } else { Err(InvalidUser) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_1_to_256_bytes() {
        for user in ["a", &"x".repeat(256), &"é".repeat(128)] {
            assert_eq!(check_user(user), Ok(()), "{user}");
        }
        for wrong in ["", &"x".repeat(257), &"é".repeat(129)] {
            assert_eq!(check_user(wrong), Err(InvalidUser), "{wrong}");
        }
        assert_eq!(InvalidUser.to_string(), "a user has 1 to 256 bytes");
    }
}
