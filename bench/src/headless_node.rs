//! A node without a listener that takes requests where its work begins: the cost of a push, a call or a job from there
//! on.
//!
//! All other parts are those of a node: `serve` only adds the sockets.

use std::io;
use std::sync::Arc;

use pagewire_cluster::id::{Key, Scope};
use pagewire_cluster::timing::Timing;

use serde_json::value::RawValue;

use crate::helper_protocol::{HelperRequest, HelperResponse, Target, requests, unsupported_request};
use crate::load::run_load;
use crate::measure::now_ns;
use crate::plan::Plan;
use crate::scratch::until;
use crate::view::user;
use crate::{POOL, runtime};
use pagewire::calls::{CallRequest, JobRequest};
use pagewire::config::{self, Sources};
use pagewire::roles::Node;

/// Serves requests until standard input ends.
pub(crate) fn run() -> io::Result<()> {
    let config = config::load(&Sources::of_process(None, Vec::new())).map_err(io::Error::other)?;
    runtime()?.block_on(async {
        let node = Node::start(config, Timing::from_environment()).await.map_err(io::Error::other)?;
        node.ready.wait().await;
        HelperResponse::Done.send()?;
        let entry = Entry(Arc::new(node));
        let mut requests = requests();
        while let Some(request) = requests.recv().await {
            let response = entry.handle(request?).await;
            response.unwrap_or_else(|error| HelperResponse::Failed { reason: error.to_string() }).send()?;
        }
        Ok(())
    })
}

#[derive(Clone)]
struct Entry(Arc<Node>);

impl Entry {
    async fn handle(&self, request: HelperRequest) -> io::Result<HelperResponse> {
        match request {
            HelperRequest::Meet { pages, worker } => self.meet(pages, worker).await,
            HelperRequest::Push { to, bytes, plan } => self.push(to, bytes, plan).await,
            HelperRequest::Call { payload, users, plan } => self.call(&payload, users, plan).await,
            HelperRequest::Submit { payload, users, plan } => self.submit(&payload, users, plan).await,
            _ => Err(unsupported_request()),
        }
    }

    async fn meet(&self, pages: u64, worker: bool) -> io::Result<HelperResponse> {
        let Node { registry, context, .. } = &*self.0;
        until("the view", async || {
            let seen = u64::try_from(registry.view().stats().total.pages).ok();
            Ok(seen == Some(pages) && context.workers.roster().serves_pool(POOL) == worker)
        })
        .await?;
        Ok(HelperResponse::Done)
    }

    /// Pushes messages. The clock starts where the node would have parsed the request of a page or of the server API.
    async fn push(&self, to: Vec<Target>, bytes: u64, plan: Plan) -> io::Result<HelperResponse> {
        if to.is_empty() {
            return Err(io::Error::other("no page to send to"));
        }
        let (node, to) = (self.0.clone(), Arc::new(to));
        let filler: Arc<str> = crate::payload(bytes.saturating_sub(28)).into();
        run_load(plan, move |number| {
            let (node, filler) = (node.clone(), filler.clone());
            let scope = match &to[number as usize % to.len()] {
                Target::Page(address) => Scope::Page(*address),
                Target::User(user) => Scope::User(user.clone()),
            };
            async move {
                let payload = raw(format!(r#"{{"sent":{},{}"#, now_ns(), &filler[1..]))?;
                let sent = node.context.deliver.send(scope, payload, None).await;
                match sent.map_err(|error| io::Error::other(error.to_string()))?.reach.reached {
                    1 => Ok(()),
                    pages => Err(io::Error::other(format!("a push reached {pages} pages"))),
                }
            }
        })
        .await
    }

    async fn call(&self, payload: &str, users: u64, plan: Plan) -> io::Result<HelperResponse> {
        let (node, params, connection) = (self.0.clone(), raw(payload.to_owned())?, Key::random());
        run_load(plan, move |number| {
            let (node, user) = (node.clone(), user_of(number, users));
            let call = CallRequest {
                method: "echo".to_owned(),
                params: params.clone(),
                exec_mode: None,
                pool: Some(POOL.to_owned()),
                timeout: None,
                user,
                connection: Some(connection),
                page: None,
                session: None,
                pins: None,
                class: None,
                event: None,
            };
            async move {
                let response = node.context.executors.call(call).await;
                response.map(drop).map_err(|error| io::Error::other(format!("{error:?}")))
            }
        })
        .await
    }

    async fn submit(&self, payload: &str, users: u64, plan: Plan) -> io::Result<HelperResponse> {
        let (node, data, connection) = (self.0.clone(), raw(payload.to_owned())?, Key::random());
        run_load(plan, move |number| {
            let (node, user) = (node.clone(), user_of(number, users));
            let job = JobRequest {
                kind: "echo".to_owned(),
                data: data.clone(),
                exec_mode: None,
                pool: Some(POOL.to_owned()),
                user,
                connection: Some(connection),
                page: None,
                session: None,
                frame: None,
                run_at: None,
                run_in: None,
                retries: None,
                idempotency: None,
                rules: None,
            };
            async move {
                let submitted = node.context.executors.submit(job, |_| {}).await;
                submitted.map(drop).map_err(|error| io::Error::other(format!("{error:?}")))
            }
        })
        .await
    }
}

/// Returns the user of a call or job; `None` if there are no users, so that any worker can run it.
fn user_of(number: u64, users: u64) -> Option<Arc<str>> {
    (users > 0).then(|| user(number % users).into())
}

fn raw(json: String) -> io::Result<Box<RawValue>> {
    RawValue::from_string(json).map_err(io::Error::other)
}
