//! Whoever asks too often is told when to come again, at each door.

use countersign_gateway::{Rate, RateLimits, Rates};
use countersign_proto::token::v1::{
    ExchangeWithChallengeRequest, token_exchange_service_client::TokenExchangeServiceClient,
};
use tonic::Code;

use crate::{
    proofs::{Workload, request},
    sts::{self, Answer},
    system::{Refused, System},
};

async fn start(exchanges: Rate, http: Rate) -> System {
    let all = Rate::new(1_000_000, 1_000_000);
    let limits = RateLimits {
        exchanges: Rates { each: exchanges, all },
        http: Rates { each: http, all },
        ..RateLimits::default()
    };
    let system = System::start_as(|_| {}, "", |config| config.limits = limits).await;
    system.ready().await;
    system
}

const MANY: Rate = Rate::new(1_000_000, 1_000_000);

// ATTACKS 39.
#[tokio::test]
async fn exchanges_and_streams_are_counted_together() {
    let system = start(Rate::new(1, 3), MANY).await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    // Good ones and bad ones count alike.
    system.exchange(external.sign(request())).await.unwrap();
    let bad = external.with(|workload| workload.secret.push('x')).sign(request());
    assert_eq!(system.exchange(bad).await.unwrap_err().reason, "SignatureDoesNotMatch");
    let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
    let stream = || tokio_stream::iter([ExchangeWithChallengeRequest::default()]);
    client.exchange_with_challenge(stream()).await.unwrap();
    let asked = system.sts.asked();
    let signed = external.sign(request());
    let refused = system.exchange(signed.clone()).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "Throttling"));
    assert!(refused.retry);
    let refused: Refused = client.exchange_with_challenge(stream()).await.unwrap_err().into();
    assert_eq!((refused.code, refused.retry), (Code::ResourceExhausted, true));
    assert_eq!(system.sts.asked(), asked, "nobody was asked");
    // The proof was not looked at, and so is not used up.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    system.exchange(signed).await.unwrap();
}

#[tokio::test]
async fn the_http_port_says_when_to_come_again() {
    let system = start(MANY, Rate::new(1, 2)).await;
    for _ in 0..2 {
        assert_eq!(system.gateway.http_get("/").await.0, 403);
    }
    let (status, headers, body) = system.gateway.http_get("/").await;
    assert_eq!(status, 429, "{body}");
    assert_eq!(headers.get("retry-after").unwrap(), "1");
    assert!(body.contains("<Code>Throttling</Code>"), "{body}");
    // Nothing is asked of the store for it; and whether it is well may always be asked.
    assert_eq!(system.store.calls("DeriveSigningKey"), 0);
    for path in ["/healthz", "/.well-known/jwks.json"] {
        assert_eq!(system.gateway.http_get(path).await.0, 200, "{path}");
    }
}

/// FAULTS F23: what is too much at once is turned away at once, and what was let in is finished.
#[tokio::test]
async fn no_more_at_once_than_there_is_room_for() {
    let rates = Rates { each: MANY, all: MANY };
    let limits = RateLimits { exchanges: rates, http: rates, in_flight: 3 };
    let system = System::start_as(|_| {}, "", |config| config.limits = limits).await;
    system.ready().await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    system.sts.answers(Answer::Silence);
    let asked = system.sts.asked();
    let under_way: Vec<_> = (0..3)
        .map(|_| {
            let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
            let signed = external.sign(request());
            tokio::spawn(async move { client.exchange(signed).await })
        })
        .collect();
    while system.sts.asked() < asked + 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let signed = external.sign(request());
    let refused = system.exchange(signed.clone()).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "Throttling"));
    assert!(refused.retry);
    assert_eq!(system.sts.asked(), asked + 3, "nobody was asked");
    for task in under_way {
        let refused = Refused::from(task.await.unwrap().unwrap_err());
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "StsUnavailable"));
    }
    // There is room again, and the proof that was turned away is as good as it was.
    system.sts.answers(sts::identity(sts::ARN, sts::USER_ID));
    system.exchange(signed).await.unwrap();
}
