//! What gateways ask, and nobody else may.

use countersign_proto::policy::v1::*;
use countersign_sigv4::key::{SecretKey, derive};
use prost_types::Timestamp;
use std::time::{Duration, SystemTime};
use tonic::Code;

use crate::support::{ACCOUNT, Bearer, Client, TestStore, new_role, new_user, refused, trust};

fn today() -> String {
    let now = time::OffsetDateTime::now_utc().date();
    format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day())
}

#[tokio::test]
async fn derived_keys_are_for_gateways_and_for_active_keys() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("alice")).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    let key = iam.create_access_key(request).await.unwrap().into_inner().access_key.unwrap();
    let ask = DeriveSigningKeyRequest {
        access_key_id: key.access_key_id.clone(),
        date: today(),
        region: "us-east-1".into(),
        service_name: "sts".into(),
    };
    let answer = store.gateway().derive_signing_key(ask.clone()).await.unwrap().into_inner();
    let expected =
        derive(&SecretKey::new(key.secret_access_key.clone()), &ask.date, "us-east-1", "sts");
    assert_eq!(answer.derived_key, expected.as_bytes());
    assert_eq!(answer.arn, "arn:aws:iam::123456789012:user/alice");
    assert!(!format!("{answer:?}").contains(&format!("{:?}", answer.derived_key)));

    refused(
        store.decision().derive_signing_key(ask.clone()).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    refused(iam.derive_signing_key(ask.clone()).await, Code::PermissionDenied, "AccessDenied");
    for bad in [
        DeriveSigningKeyRequest { date: "20200101".into(), ..ask.clone() },
        DeriveSigningKeyRequest { region: "eu-west-1".into(), ..ask.clone() },
        DeriveSigningKeyRequest { service_name: "s3".into(), ..ask.clone() },
    ] {
        refused(
            store.gateway().derive_signing_key(bad).await,
            Code::InvalidArgument,
            "ValidationError",
        );
    }
    let unknown = DeriveSigningKeyRequest { access_key_id: "AKIANOBODY".into(), ..ask.clone() };
    refused(store.gateway().derive_signing_key(unknown).await, Code::NotFound, "NoSuchEntity");
    let status = AccessKeyStatus::Inactive.into();
    let inactive = UpdateAccessKeyRequest {
        user_name: "alice".into(),
        access_key_id: key.access_key_id,
        status,
        ..Default::default()
    };
    iam.update_access_key(inactive).await.unwrap();
    refused(store.gateway().derive_signing_key(ask).await, Code::NotFound, "NoSuchEntity");
}

#[tokio::test]
async fn a_proof_is_spent_once_whoever_comes_first() {
    let store = TestStore::start().await;
    let soon: Timestamp = (SystemTime::now() + Duration::from_secs(900)).into();
    let ask = |key: &str| ConsumeProofRequest { replay_key: key.into(), expire_time: Some(soon) };
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let mut gateway = store.gateway();
        let request = ask("AKIA/20260101T000000Z/aa");
        tasks.push(tokio::spawn(async move { gateway.consume_proof(request).await }));
    }
    let mut spent = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => spent += 1,
            answer => drop(refused(answer, Code::AlreadyExists, "ProofAlreadyUsed")),
        }
    }
    assert_eq!(spent, 1);
    store.gateway().consume_proof(ask("another")).await.unwrap();
    let far: Timestamp = (SystemTime::now() + Duration::from_secs(7200)).into();
    let bad = ConsumeProofRequest { replay_key: "k".into(), expire_time: Some(far) };
    refused(store.gateway().consume_proof(bad).await, Code::InvalidArgument, "ValidationError");
    refused(store.gateway().consume_proof(ask("")).await, Code::InvalidArgument, "ValidationError");
    let mut iam = store.admin().await;
    refused(iam.consume_proof(ask("third")).await, Code::PermissionDenied, "AccessDenied");
}

