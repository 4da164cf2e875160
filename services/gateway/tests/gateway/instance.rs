//! EC2 instances, as the gateway takes them: with a key alone, which stays theirs.

use countersign_proto::{
    decision::v1::{AuthorizeAssumeRoleResponse, DecisionReason, InstanceIdentity},
    token::v1::{ExchangeRequest, ExchangeResponse},
};
use countersign_token::{Claims, Realm};
use tonic::Code;

use crate::{
    bound::exchange,
    client::Client,
    decision::{allow, deny},
    ec2::{ACCOUNT, Ec2, ID, INSTANCE, REGION, good, launched, possession, shown},
    forged::document,
    system::{Refused, System},
};

async fn start() -> (System, Ec2) {
    let ec2 = Ec2::new();
    let instances = ec2.instances();
    let system = System::start_as(|_| {}, "", |config| config.instances = instances).await;
    system.ready().await;
    (system, ec2)
}

async fn come(
    system: &System,
    envelope: &str,
    client: &Client,
) -> Result<ExchangeResponse, Refused> {
    exchange(system, shown(envelope), &possession(system, client)).await
}

fn claims(response: &ExchangeResponse) -> Claims {
    let payload = response.access_token.split('.').nth(1).unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&base64::Engine::decode(&engine, payload).unwrap()).unwrap()
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, Refused>) -> (Code, String) {
    let refused = outcome.unwrap_err();
    (refused.code, refused.reason)
}

#[tokio::test]
async fn an_instance_exchanges_its_document() {
    let (system, ec2) = start().await;
    let client = Client::new();
    let response = come(&system, &ec2.spoilt(|_| {}), &client).await.unwrap();
    assert_eq!(response.token_type, "DPoP");
    let claims = claims(&response);
    let confirmation = claims.cnf.as_ref().map(|cnf| format!("{cnf:?}"));
    assert!(confirmation.unwrap().contains(&client.thumbprint()));
    let arn = format!("arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{ID}");
    let caller = &claims.session.caller;
    assert_eq!(
        (caller.realm, caller.account.as_str(), caller.unique_id.as_str(), &caller.arn),
        (Realm::Aws, ACCOUNT, ID, &arn)
    );
    assert_eq!(claims.session.proof_type, INSTANCE);
    let asked = system.decision.asked().pop().unwrap();
    assert_eq!((asked.identity, asked.subject_token.as_str()), (None, ""));
    assert_eq!((asked.proof_bound, asked.proof_challenged), (false, false));
    let expected = InstanceIdentity {
        partition: "aws".into(),
        account_id: ACCOUNT.into(),
        region: REGION.into(),
        instance_id: ID.into(),
    };
    assert_eq!(asked.instance, Some(expected));
    assert_eq!((system.store.calls("PinPrincipal"), system.store.calls("ConsumeProof")), (1, 0));
    assert_eq!(system.sts.asked(), 0);
    // The document does not expire: with the same key it comes again.
    come(&system, &ec2.spoilt(|_| {}), &client).await.unwrap();
}

// ATTACKS 56.
#[tokio::test]
async fn a_document_without_a_key_is_worth_nothing() {
    let (system, ec2) = start().await;
    let client = Client::new();
    let envelope = ec2.spoilt(|_| {});
    let expected = (Code::Unauthenticated, "ProofOfPossessionRequired".to_owned());
    assert_eq!(reason(system.exchange(shown(&envelope)).await), expected);
    // A thumbprint says which key, and shows none; nor does a certificate's.
    for thumbprint in [client.thumbprint(), format!("x5t#S256:{}", client.thumbprint())] {
        let named = ExchangeRequest { client_key_thumbprint: thumbprint, ..shown(&envelope) };
        assert_eq!(reason(system.exchange(named).await), expected);
    }
    let other =
        ExchangeRequest { client_key_thumbprint: Client::new().thumbprint(), ..shown(&envelope) };
    let proof = possession(&system, &client);
    let expected = (Code::InvalidArgument, "ValidationError".to_owned());
    assert_eq!(reason(exchange(&system, other, &proof).await), expected);
    assert_eq!((system.decision.asked().len(), system.store.calls("PinPrincipal")), (0, 0));
    // A proof of the key is good once.
    exchange(&system, shown(&envelope), &proof).await.unwrap();
    let again = exchange(&system, shown(&envelope), &proof).await;
    assert_eq!(reason(again).1, "DpopProofReplayed");
}

