//! A collector of traces: it receives OTLP over HTTP, in protobuf, or over gRPC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;
use reqwest::StatusCode;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

use super::{HttpServer, SOON, eventually};

/// A span, with the process that sent it.
#[derive(Debug, Clone)]
pub(crate) struct CollectedSpan {
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    /// Empty for the first span of a trace.
    pub(crate) parent: Vec<u8>,
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Attributes of the process.
    pub(crate) process: BTreeMap<String, String>,
}

/// A running collector. Ends with its test.
pub(crate) struct Collector {
    url: String,
    spans: Spans,
    _server: Option<HttpServer>,
}

type Spans = Arc<Mutex<Vec<CollectedSpan>>>;

/// Receives spans over gRPC.
struct GrpcCollector(Spans);

#[tonic::async_trait]
impl TraceService for GrpcCollector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans_of(request.into_inner()));
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let spans = Spans::default();
        let received = spans.clone();
        let server = HttpServer::start(move |request| {
            let received = received.clone();
            async move {
                if request.path != "/v1/traces" || request.header("content-type") != "application/x-protobuf"
                {
                    return (StatusCode::NOT_FOUND, Vec::new());
                }
                let batch = ExportTraceServiceRequest::decode(request.body).expect("a batch of spans");
                received.lock().unwrap_or_else(PoisonError::into_inner).extend(spans_of(batch));
                (StatusCode::OK, Vec::new())
            }
        })
        .await;
        Self { url: server.url(), spans, _server: Some(server) }
    }

    /// Starts a collector that speaks gRPC.
    pub(crate) async fn grpc() -> Self {
        let spans = Spans::default();
        let incoming = TcpIncoming::bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let url = format!("http://{}", incoming.local_addr().expect("an address"));
        let service = TraceServiceServer::new(GrpcCollector(spans.clone()));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { url, spans, _server: None }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn spans(&self) -> Vec<CollectedSpan> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a span of a name whose attributes fit.
    pub(crate) async fn span(&self, name: &str, fits: impl Fn(&CollectedSpan) -> bool) -> CollectedSpan {
        eventually(&format!("a span {name} is collected"), SOON, async || {
            self.spans().into_iter().find(|span| span.name == name && fits(span))
        })
        .await
    }
}

fn spans_of(batch: ExportTraceServiceRequest) -> Vec<CollectedSpan> {
    let mut found = Vec::new();
    for resource in batch.resource_spans {
        let process = attributes(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            found.push(CollectedSpan {
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                name: span.name,
                attributes: attributes(span.attributes),
                process: process.clone(),
            });
        }
    }
    found
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |pair: KeyValue| {
        let value = match pair.value.and_then(|value| value.value)? {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(flag) => flag.to_string(),
            _ => return None,
        };
        Some((pair.key, value))
    };
    pairs.into_iter().filter_map(text).collect()
}
