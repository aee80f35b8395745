//! Reads and writes of keys, with their faults.
//!
//! Owns: what a read or a write does under each fault. Never: latency, or a process that does not run (`life`).

use super::process::{FaultyProcess, WriteFault};
use crate::engine::memory::legal_commit;
use crate::engine::{BatchOp, Bucket, Consistency, Entry, Unavailable, WriteError};

impl FaultyProcess {
    pub(super) fn read(
        &self,
        bucket: Bucket,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Entry>, Unavailable> {
        self.call()?;
        self.lock().blind.read(bucket)?;
        let place = (bucket, key.to_owned());
        let stale = consistency == Consistency::Any && self.hits(self.faults().stale);
        if let Some(before) = self.lock().read.get(&place).filter(|_| stale) {
            return Ok(before.clone());
        }
        let entry = self.memory.buckets.get(bucket, key);
        self.lock().read.insert(place, entry.clone());
        Ok(entry)
    }

    pub(super) fn write(&self, bucket: Bucket, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        legal_commit(&batch)?;
        self.call().map_err(|Unavailable| WriteError::Down)?;
        let blind = self.lock().blind.write(bucket);
        if let Some(is_written) = blind {
            if is_written {
                // a conflict is as silent as a success
                let _ = self.memory.buckets.commit(bucket, batch);
            }
            return Err(WriteError::Unknown);
        }
        match self.change() {
            WriteFault::Acknowledged => {
                self.memory.buckets.commit(bucket, batch).map_err(|error| match error {
                    WriteError::Conflict { .. } if self.hits(self.faults().hidden_conflict) => {
                        WriteError::Conflict { actual: None }
                    }
                    error => error,
                })
            }
            WriteFault::Silent => {
                // a conflict is as silent as a success
                let _ = self.memory.buckets.commit(bucket, batch);
                Err(WriteError::Unknown)
            }
            WriteFault::Never => Err(WriteError::Unknown),
            WriteFault::Later(calls) => {
                self.lock().delayed_writes.push((calls, bucket, batch));
                Err(WriteError::Unknown)
            }
        }
    }
}
