//! An EC2 instance, through the whole system: trust policy, first use, a token bound to its key, and what ends it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

#[path = "../../../crates/token/src/instance/forged.rs"]
mod forged;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_harness::{System, reason};
use countersign_proto::{
    decision::v1::{AuthorizeRequest, ProofOfPossession, authorize_request::Subject},
    policy::v1::{
        BindServicePrincipalRequest, CreateRoleRequest, PutRolePolicyRequest,
        UnpinPrincipalRequest, UpdateAssumeRolePolicyRequest,
    },
    token::v1::{ExchangeRequest, ExchangeResponse},
};
use forged::{Parts, Region, document};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

const FOREIGN: &str = "210987654321";
const ID: &str = "i-078517ca8a70a1dde";
const AUDIENCE: &str = "countersign-test";

/// A client's key, and DPoP proofs of it.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn proof(&self, jti: &str, uri: &str, token: Option<&str>) -> String {
        let (x, y) = self.0.public_key().as_ref().get(1..).unwrap().split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let now = countersign::proof::now();
        let mut claims = json!({"jti": jti, "htm": "POST", "htu": uri, "iat": now});
        if let Some(token) = token {
            let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
            claims.as_object_mut().unwrap().insert("ath".into(), json!(ath));
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn exchange(
    system: &System,
    role: &str,
    envelope: &str,
    key: &Key,
    jti: &str,
) -> Result<ExchangeResponse, Status> {
    let authority = system.running.endpoints.gateway.split("://").nth(1).unwrap();
    let uri = format!("https://{authority}/countersign.token.v1.TokenExchangeService/Exchange");
    let mut request = Request::new(ExchangeRequest {
        subject_token: envelope.into(),
        subject_token_type: "urn:countersign:proof:ec2-instance-identity".into(),
        role_arn: format!("arn:aws:iam::{}:role/{role}", system.running.account),
        role_session_name: ID.into(),
        audience: AUDIENCE.into(),
        ..Default::default()
    });
    request.metadata_mut().insert("dpop", key.proof(jti, &uri, None).parse().unwrap());
    Ok(system.gateway().exchange(request).await?.into_inner())
}

fn trust(statement: &Value) -> String {
    let mut statement = statement.clone();
    let members = statement.as_object_mut().unwrap();
    members.insert("Action".into(), json!("sts:AssumeRole"));
    members.insert("Principal".into(), json!({"Service": "ec2.amazonaws.com"}));
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.unwrap_err();
    (status.code(), reason(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_assumes_a_role_with_its_own_key() {
    let region = Region::new("us-west-2", 1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    std::fs::write(folder.path().join("certs/us-west-2.pem"), region.pem()).unwrap();
    let file = folder.path().join("instances.toml");
    // Documents with a fixed date: it may come whenever.
    let text = format!(
        "accounts = [\"{FOREIGN}\"]\ncertificates = \"certs\"\nfirst_use_within_seconds = 0\n"
    );
    std::fs::write(&file, text).unwrap();
    let system = System::with(|options| options.ec2_instances = Some(file)).await;
    let own = system.running.account.to_string();
    let signed = |id: &str, launched: &str| {
        Parts::of(&region, &document(FOREIGN, "us-west-2", id, launched)).text()
    };
    let envelope = signed(ID, "2026-01-31T12:00:00Z");
    let mut store = system.policy_store();
    let named =
        json!({"Effect": "Allow", "Condition": {"StringEquals": {"aws:SourceAccount": FOREIGN}}});
    for (name, statement) in [("Named", &named), ("Plain", &json!({"Effect": "Allow"}))] {
        let role = CreateRoleRequest {
            role_name: name.into(),
            assume_role_policy_document: trust(statement),
            ..Default::default()
        };
        store.create_role(role).await.unwrap();
    }
    let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "orders:*", "Resource": "*"}]});
    let put = PutRolePolicyRequest {
        role_name: "Named".into(),
        policy_name: "Orders".into(),
        policy_document: allow.to_string(),
        ..Default::default()
    };
    let revision = store.put_role_policy(put).await.unwrap().into_inner().revision;
    system.reached(&revision).await;

    let (key, thief) = (Key::new(), Key::new());
    let granted = exchange(&system, "Named", &envelope, &key, "1").await.unwrap();
    assert_eq!(granted.token_type, "DPoP");
    let denied = (Code::PermissionDenied, "AccessDenied".to_owned());
    let changed = (Code::PermissionDenied, "InstanceKeyChanged".to_owned());
    assert_eq!(refused(exchange(&system, "Named", &envelope, &thief, "2").await), changed);

    // The token is good with the key alone.
    let token = granted.access_token;
    let authorize = |possession: Option<ProofOfPossession>| AuthorizeRequest {
        subject: Some(Subject::Token(token.clone())),
        audience: AUDIENCE.into(),
        action: "orders:GetOrder".into(),
        resource: format!("arn:aws:orders:eu-west-1:{own}:order/1"),
        proof_of_possession: possession,
        ..Default::default()
    };
    let shown = |key: &Key, jti: &str| ProofOfPossession {
        dpop_proof: key.proof(jti, "https://orders.example.com/1", Some(&token)),
        method: "POST".into(),
        uri: "https://orders.example.com/1".into(),
        ..Default::default()
    };
    let mut decision = system.decision();
    let decided = decision.authorize(authorize(Some(shown(&key, "a")))).await.unwrap();
    assert!(decided.into_inner().allowed);
    for possession in [None, Some(shown(&thief, "b"))] {
        assert!(decision.authorize(authorize(possession)).await.is_err());
    }

    // Trust in the service alone means nobody's instances, until somebody gives the role to this one.
    assert_eq!(refused(exchange(&system, "Plain", &envelope, &key, "3").await), denied);
    let bind = BindServicePrincipalRequest {
        role_arn: format!("arn:aws:iam::{own}:role/Plain"),
        service_principal: "ec2.amazonaws.com".into(),
        caller_unique_id: ID.into(),
        caller_account_id: FOREIGN.into(),
        ..Default::default()
    };
    let revision = store.bind_service_principal(bind).await.unwrap().into_inner().revision;
    system.reached(&revision).await;
    exchange(&system, "Plain", &envelope, &key, "4").await.unwrap();
    let other = signed("i-078517ca8a70a1ddf", "2026-01-31T12:00:00Z");
    assert_eq!(refused(exchange(&system, "Plain", &other, &thief, "5").await), denied);

    // Started again: the older document is over.
    let newer = signed(ID, "2026-02-01T12:00:00Z");
    exchange(&system, "Named", &newer, &key, "6").await.unwrap();
    let superseded = (Code::PermissionDenied, "DocumentSuperseded".to_owned());
    assert_eq!(refused(exchange(&system, "Named", &envelope, &key, "7").await), superseded);

    // The operator forgets its key, and it comes with another.
    let unpin = UnpinPrincipalRequest {
        partition: "aws".into(),
        account_id: FOREIGN.into(),
        principal_name: format!("instance/{ID}"),
        ..Default::default()
    };
    store.unpin_principal(unpin).await.unwrap();
    let fresh = Key::new();
    exchange(&system, "Named", &newer, &fresh, "8").await.unwrap();
    assert_eq!(refused(exchange(&system, "Named", &newer, &key, "9").await), changed);

    // It is gone from EC2: a Deny ends it.
    let ended = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"},
         "Condition": {"StringEquals": {"aws:SourceAccount": FOREIGN}}},
        {"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"},
         "Condition": {"ArnEquals": {"ec2:SourceInstanceArn": format!("arn:aws:ec2:us-west-2:{FOREIGN}:instance/{ID}")}}}]});
    let update = UpdateAssumeRolePolicyRequest {
        role_name: "Named".into(),
        policy_document: ended.to_string(),
        ..Default::default()
    };
    let revision = store.update_assume_role_policy(update).await.unwrap().into_inner().revision;
    system.reached(&revision).await;
    assert_eq!(refused(exchange(&system, "Named", &newer, &fresh, "10").await), denied);
}
