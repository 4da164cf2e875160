//! gRPC's framing: a message has a byte that says whether it is compressed, and its length, before it; the outcome is in the trailers.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use countersign_proto::{
    check_known,
    decision::v1::{AuthorizeStreamRequest, AuthorizeStreamResponse},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use prost::Message;
use tonic::{Code, Status, body::Body};

use super::{
    answer::{nested, text},
    decide::Direct,
    message::streamed,
};
use crate::stream::{self, Asker};

/// A request that is longer is not read here.
const MOST: usize = 256 * 1024;
/// tonic's own limit on a message.
const MOST_OF_A_MESSAGE: usize = 4 << 20;
/// Answers of a stream that are sent at once.
const TOGETHER: usize = 32 * 1024;
const PREFIX: usize = 5;
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
fn length(prefix: &[u8; PREFIX]) -> Option<usize> {
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
fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    let at = out.len();
    out.extend([0; PREFIX]);
    write(out)?;
    let length = u32::try_from(out.len() - at - PREFIX).ok()?;
    let [a, b, c, d] = length.to_be_bytes();
    *out.get_mut(at..)?.first_chunk_mut()? = [0, a, b, c, d];
    Some(())
}

fn response<B>(body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn good() -> HeaderMap {
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

/// Answers to the questions of `questions`, in their order.
pub fn streaming(
    direct: Arc<Direct>,
    headers: HeaderMap,
    asker: Asker,
    questions: Body,
) -> Response<Body> {
    response(Answers {
        direct,
        headers,
        asker: Arc::new(asker),
        questions,
        partial: BytesMut::new(),
        asked: None,
        out: Vec::new(),
        end: None,
        is_told: false,
    })
}

type Asking = Pin<Box<dyn Future<Output = Result<AuthorizeStreamResponse, Status>> + Send>>;

/// What AuthorizeStream answers with.
struct Answers {
    direct: Arc<Direct>,
    headers: HeaderMap,
    asker: Arc<Asker>,
    questions: Body,
    /// Of a question that has not arrived whole.
    partial: BytesMut,
    /// A question that the general way answers.
    asked: Option<Asking>,
    /// Answers that were not sent.
    out: Vec<u8>,
    end: Option<Result<(), Status>>,
    is_told: bool,
}

impl Answers {
    /// Answers what has arrived, until one takes longer, or there is enough to send.
    fn answer_all(&mut self) {
        while self.end.is_none() && self.asked.is_none() && self.out.len() < TOGETHER {
            match self.next() {
                Ok(None) => return,
                Ok(Some(question)) => self.answer(&question),
                Err(status) => self.end = Some(Err(status)),
            }
        }
    }

    /// The next question, where it has arrived whole.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.partial.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = length(prefix).ok_or_else(|| {
            Status::unimplemented("a compressed message, though no grpc-encoding was named")
        })?;
        if length > MOST_OF_A_MESSAGE {
            return Err(Status::out_of_range(format!(
                "a message of {length} bytes; at most {MOST_OF_A_MESSAGE} are read"
            )));
        }
        if self.partial.len() - PREFIX < length {
            return Ok(None);
        }
        self.partial.advance(PREFIX);
        Ok(Some(self.partial.split_to(length).freeze()))
    }

    fn answer(&mut self, question: &Bytes) {
        let at = self.out.len();
        let (direct, headers) = (&self.direct, &self.headers);
        let short = frame(&mut self.out, |out| {
            let (id, question) = streamed(question)?;
            text(out, 1, id);
            let mut done = None;
            nested(out, 2, |out| done = direct.authorize(headers, question, out));
            done
        });
        if short.is_some() {
            return;
        }
        self.out.truncate(at);
        // As the general way's codec does it.
        if let Err(unknown) = check_known::<AuthorizeStreamRequest>(question) {
            self.end = Some(Err(unknown.into()));
            return;
        }
        match AuthorizeStreamRequest::decode(question.clone()) {
            Ok(question) => {
                let (decider, asker) = (direct.decider().clone(), Arc::clone(&self.asker));
                self.asked =
                    Some(Box::pin(async move { stream::one(&decider, &asker, question).await }));
            }
            Err(error) => self.end = Some(Err(Status::internal(error.to_string()))),
        }
    }

    /// What the general way made of a question.
    fn answered(&mut self, answer: Result<AuthorizeStreamResponse, Status>) {
        self.asked = None;
        match answer {
            Ok(answer) => {
                let _ = frame(&mut self.out, |out| {
                    out.extend(answer.encode_to_vec());
                    Some(())
                });
            }
            Err(status) => self.end = Some(Err(status)),
        }
    }

    /// Those that were not sent.
    fn answers(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        Some(Ok(Frame::data(std::mem::take(&mut self.out).into())))
    }

    fn trailers(&mut self) -> Option<HeaderMap> {
        let end = self.end.take()?;
        // The end stays the end.
        self.end = Some(Ok(()));
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let mut trailers = good();
        if let Err(status) = end {
            trailers.clear();
            // Only what cannot stand in a header would be refused, and a status' own text can.
            let _ = status.add_header(&mut trailers);
        }
        Some(trailers)
    }
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let own = self.get_mut();
        loop {
            own.answer_all();
            // Asked here, after it may have begun: who was never asked never wakes anybody.
            if let Some(asked) = &mut own.asked
                && let Poll::Ready(answer) = asked.as_mut().poll(context)
            {
                own.answered(answer);
                continue;
            }
            // What has arrived together is answered together.
            let is_full = own.out.len() >= TOGETHER || own.asked.is_some() || own.end.is_some();
            if is_full && !own.out.is_empty() {
                return Poll::Ready(own.answers());
            }
            if own.asked.is_some() {
                return Poll::Pending;
            }
            if own.end.is_some() {
                return Poll::Ready(own.trailers().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match Pin::new(&mut own.questions).poll_frame(context) {
                Poll::Pending if own.out.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(own.answers()),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        own.partial.extend_from_slice(&data);
                    }
                }
                Poll::Ready(Some(Err(status))) => own.end = Some(Err(status)),
                Poll::Ready(None) if own.partial.is_empty() => own.end = Some(Ok(())),
                Poll::Ready(None) => {
                    let cut = Status::new(Code::Internal, "the stream ended within a message");
                    own.end = Some(Err(cut));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_told
    }
}
