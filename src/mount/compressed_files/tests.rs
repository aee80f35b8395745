//! Which compressed files are kept.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::mount::body::whole;

/// Returns the version of a new file, once it is old enough to have one.
async fn version(folder: &TempDir, name: &str) -> Arc<FileVersion> {
    let path = folder.path().join(name);
    fs::write(&path, name).unwrap();
    loop {
        if let Some(version) = FileVersion::at(&path) {
            return Arc::new(version);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads a compressed body of this size to its end.
async fn read(files: &Arc<CompressedFiles>, version: &Arc<FileVersion>, size: usize) {
    let body = KeepingBody::wrap(whole(vec![b'x'; size]), files.clone(), version.clone(), Coding::Gzip);
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), size);
}

#[tokio::test]
async fn a_file_is_kept_for_its_version_and_coding() {
    let (folder, files) = (TempDir::new().unwrap(), Arc::<CompressedFiles>::default());
    let first = version(&folder, "a.js").await;
    read(&files, &first, 100).await;
    assert_eq!(files.get(&first, Coding::Gzip).unwrap().len(), 100);
    assert!(files.get(&first, Coding::Brotli).is_none());
    let second = version(&folder, "a.js").await;
    assert!(files.get(&second, Coding::Gzip).is_none(), "another version");
    read(&files, &second, 90).await;
    assert_eq!(files.get(&second, Coding::Gzip).unwrap().len(), 90);
    assert_eq!(files.0.lock().unwrap().bytes, 90, "the old one is gone");
}

#[tokio::test]
async fn only_a_body_that_was_read_to_its_end_is_kept() {
    let (folder, files) = (TempDir::new().unwrap(), Arc::<CompressedFiles>::default());
    let version = version(&folder, "a.js").await;
    let mut body = KeepingBody::wrap(whole("abc"), files.clone(), version.clone(), Coding::Gzip);
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert!(files.get(&version, Coding::Gzip).is_none());
    read(&files, &version, MAX_FILE + 1).await;
    assert!(files.get(&version, Coding::Gzip).is_none(), "too large");
}

#[tokio::test]
async fn the_file_that_was_used_least_recently_makes_room() {
    let (folder, files) = (TempDir::new().unwrap(), Arc::<CompressedFiles>::default());
    let count = MAX_BYTES / MAX_FILE;
    let names: Vec<_> = (0..=count).map(|number| format!("{number}.js")).collect();
    let versions: Vec<_> =
        futures_util::future::join_all(names.iter().map(|name| version(&folder, name))).await;
    for version in &versions[..count] {
        read(&files, version, MAX_FILE).await;
    }
    assert!(files.get(&versions[0], Coding::Gzip).is_some(), "used again");
    read(&files, &versions[count], MAX_FILE).await;
    let is_kept = |index: usize| files.get(&versions[index], Coding::Gzip).is_some();
    assert_eq!([0, 1, 2, count].map(is_kept), [true, false, true, true]);
}
