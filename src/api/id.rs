//! Ids in paths.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pagewire_cluster::id::{Address, Key, check_user};

use super::error::ApiError;

/// The key of a page, session or connection: `<22 base62>%7CpNN`, or the 22 characters alone.
pub(super) struct KeyId(pub(super) Key);

/// A user: the text itself, or `~` and its base64url if a path cannot carry the text (`~Li4` is `..`).
pub(super) struct UserId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for KeyId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        key(&segment(parts, state).await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UserId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        user(segment(parts, state).await?).map(Self)
    }
}

pub(super) async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, ApiError> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(text)| text).map_err(|_| ApiError::malformed("the path is not UTF-8"))
}

/// Reads the key of an id in a path.
pub(super) fn key(text: &str) -> Result<Key, ApiError> {
    let key = text.parse().or_else(|_| text.parse::<Address>().map(|address| address.key));
    key.map_err(|error| ApiError::malformed(error.to_string()))
}

/// Reads the user in a path segment.
pub(super) fn user(segment: String) -> Result<String, ApiError> {
    let user = match segment.strip_prefix('~') {
        None => segment,
        Some(encoded) => {
            URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(
                || ApiError::malformed("behind ~ comes the base64url of UTF-8 text, without padding"),
            )?
        }
    };
    check_user(&user)?;
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_can_be_written_in_a_path() {
        for name in ["ann", "*", "..", "~", "~x", "a/b", "😀"] {
            let encoded = format!("~{}", URL_SAFE_NO_PAD.encode(name));
            assert_eq!(user(encoded).unwrap(), name);
        }
        assert_eq!(user("~Li4".into()).unwrap(), "..");
        assert_eq!(user("a.b".into()).unwrap(), "a.b");
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for wrong in ["~", "~!", "~_w", "", &"x".repeat(257)] {
            assert!(user(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
