//! Callers whose own tokens are bound to a key: each of the three services wants to see that they hold it, by a DPoP proof (RFC 9449) or
//! by the certificate of the connection (RFC 8705).
//!
//! ATTACKS 74, 79, 80.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on stops here"
)]

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_harness::{Ask, System, reason};
use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeStreamRequest, GetStatusRequest, authorize_request::Subject,
        authorize_stream_response::Result as Answered,
        decision_service_client::DecisionServiceClient,
    },
    policy::v1::{ListRolesRequest, policy_store_service_client::PolicyStoreServiceClient},
    token::v1::{
        ExchangeRequest, ExchangeWithChallengeRequest, GetJwksRequest, IntrospectRequest,
        RevokeRequest, exchange_with_challenge_request::Step as Said,
        token_exchange_service_client::TokenExchangeServiceClient,
    },
};
use countersign_serve::{
    Tls,
    dial::{self, Trust},
    grpc::channel,
    tls::{ClientCertificates, Part, TlsFiles, TlsSettings, trusting},
};
use serde_json::{Value, json};
use tonic::{Request, Status, transport::Channel};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A client's own key.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y })
    }

    /// RFC 7638; the members stand in the order that it wants.
    fn thumbprint(&self) -> String {
        hash(self.jwk().to_string().as_bytes())
    }

    fn proof(&self, name: &str, uri: &str, token: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() });
        let claims = json!({
            "jti": name, "htm": "POST", "htu": uri, "iat": now, "ath": hash(token.as_bytes()),
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let input = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

/// A call with these headers, those that are empty left out.
fn with<T>(authorization: &str, proof: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [("authorization", authorization), ("dpop", proof)] {
        if !value.is_empty() {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
    }
    request
}

/// One RPC of each service that its callers need no particular right for, or have.
#[derive(Clone, Copy, Debug)]
enum Door {
    PolicyStore,
    Decision,
    Gateway,
}

const DOORS: [(Door, &str); 3] = [
    (Door::PolicyStore, "countersign.policy.v1.PolicyStoreService/ListRoles"),
    (Door::Decision, "countersign.decision.v1.DecisionService/GetStatus"),
    (Door::Gateway, "countersign.token.v1.TokenExchangeService/GetJwks"),
];

async fn knock(door: Door, channel: Channel, headers: (&str, &str)) -> Result<(), Status> {
    let (authorization, proof) = headers;
    match door {
        Door::PolicyStore => {
            let request = with(authorization, proof, ListRolesRequest::default());
            PolicyStoreServiceClient::new(channel).list_roles(request).await.map(drop)
        }
        Door::Decision => {
            let request = with(authorization, proof, GetStatusRequest::default());
            DecisionServiceClient::new(channel).get_status(request).await.map(drop)
        }
        Door::Gateway => {
            let request = with(authorization, proof, GetJwksRequest {});
            TokenExchangeServiceClient::new(channel).get_jwks(request).await.map(drop)
        }
    }
}

fn origin(system: &System, door: Door) -> &str {
    let endpoints = &system.running.endpoints;
    match door {
        Door::PolicyStore => &endpoints.policy_store,
        Door::Decision => &endpoints.decision,
        Door::Gateway => &endpoints.gateway,
    }
}

fn administrator(audience: &str, client_key_thumbprint: String) -> Ask {
    let role = "arn:aws:iam::123456789012:role/CountersignAdministrator";
    Ask { client_key_thumbprint, ..Ask::new(role, "bound", audience) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_shows_a_proof_of_its_key() {
    let system = System::start().await;
    let (key, thief) = (Key::new(), Key::new());
    let root = system.root();
    let token = |ask: Ask| async {
        let ask = ask;
        system.exchange(&root, &ask).await.unwrap().access_token
    };
    let bound = token(administrator("countersign", key.thumbprint())).await;
    let free = token(administrator("countersign", String::new())).await;
    let mut number = 0;
    for (door, path) in DOORS {
        let origin = origin(&system, door);
        let channel = channel(origin).unwrap();
        let authority = origin.split("://").nth(1).unwrap();
        let uri = format!("https://{authority}/{path}");
        let mut name = || {
            number += 1;
            format!("j-{number}")
        };
        let check = async |authorization: String, proof: &str, expected: Option<&str>| {
            let found = knock(door, channel.clone(), (&authorization, proof)).await;
            let found = found.err().map(|status| reason(&status));
            assert_eq!(found.as_deref(), expected, "{door:?}");
        };
        let (bearer, dpop) = (format!("Bearer {bound}"), format!("DPoP {bound}"));
        let required = Some("ProofOfPossessionRequired");
        // Whoever has the token alone.
        check(bearer.clone(), "", required).await;
        check(dpop.clone(), "", required).await;
        // RFC 9449 section 7.2: a bound token is no bearer's, whatever comes along.
        check(bearer, &key.proof(&name(), &uri, &bound), required).await;
        let good = key.proof(&name(), &uri, &bound);
        check(dpop.clone(), &good, None).await;
        check(dpop.clone(), &good, Some("DpopProofReplayed")).await;
        check(dpop.clone(), &key.proof(&name(), &uri, &bound), None).await;
        // Another's key; a proof for another call, for another token, for none.
        let mismatch = Some("ProofOfPossessionMismatch");
        check(dpop.clone(), &thief.proof(&name(), &uri, &bound), mismatch).await;
        let invalid = Some("InvalidDpopProof");
        check(dpop.clone(), &key.proof(&name(), &format!("{uri}x"), &bound), invalid).await;
        check(dpop.clone(), &key.proof(&name(), &uri.replace("https", "http"), &bound), invalid)
            .await;
        check(dpop.clone(), &key.proof(&name(), &uri, &free), invalid).await;
        check(dpop.clone(), "a.b.c", invalid).await;
        // A token that is bound to nothing is shown as one.
        let unbound = format!("DPoP {free}");
        check(unbound, &key.proof(&name(), &uri, &free), Some("TokenNotBound")).await;
        check(format!("Bearer {free}"), "", None).await;
    }

    // What the gateway was shown goes on to the decision service, which says whether the caller may.
    let endpoints = &system.running.endpoints;
    let authority = endpoints.gateway.split("://").nth(1).unwrap();
    let uri =
        |rpc: &str| format!("https://{authority}/countersign.token.v1.TokenExchangeService/{rpc}");
    let dpop = format!("DPoP {bound}");
    let other = token(administrator("orders", String::new())).await;
    let mut gateway = TokenExchangeServiceClient::new(channel(&endpoints.gateway).unwrap());
    let proof = key.proof("introspect", &uri("Introspect"), &bound);
    let message = IntrospectRequest { token: other.clone(), ..Default::default() };
    let told = gateway.introspect(with(&dpop, &proof, message)).await.unwrap().into_inner();
    assert!(told.active);
    let proof = key.proof("revoke", &uri("Revoke"), &bound);
    let message = RevokeRequest { token: other, ..Default::default() };
    gateway.revoke(with(&dpop, &proof, message)).await.unwrap();

    // A stream is opened once.
    let mut decision = DecisionServiceClient::new(channel(&endpoints.decision).unwrap());
    let authority = endpoints.decision.split("://").nth(1).unwrap();
    let uri =
        format!("https://{authority}/countersign.decision.v1.DecisionService/AuthorizeStream");
    let question = |id: &str| AuthorizeStreamRequest {
        id: id.to_owned(),
        question: Some(AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(
                "arn:aws:iam::123456789012:role/CountersignAdministrator".to_owned(),
            )),
            action: "orders:GetOrder".to_owned(),
            resource: "arn:aws:orders:eu-west-1:123456789012:order/1".to_owned(),
            ..Default::default()
        }),
    };
    let proof = key.proof("stream", &uri, &bound);
    let questions = tokio_stream::iter([question("1"), question("2")]);
    let answers = decision.authorize_stream(with(&dpop, &proof, questions)).await.unwrap();
    let mut answers = answers.into_inner();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().and_then(|answer| answer.result);
        assert!(matches!(answer, Some(Answered::Answer(_))), "{answer:?}");
    }
    system.shutdown().await;
}

/// The first certificate of a file, as tokens are bound to it.
fn thumbprint(file: &Path) -> String {
    let pem = fs::read_to_string(file).unwrap();
    let body: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    hash(&STANDARD.decode(body).unwrap())
}

fn certificate(folder: &Path, part: Part) -> (Tls, String) {
    let own = folder.join(part.to_string());
    let certificate = own.join("tls.crt");
    let thumbprint = thumbprint(&certificate);
    let files = TlsFiles { certificate, key: own.join("tls.key"), ca: Some(own.join("ca.crt")) };
    let identity = Some(("countersign.local".parse().unwrap(), part));
    let clients = ClientCertificates::Optional;
    let tls = Tls::load(TlsSettings { files, identity, names: Vec::new(), clients }).unwrap();
    (tls, thumbprint)
}

fn cnf(token: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["cnf"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_shows_the_certificate_of_its_connection() {
    let system = System::with(|options| options.tls = Some(Vec::new())).await;
    let folder = system.running.admin_token_path.parent().unwrap().join("tls");
    // The policy store's own: whoever calls with it is no service that anybody knows, and has a certificate.
    let (tls, thumbprint) = certificate(&folder, Part::PolicyStore);
    let ca = trusting(&folder.join("ca.crt")).unwrap();
    let nobody = Trust::Name(std::sync::Arc::new(ca));
    let gateway = &system.running.endpoints.gateway;
    let shown = dial::channel(gateway, Trust::Part(Part::Gateway, tls.clone())).unwrap();
    let hidden = dial::channel(gateway, nobody.clone()).unwrap();
    let exchange = async |channel: &Channel, request: ExchangeRequest| {
        let answer = TokenExchangeServiceClient::new(channel.clone()).exchange(request).await;
        answer.map(|answer| answer.into_inner().access_token).map_err(|status| reason(&status))
    };
    let root = system.root();
    let named = |thumbprint: &str| {
        let ask = administrator("countersign", format!("x5t#S256:{thumbprint}"));
        system.request(&root, &ask)
    };
    let bound = exchange(&shown, named(&thumbprint)).await.unwrap();
    assert_eq!(cnf(&bound), json!({ "x5t#S256": thumbprint }));
    // Over mutual TLS it is bound to that connection's certificate or to none.
    let other = exchange(&shown, named(&"A".repeat(43))).await;
    assert_eq!(other, Err("ValidationError".to_owned()));

    for (door, part) in [
        (Door::PolicyStore, Part::PolicyStore),
        (Door::Decision, Part::Decision),
        (Door::Gateway, Part::Gateway),
    ] {
        let origin = origin(&system, door);
        let own = dial::channel(origin, Trust::Part(part, tls.clone())).unwrap();
        let without = dial::channel(origin, nobody.clone()).unwrap();
        let bearer = format!("Bearer {bound}");
        knock(door, own, (&bearer, "")).await.unwrap();
        let refused = knock(door, without, (&bearer, "")).await.unwrap_err();
        assert_eq!(reason(&refused), "ProofOfPossessionRequired", "{door:?}");
    }

    // By a challenge too: the name of the connection's own certificate, and no other.
    let challenged = async |channel: &Channel, thumbprint: &str| {
        let request = ExchangeRequest {
            subject_token: String::new(),
            client_key_thumbprint: thumbprint.to_owned(),
            ..named("")
        };
        let first = ExchangeWithChallengeRequest { step: Some(Said::Request(request)) };
        let mut client = TokenExchangeServiceClient::new(channel.clone());
        let heard = client.exchange_with_challenge(tokio_stream::iter([first])).await.unwrap();
        let heard = heard.into_inner().message().await;
        heard.map(drop).map_err(|status| reason(&status))
    };
    challenged(&shown, "x5t#S256").await.unwrap();
    challenged(&shown, &format!("x5t#S256:{thumbprint}")).await.unwrap();
    let validation = Err("ValidationError".to_owned());
    assert_eq!(challenged(&shown, &format!("x5t#S256:{}", "A".repeat(43))).await, validation);
    assert_eq!(challenged(&hidden, "x5t#S256").await, validation);

    // What is exchanged stays bound, and is exchanged by nobody else.
    let narrowing = |token: &str| ExchangeRequest {
        subject_token: token.to_owned(),
        subject_token_type: ACCESS_TOKEN.to_owned(),
        audience: "orders".to_owned(),
        ..Default::default()
    };
    let refused = exchange(&hidden, narrowing(&bound)).await.unwrap_err();
    assert_eq!(refused, "ProofOfPossessionRequired");
    let narrowed = exchange(&shown, narrowing(&bound)).await.unwrap();
    assert_eq!(cnf(&narrowed), cnf(&bound));

    // A bearer's token is bound to the connection where that is asked for, and not otherwise.
    let free = system.request(&root, &administrator("countersign", String::new()));
    let free = exchange(&shown, free).await.unwrap();
    assert_eq!(cnf(&free), Value::Null);
    let own = |token: &str| ExchangeRequest {
        client_key_thumbprint: "x5t#S256".to_owned(),
        ..narrowing(token)
    };
    assert_eq!(cnf(&exchange(&shown, own(&free)).await.unwrap()), cnf(&bound));
    assert_eq!(exchange(&hidden, own(&free)).await, Err("ValidationError".to_owned()));
    system.shutdown().await;
}
