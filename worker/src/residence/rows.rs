//! The rows of objects, as a worker reads and writes them.
//!
//! Owns: the reads and writes of one row, and their outcomes. Never: when an object is made or leaves.

use pagewire_cluster::clock;
use pagewire_cluster::engine::{
    Consistency, Message, Precondition, Put, RequestError, Resolution, Unavailable, WriteError,
};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::resident::{ObjectRow, ROW_KEPT, SavedObject};
use pagewire_cluster::subject::{job_key, worker_leaf};
use pagewire_cluster::wire::MoveReason;
use pagewire_cluster::wire::{self, ObjectGiven, ObjectRequest};
use pagewire_cluster::worker::{WorkerGroup, WorkerId};

use super::places::LivingObject;

/// What a worker has replied to a request for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectReply {
    /// It had the object, which has left it.
    Gave,
    /// It does not have the object.
    HadNone,
    /// It is dead; what it has sent may still arrive.
    Dead,
    /// It does not reply, and may still have the object.
    Silent,
}

/// The rows of the objects of a pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct ObjectRows {
    pub(super) jobs: Jobs,
    pub(super) group: WorkerGroup,
}

impl ObjectRows {
    fn key(&self, page: Key) -> String {
        job_key::resident(&self.group.pool, page)
    }

    /// Reads the row of a page, with its revision.
    pub(super) async fn read(&self, page: Key) -> Result<Option<(ObjectRow, u64)>, Unavailable> {
        let entry = self.jobs.records.store.get(&self.key(page), Consistency::Latest).await?;
        Ok(entry.and_then(|entry| Some((ObjectRow::of(&entry)?, entry.rev))))
    }

    /// Writes the row of a page and returns its revision.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] when another worker was first.
    pub(super) async fn write(
        &self,
        page: Key,
        row: &ObjectRow,
        expect: Precondition,
    ) -> Result<u64, WriteError> {
        let put = Put { ttl: Some(ROW_KEPT), ..Put::new(self.key(page), row.encode(), expect) };
        let store = &self.jobs.records.store;
        let (key, op) = (put.key.clone(), put.op);
        match store.put(put.clone()).await {
            Err(WriteError::Unknown) => match store.resolve_unknown(&key, op).await {
                Ok(Resolution::Written { rev }) => Ok(rev),
                Ok(Resolution::Other { .. }) => store.put(put).await,
                Err(Unavailable) => Err(WriteError::Unknown),
            },
            outcome => outcome,
        }
    }

    /// Deletes the row of a page that has ended. One that is left behind expires.
    pub(super) async fn delete(&self, page: Key, rev: u64) {
        let deleted = self.jobs.records.store.delete(&self.key(page), Precondition::Rev(rev)).await;
        if let Err(error) = deleted {
            tracing::debug!(%page, %error, "the row of an object is not deleted, it expires");
        }
    }

    /// Writes what an object has kept into its row.
    pub(super) async fn save(&self, object: &LivingObject, saved: SavedObject) {
        let LivingObject { of, worker, term, rev, .. } = object;
        let row =
            ObjectRow { worker: *worker, class: of.class.clone(), term: Some(*term), saved: Some(saved) };
        if let Err(error) = self.write(of.page.key, &row, Precondition::Rev(*rev)).await {
            let page = of.page.key;
            tracing::warn!(%page, %error, "what an object has kept is not stored, it is rebuilt");
        }
    }

    /// Writes the row of a living object again, so that it does not expire.
    pub(super) async fn renew(&self, object: &mut LivingObject) {
        let row = ObjectRow {
            worker: object.worker,
            class: object.of.class.clone(),
            term: Some(object.term),
            saved: None,
        };
        let written = self.write(object.of.page.key, &row, Precondition::Rev(object.rev)).await;
        if let Ok(rev) = written {
            (object.rev, object.written) = (rev, clock::boot());
        }
    }

    /// Asks a worker to give up the object of a page; `why` is `None` when the page has ended.
    pub(super) async fn ask(&self, worker: WorkerId, page: Key, why: Option<MoveReason>) -> ObjectReply {
        let subject = self.jobs.subjects.worker(worker.id, worker_leaf::OBJECT);
        let request = Message::new(subject, wire::encode(&ObjectRequest { page, why }));
        match self.jobs.engine.request(request, self.jobs.timing.operation).await {
            Ok(reply) => match serde_json::from_slice(&reply.payload) {
                Ok(ObjectGiven { had: true }) => ObjectReply::Gave,
                Ok(ObjectGiven { had: false }) => ObjectReply::HadNone,
                Err(_) => ObjectReply::Silent,
            },
            Err(RequestError::Down | RequestError::TooLarge) => ObjectReply::Silent,
            Err(RequestError::NoResponder | RequestError::Deadline) => {
                match self.jobs.workers.lives(worker).await {
                    Ok(false) => ObjectReply::Dead,
                    _ => ObjectReply::Silent,
                }
            }
        }
    }
}
