//! gRPC's framing: a message has a byte that says whether it is compressed, and its length, before it; the outcome is in the trailers.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

/// A request that is longer is not read here.
const MOST: usize = 256 * 1024;
/// What stands before a message.
pub(super) const PREFIX: usize = 5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What a call brought.
pub enum Whole {
    /// One message, whole and not compressed; and the body anew, for whoever else reads it.
    Message { message: Bytes, again: Again },
    /// Anything else, as it was.
    Other(Body),
}

/// Reads a call's one message.
pub async fn read(mut body: Body) -> Whole {
    let mut chunks = Vec::new();
    let mut size = 0;
    let mut left = None;
    while size <= MOST && !body.is_end_stream() {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    size += data.len();
                    chunks.push(data);
                }
                // Trailers of a request mean nothing to gRPC.
                Err(frame) => left = Some(Ok(frame)),
            },
            Some(Err(status)) => {
                left = Some(Err(status));
                break;
            }
        }
    }
    let is_whole = left.is_none() && body.is_end_stream();
    let whole = match <[Bytes; 1]>::try_from(chunks) {
        Ok([one]) => one,
        Err(chunks) => chunks.concat().into(),
    };
    let again = Again { read: Some(whole.clone()), left, rest: body };
    match message(&whole) {
        Some(message) if is_whole => Whole::Message { message, again },
        Some(_) | None => Whole::Other(Body::new(again)),
    }
}

fn message(whole: &Bytes) -> Option<Bytes> {
    let (prefix, message) = whole.split_first_chunk::<PREFIX>()?;
    let length = length(prefix)?;
    (length == message.len()).then(|| whole.slice(PREFIX..))
}

/// None for a message that is compressed.
pub(super) fn length(prefix: &[u8; PREFIX]) -> Option<usize> {
    let [compressed, a, b, c, d] = *prefix;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (compressed == 0).then_some(length)
}

/// A body that was read in part, or whole.
pub struct Again {
    read: Option<Bytes>,
    left: Option<Result<Frame<Bytes>, Status>>,
    rest: Body,
}

impl http_body::Body for Again {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(read) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        if let Some(left) = self.left.take() {
            return Poll::Ready(Some(left));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.left.is_none() && self.rest.is_end_stream()
    }
}

/// A response with what `answer` writes; none where it has no answer.
pub fn unary(answer: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<Response<Body>> {
    let mut out = Vec::with_capacity(1024);
    frame(&mut out, answer)?;
    Some(response(Once { message: Some(out.into()), is_told: false }))
}

/// A message, its length before it.
pub(super) fn frame(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let at = out.len();
    out.extend([0; PREFIX]);
    write(out)?;
    let length = u32::try_from(out.len() - at - PREFIX).ok()?;
    let [a, b, c, d] = length.to_be_bytes();
    *out.get_mut(at..)?.first_chunk_mut()? = [0, a, b, c, d];
    Some(())
}

pub(super) fn response<B>(body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The trailers of a call that went well.
pub(super) fn good() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

/// One message, and that all is well.
struct Once {
    message: Option<Bytes>,
    is_told: bool,
}

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.is_told, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(good()))))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.is_told
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
