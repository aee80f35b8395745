//! The versions of NATS servers that the engine accepts.
//!
//! Owns: the comparison of a server's version with the requirements of the engine. Never: connections.
//!
//! Avoids: async-nats compares the numbers of a version only, so a pre-release counts as the release.

/// Returns whether a server of this version has the features and fixes that the engine needs: 2.12.12 or
/// later of 2.12, 2.14.3 or later of 2.14, 2.15 and up. 2.13 is refused, because it never received the fixes.
/// A pre-release of the oldest acceptable version is older than that version.
pub(super) fn check_version(version: &str) -> bool {
    let Some((release, patched)) = parse(version) else { return false };
    match release {
        (0 | 1, ..) => false,
        (2, 12, patch) => (patch, patched) >= (12, true),
        (2, 14, patch) => (patch, patched) >= (3, true),
        (2, 15, patch) => (patch, patched) >= (0, true),
        (2, minor, _) => minor > 15,
        _ => true,
    }
}

/// Returns `(major, minor, patch)` and whether the version is a final release, not a pre-release.
fn parse(version: &str) -> Option<((u32, u32, u32), bool)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let (numbers, pre) = version.split_once('-').map_or((version, None), |(n, pre)| (n, Some(pre)));
    // the part after a plus is build metadata and does not affect the order
    let numbers = numbers.split('+').next()?;
    let mut parts = numbers.split('.').map(str::parse);
    let release = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    parts.next().is_none().then_some((release, pre.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_with_the_needed_fixes_are_accepted() {
        for good in [
            "2.12.12",
            "2.12.30",
            "2.14.3",
            "2.14.10",
            "2.15.0",
            "2.15.1",
            "v2.16.0",
            "3.0.0",
            "2.15.1-RC.1",
            "2.15.1+build",
        ] {
            assert!(check_version(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "2",
            "2.15",
            "1.9.9",
            "2.11.99",
            "2.12.11",
            "2.12.12-RC.1",
            "2.13.99",
            "2.14.2",
            "2.15.0-dev",
            "2.15.1.1",
        ] {
            assert!(!check_version(bad), "{bad}");
        }
    }
}
