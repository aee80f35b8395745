//! Identities: levels, entities, scopes and accounts, node numbers and their holders, keys and addresses.
//!
//! Owns: the text form of every id (`<22 base62>|pNN`) and its parsing. Never: access rights (an id grants
//! none) or the position of an id in a subject (`subject`).

mod older;
mod owner;
mod user;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use older::key_of_older_id;
pub use owner::WorkOwner;
pub use user::{InvalidUser, check_user};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of a [`Key`]: 128 bits in base62.
pub const KEY_LENGTH: usize = 22;
/// As many base62 digits as fit into a 64-bit word. Dividing 128 bits is slow, and every request handles ids.
const WORD: usize = 10;
const WORDFUL: u128 = 62u128.pow(WORD as u32);

/// The reason why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The key is not exactly 22 characters of `[0-9A-Za-z]`, or has more than 128 bits.
    #[error("an id starts with 22 characters of 0-9, A-Z, a-z")]
    Key,
    /// The part after `|` is not a node number.
    #[error("a node number is written p01 … p65535")]
    Node,
    /// There is no `|`.
    #[error("an id reads <22 characters>|pNN")]
    Shape,
}

/// The level of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// An identity; anonymous pages have none.
    User,
    /// A browser or device.
    Connection,
    /// A master page and its iframes.
    Session,
    /// One tab or iframe.
    Page,
}

impl Level {
    /// All levels, the highest first.
    pub const ALL: [Self; 4] = [Self::User, Self::Connection, Self::Session, Self::Page];

    /// Returns the name used in every protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Connection => "connection",
            Self::Session => "session",
            Self::Page => "page",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user, connection, session or page. Below the level of users an entity does not name its user, so that a
/// connection is the same when a login changes its user. `Id` is [`Key`] for the identity, or [`Address`] where the
/// node is shown too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity<Id = Key> {
    /// A user.
    User(Arc<str>),
    /// A connection.
    Connection(Id),
    /// A session.
    Session(Id),
    /// A page.
    Page(Id),
}

impl<Id> Entity<Id> {
    /// Returns the level of the entity.
    pub const fn level(&self) -> Level {
        match self {
            Self::User(_) => Level::User,
            Self::Connection(_) => Level::Connection,
            Self::Session(_) => Level::Session,
            Self::Page(_) => Level::Page,
        }
    }
}

impl Entity<Address> {
    /// Returns the identity, which does not depend on a node: a page that has moved is the same page.
    pub fn identity(&self) -> Entity {
        match self {
            Self::User(user) => Entity::User(user.clone()),
            Self::Connection(id) => Entity::Connection(id.key),
            Self::Session(id) => Entity::Session(id.key),
            Self::Page(id) => Entity::Page(id.key),
        }
    }
}

impl<Id: fmt::Display> fmt::Display for Entity<Id> {
    /// Writes the id without its level.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => f.write_str(user),
            Self::Connection(id) | Self::Session(id) | Self::Page(id) => id.fmt(f),
        }
    }
}

/// The set of pages that a message is sent to.
// `Page` has an address instead of a key, because the node in it is the route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One page, at the node in its address.
    Page(Address),
    /// All pages of a session.
    Session(Key),
    /// All pages of a connection.
    Connection(Key),
    /// All pages of a user.
    User(String),
    /// All pages that have subscribed to a topic.
    Topic(String),
    /// All pages.
    All,
}

/// The account that a limit counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Account {
    /// A user, regardless of which page or program acts for the user.
    User(Arc<str>),
    /// The browser of an anonymous page.
    Connection(Key),
}

impl Account {
    /// Returns the account of a page, or of a program that acts for a user or connection; `None` when there is neither.
    pub fn of(user: Option<&Arc<str>>, connection: Option<Key>) -> Option<Self> {
        user.cloned().map(Self::User).or(connection.map(Self::Connection))
    }
}

/// The number of a node, 1 … 65,535, written `p01`. At most one running process holds a number at a time
/// (`lease`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(u16);

impl NodeNumber {
    /// Returns `None` for 0, which is not a node number.
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:02}", self.0)
    }
}

impl FromStr for NodeNumber {
    type Err = InvalidId;

