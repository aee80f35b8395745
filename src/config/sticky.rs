//! `sticky` of a mount: what the same process serves again and again.
//!
//! Owns: its texts. Never: which process that is (`mount`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the same process of a mount serves again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sticky {
    /// Nothing: each request goes to the process with the fewest.
    #[default]
    Nothing,
    /// A user, whom the token of the request names.
    User,
    /// A browser, which gets a cookie.
    Connection,
    /// A page that the request names.
    Page,
    /// A value of this cookie, which the application sets.
    Cookie(String),
}

/// A text that is none of a [`Sticky`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not user, connection, page, cookie:NAME or none")]
pub struct UnknownSticky(String);

impl FromStr for Sticky {
    type Err = UnknownSticky;

    fn from_str(text: &str) -> Result<Self, UnknownSticky> {
        Ok(match text {
            "none" => Self::Nothing,
            "user" => Self::User,
            "connection" => Self::Connection,
            "page" => Self::Page,
            _ => {
                let name = text.strip_prefix("cookie:").filter(|name| is_cookie_name(name));
                Self::Cookie(name.ok_or_else(|| UnknownSticky(text.to_owned()))?.to_owned())
            }
        })
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => out.write_str("none"),
            Self::User => out.write_str("user"),
            Self::Connection => out.write_str("connection"),
            Self::Page => out.write_str("page"),
            Self::Cookie(name) => write!(out, "cookie:{name}"),
        }
    }
}

impl TryFrom<String> for Sticky {
    type Error = UnknownSticky;

    fn try_from(text: String) -> Result<Self, UnknownSticky> {
        text.parse()
    }
}

impl From<Sticky> for String {
    fn from(sticky: Sticky) -> Self {
        sticky.to_string()
    }
}

/// Returns whether a text may be the name of a cookie (a token of RFC 9110). The empty text is none.
pub(super) fn is_cookie_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_read_and_written_alike_and_another_one_is_refused_with_the_choices() {
        for text in ["none", "user", "connection", "page", "cookie:sessionid"] {
            assert_eq!(text.parse::<Sticky>().unwrap().to_string(), text);
        }
        for text in ["", "session", "cookie:", "cookie:a b", "User"] {
            assert!(text.parse::<Sticky>().unwrap_err().to_string().contains("cookie:NAME"), "{text}");
        }
    }
}
