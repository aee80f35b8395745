//! The Python package that the processes of mounts import, as it is in this binary.
//!
//! Owns: its files, and the folder that they are unpacked to. Never: what they do.

use std::io;
use std::path::Path;

use pagewire_worker::runtime::child::private_directory::PrivateDirectory;

/// Returns the files of the package by their paths in it.
macro_rules! files {
    ($($path:literal)*) => {
        [$(($path, include_str!(concat!("../../clients/python/src/pagewire/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = &files!(
    "__init__.py" "__main__.py" "_version.py" "alone.py" "app.py" "asgi.py" "binding.py" "client.py" "context.py"
    "draft.py" "errors.py" "handler.py" "http_api.py" "http_connection.py" "http_pool.py" "importing.py" "link.py" "locks.py"
    "loop_async.py" "loop_blocking.py" "loop_threads.py" "outcome.py" "page.py" "page_class.py" "page_work.py" "paths.py"
    "port.py" "program.py" "register.py" "requests.py" "resident.py" "runtime.py" "schema.py" "served.py" "serving/__init__.py" "serving/asgi_scope.py" "serving/command.py"
    "serving/granian_server.py" "serving/gunicorn_server.py" "serving/joining.py" "serving/uvicorn_server.py"
    "serving/wsgi_environ.py" "state.py" "steps.py" "validate.py" "validate_class.py" "web.py" "wire.py" "wsgi.py"
);

/// A folder with the package, for PYTHONPATH. It is removed when this is dropped.
pub(super) struct PythonPackage(PrivateDirectory);

impl PythonPackage {
    /// Unpacks the package.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(super) fn unpack() -> io::Result<Self> {
        let directory = PrivateDirectory::create("-python")?;
        for (path, text) in FILES {
            let file = directory.path().join("pagewire").join(path);
            std::fs::create_dir_all(file.parent().unwrap_or_else(|| directory.path()))?;
            std::fs::write(file, text)?;
        }
        Ok(Self(directory))
    }

    /// Returns the folder.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    /// What only tests of applications import.
    const FOR_TESTS: [&str; 2] = ["testing", "pytest_plugin.py"];

    fn files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() && !FOR_TESTS.contains(&name.as_str()) {
                files(&entry.path(), found);
            } else if name.ends_with(".py") && !FOR_TESTS.contains(&name.as_str()) {
                found.insert(entry.path());
            }
        }
    }

    #[test]
    fn the_whole_package_is_unpacked() {
        let package = PythonPackage::unpack().unwrap();
        let (mut source, mut unpacked) = (BTreeSet::new(), BTreeSet::new());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/src");
        files(&folder, &mut source);
        files(package.path(), &mut unpacked);
        let relative = |all: BTreeSet<PathBuf>, folder: &Path| -> Vec<PathBuf> {
            all.iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect()
        };
        assert_eq!(relative(unpacked, package.path()), relative(source, &folder));
    }
}
