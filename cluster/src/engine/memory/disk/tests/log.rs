//! Tests of what only the log has: after the end of a process without a checkpoint, and when it is damaged.

use super::*;

/// Returns a disk on which rows `k.0`, `k.1`, … were written one after the other by a process that was killed: every write
/// has reached the disk, and the engine had no time to end.
async fn killed_after(rows: usize) -> Arc<Platter> {
    let platter = Arc::<Platter>::default();
    let (engine, _) = start(&platter);
    for number in 0..rows {
        put(&engine.kv(Bucket::State), &format!("k.{number}"), "value").await.unwrap();
    }
    platter.cut(|| true)
}

fn opened(platter: &Arc<Platter>) -> Result<Loaded, OpenError> {
    let (store, files) = (platter.clone(), platter.open_log());
    let loaded = JournalStore::new(move || store.open()).load(clock::unix_ms(), &files);
    loaded.map(|(loaded, _)| loaded).map_err(|error| store::at(Path::new("a test"), error))
}

#[tokio::test]
async fn a_start_finds_what_the_process_before_it_had_no_time_to_store() {
    let mut platter = killed_after(3).await;
    for rows in 3..6 {
        // no start may take a frame of an earlier run for its own
        let (engine, kept) = start(&platter);
        assert_eq!(kept.rows, rows);
        put(&engine.kv(Bucket::State), &format!("k.{rows}"), "value").await.unwrap();
        platter = platter.cut(|| true);
    }
    assert_eq!(opened(&platter).unwrap().rows.len(), 6);
    assert_eq!(opened(&platter).unwrap().rows.len(), 6, "a start changes nothing that the next one finds");
}

#[tokio::test]
async fn a_log_with_a_damaged_frame_is_refused_unless_nothing_follows_it() {
    let platter = killed_after(4).await;
    let log = platter.log(0);
    let starts: Vec<usize> =
        (0..log.len() - 4).step_by(8).filter(|at| &log[*at..*at + 4] == b"PwJ1").collect();
    assert_eq!(starts.len(), 4, "a frame for each write");
    for (number, start) in starts.iter().enumerate() {
        let damaged = platter.cut(|| true);
        damaged.damage_log(0, start + 40);
        match opened(&damaged) {
            // the last frame looks as if the power had failed while it was written
            Ok(loaded) => assert_eq!((number, loaded.rows.len()), (3, 3)),
            Err(error) => {
                assert!(matches!(error, OpenError::Unreadable { .. }), "{error:?}");
                let text = format!("the log is damaged: frame {} is not there", number + 1);
                assert!(error.to_string().contains(&text), "{error}");
            }
        }
    }
    assert_eq!(opened(&platter).unwrap().rows.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_room_leaves_everything_in_the_log_and_takes_it_later() {
    const ROWS: usize = 100;
    let platter = Arc::<Platter>::default();
    let (engine, _) = start(&platter);
    let kv = engine.kv(Bucket::State);
    platter.fail_store(Some(std::io::ErrorKind::StorageFull));
    // several times the size of a file of the log
    for number in 0..ROWS {
        let put = Put::new(format!("k.{number}"), vec![7; 2048], Precondition::Any);
        kv.put(put).await.unwrap();
    }
    let rows = |platter: &Arc<Platter>| opened(platter).unwrap().rows.len();
    assert_eq!(rows(&platter.cut(|| true)), ROWS);
    platter.fail_store(None);
    drop((kv, engine));
    assert_eq!(rows(&platter), ROWS);
}
