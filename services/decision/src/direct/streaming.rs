//! AuthorizeStream by the short way: what has arrived together is looked up together, answered at one moment, and sent together.
//!
//! Knows where messages begin and end, and when to answer. What is not plain, one question at a time, the general way answers in its place.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use countersign_proto::{
    check_known,
    decision::v1::{AuthorizeStreamRequest, AuthorizeStreamResponse},
};
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};
use prost::Message;
use tonic::{Code, Status, body::Body};

use super::{
    body::{PREFIX, frame, good, length, response},
    decide::{self, Direct},
};
use crate::stream::{self, Asker};

/// tonic's own limit on a message.
const MOST_OF_A_MESSAGE: usize = 4 << 20;
/// Bytes of answers that are sent at once, and of questions that wait.
const TOGETHER: usize = 32 * 1024;

/// Answers to the questions of `questions`, in their order.
pub fn answers(
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
        arrived: Arrived::default(),
        asked: None,
        out: Vec::new(),
        usual: 0,
        ended: None,
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
    arrived: Arrived,
    /// A question that the general way answers.
    asked: Option<Asking>,
    /// Answers that were not sent.
    out: Vec<u8>,
    /// Bytes that were sent last: there will be as many again.
    usual: usize,
    /// How the questions ended. Those that have arrived are still answered.
    ended: Option<Result<(), Status>>,
    /// How the answers do.
    end: Option<Result<(), Status>>,
    is_told: bool,
}

/// Bytes that were not answered; a question may have arrived in part.
#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    /// Before this, they were answered.
    from: usize,
}

impl Arrived {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    fn push(&mut self, data: &[u8]) {
        if self.from > 0 {
            let answered = self.from.min(self.bytes.len());
            self.bytes.drain(..answered);
            self.from = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    /// Whether there is something to answer, or to refuse.
    fn has_whole(&self) -> bool {
        !matches!(split(self.rest()), Ok(None))
    }

    /// Whether there is enough for now; of a long message, all of it.
    fn is_enough(&self) -> bool {
        self.rest().len() >= TOGETHER && self.has_whole()
    }
}

/// A message, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The first message, where it is there whole, and what follows it.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, Status> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = length(prefix).ok_or_else(|| {
        Status::unimplemented("a compressed message, though no grpc-encoding was named")
    })?;
    if length > MOST_OF_A_MESSAGE {
        return Err(Status::out_of_range(format!(
            "a message of {length} bytes; at most {MOST_OF_A_MESSAGE} are read"
        )));
    }
    Ok(rest.split_at_checked(length))
}

/// As the general way's codec reads it.
fn read(question: &[u8]) -> Result<AuthorizeStreamRequest, Status> {
    check_known::<AuthorizeStreamRequest>(question)?;
    AuthorizeStreamRequest::decode(question).map_err(|error| Status::internal(error.to_string()))
}

impl Answers {
    /// Answers what has arrived, until one takes longer, or there is enough to send.
    fn answer_all(&mut self) {
        while self.end.is_none() && self.asked.is_none() && self.out.len() < TOGETHER {
            if !self.answer_some() {
                return;
            }
        }
    }

    /// Answers those that are looked up together. False where nothing has arrived whole.
    fn answer_some(&mut self) -> bool {
        let mut questions = [&[][..]; decide::TOGETHER];
        let mut rest = self.arrived.rest();
        let (mut count, mut wrong) = (0, None);
        for slot in &mut questions {
            match split(rest) {
                Ok(Some((question, after))) => {
                    *slot = question;
                    rest = after;
                    count += 1;
                }
                Ok(None) => break,
                // Those before it are answered first.
                Err(status) => {
                    wrong = Some(status);
                    break;
                }
            }
        }
        let questions = questions.get(..count).unwrap_or_default();
        if questions.is_empty() {
            self.end = wrong.map(Err);
            return false;
        }
        if self.out.capacity() == 0 {
            self.out.reserve(self.usual);
        }
        let done = self.direct.stream(&self.headers, questions, &mut self.out);
        let mut answered: usize =
            questions.iter().take(done).map(|question| PREFIX + question.len()).sum();
        if let Some(question) = questions.get(done) {
            answered += PREFIX + question.len();
            match read(question) {
                Ok(question) => self.asked = Some(self.ask(question)),
                Err(status) => self.end = Some(Err(status)),
            }
        } else if let Some(status) = wrong {
            self.end = Some(Err(status));
        }
        self.arrived.from += answered;
        true
    }

    /// Asks the general way.
    fn ask(&self, question: AuthorizeStreamRequest) -> Asking {
        let (decider, asker) = (self.direct.decider().clone(), Arc::clone(&self.asker));
        Box::pin(async move { stream::one(&decider, &asker, question).await })
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

    /// Takes the questions that are there. Pending where there are no more of them for now.
    fn gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.arrived.is_enough() {
            match Pin::new(&mut self.questions).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.arrived.push(&data);
                    }
                }
                Poll::Ready(Some(Err(status))) => {
                    self.ended = Some(Err(status));
                    break;
                }
                Poll::Ready(None) => {
                    self.ended = Some(Ok(()));
                    break;
                }
            }
        }
        Poll::Ready(())
    }

    /// Those that were not sent.
    fn answers(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        self.usual = self.out.len();
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
            if let Some(ended) = own.ended.take() {
                let is_cut = ended.is_ok() && !own.arrived.rest().is_empty();
                let cut = || Status::new(Code::Internal, "the stream ended within a message");
                own.end = Some(if is_cut { Err(cut()) } else { ended });
                continue;
            }
            match own.gather(context) {
                Poll::Pending if own.arrived.has_whole() => {}
                Poll::Pending if own.out.is_empty() => return Poll::Pending,
                // What has arrived together is answered together.
                Poll::Pending => return Poll::Ready(own.answers()),
                Poll::Ready(()) => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_told
    }
}
