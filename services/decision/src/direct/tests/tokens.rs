//! What ends a token, limits it, or is asked of whoever shows it: the short way knows of it, or leaves it to the general one.

use super::*;

/// A revoked token is nobody's, in the very next question, whichever of the two it is.
#[tokio::test]
async fn a_revoked_token_is_forgotten() {
    for of_caller in [true, false] {
        let mut both = Both::new();
        let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
        let subject = both.token(OURS, "App", "orders", &[]);
        let request = AuthorizeRequest {
            subject: Some(Subject::Token(subject.clone())),
            audience: "orders".into(),
            action: "orders:GetOrder".into(),
            resource: format!("arn:aws:orders:eu-west-1:{OURS}:order/42"),
            ..Default::default()
        };
        both.check(&caller, request.clone()).await;
        assert!(both.check(&caller, request.clone()).await);
        let revoked = if of_caller { &caller } else { &subject };
        let jti = both.decider.signatures().recall(revoked).unwrap().jti().to_owned();
        let record = RevokedTokenRecord { jti, expires: None };
        both.change("rt", Record::RevokedToken(record));
        assert_eq!(both.short(&caller, &request), None);
        assert_eq!(both.general(&caller, request).await, None);
    }
}

/// What limits one token, or is asked of whoever shows it, is not among what is remembered of its role: the general way looks at it.
#[tokio::test]
async fn what_belongs_to_one_token_goes_the_general_way() {
    let question = |token: &str| AuthorizeRequest {
        subject: Some(Subject::Token(token.to_owned())),
        audience: "orders".into(),
        action: "orders:GetOrder".into(),
        resource: format!("arn:aws:orders:eu-west-1:{OURS}:order/42"),
        ..Default::default()
    };
    async fn check(
        change: impl FnOnce(&mut Claims),
        question: impl Fn(&str) -> AuthorizeRequest,
        expected: Option<bool>,
    ) {
        let both = Both::new();
        let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
        let whole = both.token(OURS, "App", "orders", &[]);
        let own = both.token_with(OURS, "App", "orders", &[], change);
        // The role's own policies are ready by then.
        for _ in 0..2 {
            both.check(&caller, question(&whole)).await;
        }
        assert_eq!(both.short(&caller, &question(&whole)).map(|answer| answer.allowed), Some(true));
        for _ in 0..2 {
            assert_eq!(both.short(&caller, &question(&own)), None);
            let general = both.general(&caller, question(&own)).await;
            assert_eq!(general.map(|answer| answer.allowed), expected);
        }
    }
    let narrowed = |claims: &mut Claims| {
        claims.session.narrowings = vec![vec![samples::document(&[SHIPS])]];
    };
    check(narrowed, question, Some(false)).await;
    let limited = |claims: &mut Claims| {
        claims.session.session_policies = vec![samples::document(&[SHIPS])];
    };
    check(limited, question, Some(false)).await;
    let bound = |claims: &mut Claims| claims.cnf = Some(Confirmation::Key("k".repeat(43)));
    check(bound, question, None).await;
    let certified =
        |claims: &mut Claims| claims.cnf = Some(Confirmation::Certificate("c".repeat(43)));
    check(certified, question, None).await;
}

/// A token ends with the one that it was exchanged for; also a caller's.
#[tokio::test]
async fn a_child_ends_with_its_parent() {
    for of_caller in [true, false] {
        let mut both = Both::new();
        let child = |claims: &mut Claims| claims.session.parents = vec!["parent".into()];
        let caller = both.token_with(OURS, "Service", OWN_AUDIENCE, &[], |claims| {
            if of_caller {
                child(claims);
            }
        });
        let subject = both.token_with(OURS, "App", "orders", &[], |claims| {
            if !of_caller {
                child(claims);
            }
        });
        let request = AuthorizeRequest {
            subject: Some(Subject::Token(subject)),
            audience: "orders".into(),
            action: "orders:GetOrder".into(),
            resource: format!("arn:aws:orders:eu-west-1:{OURS}:order/42"),
            ..Default::default()
        };
        both.check(&caller, request.clone()).await;
        assert!(both.check(&caller, request.clone()).await);
        let record = RevokedTokenRecord { jti: "parent".into(), expires: None };
        both.change("rt", Record::RevokedToken(record));
        assert_eq!(both.short(&caller, &request), None);
        assert_eq!(both.general(&caller, request).await, None);
    }
}
