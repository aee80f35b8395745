//! Logs, trace contexts and metrics for operators.
//!
//! Owns: the process's subscriber ([`init`]), the conversion between a span and the `traceparent` in messages
//! ([`trace`]), the metrics ([`Metrics`]), and whether the node is ready ([`Readiness`]). Never: which events get a span or a log
//! line; the code that performs them decides. The only module that names OpenTelemetry.

mod batches;
mod metrics;
mod readiness;
mod rollouts;
mod trace;
mod waiting;
mod work;

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

pub use metrics::{CONTENT_TYPE, Metrics};
pub use readiness::{Latch, Readiness};
pub use trace::{child_of, current_trace};
pub use work::{ExecutorPlace, WorkMetrics, executor_name};

/// Environment variable with the log filter, e.g. `info,pagewire::edge=debug`.
const FILTER: &str = "PAGEWIRE_LOG";
const DEFAULT_FILTER: &str = "info,async_nats=warn";
/// Environment variable with the form of the lines: `json`, `text`, or `color` for a terminal.
pub const FORMAT: &str = "PAGEWIRE_LOG_FORMAT";

/// Starts logging for the process to standard error: text on a terminal, otherwise one JSON object per line, unless
/// `PAGEWIRE_LOG_FORMAT` has another form. After the first success, later calls change nothing.
///
/// # Errors
///
/// [`ParseError`] when `PAGEWIRE_LOG` is not a filter.
pub fn init() -> Result<(), ParseError> {
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
    let subscriber = Registry::default().with(contexts()).with(lines.with_filter(filter));
    // only a second call can fail, and the subscriber of the first one does the same
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Gives every span of this program its W3C ids, even if it is not logged. Spans are not recorded, because nothing is
/// exported. A caller's decision to sample is passed on.
fn contexts<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    tracing_opentelemetry::layer().with_tracer(provider.tracer("pagewire")).with_filter(filter_fn(
        |metadata| {
            metadata.is_span()
                && metadata.target().starts_with("pagewire")
                && *metadata.level() <= Level::INFO
        },
    ))
}
