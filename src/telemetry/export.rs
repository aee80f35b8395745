//! Traces for an OpenTelemetry collector, over OTLP.
//!
//! Owns: which spans are recorded, what they say of this process, and their export in batches by a thread of its own.
//! Never: where spans begin.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use pagewire_worker::tls;
use tokio::runtime::Runtime;

use crate::config::{Config, OtlpProtocol};

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.otlp: {0}")]
pub struct ExportFailure(String);

/// The export of spans. When this is dropped, the spans that wait are sent.
pub struct TraceExport(Option<RunningExport>);

struct RunningExport {
    provider: SdkTracerProvider,
    /// Runs the connection of gRPC, also while the runtime of the process ends.
    _runtime: Option<Runtime>,
}

impl TraceExport {
    /// Starts the export, if a collector is configured. `role` is what this process is: `node` or `worker`.
    pub(super) fn start(config: &Config, role: &'static str) -> Result<Self, ExportFailure> {
        let telemetry = &config.telemetry;
        if telemetry.otlp.is_empty() {
            return Ok(Self(None));
        }
        tls::install();
        let (exporter, runtime) = match telemetry.protocol {
            OtlpProtocol::Http => (over_http(&telemetry.otlp)?, None),
            OtlpProtocol::Grpc => over_grpc(&telemetry.otlp)?,
        };
        let url = telemetry.otlp.clone();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(telemetry.sample.get()))
            .with_resource(resource(config, role))
            .with_batch_exporter(LoggedExporter { inner: exporter, url, fails: AtomicBool::new(false) })
            .build();
        Ok(Self(Some(RunningExport { provider, _runtime: runtime })))
    }

    /// Returns the provider of recorded spans; `None` if nothing is sent.
    pub(super) fn provider(&self) -> Option<&SdkTracerProvider> {
        self.0.as_ref().map(|running| &running.provider)
    }
}

impl Drop for TraceExport {
    fn drop(&mut self) {
        if let Some(RunningExport { provider, .. }) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn failed(error: impl ToString) -> ExportFailure {
    ExportFailure(error.to_string())
}

fn over_http(url: &str) -> Result<SpanExporter, ExportFailure> {
    let endpoint = format!("{}/v1/traces", url.trim_end_matches('/'));
    let builder = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
    builder.with_endpoint(endpoint).build().map_err(failed)
}

/// Creates an exporter with the runtime of its connection: the thread that sends spans has none.
#[cfg(feature = "otlp-grpc")]
fn over_grpc(url: &str) -> Result<(SpanExporter, Option<Runtime>), ExportFailure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let inside = runtime.enter();
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).build().map_err(failed)?;
    drop(inside);
    Ok((exporter, Some(runtime)))
}

#[cfg(not(feature = "otlp-grpc"))]
fn over_grpc(_: &str) -> Result<(SpanExporter, Option<Runtime>), ExportFailure> {
    Err(failed("this build sends traces over HTTP only"))
}

/// Returns the decision for traces: those from elsewhere follow their sender, a share of the others is recorded.
fn sampler(share: f64) -> Sampler {
    let root = if share >= 1.0 { Sampler::AlwaysOn } else { Sampler::TraceIdRatioBased(share) };
    Sampler::ParentBased(Box::new(root))
}

/// Describes this process.
fn resource(config: &Config, role: &'static str) -> Resource {
    let node = &config.node;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = match node.name.as_str() {
        "" => format!("{host}-{}", std::process::id()),
        name => name.to_owned(),
    };
    let attributes = [
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance),
        ("host.name", host),
        ("process.pid", std::process::id().to_string()),
        ("pagewire.role", role.to_owned()),
        ("pagewire.cluster", config.cluster.clone()),
        ("pagewire.lane", node.lane.clone()),
        ("pagewire.release", node.release.clone()),
    ];
    // the builder adds OTEL_RESOURCE_ATTRIBUTES
    Resource::builder()
        .with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)))
        .with_service_name(config.telemetry.service.clone())
        .build()
}

/// Sends spans, and logs when the collector stops or starts to receive them.
#[derive(Debug)]
struct LoggedExporter {
    inner: SpanExporter,
    url: String,
    fails: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for LoggedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.inner.export(batch).await;
        let failed_before = self.fails.swap(sent.is_err(), Ordering::Relaxed);
        match (&sent, failed_before) {
            (Err(error), false) => {
                tracing::warn!(url = self.url, spans, %error, "traces are not sent, and are lost");
            }
            (Ok(()), true) => tracing::info!(url = self.url, "traces are sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: std::time::Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
