//! The engine alone: the cost of the same work without nodes, workers, records or handlers.
//!
//! One process sends requests and enqueues work items, another one serves them. A request is echoed. A work item is
//! acknowledged at once, or after two compare-and-set puts if it names the record that was put before it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{
    Bucket, BusEvent, Engine, Enqueue, Kv, Message, Nats, NatsOptions, Precondition, Put, QueueMessage,
};
use pagewire_cluster::id::Key;
use pagewire_cluster::subject::{Subjects, job_key, route};
use pagewire_cluster::timing::Timing;
use tokio::sync::Semaphore;

use crate::helper_protocol::{HelperRequest, HelperResponse, requests, unsupported_request};
use crate::load::run_load;
use crate::plan::Plan;
use crate::{POOL, runtime};
use pagewire::config::{self, Config, Sources};

/// The lane of bare work items and requests.
pub(crate) const LANE: &str = "bare";
/// Approximate bytes of a record besides its payload.
const RECORD: usize = 250;
/// Bytes that may wait at the echo.
const UNREAD: usize = 8 * 1024 * 1024;

/// Serves requests until standard input ends.
pub(crate) fn run() -> io::Result<()> {
    let config = config::load(&Sources::of_process(None, Vec::new())).map_err(io::Error::other)?;
    runtime()?.block_on(async {
        let bare = Bare::connect(&config).await?;
        HelperResponse::Done.send()?;
        let mut requests = requests();
        while let Some(request) = requests.recv().await {
            let response = bare.handle(request?).await;
            response.unwrap_or_else(|error| HelperResponse::Failed { reason: error.to_string() }).send()?;
        }
        Ok(())
    })
}

/// Opens the engine of a cluster for an observer.
pub(crate) async fn engine(urls: &str, replicas: usize, cluster: &str, timing: Timing) -> io::Result<Engine> {
    let options = NatsOptions {
        urls: urls.split(',').map(str::to_owned).collect(),
        replicas,
        cluster: cluster.to_owned(),
        client_name: "pagewire bench".to_owned(),
        timing,
    };
    Ok(Engine::Nats(Nats::connect(options).await.map_err(io::Error::other)?))
}

#[derive(Clone)]
struct Bare {
    engine: Engine,
    records: Kv,
    timing: Timing,
    /// Subject of the echo.
    subject: Arc<str>,
    route: Arc<str>,
}

impl Bare {
    async fn connect(config: &Config) -> io::Result<Self> {
        let timing = Timing::from_environment();
        let engine =
            engine(&config.nats.urls.join(","), config.nats.replicas, &config.cluster, timing).await?;
        let records = engine.kv(Bucket::Jobs);
        let subject = Subjects::new(&config.cluster).calls(POOL, LANE, "echo").into();
        Ok(Self { engine, records, timing, subject, route: route(POOL, LANE).into() })
    }

    async fn handle(&self, request: HelperRequest) -> io::Result<HelperResponse> {
        match request {
            HelperRequest::Serve { slots } => self.serve(slots).await,
            HelperRequest::Call { payload, plan, .. } => self.call(payload, plan).await,
            HelperRequest::Submit { payload, plan, .. } => self.submit(&payload, plan).await,
            HelperRequest::WorkItem { plan } => self.work_item(plan).await,
            _ => Err(unsupported_request()),
        }
    }

    async fn call(&self, payload: String, plan: Plan) -> io::Result<HelperResponse> {
        let (bare, payload) = (self.clone(), bytes::Bytes::from(payload));
        run_load(plan, move |_| {
            let (bare, message) = (bare.clone(), Message::new(&*bare.subject, payload.clone()));
            async move {
                let response = bare.engine.request(message, bare.timing.call).await;
                response.map(drop).map_err(io::Error::other)
            }
        })
        .await
    }

    async fn submit(&self, payload: &str, plan: Plan) -> io::Result<HelperResponse> {
        let (bare, record) = (self.clone(), vec![b'.'; payload.len() + RECORD]);
        run_load(plan, move |_| {
            let (bare, id, record) = (bare.clone(), Key::random(), record.clone());
            async move {
                let put = Put::new(job_key::job(id), record, Precondition::Absent);
                let rev = bare.records.put(put).await.map_err(io::Error::other)?;
                bare.push(id, rev.to_string()).await
            }
        })
        .await
    }

    async fn work_item(&self, plan: Plan) -> io::Result<HelperResponse> {
        let bare = self.clone();
        run_load(plan, move |_| {
            let bare = bare.clone();
            async move { bare.push(Key::random(), String::new()).await }
        })
        .await
    }

    async fn push(&self, id: Key, payload: String) -> io::Result<()> {
        let push = Enqueue {
            id: id.to_string(),
            route: self.route.to_string(),
            payload: payload.into(),
            not_before: None,
        };
        self.engine.push(push).await.map_err(io::Error::other)
    }

    async fn serve(&self, slots: u64) -> io::Result<HelperResponse> {
        let mut queries =
            self.engine.subscribe(&self.subject, None, UNREAD).await.map_err(io::Error::other)?;
        let engine = self.engine.clone();
        tokio::spawn(async move {
            while let Some(received) = queries.next().await {
                if let BusEvent::Message(query) = received
                    && let Some(response) = query.reply_with(query.payload.clone())
                {
                    // the requester notices a lost reply
                    let _ = engine.publish(response).await;
                }
            }
        });
        tokio::spawn(self.clone().pull(slots));
        Ok(HelperResponse::Done)
    }

    /// Pulls work items like a worker: as many as there are free slots, each in a task of its own.
    async fn pull(self, slots: u64) {
        let slots = Arc::new(Semaphore::new(slots as usize));
        while slots.acquire().await.is_ok() {
            let free = slots.available_permits().max(1);
            match self.engine.pull(&self.route, free, self.timing.redelivery).await {
                Ok(items) => {
                    for work_item in items {
                        let (bare, slot) = (self.clone(), slots.clone().try_acquire_owned());
                        tokio::spawn(async move {
                            let _slot = slot;
                            // a failed item is delivered again, and the measurement waits for it
                            let _ = bare.work(&work_item).await;
                        });
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn work(&self, work_item: &QueueMessage) -> io::Result<()> {
        if let (Ok(id), Some(mut rev)) = (work_item.id.parse::<Key>(), revision(work_item)) {
            for _ in ["claim", "end"] {
                let record = vec![b'.'; RECORD * 2];
                let put = Put::new(job_key::job(id), record, Precondition::Rev(rev));
                rev = self.records.put(put).await.map_err(io::Error::other)?;
            }
        }
        self.engine.ack(work_item).await.map_err(io::Error::other)
    }
}

/// Returns the revision of the record that a work item names; `None` if it names none.
fn revision(work_item: &QueueMessage) -> Option<u64> {
    std::str::from_utf8(&work_item.payload).ok()?.parse().ok()
}
