//! The path of a request, as names below a folder.
//!
//! Owns: decoding a path, and refusing what could name a file outside of the folder or a hidden one. Never: the disk
//! (`folder`).

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The only hidden name that is served: RFC 8615 makes it public.
const WELL_KNOWN: &str = ".well-known";

/// The characters of a segment that are percent-encoded in a URL: all but the unreserved ones.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path below a folder. Each segment is the name of an entry: not empty, no `..`, no hidden name, no separator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePath {
    segments: Vec<String>,
    /// Whether the path ends with `/`, and so names a folder.
    pub(super) names_folder: bool,
}

impl FilePath {
    /// Reads a raw path that begins with `/`. Each segment is decoded exactly once. `None`: no file can have this path.
    pub(super) fn parse(raw: &str) -> Option<Self> {
        let rest = raw.strip_prefix('/')?;
        let (inner, names_folder) = match rest.strip_suffix('/') {
            Some(inner) => (inner, true),
            None => (rest, rest.is_empty()),
        };
        if inner.is_empty() {
            // `//` is another path than `/`
            return rest.is_empty().then_some(Self { segments: Vec::new(), names_folder });
        }
        let segments = inner.split('/').map(segment).collect::<Option<_>>()?;
        Some(Self { segments, names_folder })
    }

    /// Returns the names of the path, the last one being that of the file.
    pub(super) fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Returns the name of the file, `None` for the folder itself.
    pub(super) fn name(&self) -> Option<&str> {
        self.segments.last().map(String::as_str)
    }

    /// Returns the path with one more name.
    pub(super) fn joined(&self, name: &str) -> Self {
        let segments = self.segments.iter().cloned().chain([name.to_owned()]).collect();
        Self { segments, names_folder: false }
    }

    /// Returns the path of a neighbour, the name of which has an addition at its end.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        let mut neighbour = self.clone();
        if let Some(last) = neighbour.segments.last_mut() {
            last.push_str(suffix);
        }
        neighbour
    }

    /// Returns the path on disk.
    pub(super) fn below(&self, directory: &Path) -> PathBuf {
        let mut path = directory.to_owned();
        path.extend(&self.segments);
        path
    }
}

/// Returns a name as a segment of a URL.
pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, &RESERVED).to_string()
}

/// Decodes a segment. `None`: it names no served entry of a folder.
fn segment(raw: &str) -> Option<String> {
    let name = percent_decode_str(raw).decode_utf8().ok()?;
    let is_hidden = name.starts_with('.') && name != WELL_KNOWN;
    let has_separator = name.contains(['/', '\\', '\0']);
    (!name.is_empty() && !is_hidden && !has_separator).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_names_are_a_path() {
        type Expected = Option<(&'static [&'static str], bool)>;
        let table: [(&str, Expected); 30] = [
            ("/", Some((&[], true))),
            ("/a", Some((&["a"], false))),
            ("/a/", Some((&["a"], true))),
            ("/a/b.js", Some((&["a", "b.js"], false))),
            ("/a%20b", Some((&["a b"], false))),
            ("/%C3%A4.txt", Some((&["ä.txt"], false))),
            ("/100%25", Some((&["100%"], false))),
            ("/a%252e%252e", Some((&["a%2e%2e"], false))),
            ("/%252e%252e", Some((&["%2e%2e"], false))),
            ("/a..b", Some((&["a..b"], false))),
            ("/.well-known/security.txt", Some((&[".well-known", "security.txt"], false))),
            ("", None),
            ("a", None),
            ("//", None),
            ("//evil.example", None),
            ("/a//b", None),
            ("/a//", None),
            ("/.", None),
            ("/..", None),
            ("/../a", None),
            ("/%2e%2e/a", None),
            ("/.%2E", None),
            ("/a/..%2fb", None),
            ("/a%2fb", None),
            ("/a%5cb", None),
            ("/a\\b", None),
            ("/a%00", None),
            ("/%ff", None),
            ("/.env", None),
            ("/a/.git/config", None),
        ];
        for (raw, expected) in table {
            let found = FilePath::parse(raw);
            let found = found.as_ref().map(|path| (path.segments.as_slice(), path.names_folder));
            let found = found.map(|(names, folder)| (names.iter().map(String::as_str).collect(), folder));
            assert_eq!(found, expected.map(|(names, folder)| (names.to_vec(), folder)), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_folder(raw in "/?([./\\\\%a-z0-9:~ \u{0}-\u{ff}]|%2[eEfF]|%5[cC]|%00|\\.\\.){0,24}") {
            if let Some(path) = FilePath::parse(&raw) {
                let on_disk = path.below(Path::new("/srv/site"));
                let below = on_disk.strip_prefix("/srv/site").expect("below the folder");
                let plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(below.components().all(plain), "{raw:?}");
                prop_assert_eq!(below.components().count(), path.segments.len());
            }
        }
    }
}
