//! Answers at the revision that was asked for, or that a token needs.

use super::*;

#[tokio::test]
async fn a_revision_is_waited_for() {
    let system = System::start().await;
    let ask = |at_least_revision: String| {
        let request =
            AuthorizeRequest { at_least_revision, ..question(system.token("App", "orders")) };
        system.authorize(request)
    };
    // It comes while the question waits.
    let next = system.store.next_revision();
    let store = system.store.clone();
    let later = async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        store.put(app(false))
    };
    let (answer, revision) = tokio::join!(ask(next.clone()), later);
    let answer = answer.unwrap();
    assert_eq!((answer.revision, revision), (next.clone(), next));
    assert_eq!(answer.decision, i32::from(Decision::ImplicitDeny));
    // It does not come.
    let begun = Instant::now();
    let status = ask(system.store.next_revision()).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&system.store.revision()), "{}", status.message());
    assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
    // A caller's own deadline shortens the wait.
    let mut hurried = system.by_checker(AuthorizeRequest {
        at_least_revision: system.store.next_revision(),
        ..question(system.token("App", "orders"))
    });
    hurried.set_timeout(Duration::from_millis(200));
    let begun = Instant::now();
    let status = system.client.clone().authorize(hurried).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(begun.elapsed() < Duration::from_millis(300));
    // It is of another store, or none at all.
    assert_eq!(refused(ask("bbbb:1".into()).await).0, Code::FailedPrecondition);
    for malformed in ["x", "aaaa:", "aaaa:-1", ":1"] {
        let (code, reason, message) = refused(ask(malformed.into()).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "ValidationError"));
        assert!(message.starts_with("at_least_revision"), "{message}");
    }
}

#[tokio::test]
async fn a_fresh_token_is_waited_for_and_an_old_grant_is_not_used() {
    let system = System::start().await;
    // A gateway's new key, and a token of it, outrun the Watch.
    let fresh = SigningKey::generate().unwrap();
    let next = system.store.next_revision();
    let claims = system.claims("App", "orders", |claims| claims.session.revision = next);
    let token = mint(&claims, &fresh).unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        system.store.put(signing_key(&fresh, false))
    };
    let (answer, _) = tokio::join!(system.authorize(question(token.clone())), later);
    assert!(answer.unwrap().allowed);
    // Revoked, it is refused at that revision.
    let revision = system.store.put(signing_key(&fresh, true));
    let request = AuthorizeRequest { at_least_revision: revision, ..question(token) };
    let (code, reason, _) = refused(system.authorize(request).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "RevokedKey"));
    // A token of a known key whose revision does not come.
    let next = system.store.next_revision();
    let token = system.minted("App", "orders", |claims| claims.session.revision = next);
    assert_eq!(refused(system.authorize(question(token)).await).0, Code::Unavailable);
}
