//! The rules of writing (RULES.md X8, X12, X13), and warnings.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use countersign_policy::findings::{
    DocumentKind, Severity, check as check_document, counted_characters,
};

use DocumentKind::*;

/// Codes of the errors, with line and column; or of the warnings.
fn check(kind: DocumentKind, text: &str, expected: Result<&[&str], &[&str]>) {
    match (check_document(text, kind), expected) {
        (Ok(checked), Ok(warnings)) => {
            let found: Vec<&str> = checked.warnings.iter().map(|w| w.code).collect();
            assert_eq!(found, warnings, "{text}");
            assert!(checked.warnings.iter().all(|w| w.severity != Severity::Error));
        }
        (Err(malformed), Err(errors)) => {
            let found: Vec<&str> = malformed.findings.iter().map(|f| f.code).collect();
            assert_eq!(found, errors, "{text}");
            assert!(
                malformed
                    .findings
                    .iter()
                    .all(|f| f.severity == Severity::Error && f.line > 0 && f.column > 0)
            );
        }
        (found, expected) => panic!("{text}: found {found:?}, expected {expected:?}"),
    }
}

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{{statement}}}]}}"#)
}

fn identity(statement: &str, expected: Result<&[&str], &[&str]>) {
    check(ManagedPolicy, &document(statement), expected);
}

fn trust(statement: &str, expected: Result<&[&str], &[&str]>) {
    check(TrustPolicy, &document(statement), expected);
}

