//! What stands over an account, what a resource's own policy says, and what was revoked.

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeResponse, DecisionReason, authorize_request::Subject,
    },
    policy::v1::{
        AccountRecord, GuardrailKind, GuardrailRecord, OrganizationalUnitRecord, Realm, Record,
        ResolvedPrincipal, ResourcePolicyRecord, RevokedTokenRecord, record::Record as Kind,
    },
};
use tonic::{Code, Request};

use super::harness::{
    ORDER, OURS, System, THEIRS, assume, document, now, question, record, refused, role,
};

const DENIES: &str = r#"{"Sid":"Stop","Effect":"Deny","Action":"orders:*","Resource":"*"}"#;

fn guardrail(id: &str, kind: GuardrailKind, statement: &str) -> Kind {
    Kind::Guardrail(GuardrailRecord {
        id: id.into(),
        name: format!("Guard-{id}"),
        kind: kind.into(),
        content: document(statement),
        ..Default::default()
    })
}

fn unit(id: &str, parent_id: &str, guardrail_ids: &[&str]) -> Kind {
    Kind::OrganizationalUnit(OrganizationalUnitRecord {
        id: id.into(),
        parent_id: parent_id.into(),
        guardrail_ids: guardrail_ids.iter().map(|id| (*id).into()).collect(),
        ..Default::default()
    })
}

fn account(parent_id: &str, guardrail_ids: &[&str], detached: bool) -> AccountRecord {
    AccountRecord {
        account_id: OURS.into(),
        parent_id: parent_id.into(),
        guardrail_ids: guardrail_ids.iter().map(|id| (*id).into()).collect(),
        full_aws_access_detached: detached,
        ..Default::default()
    }
}

async fn ask(system: &System, revision: String) -> AuthorizeResponse {
    let token = system.token("App", "orders");
    let request = AuthorizeRequest { at_least_revision: revision, ..question(token) };
    system.authorize(request).await.unwrap()
}

#[tokio::test]
async fn control_policies_hold_at_every_level() {
    let system = System::start().await;
    let put = |key: &str, kind: Kind| system.store.put(record(key, kind));
    put("g/deny", guardrail("p-deny", GuardrailKind::ServiceControlPolicy, DENIES));
    // Who asks is of the same account, and under the same.
    let some = r#"{"Effect":"Allow","Action":["s3:*","countersign:*"],"Resource":"*"}"#;
    put("g/some", guardrail("p-some", GuardrailKind::ServiceControlPolicy, some));
    let rcp =
        r#"{"Sid":"Stop","Effect":"Deny","Principal":"*","Action":"orders:*","Resource":"*"}"#;
    put("g/rcp", guardrail("p-rcp", GuardrailKind::ResourceControlPolicy, rcp));
    let check = async |account: AccountRecord,
                       top: &[&str],
                       root: &[&str],
                       reason: DecisionReason,
                       said: &str| {
        put("ou/top", unit("ou-top", "r-root", top));
        put("ou/root", unit("r-root", "", root));
        let revision = put("a/ours", Kind::Account(account.clone()));
        let answer = ask(&system, revision).await;
        assert_eq!(answer.reason(), reason, "{account:?} {top:?} {root:?}: {}", answer.message);
        assert!(answer.message.contains(said), "{said}: {}", answer.message);
    };
    let allowed = DecisionReason::AllowedByIdentityPolicy;
    let (denied, none) = (DecisionReason::DeniedByScp, DecisionReason::NoScpAllow);
    check(account("ou-top", &[], false), &[], &[], allowed, "").await;
    check(account("ou-top", &["p-deny"], false), &[], &[], denied, "Guard-p-deny (p-deny)").await;
    check(account("ou-top", &[], false), &["p-deny"], &[], denied, "Stop").await;
    check(account("ou-top", &[], false), &[], &["p-deny"], denied, "Stop").await;
    // Moved out of the unit, it is no longer under it.
    check(account("", &[], false), &["p-deny"], &[], allowed, "").await;
    // An allow beside full access changes nothing; instead of it, it is all there is.
    check(account("ou-top", &["p-some"], false), &[], &[], allowed, "").await;
    check(account("ou-top", &["p-some"], true), &[], &[], none, "").await;
    let by_rcp = DecisionReason::DeniedByRcp;
    check(account("ou-top", &["p-rcp"], false), &[], &[], by_rcp, "Stop").await;
    check(account("ou-top", &[], false), &[], &["p-rcp"], by_rcp, "Stop").await;
    // No guardrail holds for the management account.
    let management =
        AccountRecord { operator: true, ..account("ou-top", &["p-deny", "p-rcp"], false) };
    check(management, &["p-deny"], &["p-deny"], allowed, "").await;
    // Attached, and not there: nothing is allowed, not even to ask.
    for blind in [account("ou-top", &["p-gone"], false), account("ou-gone", &[], false)] {
        let revision = put("a/ours", Kind::Account(blind));
        let request = AuthorizeRequest {
            at_least_revision: revision,
            ..question(system.token("App", "orders"))
        };
        assert_eq!(refused(system.authorize(request).await).0, Code::PermissionDenied);
    }
}

