//! The NATS client library in ordinary use: the cost of a request or a put without any of this project's code.
//!
//! For requests, one process sends them and another one, a member of a queue group, echoes them.

use std::io;

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::helper_protocol::{HelperRequest, HelperResponse, requests, unsupported_request};
use crate::load::run_load;
use crate::plan::Plan;
use crate::runtime;
use pagewire::config::{self, Sources};

/// The subject of the requests.
const SUBJECT: &str = "pagewire-bench.plain";
const GROUP: &str = "echoes";
const BUCKET: &str = "pagewire-bench";

/// Serves requests until standard input ends.
pub(crate) fn run() -> io::Result<()> {
    let config = config::load(&Sources::of_process(None, Vec::new())).map_err(io::Error::other)?;
    runtime()?.block_on(async {
        let client = async_nats::connect(&config.nats.urls[..]).await.map_err(io::Error::other)?;
        HelperResponse::Done.send()?;
        let mut requests = requests();
        while let Some(request) = requests.recv().await {
            let response = match request? {
                HelperRequest::Serve { .. } => serve(&client).await,
                HelperRequest::Call { payload, plan, .. } => call(&client, payload, plan).await,
                _ => Err(unsupported_request()),
            };
            response.unwrap_or_else(|error| HelperResponse::Failed { reason: error.to_string() }).send()?;
        }
        Ok(())
    })
}

/// A separate stream that keeps one message per key, like a bucket.
#[derive(Clone)]
pub(crate) struct Bucket(jetstream::Context);

impl Bucket {
    pub(crate) async fn create(urls: &str) -> io::Result<Self> {
        let client = async_nats::connect(urls).await.map_err(io::Error::other)?;
        let context = jetstream::new(client);
        let config = stream::Config {
            name: BUCKET.to_owned(),
            subjects: vec![format!("{BUCKET}.>")],
            max_messages_per_subject: 1,
            ..stream::Config::default()
        };
        context.create_stream(config).await.map_err(io::Error::other)?;
        Ok(Self(context))
    }

    /// Puts a value over a revision, or over any value if `over` is `None`. Returns the new revision.
    pub(crate) async fn put(&self, key: &str, value: Bytes, over: Option<u64>) -> io::Result<u64> {
        let mut headers = HeaderMap::new();
        if let Some(rev) = over {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(rev));
        }
        let sent = self.0.publish_with_headers(format!("{BUCKET}.{key}"), headers, value).await;
        let written = sent.map_err(io::Error::other)?.await.map_err(io::Error::other)?;
        Ok(written.sequence)
    }
}

async fn serve(client: &Client) -> io::Result<HelperResponse> {
    let mut queries = client.queue_subscribe(SUBJECT, GROUP.to_owned()).await.map_err(io::Error::other)?;
    client.flush().await.map_err(io::Error::other)?;
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(query) = queries.next().await {
            if let Some(reply) = query.reply {
                // the requester notices a lost reply
                let _ = client.publish(reply, query.payload).await;
            }
        }
    });
    Ok(HelperResponse::Done)
}

async fn call(client: &Client, payload: String, plan: Plan) -> io::Result<HelperResponse> {
    let (client, payload) = (client.clone(), Bytes::from(payload));
    run_load(plan, move |_| {
        let (client, payload) = (client.clone(), payload.clone());
        async move { client.request(SUBJECT, payload).await.map(drop).map_err(io::Error::other) }
    })
    .await
}
