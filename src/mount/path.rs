//! Paths of requests. Pure.
//!
//! Owns: which paths no mount may see, and which path is below another one. Never: the meaning of a path.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Number of times that a path is decoded: a server behind a proxy decodes once or twice.
const DECODINGS: usize = 3;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathRefusal {
    /// A segment is `.` or `..`, perhaps encoded.
    DotSegment,
    /// The path has a NUL, perhaps encoded.
    Nul,
}

impl PathRefusal {
    /// Returns the reason for metrics and logs.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::DotSegment => "dot_segment",
            Self::Nul => "nul",
        }
    }
}

/// Checks a path as it was sent. A segment ends at a slash or backslash, also encoded, and before its parameters (`;`), as
/// the servers behind a mount may read it.
///
/// # Errors
///
/// [`PathRefusal`] for a path that could leave the folder which it seems to be in.
pub(crate) fn check_path(path: &str) -> Result<(), PathRefusal> {
    // neither a dot nor a NUL, encoded or not
    if !path.bytes().any(|byte| matches!(byte, b'.' | b'%' | 0)) {
        return Ok(());
    }
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..=DECODINGS {
        if bytes.contains(&0) {
            return Err(PathRefusal::Nul);
        }
        let mut segments = bytes.split(|byte| matches!(byte, b'/' | b'\\'));
        if segments.any(|segment| matches!(without_parameters(segment), b"." | b"..")) {
            return Err(PathRefusal::DotSegment);
        }
        match decode(&bytes) {
            Some(decoded) => bytes = decoded,
            None => break,
        }
    }
    Ok(())
}

fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|byte| *byte == b';').next().unwrap_or_default()
}

/// Decodes each `%hh` once; `None` if there is none. A `%` that is not followed by two digits stays.
fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    match Cow::<[u8]>::from(percent_decode(bytes)) {
        Cow::Owned(decoded) => Some(decoded),
        Cow::Borrowed(_) => None,
    }
}

/// Returns what follows `prefix` in `path`, from its slash on: `""` for `prefix` itself. `None` if `path` is not below it.
/// Every path is below `/`, and is returned whole.
pub(crate) fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix == "/" {
        return Some(path);
    }
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for path in [
            "/..",
            "/.",
            "/../etc/passwd",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e%2e/b",
            "/.%2E/b",
            "/%2e",
            "/a/%2e%2e",
            "/a%2f..%2fb",
            "/a%2F%2e%2e%2Fb",
            "/a\\..\\b",
            "/a%5c..%5cb",
            "/%252e%252e/b",
            "/%25252e%25252e/b",
            "/..;/b",
            "/..;x=1/b",
            "/%2e%2e;/b",
            "//..//",
            "/_temp/../etc/passwd",
            "..",
            "/a/%2e./b",
            "/..%3b/b",
        ] {
            assert_eq!(check_path(path), Err(PathRefusal::DotSegment), "{path}");
        }
        for path in ["/a%00b", "/%2500"] {
            assert_eq!(check_path(path), Err(PathRefusal::Nul), "{path}");
        }
    }

    #[test]
    fn other_paths_pass_as_they_are() {
        for path in [
            "/",
            "//sys//a",
            "/...",
            "/a..b",
            "/..a",
            "/.well-known/x",
            "/a.b/.c",
            "/%",
            "/%zz",
            "/100%",
            "/a%20b",
            "/caf%C3%A9",
            "/a;b=..",
            "/a:b",
            "/%2",
            "*",
            "/a%2fb",
        ] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_path_is_below_a_prefix_at_a_slash() {
        assert_eq!(below("/shop", "/shop"), Some(""));
        assert_eq!(below("/shop/a", "/shop"), Some("/a"));
        assert_eq!(below("/shop/", "/shop"), Some("/"));
        assert_eq!((below("/shopping", "/shop"), below("/sho", "/shop")), (None, None));
        assert_eq!(below("/any", "/"), Some("/any"));
    }

    proptest! {
        /// A path that passes stays in its folder for a server that decodes once.
        #[test]
        fn what_passes_has_no_dot_segment_when_it_is_decoded(path in "/([a.%2eE5cfF;/\\\\]{0,12})") {
            if check_path(&path).is_ok() {
                let decoded = decode(path.as_bytes()).unwrap_or_else(|| path.clone().into_bytes());
                let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
                prop_assert!(text.split('/').all(|segment| segment != ".." && segment != "."), "{}", path);
            }
        }

        #[test]
        fn nothing_panics(path in "\\PC{0,40}") {
            let _ = check_path(&path);
        }
    }
}
