//! Paths within a tree.
//!
//! Owns: the notation, and which paths are below which. Never: the values at a path.
//!
//! Keys are separated by dots: `wizard.form.name`. `\.`, `\#` and `\\` escape these characters, and the empty text is
//! the whole tree. A client may also write `#n` for the child at position n ([`ClientPath`]). Stored and sent paths
//! ([`Path`]) consist of keys only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::value::legal_key;
use super::{MAX_DEPTH, StateError};

/// A path of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Box<str>>);

impl Path {
    /// The path of the whole tree.
    pub const ROOT: Self = Self(Vec::new());

    /// Returns the path of a child.
    pub fn child(&self, key: &str) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.into());
        Self(keys)
    }

    /// Returns the keys, from the root.
    pub fn keys(&self) -> &[Box<str>] {
        &self.0
    }

    /// Returns the keys that lead from `above` to this path: empty when both are the same, `None` when this path is
    /// not below `above`. `a.bc` is not below `a.b`.
    pub fn below(&self, above: &Self) -> Option<&[Box<str>]> {
        self.0.strip_prefix(above.0.as_slice())
    }

    pub(super) fn push(&mut self, key: &str) {
        self.0.push(key.into());
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for (index, key) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('.')?;
            }
            for (place, c) in key.char_indices() {
                if matches!(c, '.' | '\\') || (c == '#' && place == 0) {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl FromStr for Path {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let ClientPath(steps) = text.parse()?;
        let key = |step| match step {
            PathStep::Key(key) => Ok(key),
            PathStep::Child(_) => Err(StateError::Path),
        };
        steps.into_iter().map(key).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// One step from a branch to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathStep {
    /// The child with this key.
    Key(Box<str>),
    /// The child at this position, from 0.
    Child(usize),
}

/// A path as a client writes it. It may name a child by position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientPath(pub(super) Vec<PathStep>);

impl From<Path> for ClientPath {
    fn from(path: Path) -> Self {
        Self(path.0.into_iter().map(PathStep::Key).collect())
    }
}

impl FromStr for ClientPath {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let mut steps = Vec::new();
        if text.is_empty() {
            return Ok(Self(steps));
        }
        let mut rest = Some(text);
        while let Some(text) = rest {
            let step;
            (step, rest) = split(text)?;
            steps.push(step);
            if steps.len() > MAX_DEPTH {
                return Err(StateError::Path);
            }
        }
        Ok(Self(steps))
    }
}

/// Parses the first step and returns it with the text after its dot.
///
/// # Errors
///
/// [`StateError::Path`] when the text does not start with a valid step.
fn split(text: &str) -> Result<(PathStep, Option<&str>), StateError> {
    let counts = text.starts_with('#');
    let (mut key, mut rest) = (String::new(), None);
    let mut characters = text.char_indices();
    while let Some((place, c)) = characters.next() {
        match c {
            '.' => {
                rest = Some(&text[place + 1..]);
                break;
            }
            '\\' => key.push(characters.next().ok_or(StateError::Path)?.1),
            c => key.push(c),
        }
    }
    if counts {
        let digits = &key[1..];
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        let position = digits.parse().ok().filter(|_| all).ok_or(StateError::Path)?;
        return Ok((PathStep::Child(position), rest));
    }
    legal_key(&key).map_err(|_| StateError::Path)?;
    Ok((PathStep::Key(key.into()), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::MAX_KEY;

    fn keys(text: &str) -> Vec<String> {
        text.parse::<Path>().unwrap().keys().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dots_separate_keys_unless_they_are_written_with_a_backslash() {
        assert_eq!(keys("wizard.form.name"), ["wizard", "form", "name"]);
        assert_eq!(keys(r"james\.wilson.age"), ["james.wilson", "age"]);
        assert_eq!(keys(r"\#1.a\\b.a#1"), ["#1", r"a\b", "a#1"]);
        assert_eq!(keys(""), [""; 0]);
    }

    #[test]
    fn a_number_sign_counts_children_for_a_client_only() {
        assert_eq!("a.#2".parse::<ClientPath>().unwrap().0, [PathStep::Key("a".into()), PathStep::Child(2)]);
        assert_eq!("a.#2".parse::<Path>(), Err(StateError::Path));
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        let deep = vec!["a"; 33].join(".");
        let long = "k".repeat(257);
        for bad in [".", "a.", ".a", "a..b", r"a\", "#", "#x", "#-1", "#1x", "#+1", &deep, &long] {
            assert_eq!(bad.parse::<ClientPath>(), Err(StateError::Path), "{bad}");
        }
        assert!(vec!["a"; 32].join(".").parse::<Path>().is_ok() && "k".repeat(256).parse::<Path>().is_ok());
    }

    #[test]
    fn below_ends_at_whole_keys() {
        let below = |path: &str, above: &str| {
            let (path, above): (Path, Path) = (path.parse().unwrap(), above.parse().unwrap());
            path.below(&above).map(<[_]>::len)
        };
        assert_eq!(
            (below("a.b.c", "a.b"), below("a.b", "a.b"), below("a.bc", "a.b")),
            (Some(1), Some(0), None)
        );
        assert_eq!((below("a", ""), below("a", "a.b")), (Some(1), None));
    }

    #[test]
    fn paths_are_the_same_in_every_language() {
        #[derive(Deserialize)]
        struct Golden {
            paths: Vec<Vector>,
            longest: Longest,
            positions: Vec<String>,
            invalid: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Vector {
            text: String,
            keys: Vec<String>,
            written: Option<String>,
        }
        #[derive(Deserialize)]
        struct Longest {
            keys: usize,
            bytes_of_a_key: usize,
        }
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/paths.json"));
        let golden: Golden = serde_json::from_str(text).unwrap();
        for Vector { text, keys, written } in golden.paths {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.keys().iter().map(|key| &**key).collect::<Vec<_>>(), keys, "{text}");
            assert_eq!(path.to_string(), written.unwrap_or(text));
        }
        assert_eq!((golden.longest.keys, golden.longest.bytes_of_a_key), (MAX_DEPTH, MAX_KEY));
        for text in golden.positions {
            assert!(text.parse::<ClientPath>().is_ok() && text.parse::<Path>().is_err(), "{text}");
        }
        for text in golden.invalid {
            assert_eq!(text.parse::<ClientPath>(), Err(StateError::Path), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_keys_come_back_from_their_text(keys in prop::collection::vec("[a.#\\\\ 🦀]{1,4}", 0..5)) {
            let path = Path(keys.iter().map(|key| key.as_str().into()).collect());
            prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path));
        }

        #[test]
        fn no_text_is_too_odd(text: String) {
            let _ = text.parse::<ClientPath>();
        }
    }
}
