use super::*;

const ORDER: &str = "arn:aws:orders:eu-west-1:111122223333:order/42";
const BUCKET: &str = "arn:aws:s3:::bucket/key";

fn request() -> AuthorizeRequest {
    AuthorizeRequest {
        subject: Some(authorize_request::Subject::PrincipalArn(
            "arn:aws:iam::111122223333:role/App".into(),
        )),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        ..Default::default()
    }
}

/// The field that is refused, and a part of the message; `None` when nothing is.
fn check(change: impl FnOnce(&mut AuthorizeRequest), expected: Option<(&str, &str)>) {
    let mut request = request();
    change(&mut request);
    match (authorize_question(request), expected) {
        (Ok(_), None) => {}
        (Err(refusal), Some((field, part))) => {
            let said = refusal.to_string();
            assert!(said.starts_with(field) && said.contains(part), "{said}");
        }
        (outcome, expected) => panic!("{expected:?}: {outcome:?}"),
    }
}

#[test]
fn subjects() {
    use authorize_request::Subject::{PrincipalArn, Token};
    check(|_| {}, None);
    check(|r| r.subject = None, Some(("subject", "principal_arn")));
    check(|r| r.subject = Some(Token(String::new())), Some(("token", "empty")));
    check(|r| r.subject = Some(Token("t".into())), Some(("audience", "required")));
    for (arn, refused) in [
        ("arn:aws:iam::111122223333:user/teams/a/alice", None),
        ("ec2.amazonaws.com", None),
        ("orders", None),
        ("", Some("service principal")),
        ("a b", Some("service principal")),
        ("a..b", Some("service principal")),
        ("arn:aws:sts::111122223333:assumed-role/App/s", Some("a session is its token")),
        ("arn:aws:sts::111122223333:federated-user/x", Some("a session is its token")),
        ("arn:aws:iam::111122223333:root", Some("root")),
        ("arn:aws:iam::111122223333:group/g", Some("principal")),
        ("arn:aws:iam::111122223333:role/*", Some("principal")),
        ("arn:aws:s3:::bucket", Some("principal")),
    ] {
        check(
            |r| r.subject = Some(PrincipalArn(arn.into())),
            refused.map(|part| ("principal_arn", part)),
        );
    }
}

#[test]
fn actions() {
    for action in ["", "orders", "orders:", ":Get", "orders:Get*", "orders:Get Order", "*"] {
        check(|r| r.action = action.into(), Some(("action", "")));
    }
}

#[test]
fn owners() {
    fn check(resource: &str, stated: &str, expected: Result<Owner, &str>) {
        let found = super::resource(resource).and_then(|resource| owner(&resource, stated));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{resource} {stated}"),
            (Err(refusal), Err(field)) => {
                assert!(refusal.to_string().starts_with(field), "{refusal}")
            }
            (found, expected) => panic!("{resource} {stated}: {found:?}, not {expected:?}"),
        }
    }
    let one = "111122223333".parse().unwrap();
    let two = "444455556666".parse().unwrap();
    check("*", "", Ok(Owner::Subject));
    check("*", "*", Ok(Owner::Subject));
    check("*", "444455556666", Ok(Owner::SubjectIn(two)));
    check("*", "x", Err("resource_account"));
    check(ORDER, "", Ok(Owner::Account(one)));
    check(ORDER, "111122223333", Ok(Owner::Account(one)));
    check(ORDER, "444455556666", Err("resource_account"));
    check(ORDER, "*", Err("resource_account"));
    check(BUCKET, "", Err("resource_account"));
    check(BUCKET, "*", Ok(Owner::Subject));
    check(BUCKET, "444455556666", Ok(Owner::Account(two)));
    check(BUCKET, "4444", Err("resource_account"));
    check("arn:aws:iam::aws:policy/ReadOnlyAccess", "", Err("resource_account"));
    check("arn:aws:iam::aws:policy/ReadOnlyAccess", "*", Ok(Owner::Subject));
    check("arn:aws:orders:eu-west-1:1111:order/42", "", Err("resource"));
    check("arn:aws:orders:eu-west-1:*:order/42", "", Err("resource"));
    check("", "", Err("resource"));
    check("bucket", "", Err("resource"));
    check("arn:aws:s3:::a\nb", "*", Err("resource"));
}