fn stored(resource_arn: &str, statement: &str, role_id: &str) -> Kind {
    Kind::ResourcePolicy(ResourcePolicyRecord {
        account_id: OURS.into(),
        resource_arn: resource_arn.into(),
        policy: document(statement),
        resolved_principals: vec![ResolvedPrincipal {
            principal: GUEST.into(),
            realm: Realm::Countersign.into(),
            account_id: OURS.into(),
            unique_id: role_id.into(),
        }],
        ..Default::default()
    })
}

const GUEST: &str = "arn:aws:iam::111122223333:role/Guest";

#[tokio::test]
async fn a_stored_policy_speaks_for_its_resource() {
    let system = System::start().await;
    system.store.put(record("r/Guest", Kind::Role(role(OURS, "Guest", None))));
    let guests = r#"{"Sid":"Guests","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/Guest"},"Action":"orders:*","Resource":"*"}"#;
    let orders = "arn:aws:orders:eu-west-1:111122223333:order/4*";
    let request = |resource: &str, revision: &str| AuthorizeRequest {
        subject: Some(Subject::PrincipalArn(GUEST.into())),
        action: "orders:GetOrder".into(),
        resource: resource.into(),
        at_least_revision: revision.into(),
        ..Default::default()
    };
    let check = async |resource: &str, revision: &str, reason: DecisionReason| {
        let answer = system.authorize(request(resource, revision)).await.unwrap();
        assert_eq!(answer.reason(), reason, "{resource}: {}", answer.message);
    };
    check(ORDER, "", DecisionReason::NoIdentityAllow).await;
    let revision = system.store.put(record("rp/4", stored(orders, guests, "AROAGUEST")));
    check(ORDER, &revision, DecisionReason::AllowedByResourcePolicy).await;
    let other = "arn:aws:orders:eu-west-1:111122223333:order/7";
    check(other, &revision, DecisionReason::NoIdentityAllow).await;
    // One that the caller brings is refused where one is stored, and taken where none is.
    let supplied = |resource: &str| AuthorizeRequest {
        resource_policy_document: document(guests),
        ..request(resource, &revision)
    };
    let (code, _, message) = refused(system.authorize(supplied(ORDER)).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("resource_policy_document"), "{message}");
    assert!(message.contains(orders), "{message}");
    system.authorize(supplied(other)).await.unwrap();
    // It does not say who may ask.
    let any = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
    let any = system.store.put(record("rp/4", stored(orders, any, "")));
    let asking =
        AuthorizeRequest { action: "countersign:Authorize".into(), ..request(ORDER, &any) };
    assert!(!system.authorize(asking).await.unwrap().allowed);
    // Who was meant is gone, and another has the name.
    let revision = system.store.put(record("rp/4", stored(orders, guests, "AROASOMEBODY")));
    check(ORDER, &revision, DecisionReason::NoIdentityAllow).await;
    let deny =
        r#"{"Sid":"Nobody","Effect":"Deny","Principal":"*","Action":"orders:*","Resource":"*"}"#;
    let revision = system.store.put(record("rp/4", stored(orders, deny, "")));
    let answer = ask(&system, revision).await;
    assert_eq!(answer.reason(), DecisionReason::DeniedByResourcePolicy, "{}", answer.message);
    // One that cannot be read may deny: nothing of its account is allowed, and nobody of it may ask.
    let revision = system.store.put(record("rp/4", stored(orders, "{", "")));
    let token = system.token("App", "orders");
    let blind = AuthorizeRequest { at_least_revision: revision, ..question(token) };
    assert_eq!(refused(system.authorize(blind).await).0, Code::PermissionDenied);
    let revision = system.store.delete("rp/4");
    assert!(ask(&system, revision).await.allowed);
}

