//! Tokens that are bound to a key, and what they are exchanged for.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_proto::{
    decision::v1::{
        AuthorizeExchangeRequest, AuthorizeRequest, BatchAuthorizeRequest, Check, ContextValue,
        Decision, DecisionReason, ExplainRequest, ProofOfPossession, authorize_request,
        batch_authorize_request, context_value, explain_request,
    },
    policy::v1::{RevokedTokenRecord, record::Record as Kind},
};
use countersign_token::{Confirmation, MayAct};
use tonic::Code;

use crate::harness::{ORDER, OURS, System, by, eventually, now, question, record, refused, role};

const METHOD: &str = "GET";
const URI: &str = "https://orders.example.com/orders/42";

/// Makes DPoP proofs, as a client does.
pub struct Client(p256::Key);

mod p256 {
    //! A key of the client's, by the library that the product does not use for it.
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    pub struct Key(EcdsaKeyPair);

    impl Key {
        pub fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        pub fn coordinates(&self) -> (String, String) {
            let point = self.0.public_key().as_ref();
            (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]))
        }

        pub fn sign(&self, text: &str) -> String {
            URL_SAFE_NO_PAD.encode(self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap())
        }
    }
}

impl Client {
    pub fn new() -> Self {
        Self(p256::Key::new())
    }

    pub fn thumbprint(&self) -> String {
        let (x, y) = self.0.coordinates();
        countersign_token::thumbprint(&[("crv", "P-256"), ("kty", "EC"), ("x", &x), ("y", &y)])
    }

    /// For a request with this token.
    pub fn proof(&self, name: &str, token: &str) -> ProofOfPossession {
        self.proof_of(name, METHOD, URI, token)
    }

    pub fn proof_of(&self, name: &str, method: &str, uri: &str, token: &str) -> ProofOfPossession {
        let (x, y) = self.0.coordinates();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#
        );
        let claims = format!(
            r#"{{"jti":"{name}","htm":"{method}","htu":"{uri}","iat":{},"ath":"{}"}}"#,
            now(),
            URL_SAFE_NO_PAD.encode(hash)
        );
        let input =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        ProofOfPossession {
            dpop_proof: format!("{input}.{}", self.0.sign(&input)),
            method: method.into(),
            uri: format!("{uri}?page=1"),
            ..Default::default()
        }
    }
}

fn bound(system: &System, cnf: Confirmation) -> String {
    system.minted("App", "orders", |claims| claims.cnf = Some(cnf))
}

fn with(token: &str, proof: ProofOfPossession) -> AuthorizeRequest {
    AuthorizeRequest { proof_of_possession: Some(proof), ..question(token.into()) }
}

// ATTACKS 74, 79.
#[tokio::test]
async fn a_token_bound_to_a_key() {
    let system = System::start().await;
    let (client, thief) = (Client::new(), Client::new());
    let token = bound(&system, Confirmation::Key(client.thumbprint()));
    let check = async |request: AuthorizeRequest, expected: Option<&str>| {
        let answer = system.authorize(request).await;
        match expected {
            None => assert!(answer.unwrap().allowed),
            Some(expected) => {
                let (code, reason, message) = refused(answer);
                assert_eq!((code, reason.as_str()), (Code::InvalidArgument, expected), "{message}");
            }
        }
    };
    check(question(token.clone()), Some("ProofOfPossessionRequired")).await;
    check(with(&token, client.proof("1", &token)), None).await;
    check(with(&token, client.proof("1", &token)), Some("DpopProofReplayed")).await;
    check(with(&token, client.proof("2", &token)), None).await;
    // Another's proof of the same name is another proof; and another's key is not this token's.
    check(with(&token, thief.proof("1", &token)), Some("ProofOfPossessionMismatch")).await;
    check(with(&token, client.proof("3", "other")), Some("InvalidDpopProof")).await;
    let elsewhere = ProofOfPossession {
        uri: "https://orders.example.com/orders/43".into(),
        ..client.proof("4", &token)
    };
    check(with(&token, elsewhere), Some("InvalidDpopProof")).await;
    let put = ProofOfPossession { method: "PUT".into(), ..client.proof("5", &token) };
    check(with(&token, put), Some("InvalidDpopProof")).await;
    let certificate = ProofOfPossession {
        client_certificate_thumbprint: client.thumbprint(),
        ..Default::default()
    };
    check(with(&token, certificate.clone()), Some("ProofOfPossessionRequired")).await;
    // A token that is bound to nothing.
    let bearer = system.token("App", "orders");
    check(with(&bearer, client.proof("6", &bearer)), Some("TokenNotBound")).await;
    check(with(&bearer, certificate.clone()), None).await;

    // ATTACKS 80: by the certificate of the connection.
    let own = bound(&system, Confirmation::Certificate(client.thumbprint()));
    check(question(own.clone()), Some("ProofOfPossessionRequired")).await;
    check(with(&own, certificate), None).await;
    let strange = ProofOfPossession {
        client_certificate_thumbprint: thief.thumbprint(),
        ..Default::default()
    };
    check(with(&own, strange), Some("ProofOfPossessionMismatch")).await;
    check(with(&own, client.proof("7", &own)), Some("TokenNotBound")).await;

    // Every call that takes a token.
    let batch = |proof| BatchAuthorizeRequest {
        subject: Some(batch_authorize_request::Subject::Token(token.clone())),
        audience: "orders".into(),
        checks: vec![Check {
            action: "orders:GetOrder".into(),
            resource: ORDER.into(),
            ..Default::default()
        }],
        proof_of_possession: proof,
        ..Default::default()
    };
    let mut rpc = system.client.clone();
    let without = rpc.batch_authorize(system.by_checker(batch(None))).await;
    assert_eq!(refused(without).1, "ProofOfPossessionRequired");
    let proof = client.proof("8", &token);
    assert!(rpc.batch_authorize(system.by_checker(batch(Some(proof)))).await.is_ok());
    let explain = |proof| ExplainRequest {
        subject: Some(explain_request::Subject::Token(token.clone())),
        audience: "orders".into(),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        proof_of_possession: proof,
        ..Default::default()
    };
    let without = rpc.explain(system.by_checker(explain(None))).await;
    assert_eq!(refused(without).1, "ProofOfPossessionRequired");
    let proof = client.proof("9", &token);
    assert!(rpc.explain(system.by_checker(explain(Some(proof)))).await.is_ok());
    // A name is bound to no key.
    let named = AuthorizeRequest {
        subject: Some(authorize_request::Subject::PrincipalArn(format!(
            "arn:aws:iam::{}:role/App",
            crate::harness::OURS
        ))),
        audience: String::new(),
        ..with(&token, client.proof("10", &token))
    };
    check(named, Some("ValidationError")).await;
    // As a caller's own credential, which no proof comes with.
    let own = system.minted("Checker", "countersign", |claims| {
        claims.cnf = Some(Confirmation::Key(client.thumbprint()));
    });
    let (code, reason, _) =
        refused(rpc.authorize(by(&own, question(system.token("App", "orders")))).await);
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "ProofOfPossessionRequired"));
}

