use countersign_serve::Fault;

use super::*;

fn request() -> ExchangeRequest {
    ExchangeRequest {
        subject_token: "proof".into(),
        subject_token_type: STS_PROOF.into(),
        role_arn: "arn:aws:iam::000000000000:role/R".into(),
        role_session_name: "s1".into(),
        audience: "orders".into(),
        duration_seconds: 900,
        ..ExchangeRequest::default()
    }
}

/// The reason and, for a field, the start of the message.
fn check(change: impl Fn(&mut ExchangeRequest), expected: Result<(), (&str, &str)>) {
    let mut request = request();
    change(&mut request);
    match (Asked::parse(request, "aws"), expected) {
        (Ok(_), expected) => assert_eq!(Ok(()), expected),
        (Err(refusal), expected) => {
            let fault = Fault::from(&refusal);
            let (reason, start) = expected.expect_err(fault.message());
            assert_eq!(fault.reason(), reason, "{}", fault.message());
            assert!(fault.message().starts_with(start), "{} {start}", fault.message());
        }
    }
}

#[test]
fn requests() {
    check(|_| {}, Ok(()));
    check(|r| r.requested_token_type = ACCESS_TOKEN.into(), Ok(()));
    check(|r| r.duration_seconds = 0, Ok(()));
    check(|r| r.duration_seconds = 43_200, Ok(()));
    check(|r| r.external_id = "a:b/c".into(), Ok(()));
    check(|r| r.role_session_name = "alice@example.com+1".into(), Ok(()));
    check(|r| r.role_arn = "arn:aws:iam::000000000000:role/a/b/R".into(), Ok(()));

    check(|r| *r = ExchangeRequest::default(), Err(("MissingAuthenticationToken", "")));
    check(|r| r.subject_token.clear(), Err(("MissingAuthenticationToken", "")));
    // Who shows no proof learns nothing of fields.
    check(
        |r| {
            r.subject_token.clear();
            r.policy = "x".into();
            r.role_arn.clear();
        },
        Err(("MissingAuthenticationToken", "")),
    );
    check(|r| r.subject_token_type.clear(), Err(("UnsupportedTokenType", "")));
    check(|r| r.subject_token_type = ACCESS_TOKEN.into(), Ok(()));
    check(|r| r.subject_token_type = JWT.into(), Ok(()));
    check(
        |r| r.subject_token_type = "urn:ietf:params:oauth:token-type:id_token".into(),
        Err(("UnsupportedTokenType", "")),
    );
    check(|r| r.subject_token_type = STS_PROOF.to_uppercase(), Err(("UnsupportedTokenType", "")));

    let invalid = "ValidationError";
    check(|r| r.requested_token_type = "urn:x".into(), Err((invalid, "requested_token_type")));
    for arn in [
        "",
        "R",
        "arn:aws:iam::000000000000:user/R",
        "arn:aws:iam::000000000000:root",
        "arn:aws:sts::000000000000:assumed-role/R/s",
        "arn:aws-cn:iam::000000000000:role/R",
        "arn:aws:iam::00000000000:role/R",
        "arn:aws:iam::*:role/R",
        "arn:aws:iam::000000000000:role/*",
    ] {
        check(|r| r.role_arn = arn.into(), Err((invalid, "role_arn")));
    }
    let long = "s".repeat(65);
    for name in ["", "s", "a b", "a:b", "a/b", "é1", "a\nb", long.as_str()] {
        check(|r| r.role_session_name = name.into(), Err((invalid, "role_session_name")));
    }
    let long = "a".repeat(257);
    for audience in ["", "a b", "a\tb", "ordérs", long.as_str()] {
        check(|r| r.audience = audience.into(), Err((invalid, "audience")));
    }
    let long = "e".repeat(1225);
    for id in ["e", "a b", "a*", long.as_str()] {
        check(|r| r.external_id = id.into(), Err((invalid, "external_id")));
    }
    for seconds in [-1, 1, 899, 43_201, i32::MAX, i32::MIN] {
        check(|r| r.duration_seconds = seconds, Err((invalid, "duration_seconds")));
    }

    let tag = Tag { key: "k".into(), value: "v".into() };
    check(|r| r.actor_token = "x".into(), Err((invalid, "actor_token:")));
    check(|r| r.actor_token_type = "x".into(), Err((invalid, "actor_token_type:")));
    check(|r| r.scope = "s3:Get*".into(), Ok(()));
    check(|r| r.scope = "x".repeat(1025), Err((invalid, "scope")));
    check(|r| r.policy = "p".repeat(16 * 1024 + 1), Err((invalid, "policy")));
    check(|r| r.policy_arns = vec!["a".into(); 11], Err((invalid, "policy_arns")));
    check(|r| r.policy_arns = vec!["a".repeat(2049)], Err((invalid, "policy_arns")));
    check(|r| r.tags = vec![tag.clone()], Ok(()));
    check(|r| r.tags = vec![tag.clone(); 2], Err((invalid, "tags")));
    check(|r| r.tags = vec![tag.clone(); 51], Err((invalid, "tags")));
    check(|r| r.transitive_tag_keys = vec!["k".into()], Err((invalid, "transitive_tag_keys")));
    check(|r| r.source_identity = "x".repeat(65), Err((invalid, "source_identity")));
    check(|r| r.client_key_thumbprint = "x".into(), Err((invalid, "client_key_thumbprint:")));
    check(|r| r.client_key_thumbprint = "A".repeat(43), Ok(()));
}

#[test]
fn the_binding_covers_the_request_as_received() {
    let asked = Asked::parse(request(), "aws").ok().unwrap();
    let bound = BoundRequest {
        subject_token_type: STS_PROOF.into(),
        role_arn: "arn:aws:iam::000000000000:role/R".into(),
        role_session_name: "s1".into(),
        audience: "orders".into(),
        duration_seconds: 900,
        ..BoundRequest::default()
    };
    assert_eq!(asked.binding, Binding::of_subject(&bound));
}
