//! Bodies of calls: a request that must arrive in time, an answer whose end is counted and bounded by the deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use baton_protocol::{ErrorCode, ServiceError};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Code, Status};

use super::status::status;
use crate::metrics::{GRPC_DURATION, GRPC_REQUESTS};

const GRPC_STATUS: &str = "grpc-status";

/// What a deadline that has passed answers.
pub(super) fn too_late() -> Status {
    status(ServiceError::new(
        ErrorCode::Timeout,
        "the call's deadline passed; the outcome of a change is unknown, retry it with the same idempotency key",
    ))
}

/// The one message of a call, which must have arrived within a time.
pub(super) struct Punctual {
    inner: Body,
    limit: Pin<Box<Sleep>>,
}

impl Punctual {
    pub(super) fn new(inner: Body, within: Duration) -> Self {
        Self {
            inner,
            limit: Box::pin(sleep(within)),
        }
    }
}

impl HttpBody for Punctual {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.limit.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let error = ServiceError::new(ErrorCode::BadRequest, "the message took too long to arrive");
        Poll::Ready(Some(Err(status(error).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Counts one call when it is over, however it ends.
pub(super) struct Tally {
    method: &'static str,
    started: Instant,
    /// As far as known; a call that is dropped before its status was sent was given up by the client.
    code: Code,
    span: tracing::Span,
}

impl Tally {
    pub(super) fn new(method: &'static str, span: tracing::Span) -> Self {
        Self {
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            span,
        }
    }

    /// Notes the status when `headers` (of the head or the trailers) carry it.
    pub(super) fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(GRPC_STATUS) {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let code = code_name(self.code);
        self.span.record("code", code);
        metrics::counter!(GRPC_REQUESTS, "method" => self.method, "code" => code).increment(1);
        metrics::histogram!(GRPC_DURATION, "method" => self.method)
            .record(self.started.elapsed().as_secs_f64());
    }
}

/// The name of the gRPC specification.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// An answer under way.
pub(super) struct Answer {
    inner: Body,
    tally: Tally,
    deadline: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Answer {
    pub(super) fn new(inner: Body, tally: Tally, deadline: Option<Instant>) -> Self {
        Self {
            inner,
            tally,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            over: false,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
            {
                self.tally.note(trailers);
            }
            return Poll::Ready(frame);
        }
        let late = self
            .deadline
            .as_mut()
            .is_some_and(|d| d.as_mut().poll(cx).is_ready());
        if !late {
            return Poll::Pending;
        }
        self.over = true;
        // What produced the answer sees that nobody reads any more.
        self.inner = Body::empty();
        let mut trailers = HeaderMap::new();
        // A status made of our own text always fits into headers.
        let _ = too_late().add_header(&mut trailers);
        self.tally.note(&trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