// ATTACKS 72, 91.
#[tokio::test]
async fn what_a_narrowed_token_may_do() {
    let system = System::start().await;
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"orders:List*","Resource":"*"}]}"#;
    let narrowed = |policies: &[&str]| {
        let policies = policies.iter().map(|text| vec![(*text).to_owned()]).collect();
        system.minted("App", "orders", |claims| claims.session.narrowings = policies)
    };
    let all = deny.replace("orders:List*", "*");
    assert!(system.authorize(question(narrowed(&[&all, &all]))).await.unwrap().allowed);
    for policies in [vec![deny], vec![deny, &all], vec![&all, deny]] {
        let answer = system.authorize(question(narrowed(&policies))).await.unwrap();
        assert_eq!(answer.reason(), DecisionReason::NoSessionAllow);
    }
    let broken = refused(system.authorize(question(narrowed(&[&all, "{}"]))).await);
    assert_eq!(broken.1, "InvalidToken");

    // Revoking the token that it came from ends it too.
    let token = system.minted("App", "orders", |claims| {
        claims.session.parents = vec!["first".into(), "second".into()];
    });
    assert!(system.authorize(question(token.clone())).await.unwrap().allowed);
    let revoked = RevokedTokenRecord {
        jti: "first".into(),
        expires: Some(prost_types::Timestamp { seconds: now() + 900, nanos: 0 }),
    };
    system.store.put(record("t/first", Kind::RevokedToken(revoked)));
    let reason = eventually(|| async {
        system
            .authorize(question(token.clone()))
            .await
            .err()
            .map(|status| refused::<()>(Err(status)).1)
    })
    .await;
    assert_eq!(reason, "RevokedToken");
}