#[test]
fn identity_policies() {
    let deny = r#""Effect":"Deny","Action":"s3:*","Resource":"*""#;
    identity(deny, Ok(&[]));
    identity(&format!(r#"{deny},"Principal":"*""#), Err(&["PrincipalNotPermitted"]));
    identity(r#""Effect":"Deny","Action":"s3:*""#, Err(&["MissingElement"]));
    identity(r#""Effect":"Deny","Action":"s*:Get","Resource":"*""#, Err(&["WildcardService"]));
    identity(r#""Effect":"Deny","Action":"*:*","Resource":"*""#, Err(&["WildcardService"]));
    identity(&format!(r#"{deny},"Sid":"has blank""#), Err(&["InvalidSid"]));
    identity(&format!(r#"{deny},"Sid":"A"}},{{{deny},"Sid":"A""#), Err(&["DuplicateSid"]));
    identity(&format!(r#"{deny},"Sid":"A"}},{{{deny},"Sid":"a""#), Ok(&[]));
    check(ManagedPolicy, r#"{"Version":"2012-10-17","Statement":[]}"#, Err(&["EmptyList"]));
    for kind in [
        InlineUserPolicy,
        InlineRolePolicy,
        InlineGroupPolicy,
        PermissionsBoundary,
        SessionPolicy,
        ServiceControlPolicy,
    ] {
        check(kind, &document(deny), Ok(&[]));
        check(
            kind,
            &document(&format!(r#"{deny},"Principal":"*""#)),
            Err(&["PrincipalNotPermitted"]),
        );
    }
}

#[test]
fn resources() {
    let on = |resource: &str| format!(r#""Effect":"Deny","Action":"s3:*","Resource":"{resource}""#);
    identity(&on("arn:aws:s3:::b/${aws:username}"), Ok(&[]));
    identity(&on("arn:aws:s3::${aws:PrincipalAccount}:b"), Err(&["VariableNotPermitted"]));
    identity(&on("arn:aws:s3:::b/${aws:username"), Err(&["InvalidVariable"]));
    identity(&on("arn:aws:orders:*"), Err(&["InvalidResource"]));
    check(
        ManagedPolicy,
        r#"{"Version":"2008-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"arn:aws"}}"#,
        Err(&["InvalidResource"]),
    );
    identity(&on("arn:aws:orders:us-east-1:111122223333:*"), Ok(&[]));
    identity(&on("arn:aws:orders:us-east-1:111122223333:o*/1"), Ok(&["WildcardInResourceType"]));
    identity(&on("arn:aws:s3:::${*}/x"), Ok(&[]));
}

#[test]
fn conditions() {
    let with = |condition: &str| {
        format!(r#""Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{condition}"#)
    };
    identity(&with(r#"{"StringLike":{"aws:x":"${aws:username}*"}}"#), Ok(&[]));
    identity(&with(r#"{"Bool":{"aws:x":"${aws:username}"}}"#), Err(&["VariableNotPermitted"]));
    identity(&with(r#"{"Bool":{"aws:x":"maybe"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"Null":{"aws:x":"1"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"NumericEquals":{"aws:x":"1e3"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"DateLessThan":{"aws:x":"yesterday"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"IpAddress":{"aws:x":"10.0.0.0/33"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"BinaryEquals":{"aws:x":"*"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"ArnLike":{"aws:x":"arn:aws:s3"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"ArnLike":{"aws:x":"*"}}"#), Err(&["InvalidConditionValue"]));
    identity(&with(r#"{"StringEquals":{"nocolon":"x"}}"#), Err(&["InvalidConditionKey"]));
    identity(
        &with(r#"{"StringEquals":{"aws:x":"1","AWS:X":"2"}}"#),
        Err(&["DuplicateConditionKey"]),
    );
}

#[test]
fn trust_policies() {
    let with = |principal: &str| {
        format!(r#""Effect":"Allow","Action":"sts:AssumeRole","Principal":{principal}"#)
    };
    let somebody = with(r#"{"AWS":"arn:aws:iam::111122223333:role/App"}"#);
    trust(&somebody, Ok(&[]));
    trust(&with(r#"{"Service":"ec2.amazonaws.com"}"#), Ok(&[]));
    trust(&with(r#"{"Service":"ec2.*"}"#), Err(&["InvalidPrincipal"]));
    trust(&with(r#""*""#), Ok(&["AnybodyWithoutCondition"]));
    trust(&with(r#"{"AWS":"arn:aws:iam::*:role/App"}"#), Err(&["WildcardAccount"]));
    trust(&with(r#"{"AWS":"arn:aws:iam::111122223333:role/*"}"#), Err(&["WildcardPrincipal"]));
    trust(&with(r#"{"AWS":"arn:aws:iam::111122223333:group/g"}"#), Err(&["InvalidPrincipal"]));
    trust(&format!(r#"{somebody},"Resource":"*""#), Err(&["ResourceNotPermitted"]));
    trust(r#""Effect":"Allow","Action":"sts:AssumeRole""#, Err(&["MissingPrincipal"]));
    trust(&somebody.replace("sts:AssumeRole", "s3:Get"), Err(&["ActionNotPermitted"]));
    trust(&somebody.replace("sts:AssumeRole", "*"), Err(&["ActionNotPermitted"]));
    trust(&somebody.replace("\"Action\"", "\"NotAction\""), Err(&["ActionNotPermitted"]));
    trust(&somebody.replace("\"Principal\"", "\"NotPrincipal\""), Err(&["PrincipalNotPermitted"]));
}

#[test]
fn resource_control_policies() {
    let rcp =
        |statement: &str, expected| check(ResourceControlPolicy, &document(statement), expected);
    let deny = r#""Effect":"Deny","Action":"s3:*","Resource":"*","Principal":"*""#;
    rcp(deny, Ok(&[]));
    rcp(&deny.replace("Deny", "Allow"), Err(&["AllowNotPermitted"]));
    rcp(&deny.replace("\"s3:*\"", "\"*\""), Err(&["ActionNotPermitted"]));
    rcp(
        &deny.replace("\"Principal\":\"*\"", "\"Principal\":{\"AWS\":\"111122223333\"}"),
        Err(&["PrincipalNotPermitted"]),
    );
    rcp(
        &deny.replace("\"Principal\":\"*\"", "\"NotPrincipal\":\"*\""),
        Err(&["PrincipalNotPermitted"]),
    );
}

#[test]
fn warnings() {
    identity(r#""Effect":"Allow","NotAction":"iam:*","Resource":"*""#, Ok(&["AllowWithNotAction"]));
    identity(
        r#""Effect":"Allow","Action":"iam:Pass*","Resource":"*""#,
        Ok(&["PassRoleOnAnyResource"]),
    );
    identity(
        r#""Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::111122223333:role/App""#,
        Ok(&[]),
    );
    let resource = r#""Effect":"Allow","Action":"s3:Get","Resource":"*","NotPrincipal":{"AWS":"111122223333"}"#;
    check(ResourcePolicy, &document(resource), Ok(&["AllowWithNotPrincipal"]));
    let set = r#""Effect":"Allow","Action":"s3:Get","Resource":"*","Condition":{"ForAllValues:StringEquals":{"a:k":"x"}GUARD}"#;
    identity(&set.replace("GUARD", ""), Ok(&["ForAllValuesWithoutNullGuard"]));
    identity(&set.replace("GUARD", r#","Null":{"A:K":"false"}"#), Ok(&[]));
    identity(
        &set.replace("GUARD", r#","Null":{"A:K":["false","true"]}"#),
        Ok(&["ForAllValuesWithoutNullGuard"]),
    );
    check(
        ManagedPolicy,
        r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#,
        Ok(&["MissingVersion"]),
    );
}

#[test]
fn sizes_count_all_but_white_space() {
    let of_size = |size: usize, blanks: usize| {
        let empty = document(r#""Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::""#);
        let filler = "b".repeat(size - counted_characters(&empty));
        let text = empty.replace("arn:aws:s3:::", &format!("arn:aws:s3:::{filler}"));
        format!("{}{text}", " \n\t".repeat(blanks))
    };
    for (kind, limit) in
        [(ManagedPolicy, 6_144), (InlineUserPolicy, 2_048), (InlineRolePolicy, 10_240)]
    {
        check(kind, &of_size(limit, 0), Ok(&[]));
        check(kind, &of_size(limit, 900), Ok(&[]));
        check(kind, &of_size(limit + 1, 0), Err(&["DocumentTooLong"]));
    }
    check(InlineGroupPolicy, &of_size(5_121, 0), Err(&["DocumentTooLong"]));
    check(TrustPolicy, &of_size(2_049, 0), Err(&["DocumentTooLong"]));
    check(SessionPolicy, &of_size(2_049, 0), Err(&["DocumentTooLong"]));
    check(ManagedPolicy, &of_size(6_144, 50_000), Err(&["DocumentTooLong"]));
}
