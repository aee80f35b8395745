//! The register of Genropy sites in Python, as it is in this binary.
//!
//! Owns: its files, and the folder that they are unpacked to. Never: what they do (`integrations/genropy`).

use std::io;
use std::path::{Path, PathBuf};

/// Returns the files of the distribution by their paths.
macro_rules! files {
    ($($path:literal)*) => {
        [$(($path, include_str!(concat!("../../integrations/genropy/src/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = &files!(
    "pagewire_genropy/__init__.py" "pagewire_genropy/changes.py" "pagewire_genropy/channel.py"
    "pagewire_genropy/codec.py" "pagewire_genropy/commands.py" "pagewire_genropy/core.py"
    "pagewire_genropy/delivery.py" "pagewire_genropy/draft.py" "pagewire_genropy/errors.py"
    "pagewire_genropy/events.py" "pagewire_genropy/fields.py" "pagewire_genropy/filters.py"
    "pagewire_genropy/handler.py" "pagewire_genropy/hints.py" "pagewire_genropy/kept.py" "pagewire_genropy/kept_classes.py"
    "pagewire_genropy/kept_preferences.py" "pagewire_genropy/kept_relations.py" "pagewire_genropy/kept_templates.py"
    "pagewire_genropy/keys.py"
    "pagewire_genropy/lifecycle.py" "pagewire_genropy/listing.py" "pagewire_genropy/locks.py" "pagewire_genropy/page_map.py"
    "pagewire_genropy/ping.py" "pagewire_genropy/processes.py" "pagewire_genropy/register.py"
    "pagewire_genropy/replicas.py" "pagewire_genropy/resolver.py" "pagewire_genropy/service.py"
    "pagewire_genropy/shadow.py" "pagewire_genropy/shadow_adoption.py" "pagewire_genropy/shadow_ahead.py"
    "pagewire_genropy/shadow_forms.py" "pagewire_genropy/shadow_pair.py" "pagewire_genropy/shadow_provider.py"
    "pagewire_genropy/shadow_report.py" "pagewire_genropy/shadow_stores.py" "pagewire_genropy/shadow_verbs.py"
    "pagewire_genropy/siteregister.py" "pagewire_genropy/siteregister_client.py"
    "pagewire_genropy/snapshot.py" "pagewire_genropy/sockets.py" "pagewire_genropy/standins.py" "pagewire_genropy/stores.py"
    "pagewire_genropy/working_set.py"
    "pagewire_genropy-0.1.0.dist-info/METADATA" "pagewire_genropy-0.1.0.dist-info/entry_points.txt"
);

/// Returns the folder for PYTHONPATH. No module can have its name.
pub(super) fn folder(package: &Path) -> PathBuf {
    package.join("for-genropy")
}

/// Unpacks the distribution into its folder below that of the Python package.
///
/// # Errors
///
/// When a file cannot be written.
pub(super) fn unpack(package: &Path) -> io::Result<()> {
    for (path, text) in FILES {
        let file = folder(package).join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(package))?;
        std::fs::write(file, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_whole_distribution_is_unpacked() {
        let package = tempfile::tempdir().unwrap();
        unpack(package.path()).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/genropy/src");
        let files = |root: &Path| {
            let mut found = BTreeSet::new();
            for folder in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
                for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
                    let name = file.file_name().into_string().unwrap();
                    if name != "__pycache__" && !name.starts_with('.') {
                        found.insert((folder.file_name().into_string().unwrap(), name));
                    }
                }
            }
            found
        };
        assert_eq!(files(&folder(package.path())), files(&source));
    }
}
