//! Exchanges with a challenge: the proof signs a nonce that its own stream was given, and is good nowhere else.

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeResponse, ExchangeWithChallengeRequest, ExchangeWithChallengeResponse,
    exchange_with_challenge_request::Step as Say, exchange_with_challenge_response::Step,
    token_exchange_service_client::TokenExchangeServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::{
    granted::verified,
    proofs::{Form, STS_PROOF, Workload, request},
    system::{Refused, System},
};

struct Stream {
    say: mpsc::Sender<ExchangeWithChallengeRequest>,
    hear: Streaming<ExchangeWithChallengeResponse>,
}

impl Stream {
    async fn open(system: &System) -> Self {
        let (say, said) = mpsc::channel(4);
        let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
        let hear = client.exchange_with_challenge(ReceiverStream::new(said)).await.unwrap();
        Self { say, hear: hear.into_inner() }
    }

    async fn say(&mut self, step: Say) -> Result<Option<Step>, Refused> {
        self.say.send(ExchangeWithChallengeRequest { step: Some(step) }).await.unwrap();
        Ok(self.hear.message().await?.and_then(|message| message.step))
    }

    async fn challenge(&mut self, request: &ExchangeRequest) -> String {
        match self.say(Say::Request(request.clone())).await.unwrap() {
            Some(Step::Challenge(challenge)) => challenge,
            other => panic!("{other:?}"),
        }
    }

    async fn prove(&mut self, signed: &ExchangeRequest) -> Result<ExchangeResponse, Refused> {
        match self.say(Say::SubjectToken(signed.subject_token.clone())).await? {
            Some(Step::Response(response)) => Ok(response),
            other => panic!("{other:?}"),
        }
    }
}

fn answering(workload: &Workload, challenge: &str, request: &ExchangeRequest) -> ExchangeRequest {
    workload.with(|w| w.challenge = Some(challenge.to_owned())).sign(request.clone())
}

#[tokio::test]
async fn a_challenged_proof_needs_no_write() {
    let system = System::start().await;
    system.ready().await;
    for form in [Form::Post, Form::Presigned] {
        for workload in [
            Workload::local(&system.gateway.issuer),
            Workload::external(&system.gateway.issuer, &system.sts.origin),
        ] {
            let workload = workload.with(|w| w.form = form);
            let mut stream = Stream::open(&system).await;
            let asked = request();
            let challenge = stream.challenge(&asked).await;
            assert!(challenge.len() >= 22, "{challenge}");
            let response = stream.prove(&answering(&workload, &challenge, &asked)).await.unwrap();
            let token = verified(&system, &response, "orders").await;
            assert_eq!(token.claims().session.session_name, asked.role_session_name);
            let question = system.decision.asked().pop().unwrap();
            assert_eq!((question.proof_bound, question.proof_challenged), (true, true));
            // One stream, one exchange.
            assert!(stream.hear.message().await.unwrap().is_none());
        }
    }
    assert_eq!(system.store.calls("ConsumeProof"), 0);
}

// ATTACKS 30, 35, 36, 38.
#[tokio::test]
async fn a_challenge_never_leaves_its_stream() {
    let system = System::start().await;
    system.ready().await;
    let workload = Workload::local(&system.gateway.issuer);
    let asked = request();
    let mut stream = Stream::open(&system).await;
    let challenge = stream.challenge(&asked).await;
    let good = answering(&workload, &challenge, &asked);
    // On another stream, by whoever has it; and as a one-shot proof.
    let mut other = Stream::open(&system).await;
    assert_ne!(other.challenge(&asked).await, challenge);
    let refused = other.prove(&good).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unauthenticated, "ChallengeMismatch")
    );
    let refused = system.exchange(good.clone()).await.unwrap_err();
    assert_eq!(refused.reason, "ChallengeNotExpected");
    // For another request.
    let mut other = Stream::open(&system).await;
    let wider = ExchangeRequest { audience: "payments".into(), ..asked.clone() };
    let theirs = other.challenge(&wider).await;
    let refused = other.prove(&answering(&workload, &theirs, &asked)).await.unwrap_err();
    assert_eq!(refused.reason, "BindingMismatch");
    // Without the challenge: a proof that was made for one shot.
    let mut other = Stream::open(&system).await;
    other.challenge(&asked).await;
    let refused = other.prove(&workload.sign(asked.clone())).await.unwrap_err();
    assert_eq!(refused.reason, "MissingChallengeHeader");
    assert!(system.decision.asked().is_empty(), "nobody was proven");
    // So it is the stream that counts.
    stream.prove(&good).await.unwrap();
    assert!(stream.hear.message().await.unwrap().is_none());
}

#[tokio::test]
async fn streams_that_say_the_wrong_thing() {
    let system = System::start().await;
    system.ready().await;
    let check = async |step: Say, code: Code, reason: &str| {
        let refused = Stream::open(&system).await.say(step).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{refused:?}");
    };
    let invalid = Code::InvalidArgument;
    check(Say::SubjectToken("x".into()), invalid, "ValidationError").await;
    check(Say::Request(ExchangeRequest::default()), invalid, "UnsupportedTokenType").await;
    let with_proof = ExchangeRequest { subject_token: "x".into(), ..request() };
    check(Say::Request(with_proof), invalid, "ValidationError").await;
    let token = ExchangeRequest {
        subject_token_type: "urn:ietf:params:oauth:token-type:access_token".into(),
        ..request()
    };
    check(Say::Request(token), invalid, "UnsupportedTokenType").await;
    let nowhere = ExchangeRequest { role_arn: "x".into(), ..request() };
    check(Say::Request(nowhere), invalid, "ValidationError").await;
    for (second, reason) in [
        (Say::Request(request()), "ValidationError"),
        (Say::SubjectToken(String::new()), "MissingAuthenticationToken"),
        (Say::SubjectToken("x".into()), "ProofMalformed"),
    ] {
        let mut stream = Stream::open(&system).await;
        stream
            .challenge(&ExchangeRequest { subject_token_type: STS_PROOF.into(), ..request() })
            .await;
        let refused = stream.say(second).await.unwrap_err();
        if reason != "ProofMalformed" {
            assert_eq!(refused.reason, reason, "{refused:?}");
        }
        assert_ne!(refused.code, Code::Internal, "{refused:?}");
    }
    let mut stream = Stream::open(&system).await;
    stream.challenge(&request()).await;
    let Stream { say, mut hear } = stream;
    drop(say);
    let refused = Refused::from(hear.message().await.unwrap_err());
    assert_eq!(refused.reason, "MissingAuthenticationToken");
}