// ATTACKS 56: whoever reads the document later has another key.
#[tokio::test]
async fn an_instance_is_its_first_key() {
    let (system, ec2) = start().await;
    let (own, thief) = (Client::new(), Client::new());
    come(&system, &ec2.spoilt(|_| {}), &own).await.unwrap();
    let refused = come(&system, &ec2.spoilt(|_| {}), &thief).await;
    assert_eq!(reason(refused), (Code::PermissionDenied, "InstanceKeyChanged".into()));
    // Another instance, and the same id in another account, are others.
    let twin = document(ACCOUNT, REGION, "i-078517ca8a70a1ddf", &launched(60));
    come(&system, &ec2.signed(&ec2.west, &twin), &thief).await.unwrap();
    for (name, expected) in
        [("DocumentSuperseded", "DocumentSuperseded"), ("FirstUseTooLate", "FirstUseTooLate")]
    {
        system.store.with(|inner| inner.pin_refused = Some(name));
        let refused = come(&system, &ec2.spoilt(|_| {}), &own).await;
        assert_eq!(reason(refused), (Code::PermissionDenied, expected.into()));
    }
    let pinned = system.store.with(|inner| inner.pin_asked.clone()).unwrap();
    assert_eq!(pinned.principal_name, format!("instance/{ID}"));
    assert_eq!(pinned.unique_id, own.thumbprint());
    assert_eq!(pinned.first_use_within_seconds, 900);
    assert!(pinned.launch_time.is_some());
}

#[tokio::test]
async fn of_two_keys_at_once_one_wins() {
    let (system, ec2) = start().await;
    let envelope = ec2.spoilt(|_| {});
    let clients: Vec<_> = (0..6).map(|_| Client::new()).collect();
    let coming = clients.iter().map(|client| come(&system, &envelope, client));
    let mut won = 0;
    for outcome in futures_of(coming.collect()).await {
        match outcome {
            Ok(_) => won += 1,
            refused => assert_eq!(reason(refused).1, "InstanceKeyChanged"),
        }
    }
    assert_eq!(won, 1);
}

/// All at once.
async fn futures_of<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn who_is_denied_pins_nothing() {
    let (system, ec2) = start().await;
    system.decision.answers(|_| Ok(deny(DecisionReason::NoTrustAllow)));
    let refused = come(&system, &ec2.spoilt(|_| {}), &Client::new()).await;
    assert_eq!(reason(refused), (Code::PermissionDenied, "AccessDenied".into()));
    assert_eq!(system.store.calls("PinPrincipal"), 0);
    // An answer that forgets the pin, or the service, is no permission.
    type Change = fn(&mut AuthorizeAssumeRoleResponse);
    let changes: [Change; 3] = [
        |answer| answer.pin_required = false,
        |answer| answer.service_principal.clear(),
        |answer| answer.service_principal = "lambda.amazonaws.com".into(),
    ];
    for broken in changes {
        system.decision.answers(move |request| {
            let mut answer = allow(request);
            broken(&mut answer);
            Ok(answer)
        });
        let refused = come(&system, &ec2.spoilt(|_| {}), &Client::new()).await;
        assert_eq!(reason(refused), (Code::Internal, "ServiceFailure".into()));
    }
    assert_eq!(system.store.calls("PinPrincipal"), 0);
}

#[tokio::test]
async fn where_no_instances_are_believed_the_type_is_none() {
    let ec2 = Ec2::new();
    let system = System::start().await;
    system.ready().await;
    let refused = come(&system, &ec2.signed(&ec2.west, &good()), &Client::new()).await;
    assert_eq!(reason(refused), (Code::InvalidArgument, "UnsupportedTokenType".into()));
}