#[tokio::test]
async fn a_gateway_asks_about_exchanges() {
    let system = System::start().await;
    let introspect = r#"{"Effect":"Allow","Action":"countersign:IntrospectToken","Resource":"*",
        "Condition":{"StringEquals":{"countersign:Audience":"orders"}}}"#;
    let role = role(OURS, "Introspecter", Some(introspect));
    let revision = system.store.put(record("r/Introspecter", Kind::Role(role)));
    let mut rpc = system.client.clone();
    let token = system.token("App", "orders");
    let ask = |change: &dyn Fn(&mut AuthorizeExchangeRequest)| {
        let mut request = AuthorizeExchangeRequest {
            at_least_revision: revision.clone(),
            subject_token: token.clone(),
            audience: "orders".into(),
            source_address: "10.1.2.3".into(),
            ..Default::default()
        };
        change(&mut request);
        system.by_gateway(request)
    };
    let answer = rpc.authorize_exchange(ask(&|_| {})).await.unwrap().into_inner();
    assert_eq!((answer.allowed, answer.decision()), (true, Decision::Allow));
    assert_eq!(answer.reason(), DecisionReason::AllowedAsNarrowing);
    assert!(answer.session_policies.is_empty());
    let narrowing = |request: &mut AuthorizeExchangeRequest| {
        request.scope = "orders:Get*".into();
        request.policy_arns = vec![format!("arn:aws:iam::{}:policy/Orders", crate::harness::OURS)];
    };
    let answer = rpc.authorize_exchange(ask(&narrowing)).await.unwrap().into_inner();
    assert_eq!(answer.session_policies.len(), 2, "{answer:?}");
    let answer = rpc.authorize_exchange(ask(&|r| r.audience = "billing".into())).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!((answer.allowed, answer.reason()), (false, DecisionReason::NoIdentityAllow));
    let actor = system.token("Checker", "countersign");
    let answer = rpc.authorize_exchange(ask(&|r| r.actor_token = actor.clone())).await.unwrap();
    assert_eq!(answer.into_inner().reason(), DecisionReason::NoIdentityAllow);
    let check = async |change: &dyn Fn(&mut AuthorizeExchangeRequest), reason: &str| {
        let outcome = system.client.clone().authorize_exchange(ask(change)).await;
        assert_eq!(refused(outcome).1, reason);
    };
    check(&|r| r.subject_token.clear(), "ValidationError").await;
    check(&|r| r.audience.clear(), "ValidationError").await;
    check(&|r| r.source_address.clear(), "ValidationError").await;
    check(&|r| r.scope = "nonsense".into(), "ValidationError").await;
    check(&|r| r.policy = "nonsense".into(), "MalformedPolicyDocument").await;
    check(&|r| r.subject_token = "a.b.c".into(), "InvalidToken").await;
    // An actor shows a token for Countersign, not for some service.
    check(&|r| r.actor_token = token.clone(), "WrongAudience").await;
    let client = Client::new();
    let own = bound(&system, Confirmation::Key(client.thumbprint()));
    check(&|r| r.subject_token = own.clone(), "ProofOfPossessionRequired").await;
    // Who may act is in the token (ATTACKS 76).
    let named = system.minted("App", "orders", |claims| {
        let client_id = Some("AROAOTHER:s".to_owned());
        claims.may_act = Some(MayAct { iss: claims.iss.clone(), sub: None, client_id });
    });
    check(&|r| r.subject_token = named.clone(), "ActorNotAllowed").await;
    let by_actor = |r: &mut AuthorizeExchangeRequest| {
        r.subject_token = named.clone();
        r.actor_token = actor.clone();
    };
    check(&by_actor, "ActorNotAllowed").await;
    // Who only asks about it has nothing to prove.
    let in_question = |r: &mut AuthorizeExchangeRequest| {
        r.subject_token = own.clone();
        r.is_introspection = true;
    };
    assert!(rpc.authorize_exchange(ask(&in_question)).await.unwrap().into_inner().allowed);
    let shown = |r: &mut AuthorizeExchangeRequest| {
        r.subject_token = own.clone();
        r.proof_of_possession = Some(client.proof("1", &own));
    };
    // The gateway has taken the proof; asking twice is its right.
    for _ in 0..2 {
        assert!(rpc.authorize_exchange(ask(&shown)).await.unwrap().into_inner().allowed);
    }

    // And about its callers, for its own actions alone.
    let may = |action: &str, audience: &str, token: &str| AuthorizeRequest {
        audience: audience.into(),
        action: action.into(),
        resource: "*".into(),
        ..question(token.into())
    };
    let checker = system.token("Checker", "countersign");
    let powerless = system.token("Powerless", "countersign");
    let introspect = "countersign:IntrospectToken";
    let asked = system.by_gateway(may(introspect, "countersign", &checker));
    assert!(rpc.authorize(asked).await.unwrap().into_inner().allowed);
    let asked = system.by_gateway(may(introspect, "countersign", &powerless));
    assert!(!rpc.authorize(asked).await.unwrap().into_inner().allowed);
    // For which audience is a key that gateways alone may set.
    let of_orders = system.token("Introspecter", "countersign");
    for (audience, expected) in [("orders", true), ("Orders", false), ("billing", false)] {
        let mut asked = may(introspect, "countersign", &of_orders);
        let value = ContextValue { kind: Some(context_value::Kind::Value(audience.into())) };
        asked.context.insert("countersign:Audience".into(), value);
        let answer = rpc.authorize(system.by_gateway(asked.clone())).await.unwrap();
        assert_eq!(answer.into_inner().allowed, expected, "{audience}");
        assert_eq!(refused(system.authorize(asked).await).1, "ValidationError");
    }
    let asked = system.by_gateway(may(introspect, "countersign", &of_orders));
    assert!(!rpc.authorize(asked).await.unwrap().into_inner().allowed);
    for (action, audience, token) in
        [("orders:GetOrder", "countersign", &checker), (introspect, "orders", &token)]
    {
        let asked = system.by_gateway(may(action, audience, token));
        assert_eq!(refused(rpc.authorize(asked).await).0, Code::PermissionDenied);
    }
}
