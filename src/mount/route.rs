//! Which part of the server answers a request. Pure.
//!
//! Owns: the decision by method and path. Never: the answer.

use super::path::{PathRefusal, below, check_path};

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the server's own paths.
    Native,
    /// To the mount with this index. The static rules of the mount that fit come first, the longest path first.
    Mount(usize),
    /// Nowhere: no server may see this path.
    Refuse(PathRefusal),
}

/// The paths that a route is decided by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteTable {
    /// The server's own paths.
    pub(crate) native: Vec<String>,
    /// The paths of the mounts.
    pub(crate) mounts: Vec<String>,
}

impl RouteTable {
    /// Returns where a path goes. A path without a mount is the server's own, which has an answer for unknown paths.
    pub(crate) fn route(&self, path: &str) -> Route {
        if let Err(refusal) = check_path(path) {
            return Route::Refuse(refusal);
        }
        if self.native.iter().any(|native| below(path, native).is_some()) {
            return Route::Native;
        }
        longest(path, self.mounts.iter().map(String::as_str)).map_or(Route::Native, Route::Mount)
    }
}

/// Returns the index of the longest of these prefixes that a path is below.
fn longest<'a>(path: &str, prefixes: impl Iterator<Item = &'a str>) -> Option<usize> {
    let fitting = prefixes.enumerate().filter(|(_, prefix)| below(path, prefix).is_some());
    fitting.max_by_key(|(_, prefix)| prefix.len()).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(native: &[&str], mounts: &[&str]) -> RouteTable {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        RouteTable { native: texts(native), mounts: texts(mounts) }
    }

    #[test]
    fn native_paths_win_then_the_longest_prefix() {
        let table = table(&["/api/v1", "/_ws"], &["/", "/shop", "/shop/admin"]);
        for (path, expected) in [
            ("/api/v1", Route::Native),
            ("/api/v1/jobs", Route::Native),
            ("/_ws", Route::Native),
            ("/api", Route::Mount(0)),
            ("/api/v10", Route::Mount(0)),
            ("/", Route::Mount(0)),
            ("/shop", Route::Mount(1)),
            ("/shopping", Route::Mount(0)),
            ("/shop/a", Route::Mount(1)),
            ("/shop/admin/b", Route::Mount(2)),
            ("/shop/../api/v1", Route::Refuse(PathRefusal::DotSegment)),
            ("/api/v1/%2e%2e/x", Route::Refuse(PathRefusal::DotSegment)),
        ] {
            assert_eq!(table.route(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_without_a_mount_is_the_servers_own() {
        let table = table(&["/api/v1"], &["/shop"]);
        assert_eq!((table.route("/"), table.route("/shop/x")), (Route::Native, Route::Mount(0)));
    }

    proptest! {
        #[test]
        fn a_native_path_never_reaches_a_mount(rest in "[a-z/]{0,8}") {
            let table = table(&["/api/v1"], &["/", "/api", "/api/v1/jobs"]);
            let path = format!("/api/v1/{rest}");
            prop_assert_eq!(table.route(&path), Route::Native);
        }

        #[test]
        fn the_mount_with_the_longest_path_gets_the_request(path in "(/[ab]{1,2}){1,4}") {
            let table = table(&[], &["/", "/a", "/a/b", "/b"]);
            let Route::Mount(index) = table.route(&path) else { panic!("{path}") };
            let chosen = &table.mounts[index];
            prop_assert!(below(&path, chosen).is_some());
            let longer = table.mounts.iter().filter(|other| other.len() > chosen.len());
            prop_assert!(longer.into_iter().all(|other| below(&path, other).is_none()));
        }
    }
}
