//! Logs, trace contexts and metrics for operators.
//!
//! Owns: the process's subscriber ([`init`]), the conversion between a span and the `traceparent` in messages
//! ([`trace`]), the ids of requests ([`RequestId`]), the export of spans, the metrics ([`Metrics`]), and whether the node
//! is ready ([`Readiness`]). Never: which events get a span or a log line; the code that performs them decides. The only
//! module that names OpenTelemetry.
//!
//! A span of the level `INFO` is for the log as well and always has its W3C ids. A span of the level `DEBUG` is for traces
//! only: without an export it is disabled, which costs one comparison.

mod batches;
mod children;
mod export;
mod metrics;
mod mounts;
mod readiness;
mod refused_requests;
mod request_id;
mod resident;
mod rollouts;
mod trace;
mod waiting;
mod wanted;
mod work;

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::Config;

pub use export::{ExportFailure, TraceExport};
pub use metrics::{CONTENT_TYPE, Metrics};
pub(crate) use mounts::MountAnswers;
pub use mounts::MountMetrics;
pub use readiness::{Latch, Readiness};
pub use refused_requests::count_refused_request;
pub use request_id::{REQUEST_ID, RequestId};
pub use trace::{child_of, current_trace};
pub use work::{ExecutorPlace, WorkMetrics, executor_name};

/// Environment variable with the log filter, e.g. `info,pagewire::edge=debug`.
const FILTER: &str = "PAGEWIRE_LOG";
const DEFAULT_FILTER: &str = "info,async_nats=warn";
/// Environment variable with the form of the lines: `json`, `text`, or `color` for a terminal.
pub const FORMAT: &str = "PAGEWIRE_LOG_FORMAT";

/// Why logging and tracing do not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `PAGEWIRE_LOG` is not a filter.
    #[error("{FILTER}: {0}")]
    Filter(#[from] ParseError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Export(#[from] ExportFailure),
}

/// Starts logging for the process to standard error: text on a terminal, otherwise one JSON object per line, unless
/// `PAGEWIRE_LOG_FORMAT` has another form. Starts the export of traces if one is configured; `role` is what this process
/// is, `node` or `worker`. After the first success, later calls change nothing. Must not be called in an asynchronous
/// context, nor may its result be dropped in one.
///
/// # Errors
///
/// [`TelemetryError`] when `PAGEWIRE_LOG` or the export cannot be used.
pub fn init(config: &Config, role: &'static str) -> Result<TraceExport, TelemetryError> {
    let wanted = std::env::var(FILTER).unwrap_or_default();
    let filter: Targets = if wanted.is_empty() { DEFAULT_FILTER } else { &wanted }.parse()?;
    let text = |colored| fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(colored).boxed();
    let json = || fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed();
    let lines = match std::env::var(FORMAT).as_deref() {
        Ok("color") => text(true),
        Ok("text") => text(false),
        Ok("json") => json(),
        _ if io::stderr().is_terminal() => text(true),
        _ => json(),
    };
    let export = TraceExport::start(config, role)?;
    let spans = match export.provider() {
        Some(provider) => spans(provider, Level::DEBUG).boxed(),
        None => contexts().boxed(),
    };
    let subscriber = Registry::default().with(spans).with(lines.with_filter(filter));
    // only a second call can fail, and the subscriber of the first one does the same
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(export)
}

/// Gives every span of this program its W3C ids, even if it is not logged. Spans are not recorded, because nothing is
/// exported. A caller's decision to sample is passed on.
fn contexts<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    spans(&provider, Level::INFO)
}

/// Gives the spans of this program to a provider, up to a level.
fn spans<S>(provider: &SdkTracerProvider, level: Level) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("pagewire"));
    layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_filter(filter_fn(
        move |metadata| {
            metadata.is_span() && metadata.target().starts_with("pagewire") && *metadata.level() <= level
        },
    ))
}