#[test]
fn resource_policies() {
    const GOOD: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"orders:*","Resource":"*"}}"#;
    check(|r| r.resource_policy_document = GOOD.into(), None);
    for action in ["iam:GetRole", "STS:AssumeRole", "countersign:Authorize"] {
        check(
            |r| {
                r.action = action.into();
                r.resource_policy_document = GOOD.into();
            },
            Some(("resource_policy_document", "refused for")),
        );
    }
    // An identity policy has no principal, and so is no resource policy.
    let identity = GOOD.replace(r#""Principal":"*","#, "");
    check(|r| r.resource_policy_document = identity, Some(("resource_policy_document", "line 1")));
    check(
        |r| r.resource_policy_document = "{".into(),
        Some(("resource_policy_document", "line 1")),
    );
}

#[test]
fn h2_what_is_too_long_is_refused_by_name() {
    let action = |bytes: usize| format!("o:{}", "A".repeat(bytes - 2));
    check(|r| r.action = action(256), None);
    check(|r| r.action = action(257), Some(("action", "longer than 256 bytes")));
    // Before anything else that is wrong.
    check(
        |r| {
            r.action = action(1 << 20);
            r.subject = None;
            r.proof_of_possession = Some(ProofOfPossession::default());
        },
        Some(("action", "longer than 256 bytes")),
    );
    let resource = |bytes: usize| format!("{ORDER}{}", "x".repeat(bytes - ORDER.len()));
    check(|r| r.resource = resource(2048), None);
    check(|r| r.resource = resource(2049), Some(("resource", "longer than 2048 bytes")));
    let principal = |name: String| {
        Some(authorize_request::Subject::PrincipalArn(format!("arn:aws:iam::{name}")))
    };
    check(
        |r| r.subject = principal("x".repeat(2049)),
        Some(("principal_arn", "longer than 2048 bytes")),
    );
    let statement = |count: usize| {
        let action = "a".repeat(count);
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"o:{action}","Resource":"*"}}}}"#
        )
    };
    let rest = statement(0).len();
    check(|r| r.resource_policy_document = statement(20_480 - rest), None);
    check(
        |r| r.resource_policy_document = statement(20_481 - rest),
        Some(("resource_policy_document", "20480 characters")),
    );
    check(
        |r| r.resource_policy_document = statement(0) + &" ".repeat(128 << 10),
        Some(("resource_policy_document", "bytes")),
    );
}

#[test]
fn l10_other_partitions_are_refused() {
    use authorize_request::Subject::PrincipalArn;
    for kind in ["user/alice", "role/App", "root"] {
        for partition in ["aws-cn", "aws-us-gov", "x"] {
            let arn = format!("arn:{partition}:iam::111122223333:{kind}");
            let part = format!("partition `{partition}`");
            check(|r| r.subject = Some(PrincipalArn(arn)), Some(("principal_arn", &part)));
        }
    }
    for (resource, account) in [
        ("arn:aws-cn:orders:cn-north-1:111122223333:order/42", ""),
        ("arn:aws-cn:orders:cn-north-1:111122223333:order/42", "111122223333"),
        ("arn:aws-cn:s3:::bucket", "111122223333"),
        ("arn:aws-cn:s3:::bucket", "*"),
    ] {
        check(
            |r| {
                r.resource = resource.into();
                r.resource_account = account.into();
            },
            Some(("resource", "partition `aws-cn`")),
        );
    }
    check(
        |r| r.resource = "arn:AWS:orders:eu-west-1:111122223333:order/42".into(),
        Some(("resource", "partition `AWS`")),
    );
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    check(
        |r| r.proof_of_possession = Some(ProofOfPossession::default()),
        Some(("proof_of_possession", "only with `token`")),
    );
}

#[test]
fn debug_shows_no_token() {
    let mut request = request();
    request.subject = Some(authorize_request::Subject::Token("the-secret".into()));
    request.audience = "orders".into();
    let shown = format!("{:?}", authorize_question(request).unwrap());
    assert!(!shown.contains("the-secret") && shown.contains("redacted"), "{shown}");
}

#[test]
fn explain_asks_the_same_question() {
    let request = ExplainRequest {
        subject: Some(explain_request::Subject::PrincipalArn(
            "arn:aws:iam::111122223333:role/App".into(),
        )),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        at_least_revision: "a:1".into(),
        ..Default::default()
    };
    let question = explain_question(request).unwrap();
    assert_eq!(
        (question.check.action.to_string().as_str(), question.at_least_revision.as_str()),
        ("orders:GetOrder", "a:1")
    );
}
