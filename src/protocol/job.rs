//! Frames that notify a page of the state of its job.

use pagewire_cluster::id::Key;
use pagewire_cluster::wire::{Ending, HandlerError, JobNotification, JobUpdate};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{FrameBody, FrameId};

impl FrameBody {
    /// `accepted`: the job is durable. One terminal frame follows when the job ends.
    pub fn accepted(id: &FrameId, job: Key) -> Self {
        #[derive(Serialize)]
        struct Accepted<'a> {
            r#type: &'static str,
            id: &'a RawValue,
            job: Key,
        }
        Self::of(&Accepted { r#type: "accepted", id: id.raw(), job })
    }

    /// `progress`, or the terminal `result` of a job, with the id of the frame that submitted it.
    pub fn job(note: &JobNotification) -> Self {
        let (id, job) = (&*note.frame, note.job);
        match &note.news {
            JobUpdate::Progress(progress) => {
                #[derive(Serialize)]
                struct Step<'a> {
                    r#type: &'static str,
                    id: &'a RawValue,
                    job: Key,
                    progress: f64,
                    #[serde(skip_serializing_if = "Option::is_none")]
                    message: Option<&'a str>,
                }
                let message = progress.message.as_deref();
                Self::of(&Step { r#type: "progress", id, job, progress: progress.progress, message })
            }
            JobUpdate::Ended(ending) => {
                #[derive(Serialize)]
                struct End<'a> {
                    r#type: &'static str,
                    id: &'a RawValue,
                    job: Key,
                    state: &'a str,
                    #[serde(skip_serializing_if = "Option::is_none")]
                    value: Option<&'a RawValue>,
                    #[serde(skip_serializing_if = "Option::is_none")]
                    error: Option<&'a HandlerError>,
                }
                let Ending { state, value, error } = &**ending;
                let (value, error) = (value.as_deref(), error.as_ref());
                Self::of(&End { r#type: "result", id, job, state, value, error })
            }
        }
    }
}

/// The members of a frame that name its job.
#[derive(Debug, Deserialize)]
pub struct JobReference {
    r#type: String,
    /// The page's own id of the request.
    pub id: Box<RawValue>,
    /// The job.
    pub job: Key,
}

impl JobReference {
    /// `None` when a whole frame is about something else.
    pub fn read(frame: &RawValue) -> Option<Self> {
        serde_json::from_str(frame.get()).ok()
    }

    /// The job is durable, and the page waits for its end.
    pub fn is_accepted(&self) -> bool {
        self.r#type == "accepted"
    }

    /// The one terminal word.
    pub fn is_end(&self) -> bool {
        self.r#type == "result"
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::wire::Progress;

    use super::*;

    fn text(news: JobUpdate) -> String {
        let frame = serde_json::from_str("1e2").unwrap();
        let note = JobNotification { page: Key::from_bits(1), frame, job: Key::from_bits(2), news };
        format!("{{{}", std::str::from_utf8(FrameBody::job(&note).bytes()).unwrap())
    }

    #[test]
    fn a_frame_says_which_job_it_is_about() {
        let read = |text: &str| JobReference::read(&serde_json::from_str::<Box<RawValue>>(text).unwrap());
        let job = Key::from_bits(2);
        let end = read(&format!(r#"{{"type":"result","id":1e2,"job":"{job}","state":"failed"}}"#)).unwrap();
        assert_eq!((end.id.get(), end.job, end.is_end(), end.is_accepted()), ("1e2", job, true, false));
        assert!(read(&format!(r#"{{"type":"accepted","id":1,"job":"{job}"}}"#)).unwrap().is_accepted());
        assert!(
            !read(&format!(r#"{{"type":"progress","id":1,"job":"{job}","progress":0}}"#)).unwrap().is_end()
        );
        assert!(read(r#"{"type":"result","id":1,"value":{"job":1}}"#).is_none());
    }

    #[test]
    fn a_page_knows_its_job_by_the_id_that_it_gave() {
        let job = Key::from_bits(2);
        let step = Progress { progress: 0.5, message: None };
        assert_eq!(
            text(JobUpdate::Progress(step)),
            format!(r#"{{"type":"progress","id":1e2,"job":"{job}","progress":0.5}}"#)
        );
        let value = serde_json::from_str(r#"{"b":1,  "a":2}"#).unwrap();
        let end = Ending { state: "succeeded".into(), value: Some(value), error: None };
        assert_eq!(
            text(JobUpdate::Ended(Box::new(end))),
            format!(
                r#"{{"type":"result","id":1e2,"job":"{job}","state":"succeeded","value":{{"b":1,  "a":2}}}}"#
            )
        );
    }
}
