//! An exchange with a challenge: one stream, one nonce, one proof. The nonce is 128 random bits that live in this task alone, so that a
//! proof of it is good on its own stream and nowhere else (ATTACKS 38), and nothing has to be remembered or written.

use std::{net::IpAddr, sync::Arc, time::Duration};

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeWithChallengeRequest, ExchangeWithChallengeResponse,
    exchange_with_challenge_request::Step as Said, exchange_with_challenge_response::Step,
};
use countersign_serve::Fault;
use countersign_token::claims::jti;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    beside::Beside,
    clock,
    convert::{Asked, Shown},
    error::Refusal,
    exchange::Exchange,
};

/// Streams at once (ATTACKS 39).
pub const MAX_STREAMS: usize = 1000;
/// Whoever opens a stream knows already what it asks for.
const REQUEST: Duration = Duration::from_secs(5);
/// To fetch credentials, and to sign.
const PROOF: Duration = Duration::from_secs(30);

/// What is said on a stream.
pub type Answers = ReceiverStream<Result<ExchangeWithChallengeResponse, Status>>;

/// Gives challenges.
pub struct Challenges {
    exchange: Arc<Exchange>,
    streams: Arc<Semaphore>,
}

impl Challenges {
    /// For exchanges at `exchange`.
    #[must_use]
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    /// Answers one stream.
    ///
    /// # Errors
    /// When there are too many; and when a proof of possession came along, which a challenge has no use for.
    pub fn open(
        &self,
        said: Streaming<ExchangeWithChallengeRequest>,
        beside: Beside,
        source: Option<IpAddr>,
    ) -> Result<Answers, Refusal> {
        beside.no_proof()?;
        self.exchange.admit(source)?;
        let permit = self.streams.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let (answers, receiver) = mpsc::channel(2);
        let exchange = self.exchange.clone();
        tokio::spawn(async move { serve(&exchange, said, beside, source, answers, permit).await });
        Ok(ReceiverStream::new(receiver))
    }
}

/// Ends when the stream does, whoever ends it.
async fn serve(
    exchange: &Exchange,
    said: Streaming<ExchangeWithChallengeRequest>,
    beside: Beside,
    source: Option<IpAddr>,
    answers: mpsc::Sender<Result<ExchangeWithChallengeResponse, Status>>,
    _permit: OwnedSemaphorePermit,
) {
    let outcome = tokio::select! {
        outcome = converse(exchange, said, &beside, source, &answers) => outcome,
        () = answers.closed() => return,
    };
    let last = match outcome {
        Ok(response) => Ok(response),
        Err(refusal) => Err(Fault::from(&refusal).into()),
    };
    // A caller that has gone needs no answer.
    let _ = answers.send(last).await;
}

async fn converse(
    exchange: &Exchange,
    mut said: Streaming<ExchangeWithChallengeRequest>,
    beside: &Beside,
    source: Option<IpAddr>,
    answers: &mpsc::Sender<Result<ExchangeWithChallengeResponse, Status>>,
) -> Result<ExchangeWithChallengeResponse, Refusal> {
    let mut request = request(&mut said).await?;
    // The connection's certificate, where the token is to be bound to one.
    beside.name_in(&mut request.client_key_thumbprint, clock::now())?;
    let mut asked = Asked::parse_unproven(request, &exchange.partition)?;
    let challenge = jti()?;
    let given = ExchangeWithChallengeResponse { step: Some(Step::Challenge(challenge.clone())) };
    let gone = Refusal::Stream("it ended before the proof came");
    answers.send(Ok(given)).await.map_err(|_| gone)?;
    asked.shown = Shown::StsProof(proof(&mut said).await?);
    let response = exchange.exchange_challenged(asked, &challenge, source).await?;
    Ok(ExchangeWithChallengeResponse { step: Some(Step::Response(response)) })
}

async fn request(
    said: &mut Streaming<ExchangeWithChallengeRequest>,
) -> Result<ExchangeRequest, Refusal> {
    match next(said, REQUEST).await? {
        Some(Said::Request(request)) => Ok(request),
        // Whoever says nothing shows nothing.
        None => Err(Refusal::MissingProof),
        Some(Said::SubjectToken(_)) => {
            Err(Refusal::Stream("the request comes first, then the challenge, then the proof"))
        }
    }
}

async fn proof(said: &mut Streaming<ExchangeWithChallengeRequest>) -> Result<String, Refusal> {
    match next(said, PROOF).await? {
        Some(Said::SubjectToken(proof)) if !proof.is_empty() => Ok(proof),
        Some(Said::SubjectToken(_)) | None => Err(Refusal::MissingProof),
        Some(Said::Request(_)) => {
            Err(Refusal::Stream("a second request; a stream is for one exchange"))
        }
    }
}

async fn next(
    said: &mut Streaming<ExchangeWithChallengeRequest>,
    patience: Duration,
) -> Result<Option<Said>, Refusal> {
    match tokio::time::timeout(patience, said.message()).await {
        Ok(Ok(message)) => Ok(message.and_then(|message| message.step)),
        Ok(Err(_)) => Err(Refusal::Stream("it broke off")),
        Err(_) => Err(Refusal::TimedOut),
    }
}
