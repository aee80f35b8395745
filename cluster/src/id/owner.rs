//! The owner of assigned work, and the text that stands for it in rows.

use std::borrow::Cow;

use super::Key;

/// The first character of an owner key that is not the text of a user.
const RESERVED: char = '\0';
/// The beginning of the owner key of a connection.
const CONNECTION_OWNER: &str = "\0c";

/// The owner of assigned work, which one worker at a time runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkOwner<'a> {
    /// A user.
    User(&'a str),
    /// The connection of a caller without a user.
    Connection(Key),
}

impl<'a> WorkOwner<'a> {
    /// Returns the owner of the work of a user, else of a connection.
    pub fn of(user: Option<&'a str>, connection: Option<Key>) -> Option<Self> {
        user.map(Self::User).or(connection.map(Self::Connection))
    }

    /// Returns the text that stands for the owner in rows. That of a user is its own text, and for one that begins with the
    /// reserved character, that character and the text; so different owners have different keys, and no user has the key
    /// of a connection.
    pub fn key(self) -> Cow<'a, str> {
        match self {
            Self::User(user) if user.starts_with(RESERVED) => format!("{RESERVED}{user}").into(),
            Self::User(user) => user.into(),
            Self::Connection(connection) => format!("{CONNECTION_OWNER}{connection}").into(),
        }
    }

    /// Returns the owner of a key.
    pub fn of_key(key: &'a str) -> Self {
        let connection = key.strip_prefix(CONNECTION_OWNER).and_then(|text| text.parse().ok());
        connection.map_or_else(|| Self::User(key.strip_prefix(RESERVED).unwrap_or(key)), Self::Connection)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_two_owners_share_a_key_whatever_a_user_is_called(
            user in "(\0|\0\0|\0c|c|)\\PC{0,3}([0-9A-Za-z]{22})?", other in "\0{0,3}c?\\PC{0,3}", bits: u128
        ) {
            let imitation = WorkOwner::Connection(Key::from_bits(bits)).key().into_owned();
            let owners = [&user, &other, &imitation].map(|user| WorkOwner::User(user));
            let owners = owners.into_iter().chain([WorkOwner::Connection(Key::from_bits(bits))]);
            let owners: Vec<_> = owners.map(|owner| (owner, owner.key())).collect();
            for (owner, key) in &owners {
                prop_assert_eq!(WorkOwner::of_key(key), *owner);
                prop_assert!(owners.iter().all(|(other, text)| (text == key) == (other == owner)));
            }
        }
    }
}
