//! A stream by the short way against its questions one by one by the general way, however it is cut into pieces.

use std::{collections::VecDeque, task::Waker};

use bytes::Bytes;
use countersign_proto::decision::v1::{
    AuthorizeStreamRequest, AuthorizeStreamResponse, authorize_stream_response::Result as Outcome,
};
use http_body::{Body as _, Frame};

use super::*;
use crate::stream;

/// What a client sends, piece by piece; between pieces there may be nothing for now.
struct Pieces(VecDeque<Option<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.pop_front() {
            Some(Some(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(None) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// The answers, and how it ended.
async fn streamed(
    both: &Both,
    caller: &str,
    pieces: Pieces,
) -> (Vec<AuthorizeStreamResponse>, String) {
    let headers = headers(caller);
    let asker = both.direct.streamer(&headers, "10.0.0.1".parse().unwrap()).unwrap();
    let direct = Arc::new(Direct::new(both.decider.clone()));
    let response = streaming::answers(direct, headers, asker, Body::new(pieces));
    let mut body = response.into_body();
    let (mut bytes, mut status) = (Vec::new(), String::new());
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        match frame.unwrap().into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap();
                status = trailers["grpc-status"].to_str().unwrap().to_owned();
            }
        }
    }
    let (mut answers, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((prefix, after)) = rest.split_first_chunk::<5>() {
        let [0, length @ ..] = *prefix else { panic!("{prefix:?}") };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        let message = &after[..length];
        let mut answer = AuthorizeStreamResponse::decode(message).unwrap();
        assert_eq!(answer.encode_to_vec(), message, "what prost would write");
        forget_the_moment(&mut answer);
        answers.push(answer);
        rest = &after[length..];
    }
    assert!(rest.is_empty());
    (answers, status)
}

fn forget_the_moment(answer: &mut AuthorizeStreamResponse) {
    if let Some(Outcome::Answer(own)) = &mut answer.result {
        own.decision_id.clear();
        own.snapshot_age = None;
    }
}

/// The bytes, cut wherever chance cuts them.
fn cut(chance: &mut Chance, bytes: &[u8]) -> Pieces {
    let mut pieces = VecDeque::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = [3, 400, 5_000, 50_000][chance.below(4)];
        let (piece, after) = rest.split_at(chance.below(most).min(rest.len()));
        pieces.push_back(Some(Bytes::copy_from_slice(piece)));
        if chance.below(3) == 0 {
            pieces.push_back(None);
        }
        rest = after;
    }
    Pieces(pieces)
}

fn streams_question(chance: &mut Chance, subjects: &[String]) -> AuthorizeStreamRequest {
    let id = match chance.below(20) {
        0 => "x".repeat(200),
        1 => String::new(),
        number => format!("q{number}"),
    };
    let is_there = chance.below(25) != 0;
    AuthorizeStreamRequest { id, question: is_there.then(|| question(chance, subjects)) }
}

#[tokio::test]
async fn a_stream_has_the_general_answers_in_order() {
    let both = Both::new();
    let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
    let subjects = [
        both.token(OURS, "App", "orders", &[]),
        both.token(OURS, "Tagged", "orders", &[("team", "blue")]),
        both.token(OURS, "Nobody", "orders", &[]),
        both.token(OURS, "App", "others", &[]),
    ];
    let call = both.call(&caller).await.unwrap();
    let signed = both.decider.signatures().recall(&caller);
    let asker = stream::Asker { call, signed, patience: both.decider.patience() };
    let mut chance = Chance(11);
    for _ in 0..60 {
        let count = chance.below(200);
        let questions: Vec<_> =
            (0..count).map(|_| streams_question(&mut chance, &subjects)).collect();
        let mut expected = Vec::new();
        let mut bytes = Vec::new();
        for question in questions {
            bytes.extend(framed(&question.encode_to_vec()));
            let mut answer = stream::one(&both.decider, &asker, question).await.unwrap();
            forget_the_moment(&mut answer);
            expected.push(answer);
        }
        let pieces = cut(&mut chance, &bytes);
        let (answers, status) = streamed(&both, &caller, pieces).await;
        assert_eq!((answers, status.as_str()), (expected, "0"));
    }
}

/// What is no message ends the stream, and those before it are answered.
#[tokio::test]
async fn a_stream_ends_at_what_is_wrong() {
    let both = Both::new();
    let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
    assert!(both.call(&caller).await.is_some());
    let good = framed(&AuthorizeStreamRequest { id: "a".into(), question: None }.encode_to_vec());
    let check = async |after: &[u8], expected: (usize, &str)| {
        for size in [1, 7, 10_000] {
            let bytes = [&good, &good, after].concat();
            let pieces = bytes.chunks(size).map(|piece| Some(Bytes::copy_from_slice(piece)));
            let (answers, status) = streamed(&both, &caller, Pieces(pieces.collect())).await;
            assert_eq!((answers.len(), status.as_str()), expected, "{after:?}");
        }
    };
    check(&[], (2, "0")).await;
    // Compressed: UNIMPLEMENTED.
    check(&[1, 0, 0, 0, 1, 7], (2, "12")).await;
    // Too long: OUT_OF_RANGE.
    check(&[0, 0xFF, 0, 0, 0], (2, "11")).await;
    // No message: INVALID_ARGUMENT, and so is one of a later version.
    check(&framed(&[0xFF]), (2, "3")).await;
    check(&framed(&[0xFA, 0x01, 1, b'x']), (2, "3")).await;
    // One that is cut off: INTERNAL.
    check(&[0, 0, 0], (2, "13")).await;
    check(&framed(b"abc")[..7], (2, "13")).await;
}

/// Nobody is woken for nothing, and nothing is asked of a body that has ended.
#[test]
fn a_stream_that_waits_says_so() {
    let both = Both::new();
    let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
    let keys = both.decider.replica().held().unwrap();
    let signed = countersign_token::check_signature(&caller, keys.world().keys()).unwrap();
    both.decider.signatures().remember(&caller, signed);
    let headers = headers(&caller);
    let asker = both.direct.streamer(&headers, "10.0.0.1".parse().unwrap()).unwrap();
    let pieces = Pieces(VecDeque::from([None, None]));
    let direct = Arc::new(Direct::new(both.decider.clone()));
    let mut body = streaming::answers(direct, headers, asker, Body::new(pieces)).into_body();
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || Pin::new(&mut body).poll_frame(&mut context);
    assert!(poll().is_pending());
    assert!(poll().is_pending());
    assert!(matches!(poll(), Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
    assert!(matches!(poll(), Poll::Ready(None)));
}
