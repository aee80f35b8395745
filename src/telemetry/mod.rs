//! What operators see: logs, trace contexts and metrics.
//!
//! Owns: the process's subscriber ([`init`]), the way from a span to the `traceparent` that travels in messages
//! ([`trace`]) and the numbers ([`Metrics`]), and whether the node is [`Ready`]. Never: what is worth a span or a line; that is said where it
//! happens. The only place that names OpenTelemetry.

mod metrics;
mod ready;
mod rollouts;
mod trace;

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

pub use metrics::{CONTENT_TYPE, Metrics};
pub use ready::Ready;
pub use trace::{child_of, current_trace};

/// Which lines are logged, e.g. `info,pagewire::edge=debug`.
const FILTER: &str = "PAGEWIRE_LOG";
const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// Starts logging for the process: for people on a terminal, one JSON object per line otherwise, on standard
/// error. Fails when `PAGEWIRE_LOG` is not a filter. Once set, later calls change nothing.
pub fn init() -> Result<(), ParseError> {
    let wanted = std::env::var(FILTER).unwrap_or_default();
    let filter: Targets = if wanted.is_empty() { DEFAULT_FILTER } else { &wanted }.parse()?;
    let lines = if io::stderr().is_terminal() {
        fmt::layer().with_writer(io::stderr).with_target(false).boxed()
    } else {
        fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed()
    };
    let subscriber = Registry::default().with(contexts()).with(lines.with_filter(filter));
    // only a second call can fail, and the first one's subscriber does the same
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Gives every span of ours its W3C ids, whatever is logged. Nothing is recorded, because nothing is exported;
/// a caller's decision to sample travels on.
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