#[tokio::test]
async fn an_external_name_is_the_id_it_had_at_first_use() {
    let store = TestStore::start().await;
    let pin = |account: &str, id: &str| PinPrincipalRequest {
        partition: "aws".into(),
        account_id: account.into(),
        principal_name: "role/Deploy".into(),
        unique_id: id.into(),
        ..Default::default()
    };
    let mut gateway = store.gateway();
    let first = gateway.pin_principal(pin("999999999999", "AROAFIRST")).await.unwrap().into_inner();
    assert!(first.newly_pinned);
    let again = gateway.pin_principal(pin("999999999999", "AROAFIRST")).await.unwrap().into_inner();
    assert!(!again.newly_pinned);
    let changed = gateway.pin_principal(pin("999999999999", "AROASECOND")).await;
    refused(changed, Code::FailedPrecondition, "PrincipalIdChanged");
    gateway.pin_principal(pin("888888888888", "AROASECOND")).await.unwrap();
    refused(
        gateway.pin_principal(pin(ACCOUNT, "AROAFIRST")).await,
        Code::InvalidArgument,
        "ValidationError",
    );
    let mut iam = store.admin().await;
    refused(
        iam.pin_principal(pin("777777777777", "AROAX")).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
}

fn seconds(ago: u64) -> Option<Timestamp> {
    Some((SystemTime::now() - Duration::from_secs(ago)).into())
}

// ATTACKS 56, 57.
#[tokio::test]
async fn an_instance_is_the_key_that_it_first_came_with() {
    let store = TestStore::start().await;
    let (own, other) = ("k".repeat(43), "-_".repeat(21) + "x");
    let pin = |instance: &str, key: &str, ago: u64| PinPrincipalRequest {
        partition: "aws".into(),
        account_id: "999999999999".into(),
        principal_name: format!("instance/{instance}"),
        unique_id: key.into(),
        launch_time: seconds(ago),
        first_use_within_seconds: 600,
    };
    let (first, second) = ("i-078517ca8a70a1dde", "i-1234abcd");
    let mut gateway = store.gateway();
    let newly = |answer: Result<tonic::Response<PinPrincipalResponse>, tonic::Status>| {
        answer.unwrap().into_inner().newly_pinned
    };
    assert!(newly(gateway.pin_principal(pin(first, &own, 500)).await));
    assert!(!newly(gateway.pin_principal(pin(first, &own, 500)).await));
    let changed = |answer| refused(answer, Code::FailedPrecondition, "PrincipalIdChanged");
    changed(gateway.pin_principal(pin(first, &other, 500)).await);
    // Started again, it has a new document; the one before it is over, and another key is no better with a newer one.
    assert!(!newly(gateway.pin_principal(pin(first, &own, 100)).await));
    let old = gateway.pin_principal(pin(first, &own, 500)).await;
    refused(old, Code::FailedPrecondition, "DocumentSuperseded");
    changed(gateway.pin_principal(pin(first, &other, 50)).await);
    // The first time must come soon; later ones may come whenever.
    let late = gateway.pin_principal(pin(second, &own, 700)).await;
    refused(late, Code::FailedPrecondition, "FirstUseTooLate");
    let whenever = PinPrincipalRequest { first_use_within_seconds: 0, ..pin(second, &own, 700) };
    assert!(newly(gateway.pin_principal(whenever).await));
    assert!(!newly(gateway.pin_principal(pin(second, &own, 700)).await));
    let invalid = [
        PinPrincipalRequest { launch_time: None, ..pin(first, &own, 0) },
        PinPrincipalRequest {
            launch_time: Some((SystemTime::now() + Duration::from_secs(1000)).into()),
            ..pin(first, &own, 0)
        },
        PinPrincipalRequest { first_use_within_seconds: -1, ..pin(first, &own, 0) },
        PinPrincipalRequest { principal_name: "instance/i-x".into(), ..pin(first, &own, 0) },
        PinPrincipalRequest { principal_name: "instance/".into(), ..pin(first, &own, 0) },
        PinPrincipalRequest { principal_name: "role/R".into(), ..pin(first, &own, 0) },
        PinPrincipalRequest { account_id: ACCOUNT.into(), ..pin(first, &own, 0) },
        pin(first, "AROAEXAMPLE", 0),
        pin(first, &"é".repeat(22), 0),
    ];
    for request in invalid {
        refused(gateway.pin_principal(request).await, Code::InvalidArgument, "ValidationError");
    }
}

// ATTACKS 56: of two that come with one document for the first time, one wins.
#[tokio::test]
async fn one_of_two_keys_wins_the_first_use() {
    let store = TestStore::start().await;
    let mut tasks = Vec::new();
    for key in 0..8_u8 {
        let mut gateway = store.gateway();
        let request = PinPrincipalRequest {
            partition: "aws".into(),
            account_id: "999999999999".into(),
            principal_name: "instance/i-078517ca8a70a1dde".into(),
            unique_id: char::from(b'a' + key).to_string().repeat(43),
            launch_time: seconds(5),
            first_use_within_seconds: 60,
        };
        tasks.push(tokio::spawn(async move { gateway.pin_principal(request).await }));
    }
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(answer) => won += usize::from(answer.into_inner().newly_pinned),
            answer @ Err(_) => {
                refused(answer, Code::FailedPrecondition, "PrincipalIdChanged");
            }
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn the_first_account_forgets_what_a_name_was_pinned_to() {
    let store = TestStore::start().await;
    let pin = |id: &str| PinPrincipalRequest {
        partition: "aws".into(),
        account_id: "999999999999".into(),
        principal_name: "role/Deploy".into(),
        unique_id: id.into(),
        ..Default::default()
    };
    let unpin = |name: &str| UnpinPrincipalRequest {
        partition: "aws".into(),
        account_id: "999999999999".into(),
        principal_name: name.into(),
        ..Default::default()
    };
    let (mut gateway, mut iam) = (store.gateway(), store.admin().await);
    gateway.pin_principal(pin("AROAFIRST")).await.unwrap();
    let validated = UnpinPrincipalRequest { validate_only: true, ..unpin("role/Deploy") };
    iam.unpin_principal(validated).await.unwrap();
    let changed = gateway.pin_principal(pin("AROASECOND")).await;
    refused(changed, Code::FailedPrecondition, "PrincipalIdChanged");
    iam.unpin_principal(unpin("role/Deploy")).await.unwrap();
    assert!(gateway.pin_principal(pin("AROASECOND")).await.unwrap().into_inner().newly_pinned);
    let unknown = iam.unpin_principal(unpin("role/Nobody")).await;
    refused(unknown, Code::NotFound, "NoSuchEntity");
    let malformed = iam.unpin_principal(unpin("Deploy")).await;
    refused(malformed, Code::InvalidArgument, "ValidationError");
    let gateways = gateway.unpin_principal(unpin("role/Deploy")).await;
    refused(gateways, Code::PermissionDenied, "AccessDenied");
}

#[tokio::test]
async fn signing_keys_are_published_by_gateways_and_ended_at_once() {
    let store = TestStore::start().await;
    let jwk = store.signing_key.public().to_jwk();
    let kid = store.signing_key.kid().to_owned();
    let mut gateway = store.gateway();
    // Publishing again renews the lease.
    gateway.publish_signing_key(PublishSigningKeyRequest { jwk: jwk.clone() }).await.unwrap();
    let listed =
        gateway.list_signing_keys(ListSigningKeysRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.signing_keys.len(), 1);
    // Nobody follows, so nobody has to acknowledge.
    assert!(listed.signing_keys[0].acknowledged);
    let bad = PublishSigningKeyRequest { jwk: r#"{"kty":"EC"}"#.into() };
    refused(gateway.publish_signing_key(bad).await, Code::InvalidArgument, "ValidationError");
    let mut iam = store.admin().await;
    let publish = iam.publish_signing_key(PublishSigningKeyRequest { jwk: jwk.clone() }).await;
    refused(publish, Code::PermissionDenied, "AccessDenied");

    // The administrator is barred, also when it writes itself another policy; somebody must be given the right.
    iam.put_role_policy(PutRolePolicyRequest {
        role_name: "CountersignAdministrator".into(),
        policy_name: "Administrator".into(),
        policy_document: crate::support::allow("*", "*"),
        ..Default::default()
    })
    .await
    .unwrap();
    let revoke = || RevokeSigningKeyRequest { kid: kid.clone(), ..Default::default() };
    refused(iam.revoke_signing_key(revoke()).await, Code::PermissionDenied, "AccessDenied");
    let role =
        crate::support::new_role("KeyOfficer", &crate::support::trust(r#"{"AWS":"123456789012"}"#));
    iam.create_role(role).await.unwrap();
    iam.put_role_policy(PutRolePolicyRequest {
        role_name: "KeyOfficer".into(),
        policy_name: "P".into(),
        policy_document: crate::support::allow("countersign:RevokeSigningKey", "*"),
        ..Default::default()
    })
    .await
    .unwrap();
    let mut officer = store.session(ACCOUNT, "KeyOfficer").await;
    officer.revoke_signing_key(revoke()).await.unwrap();
    // Every token that it signed is refused from here on, and it cannot come back.
    refused(iam.list_roles(ListRolesRequest::default()).await, Code::Unauthenticated, "RevokedKey");
    let again = gateway.publish_signing_key(PublishSigningKeyRequest { jwk }).await;
    refused(again, Code::PermissionDenied, "AccessDenied");
}

#[tokio::test]
async fn the_last_use_of_a_key_and_a_role_is_told_by_the_gateway() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("alice")).await.unwrap();
    let new = CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    let key = iam.create_access_key(new).await.unwrap().into_inner().access_key.unwrap();
    let role = new_role("R", &trust(r#"{"Service":"ec2.amazonaws.com"}"#));
    let role_id = iam.create_role(role).await.unwrap().into_inner().role.unwrap().role_id;
    let asked = GetAccessKeyLastUsedRequest { access_key_id: key.access_key_id.clone() };
    let used = async |iam: &mut Client<Bearer>| {
        iam.get_access_key_last_used(asked.clone()).await.unwrap().into_inner()
    };
    let role_used = async |iam: &mut Client<Bearer>| {
        let asked = GetRoleRequest { role_name: "R".into() };
        iam.get_role(asked).await.unwrap().into_inner().role.unwrap().role_last_used
    };
    let never = used(&mut iam).await;
    assert_eq!(never.user_name, "alice");
    let last = never.access_key_last_used.unwrap();
    assert_eq!(
        (last.last_used_date, last.service_name.as_str(), last.region.as_str()),
        (None, "N/A", "N/A")
    );
    assert_eq!(role_used(&mut iam).await, None);

    let now =
        i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
            .unwrap();
    let at = |id: &str, seconds: i64, service_name: &str| Use {
        id: id.to_owned(),
        last_used_date: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        service_name: service_name.to_owned(),
    };
    let record = async |uses: Vec<Use>| {
        store
            .gateway()
            .record_uses(RecordUsesRequest { uses })
            .await
            .map(|it| it.into_inner().recorded_count)
    };
    let id = key.access_key_id.as_str();
    let gone = "AKIAGONEGONEGONEGONE";
    let all = vec![at(id, now - 1_000, "sts"), at(&role_id, now - 1_000, ""), at(gone, now, "sts")];
    // What the Watch carries stays as it is.
    let before = store.records().await;
    assert_eq!(record(all.clone()).await.unwrap(), 2);
    assert_eq!(store.records().await, before);
    // Close to the last one, earlier, or twice, it is no news.
    assert_eq!(record(all).await.unwrap(), 0);
    let close = vec![at(id, now - 701, "iam"), at(id, now - 5_000, "iam")];
    assert_eq!(record(close).await.unwrap(), 0);
    assert_eq!(record(vec![at(id, now - 600, "iam"), at(id, now - 500, "iam")]).await.unwrap(), 1);
    let last = used(&mut iam).await.access_key_last_used.unwrap();
    assert_eq!(last.last_used_date.unwrap().seconds, now - 600);
    assert_eq!((last.service_name.as_str(), last.region.as_str()), ("iam", "us-east-1"));
    let last = role_used(&mut iam).await.unwrap();
    assert_eq!(
        (last.last_used_date.unwrap().seconds, last.region.as_str()),
        (now - 1_000, "us-east-1")
    );
    // A clock that is ahead does not make a use last for ever.
    record(vec![at(id, now + 100_000, "sts")]).await.unwrap();
    let last = used(&mut iam).await.access_key_last_used.unwrap().last_used_date.unwrap();
    assert!(last.seconds < now + 1_000, "{last:?}");

    for bad in [
        at("", now, "sts"),
        at("../../secret/AKIAX", now, "sts"),
        at(id, now, "s t s"),
        Use { last_used_date: None, ..at(id, now, "sts") },
    ] {
        let answer = record(vec![bad]).await;
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    }
    let many = vec![at(id, now, "sts"); 1_001];
    assert_eq!(record(many).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(record(vec![at(id, now, "sts"); 1_000]).await.unwrap(), 0);

    // It goes with the key, and is nobody else's to see.
    let delete = DeleteAccessKeyRequest {
        user_name: "alice".into(),
        access_key_id: id.into(),
        ..Default::default()
    };
    iam.delete_access_key(delete).await.unwrap();
    for missing in [id, gone] {
        let asked = GetAccessKeyLastUsedRequest { access_key_id: missing.into() };
        refused(iam.get_access_key_last_used(asked).await, Code::NotFound, "NoSuchEntity");
    }
    let asked = GetAccessKeyLastUsedRequest { access_key_id: "x".into() };
    refused(iam.get_access_key_last_used(asked).await, Code::InvalidArgument, "ValidationError");
}
