//! `[[pool]]` with a `url`: handlers of the user's own HTTP backend.
//!
//! Owns: the check of these keys, and the backend of a lane. Never: how requests are sent (`pagewire_worker`).

use super::check::Problems;
use super::pool::{MAX_TIMEOUT_MS, PoolConfig};

/// The keys that only a pool with a `url` has, except `lanes`, which is a table.
pub(super) const KEYS: &[&str] = &["url", "secret", "secret_file", "callback", "timeout_ms"];

impl PoolConfig {
    /// Returns the lanes that a process of a lane serves, with the URL of each: its own lane, and those of `lanes`.
    pub fn backends(&self, own: &str) -> Vec<(String, String)> {
        let own_url = self.lanes.get(own).unwrap_or(&self.url);
        let others = self.lanes.iter().filter(|(lane, _)| *lane != own);
        let others = others.map(|(lane, url)| (lane.clone(), url.clone()));
        [(own.to_owned(), own_url.clone())].into_iter().chain(others).collect()
    }

    pub(super) fn check_backend(&self, found: &mut Problems) {
        if self.methods.is_empty() {
            found.add(
                "pool.methods",
                format!("pool {:?} has a url, which cannot list its methods", self.name),
            );
        }
        let urls = [("pool.url", &self.url)].into_iter();
        for (key, url) in urls.chain(self.lanes.values().map(|url| ("pool.lanes", url))) {
            if !is_url(url) {
                found.add(key, format!("{url:?} is not of the form http://host/path"));
            }
        }
        if !self.callback.is_empty() && !is_url(&self.callback) {
            found.add("pool.callback", format!("{:?} is not of the form http://host:port", self.callback));
        }
        for lane in self.lanes.keys() {
            found.name("pool.lanes", lane);
        }
        if !self.secret.is_empty() && !self.secret_file.as_os_str().is_empty() {
            found.add("pool.secret", "secret and secret_file exclude each other");
        }
        if let Some(timeout) = self.timeout_ms {
            found.range("pool.timeout_ms", timeout, 1..=MAX_TIMEOUT_MS);
        }
    }

    pub(super) fn check_without_backend(&self, found: &mut Problems) {
        let set = [
            ("url", !self.url.is_empty()),
            ("lanes", !self.lanes.is_empty()),
            ("secret", !self.secret.is_empty()),
            ("secret_file", !self.secret_file.as_os_str().is_empty()),
            ("callback", !self.callback.is_empty()),
            ("timeout_ms", self.timeout_ms.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            let problem =
                format!("pool {:?} has no HTTP backend: that needs a url, and no command", self.name);
            found.add(&format!("pool.{key}"), problem);
        }
    }
}

/// Returns whether a text is an URL of a backend, as far as it can be seen without a parser.
fn is_url(text: &str) -> bool {
    let rest = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '@']))
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::super::{Config, PoolRuntime};

    fn loaded(text: &str) -> Result<Config, String> {
        load_text(&format!("[[pool]]\nname = \"a\"\n{text}"))
    }

    const URL: &str = "url = \"http://a/x\"\nmethods = [\"sum\"]\n";

    #[test]
    fn a_lane_has_a_backend_of_its_own_if_it_is_listed() {
        let pool = &loaded(&format!("{URL}lanes = {{ canary = \"http://b\" }}")).unwrap().pool[0];
        assert_eq!((pool.runtime(), pool.slots()), (PoolRuntime::Http, 16));
        let both = |own: &str, url: &str| vec![(own.to_owned(), url.to_owned())];
        assert_eq!(
            pool.backends("stable"),
            [both("stable", "http://a/x"), both("canary", "http://b")].concat()
        );
        assert_eq!(pool.backends("canary"), both("canary", "http://b"));
    }

    #[test]
    fn a_backend_that_cannot_work_is_refused_with_its_key() {
        for (file, problem) in [
            ("url = \"http://a\"".to_owned(), "pool.methods"),
            ("url = \"a:80\"\nmethods = [\"b\"]".to_owned(), "pool.url"),
            ("url = \"http://me:you@a\"\nmethods = [\"b\"]".to_owned(), "pool.url"),
            (format!("{URL}lanes = {{ b = \"c\" }}"), "pool.lanes"),
            (format!("{URL}lanes = {{ \"b c\" = \"http://c\" }}"), "pool.lanes"),
            (format!("{URL}secret = \"b\"\nsecret_file = \"c\""), "exclude each other"),
            (format!("{URL}timeout_ms = 0"), "pool.timeout_ms"),
            (format!("{URL}callback = \"a\""), "pool.callback"),
            (format!("{URL}free = 1"), "pool.free"),
            (format!("{URL}command = [\"b\"]"), "pool.url"),
            (format!("{URL}urls = 1"), "the nearest known one is pool.url"),
            ("secret = \"b\"".to_owned(), "pool.secret"),
        ] {
            let refused = loaded(&file).unwrap_err();
            assert!(refused.contains(problem), "{file}: {refused}");
        }
    }

    #[test]
    fn the_key_of_signatures_is_not_shown() {
        let config = loaded(&format!("{URL}secret = \"very-hidden\"")).unwrap();
        let shown = format!("{config:?}{}", toml::to_string(&config).unwrap());
        assert!(shown.contains("***") && !shown.contains("very-hidden"), "{shown}");
    }
}
