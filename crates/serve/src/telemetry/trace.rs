//! Traces: one across every hop, by the W3C's `traceparent`.
//!
//! A call belongs to a trace if whoever made it says so, or else by chance, as configured. What belongs to none costs nothing more than
//! reading that header; it is passed on as such, so that nobody further down begins a trace in the middle.

use std::{
    future::Future,
    sync::OnceLock,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{Status as SpanStatus, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{Code, metadata::MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Spans with this target are sent.
pub(super) const TARGET: &str = "countersign::trace";
/// The header's name (https://www.w3.org/TR/trace-context/).
const TRACEPARENT: &str = "traceparent";
/// What says that a call belongs to no trace.
const UNTRACED: &str = "00-00000000000000000000000000000001-0000000000000001-00";

/// Of calls without a `traceparent`, so many in 2^32 begin a trace. Unset: nothing is traced.
static SHARE: OnceLock<u64> = OnceLock::new();
/// What chance is made of.
static NUMBER: AtomicU64 = AtomicU64::new(0);

tokio::task_local! {
    static IS_UNTRACED: ();
}

/// Traces from now on: `share` of the calls that do not say, between 0 and 1.
pub(super) fn begin(share: f64) {
    // The cast saturates, and takes what is no number as 0.
    let _ = SHARE.set((share * 4_294_967_296.0) as u64);
}

/// Whether a call that came in belongs to a trace. Chance may say otherwise the next time: ask once.
#[must_use]
pub fn is_traced(headers: &HeaderMap) -> bool {
    let Some(share) = SHARE.get() else { return false };
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    match parent.and_then(|parent| parent.rsplit_once('-')) {
        Some((_, flags)) => u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1),
        None => by_chance(*share),
    }
}

/// The span of a call that came in, if it belongs to a trace, or was chosen for one.
pub(crate) fn server_span(path: &str, headers: &HeaderMap, is_chosen: bool) -> Option<Span> {
    if !is_chosen && !is_traced(headers) {
        return None;
    }
    let (service, method) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or(("", path));
    let span = tracing::info_span!(
        target: TARGET,
        "rpc",
        otel.name = format!("{service}/{method}"),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
        trace_id = tracing::field::Empty,
    );
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    // Only fails where no trace is kept, and then there is nothing to be the child of.
    let _ = span.set_parent(context);
    let id = span.context().span().span_context().trace_id();
    span.record("trace_id", id.to_string());
    Some(span)
}

/// A piece of work inside a trace: a question to somebody else. Nothing outside one.
#[must_use]
pub fn client_span(name: &'static str) -> Span {
    if SHARE.get().is_none() || Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!(target: TARGET, "call", otel.name = name, otel.kind = "client")
}

/// How the span's call ended.
pub(crate) fn ended(span: &Span, code: Code) {
    if span.is_none() {
        return;
    }
    span.record("rpc.grpc.status_code", code as i32);
    // OpenTelemetry's conventions for servers: what the caller did wrong is no error of ours.
    if matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    ) {
        span.set_status(SpanStatus::error(format!("{code:?}")));
    }
}

/// Runs what belongs to no trace.
pub(crate) async fn untraced<F: Future>(work: F) -> F::Output {
    if SHARE.get().is_some() { IS_UNTRACED.scope((), work).await } else { work.await }
}

/// Passes the trace on, with a call that goes out.
pub(crate) fn pass_on(metadata: &mut MetadataMap) {
    if SHARE.get().is_none() {
        return;
    }
    if IS_UNTRACED.try_with(|()| ()).is_ok() {
        metadata.insert(TRACEPARENT, tonic::metadata::MetadataValue::from_static(UNTRACED));
        return;
    }
    let span = Span::current();
    if !span.is_none() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Metadata(metadata));
    }
}

/// Splitmix: evenly spread, which is all that a share needs.
fn by_chance(share: u64) -> bool {
    let mut number = NUMBER.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (number ^ (number >> 31)) >> 32 < share
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value: &HeaderValue| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = tonic::metadata::MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_keeps_its_share() {
        for (share, least, most) in
            [(0.0, 0, 0), (0.01, 50, 150), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)]
        {
            let share = (share * 4_294_967_296.0) as u64;
            let count = (0..10_000).filter(|_| by_chance(share)).count();
            assert!((least..=most).contains(&count), "{count} of 10,000 at {share}");
        }
    }
}
