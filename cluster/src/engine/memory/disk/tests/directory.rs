//! Tests of directories that are in use, refused or damaged.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::super::directory::{FORMAT, log_name, store_name};
use super::*;

async fn open(directory: &TempDir) -> Result<(Memory, RecoveryStats), OpenError> {
    Memory::open(directory.path(), &TIMING).await
}

/// Creates a directory with some rows that no process uses.
async fn filled(rows: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(&directory).await.unwrap();
    let kv = Engine::Memory(memory).kv(Bucket::State);
    for number in 0..rows {
        put(&kv, &format!("k.{number}"), "value").await.unwrap();
    }
    directory
}

fn files(directory: &TempDir) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory.path()).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[tokio::test]
async fn a_directory_is_made_for_its_owner_alone_and_has_one_process_at_a_time() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("not/there/yet");
    let (memory, kept) = Memory::open(&path, &TIMING).await.unwrap();
    assert_eq!(kept, RecoveryStats { rows: 0, work_items: 0 });
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let refused = Memory::open(&path, &TIMING).await.err().unwrap();
    assert!(
        matches!(refused, OpenError::InUse { by: Some(id), .. } if id == std::process::id()),
        "{refused}"
    );
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    drop(memory);
    Memory::open(&path, &TIMING).await.unwrap();
}

#[tokio::test]
async fn a_later_format_is_refused_and_left_as_it_is() {
    let directory = filled(3).await;
    fs::write(directory.path().join(store_name(FORMAT + 1)), "of the future").unwrap();
    let before = files(&directory);
    let refused = open(&directory).await.err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found, .. } if found == FORMAT + 1), "{refused}");
    assert_eq!(files(&directory), before);
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_as_it_is() {
    for content in [&b"not a store"[..], &[0; 10_000], &[0xff; 300_000]] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(store_name(FORMAT));
        fs::write(&path, content).unwrap();
        for number in 0..2 {
            fs::write(directory.path().join(log_name(FORMAT, number)), "").unwrap();
        }
        let refused = open(&directory).await.err().unwrap();
        assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_store_that_has_lost_its_end_is_refused_and_left_as_it_is() {
    let directory = filled(200).await;
    let path = directory.path().join(store_name(FORMAT));
    let intact = fs::read(&path).unwrap();
    for length in [intact.len() - 1, intact.len() / 2, 5000, 100] {
        fs::write(&path, &intact[..length]).unwrap();
        let refused = open(&directory).await.err().unwrap();
        assert!(matches!(refused, OpenError::Unreadable { .. }), "{length}: {refused:?}");
        assert!(fs::read(&path).unwrap() == intact[..length], "{length} bytes were changed");
    }
    fs::write(&path, &intact).unwrap();
    assert_eq!(open(&directory).await.unwrap().1.rows, 200);
}

#[tokio::test]
async fn a_damaged_store_is_refused_or_complete() {
    let directory = filled(200).await;
    let path = directory.path().join(store_name(FORMAT));
    let intact = fs::read(&path).unwrap();
    let mut refused = 0;
    for place in (0..intact.len()).step_by(intact.len() / 97) {
        let mut damaged = intact.clone();
        damaged[place] ^= 0x5a;
        fs::write(&path, &damaged).unwrap();
        match open(&directory).await {
            Ok((memory, kept)) => {
                assert_eq!(kept.rows, 200, "byte {place}");
                let rows = Engine::Memory(memory).kv(Bucket::State).list("").await.unwrap();
                assert!(rows.iter().all(|row| &row.value[..] == b"value"), "byte {place}");
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Unreadable { .. }), "byte {place}: {error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "only {refused} of 97 were noticed");
}

#[tokio::test]
async fn an_empty_file_is_not_taken_for_a_new_store() {
    let directory = filled(3).await;
    let path = directory.path().join(store_name(FORMAT));
    let intact = fs::read(&path).unwrap();
    fs::write(&path, "").unwrap();
    let refused = open(&directory).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    assert!(refused.to_string().contains("pagewire.2.redb is empty"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::write(&path, &intact).unwrap();
    assert_eq!(open(&directory).await.unwrap().1.rows, 3);
}

#[tokio::test]
async fn a_store_that_was_not_finished_when_its_process_died_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(format!("{}.new", store_name(FORMAT))), "half").unwrap();
    assert_eq!(open(&directory).await.unwrap().1, RecoveryStats { rows: 0, work_items: 0 });
    assert_eq!(files(&directory).len(), 4, "the lock, the log and the store");
}

#[tokio::test]
async fn a_store_of_the_format_without_a_log_gets_one() {
    let directory = filled(3).await;
    let path = |name: String| directory.path().join(name);
    for number in 0..2 {
        fs::remove_file(path(log_name(FORMAT, number))).unwrap();
    }
    fs::rename(path(store_name(FORMAT)), path(store_name(1))).unwrap();
    for _ in 0..2 {
        assert_eq!(open(&directory).await.unwrap().1.rows, 3);
    }
    // the release before this one refuses the directory, because it would not see the log
    assert!(!path(store_name(1)).exists() && path(store_name(FORMAT)).exists());
}

#[tokio::test]
async fn a_store_that_has_lost_a_file_of_its_log_is_refused_and_left_as_it_is() {
    let directory = filled(3).await;
    let missing = directory.path().join(log_name(FORMAT, 1));
    fs::remove_file(&missing).unwrap();
    let before = files(&directory);
    let refused = open(&directory).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    assert!(refused.to_string().contains("pagewire.2.log1 is missing"), "{refused}");
    assert_eq!(files(&directory).len(), before.len());
}
