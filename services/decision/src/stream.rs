//! AuthorizeStream: Authorize, pipelined. Questions are answered one by one, in order; one without an answer says why.
//!
//! A stream outlives what its caller showed at the door, so that is asked again with every question: the token's time, the key's
//! standing, and the session's role.

use std::time::{Duration, Instant};

use countersign_proto::decision::v1::{
    AuthorizeStreamRequest, AuthorizeStreamResponse, QuestionError,
    authorize_stream_response::Result as Outcome,
};
use countersign_replica::Behind;
use countersign_serve::Fault;
use countersign_token::SignedToken;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    authn::{Call, Caller},
    check, convert,
    decider::{self, Decider},
    error::Refusal,
    session::{self, NoSession},
};

/// Answers that the caller has not fetched yet; after these the next question waits.
const UNFETCHED: usize = 32;
/// A name for a question; echoed, so it is kept small.
const MAX_ID_BYTES: usize = 128;

/// What a stream answers with.
pub type Answers = ReceiverStream<Result<AuthorizeStreamResponse, Status>>;

/// Who asks.
pub struct Asker {
    /// As the stream was opened.
    pub call: Call,
    /// The token that it was opened with, if it was one.
    pub signed: Option<SignedToken>,
    /// How long a question waits for a revision.
    pub patience: Duration,
}

/// Begins to answer. Ends when the questions do, when nobody fetches the answers any more, or when the caller's session is over.
pub fn answers(
    decider: Decider,
    asker: Asker,
    mut questions: Streaming<AuthorizeStreamRequest>,
) -> Answers {
    let (sender, receiver) = mpsc::channel(UNFETCHED);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = questions.message() => next,
                () = sender.closed() => return,
            };
            let answer = match next {
                Ok(None) => return,
                Ok(Some(question)) => one(&decider, &asker, question).await,
                Err(status) => Err(status),
            };
            let is_over = answer.is_err();
            if sender.send(answer).await.is_err() || is_over {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Answers one question, or says why the stream ends.
pub async fn one(
    decider: &Decider,
    asker: &Asker,
    message: AuthorizeStreamRequest,
) -> Result<AuthorizeStreamResponse, Status> {
    stands(decider, asker)?;
    let Asker { call, patience, signed: _ } = asker;
    let AuthorizeStreamRequest { id, question } = message;
    let call = Call { deadline: Instant::now() + *patience, ..call.clone() };
    let outcome = async {
        if id.len() > MAX_ID_BYTES {
            return Err(Refusal::invalid("id", format!("longer than {MAX_ID_BYTES} bytes")));
        }
        let question = question.ok_or_else(|| Refusal::invalid("question", "missing"))?;
        check::authorize(decider, &call, convert::authorize_question(question)?).await
    };
    let result = match outcome.await {
        Ok(answer) => Outcome::Answer(answer),
        Err(refusal) => Outcome::Error(said(refusal)),
    };
    let id = if id.len() > MAX_ID_BYTES { String::new() } else { id };
    Ok(AuthorizeStreamResponse { id, result: Some(result) })
}

/// Whether the caller still is who it was at the door.
fn stands(decider: &Decider, asker: &Asker) -> Result<(), Status> {
    let (Caller::Session(session), Some(signed)) = (&asker.call.caller, &asker.signed) else {
        // A service's questions are refused one by one.
        return Ok(());
    };
    // However old it is: whether anything may be answered from it is asked with the question.
    let view = decider.replica().held().ok_or(Behind::Empty).map_err(Refusal::from)?;
    let stands = session::stands(decider, signed, &view, decider::now());
    stands.map_err(NoSession::of_caller)?;
    check::session_subject(view.world(), session)?;
    Ok(())
}

fn said(refusal: Refusal) -> QuestionError {
    let fault = Fault::from(refusal);
    QuestionError {
        code: fault.code().into(),
        reason: fault.reason().to_owned(),
        message: fault.message().to_owned(),
    }
}
