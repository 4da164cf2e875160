//! Tokens that were exchanged for narrower ones, and tokens that are bound to a key, where they are shown to the store itself.

use countersign_proto::policy::v1::*;
use countersign_token::{Claims, Confirmation};
use prost_types::Timestamp;
use tonic::Code;

use crate::support::{ACCOUNT, TestStore, refused};

const ADMINISTRATOR: &str = "CountersignAdministrator";

fn allow(action: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"{action}","Resource":"*"}}]}}"#
    )
}

// ATTACKS 72, 74, 91.
#[tokio::test]
async fn a_narrowed_token_does_what_all_its_narrowings_allow() {
    let store = TestStore::start().await;
    let check = async |change: &dyn Fn(&mut Claims), expected: Option<(Code, &str)>| {
        let mut iam = store.session_with(ACCOUNT, ADMINISTRATOR, |claims| change(claims)).await;
        let answer = iam.list_users(ListUsersRequest::default()).await;
        match expected {
            None => drop(answer.unwrap()),
            Some((code, reason)) => drop(refused(answer, code, reason)),
        }
    };
    let denied = Some((Code::PermissionDenied, "AccessDenied"));
    let narrowed = |actions: &'static [&'static str]| {
        move |claims: &mut Claims| {
            let narrowings = actions.iter().map(|action| vec![allow(action)]);
            claims.session.narrowings = narrowings.collect();
        }
    };
    check(&|_| {}, None).await;
    check(&narrowed(&["iam:List*"]), None).await;
    check(&narrowed(&["iam:*", "iam:List*"]), None).await;
    check(&narrowed(&["iam:Get*"]), denied).await;
    check(&narrowed(&["iam:*", "iam:Get*"]), denied).await;
    check(&narrowed(&["iam:Get*", "iam:*"]), denied).await;
    check(&|claims| claims.session.narrowings = vec![vec!["{}".into()]], denied).await;

    // What it came from was revoked.
    let of = |parent: &'static str| {
        move |claims: &mut Claims| claims.session.parents = vec!["zero".into(), parent.into()]
    };
    check(&of("one"), None).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(now.as_secs()).unwrap() + 60;
    let expire_time = Some(Timestamp { seconds, nanos: 0 });
    let revoke = RevokeTokenRequest { token_id: "one".into(), expire_time, ..Default::default() };
    store.gateway().revoke_token(revoke).await.unwrap();
    check(&of("one"), Some((Code::Unauthenticated, "RevokedToken"))).await;
    check(&of("two"), None).await;

    // A bearer has proven nothing.
    let key = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    for cnf in [Confirmation::Key(key.into()), Confirmation::Certificate(key.into())] {
        let bound = move |claims: &mut Claims| claims.cnf = Some(cnf.clone());
        check(&bound, Some((Code::Unauthenticated, "ProofOfPossessionRequired"))).await;
    }
}