/// Without them it would be as if nothing had been attached.
#[tokio::test]
async fn what_stands_over_an_account_and_cannot_be_read_denies() {
    let system = System::start_with(|config| config.anonymous_callers = true).await;
    let put = |key: &str, kind: Kind, format: u32| {
        system.store.put(Record { format, ..record(key, kind) })
    };
    let check = async |revision: String, role: &str, allowed: bool| {
        let token = system.token(role, "orders");
        let request = AuthorizeRequest { at_least_revision: revision, ..question(token) };
        let answer = system.client.clone().authorize(Request::new(request)).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!(answer.allowed, allowed, "{role}: {}", answer.message);
        let unknown = answer.reason() == DecisionReason::CannotEvaluate;
        assert_eq!(unknown, !allowed, "{role}: {}", answer.message);
    };
    check(put("ou/root", unit("r-root", "", &[]), 1), "App", true).await;
    check(put("ou/root", unit("r-root", "", &[]), 99), "App", false).await;
    check(put("ou/root", unit("r-root", "", &[]), 1), "App", true).await;
    // Of the resource's account too: its RCPs would hold for everybody.
    let orders = "arn:aws:orders:eu-west-1:111122223333:order/*";
    let everybody = r#"{"Effect":"Allow","Principal":"*","Action":"orders:*","Resource":"*"}"#;
    put("rp/1", stored(orders, everybody, ""), 1);
    let everything = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let foreign = put("r/Foreign", Kind::Role(role(THEIRS, "Foreign", Some(everything))), 1);
    check(foreign, "Foreign", true).await;
    let unreadable = put("a/ours", Kind::Account(account("", &[], false)), 99);
    check(unreadable.clone(), "Foreign", false).await;
    check(unreadable, "App", false).await;
}

#[tokio::test]
async fn nobody_speaks_for_a_service_to_leave_its_organizations_bounds() {
    let system = System::start().await;
    let assume_app = async |revision: String| {
        let alice = format!("arn:aws:iam::{OURS}:user/alice");
        let mut request = assume("countersign", &alice, "AIDAALICE", "App");
        request.at_least_revision = revision;
        let answer = system.client.clone().authorize_assume_role(system.by_gateway(request)).await;
        answer.unwrap().into_inner().reason()
    };
    assert_eq!(assume_app(String::new()).await, DecisionReason::AllowedByTrustPolicy);
    let some = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    let some = guardrail("p-some", GuardrailKind::ServiceControlPolicy, some);
    system.store.put(record("g/some", some));
    let narrow = Kind::Account(account("", &["p-some"], true));
    let revision = system.store.put(record("a/ours", narrow));
    assert_eq!(assume_app(revision).await, DecisionReason::NoScpAllow);
}

#[tokio::test]
async fn what_was_revoked_is_over() {
    let system = System::start().await;
    let begun = system.token("App", "orders");
    assert!(system.authorize(question(begun.clone())).await.unwrap().allowed);
    let allows = r#"{"Effect":"Allow","Action":"orders:*","Resource":"*"}"#;
    let mut app = role(OURS, "App", Some(allows));
    app.sessions_revoked_before = Some(prost_types::Timestamp { seconds: now(), nanos: 0 });
    let revision = system.store.put(record("r/App", Kind::Role(app)));
    let again = AuthorizeRequest { at_least_revision: revision, ..question(begun) };
    let answer = system.authorize(again).await.unwrap();
    assert_eq!((answer.allowed, answer.reason()), (false, DecisionReason::SessionRevoked));
    // Sessions that begin afterwards are good, until one of their tokens is revoked by itself.
    let mut jti = String::new();
    let one = system.minted("App", "orders", |claims| {
        (claims.iat, claims.exp) = (claims.iat + 2, claims.exp + 2);
        jti.clone_from(&claims.jti);
    });
    let other = system.minted("App", "orders", |claims| {
        (claims.iat, claims.exp) = (claims.iat + 2, claims.exp + 2);
    });
    assert!(system.authorize(question(one.clone())).await.unwrap().allowed);
    let revoked = Kind::RevokedToken(RevokedTokenRecord { jti, expires: None });
    let revision = system.store.put(record("rt/1", revoked));
    let again = AuthorizeRequest { at_least_revision: revision, ..question(one) };
    let (code, reason, _) = refused(system.authorize(again).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "RevokedToken"));
    assert!(system.authorize(question(other)).await.unwrap().allowed);
}