    /// Accepts exactly the texts that [`fmt::Display`] writes, so that each node number has one spelling.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix('p').ok_or(InvalidId::Node)?;
        let canonical = digits.len() == 2 || (digits.len() > 2 && !digits.starts_with('0'));
        if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidId::Node);
        }
        digits.parse().ok().and_then(Self::new).ok_or(InvalidId::Node)
    }
}

/// One incarnation (epoch) of a node: the holder of a page, a lease or an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The node number.
    pub node: NodeNumber,
    /// The epoch: the revision at which this process claimed the number.
    pub epoch: u64,
}

/// The 128 random bits of a page, session or connection, written as 22 base62 characters. Never reused.
// High half first, so that the derived order is the order of the 128 bits. Two `u64` need no padding in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u64; 2]);

impl Key {
    /// Creates a key from the operating system's random source.
    pub fn random() -> Self {
        #[cfg(feature = "simulation")]
        if let Some(bits) = crate::simulation::id_bits() {
            return Self(bits);
        }
        Self(rand::random())
    }

    /// Creates a key from its bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self([(bits >> 64) as u64, bits as u64])
    }

    /// Returns the 128 bits.
    pub const fn bits(self) -> u128 {
        ((self.0[0] as u128) << 64) | self.0[1] as u128
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl Key {
    fn text(self) -> [u8; KEY_LENGTH] {
        let mut text = [b'0'; KEY_LENGTH];
        let mut rest = self.bits();
        for places in text.rchunks_mut(WORD) {
            let mut word = (rest % WORDFUL) as u64;
            rest /= WORDFUL;
            for place in places.iter_mut().rev() {
                *place = ALPHABET[(word % 62) as usize];
                word /= 62;
            }
        }
        text
    }
}

fn digit(byte: u8) -> Result<u64, InvalidId> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        b'a'..=b'z' => byte - b'a' + 36,
        _ => return Err(InvalidId::Key),
    };
    Ok(digit.into())
}

impl FromStr for Key {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != KEY_LENGTH {
            return Err(InvalidId::Key);
        }
        let (first, words) = text.as_bytes().split_at(KEY_LENGTH % WORD);
        let bits = [first].into_iter().chain(words.chunks(WORD)).try_fold(0u128, |bits, digits| {
            let word = digits.iter().try_fold(0, |word, byte| Ok(word * 62 + digit(*byte)?))?;
            bits.checked_mul(WORDFUL).and_then(|bits| bits.checked_add(word.into())).ok_or(InvalidId::Key)
        });
        bits.map(Self::from_bits)
    }
}

/// A key and a node: `<22 base62>|pNN`. For a page, the node holds its socket, so the address is the route.
/// For a session or connection, it is the node that created it, which may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The part that stays the same when a page moves.
    pub key: Key,
    /// The node that holds the page, or created the session or connection.
    pub node: NodeNumber,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.key, self.node)
    }
}

impl FromStr for Address {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (key, node) = text.split_once('|').ok_or(InvalidId::Shape)?;
        Ok(Self { key: key.parse()?, node: node.parse()? })
    }
}

/// A serde visitor that parses an id from its text.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Implements serde for ids as their text, in every wire format.
macro_rules! serde_as_text {
    ($($id:ty),+) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    )+};
}
serde_as_text!(NodeNumber, Key, Address);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_reads_back_as_written(bits: u128, node in 1u16..) {
            let address = Address { key: Key::from_bits(bits), node: NodeNumber::new(node).unwrap() };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn no_text_makes_parsing_panic_and_each_id_has_one_spelling(text in "\\PC{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }

    #[test]
    fn more_than_128_bits_are_refused() {
        assert_eq!("z".repeat(22).parse::<Key>(), Err(InvalidId::Key));
    }

    #[test]
    fn node_numbers_have_at_least_two_digits() {
        assert_eq!(NodeNumber::new(7).unwrap().to_string(), "p07");
        assert_eq!(NodeNumber::new(100).unwrap().to_string(), "p100");
        for wrong in ["p7", "p007", "p00", "7", "p65536", "p+1", ""] {
            assert_eq!(wrong.parse::<NodeNumber>(), Err(InvalidId::Node), "{wrong}");
        }
    }
}
