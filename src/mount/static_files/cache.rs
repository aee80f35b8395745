//! `Cache-Control` of files.
//!
//! Owns: the rules of the configuration, and the rule for files that none of them names. Never: entity tags.

use http::HeaderValue;

use super::file_path::FilePath;

/// For a file that can change: caches keep it, and ask each time whether it is still the same, which costs no body.
/// A time without asking would make one page load new HTML with old scripts after a deployment.
pub(super) const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// For a file whose name changes with its content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The folder in which build tools put files with a hash of the content in the name.
const BUILT: &str = "assets";

/// `Cache-Control` of some files. The first rule that matches a file applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mount) struct CacheRule {
    /// A pattern of names, in which `*` stands for any characters and `?` for one. With a `/` in it, it is a pattern of
    /// paths below the folder, without a `/` at the beginning.
    pub(in crate::mount) files: String,
    /// The value of the header.
    pub(in crate::mount) value: HeaderValue,
}

/// Returns `Cache-Control` of a file.
pub(super) fn cache_control(rules: &[CacheRule], file: &FilePath) -> HeaderValue {
    let name = file.name().unwrap_or_default();
    let matching = |rule: &&CacheRule| match rule.files.contains('/') {
        true => matches(&rule.files, &file.segments().join("/")),
        false => matches(&rule.files, name),
    };
    match rules.iter().find(matching) {
        Some(rule) => rule.value.clone(),
        None if is_built(file) => IMMUTABLE,
        None => REVALIDATE,
    }
}

/// Whether the text matches a pattern of `*` and `?`. Time is the product of both lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // the last star, and how much of the text it has taken
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether the file is below `assets` and has a hash of its content in its name, as Vite and webpack write it:
/// `index-DiwrgTda.js`, `main.8f3a1b2c9d.css`.
fn is_built(file: &FilePath) -> bool {
    let Some((name, folders)) = file.segments().split_last() else { return false };
    // the extension, also that of `index-DiwrgTda.js.map`
    let Some((mut stem, extension)) = name.rsplit_once('.') else { return false };
    if extension == "map" {
        stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    }
    let rests = stem.match_indices(['-', '.']).filter(|(at, _)| *at > 0).map(|(at, _)| &stem[at + 1..]);
    folders.iter().any(|folder| folder == BUILT) && rests.into_iter().any(is_hash)
}

/// Number of characters of a hash that Vite writes, and the minimum of all tools.
const HASH: usize = 8;

/// Whether a text looks like a hash and not like a word, a date or a size. A hash that looks like a word is asked for
/// each time, which is slower and correct; the reverse would keep an old file for a year.
fn is_hash(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < HASH || !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)) {
        return false;
    }
    let is_size = bytes.iter().all(|b| b.is_ascii_digit() || *b == b'x');
    let is_upper = !bytes.iter().any(u8::is_ascii_lowercase) && !bytes.iter().any(u8::is_ascii_digit);
    // words have capitals at their beginnings and numbers at their ends
    let unusual = bytes
        .windows(2)
        .filter(|pair| {
            let capital = pair[0].is_ascii_alphanumeric() && pair[1].is_ascii_uppercase();
            capital || (pair[0].is_ascii_digit() && pair[1].is_ascii_lowercase())
        })
        .count();
    let enough = if bytes.len() == HASH { 1 } else { 2 };
    !is_size && !is_upper && unusual >= enough
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> FilePath {
        FilePath::parse(path).unwrap()
    }

    #[test]
    fn only_a_name_with_a_hash_of_the_content_is_kept_for_a_year() {
        let built = [
            "/assets/index-DiwrgTda.js",
            "/assets/index-DiwrgTda.js.map",
            "/assets/index-D2n9_x-K.css",
            "/assets/B-x_9fKa-B-x_9fKa.js",
            "/assets/logo-1a2b3c4d.svg",
            "/app/assets/main.8f3a1b2c9d7e6f5a4b3c.css",
            "/assets/fonts/inter-latin-wght-normal-Dx4kXJAl.woff2",
        ];
        for path in built {
            assert!(is_built(&file(path)), "{path}");
        }
        let others = [
            "/index.html",
            "/index-DiwrgTda.js",
            "/assets/index.js",
            "/assets/my-document.pdf",
            "/assets/annual-report-20261128.pdf",
            "/assets/hero-1280x720.png",
            "/assets/photo-summer2024.png",
            "/assets/icon-chevronDown.svg",
            "/assets/user-guide-Document.pdf",
            "/assets/my-the-best.png",
            "/assets/photo-BIGPHOTO.png",
            "/assets/jquery.min.js",
            "/assets/-DiwrgTda",
        ];
        for path in others {
            assert!(!is_built(&file(path)), "{path}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_applies() {
        let rule = |files: &str, value: &'static str| CacheRule {
            files: files.to_owned(),
            value: HeaderValue::from_static(value),
        };
        let rules = [rule("*.png", "max-age=1"), rule("img/*", "max-age=2"), rule("*", "max-age=3")];
        let table = [("/a.png", "max-age=1"), ("/img/a.jpg", "max-age=2"), ("/x/img/a.jpg", "max-age=3")];
        for (path, expected) in table {
            assert_eq!(cache_control(&rules, &file(path)), expected, "{path}");
        }
        assert_eq!(cache_control(&rules[..2], &file("/index.html")), "no-cache");
        assert_eq!(cache_control(&rules[..2], &file("/assets/a-DiwrgTda.js")), IMMUTABLE);
    }

    #[test]
    fn a_pattern_has_stars_and_question_marks() {
        let table = [
            ("*.png", "a.png", true),
            ("*.png", "a.png.br", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab.a", false),
            ("", "", true),
            ("*", "", true),
            ("?", "ä", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)), "and it ends");
    }
}
