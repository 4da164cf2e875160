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
    identity(&format!(r#"{deny},"Sid":"A"}},{{{deny},"Sid":"a""#), Ok(&["DuplicateStatement"]));
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

/// One statement on `order:Get`, with these conditions.
fn conditioned(effect: &str, conditions: &str, expected: &[&str]) {
    let statement = format!(
        r#""Effect":"{effect}","Action":"order:Get","Resource":"*","Condition":{{{conditions}}}"#
    );
    identity(&statement, Ok(expected));
}

#[test]
fn elements_that_leave_nothing() {
    for effect in ["Allow", "Deny"] {
        let on = |rest: &str| format!(r#""Effect":"{effect}",{rest}"#);
        let not_resource = on(r#""Action":"a:B","NotResource":["arn:aws:s3:::b","*"]"#);
        identity(&not_resource, Ok(&["NeverMatches"]));
        identity(&on(r#""Action":"a:B","NotResource":"arn:aws:s3:::b""#), Ok(&[]));
    }
    let deny = r#""Effect":"Deny","NotAction":"*","Resource":"*""#;
    identity(deny, Ok(&["NeverMatches"]));
    let allow = r#""Effect":"Allow","NotPrincipal":"*","Action":"a:B","Resource":"*""#;
    check(ResourcePolicy, &document(allow), Ok(&["AllowWithNotPrincipal", "NeverMatches"]));
    let deny = allow.replace("Allow", "Deny");
    check(ResourcePolicy, &document(&deny), Ok(&["DenyWithNotPrincipal"]));
}

#[test]
fn conditions_that_contradict_each_other() {
    let never: &[&str] = &["NeverMatches"];
    let absent = r#""Null":{"A:K":"true"}"#;
    let allow = |conditions: &str, expected| conditioned("Allow", conditions, expected);
    let deny = |conditions: &str, expected| conditioned("Deny", conditions, expected);
    allow(&format!(r#"{absent},"StringEquals":{{"a:k":"x"}}"#), never);
    allow(&format!(r#"{absent},"StringEqualsIfExists":{{"a:k":"x"}}"#), &[]);
    allow(&format!(r#"{absent},"StringNotEquals":{{"a:k":"x"}}"#), &[]);
    allow(&format!(r#"{absent},"StringEquals":{{"a:other":"x"}}"#), &[]);
    allow(r#""Null":{"a:k":["true","false"]},"StringEquals":{"a:k":"x"}"#, &[]);
    allow(&format!(r#"{absent},"ForAnyValue:StringNotEquals":{{"a:k":"x"}}"#), never);
    // An empty set is neither absent nor comparable, and then a Deny denies.
    deny(&format!(r#"{absent},"StringEquals":{{"a:k":"x"}}"#), &[]);
    deny(&format!(r#"{absent},"ForAnyValue:StringEquals":{{"a:k":"x"}}"#), never);

    allow(r#""StringEquals":{"a:k":["x","y"]},"StringNotEquals":{"a:k":["y","x"]}"#, never);
    allow(r#""StringEquals":{"a:k":["x","y"]},"StringNotEquals":{"a:k":"x"}"#, &[]);
    allow(r#""StringEquals":{"a:k":["x1","z"]},"StringLike":{"a:k":"x?"}"#, &[]);
    allow(r#""StringEquals":{"a:k":["x12","z"]},"StringLike":{"a:k":"x?"}"#, never);
    allow(r#""StringEquals":{"a:k":"x"},"StringNotLike":{"a:k":"*"}"#, never);
    allow(r#""StringEquals":{"a:k":"x"},"StringEqualsIgnoreCase":{"a:k":"X"}"#, &[]);
    allow(r#""StringEquals":{"a:k":"x"},"StringLike":{"a:k":"${aws:username}"}"#, &[]);
    allow(r#""StringEqualsIfExists":{"a:k":"x"},"StringLike":{"a:k":"y"}"#, &[]);
    deny(r#""StringEquals":{"a:k":"x"},"StringNotEquals":{"a:k":"x"}"#, &[]);

    allow(r#""NumericLessThan":{"a:k":"5"},"NumericGreaterThan":{"a:k":"5"}"#, never);
    allow(r#""NumericLessThanEquals":{"a:k":"5"},"NumericGreaterThanEquals":{"a:k":"5.0"}"#, &[]);
    allow(r#""NumericLessThan":{"a:k":["5","50"]},"NumericGreaterThan":{"a:k":"5"}"#, &[]);
    let if_exists =
        r#""NumericLessThanIfExists":{"a:k":"1"},"NumericGreaterThanIfExists":{"a:k":"5"}"#;
    allow(if_exists, &[]);
    let dates = |from: &str, until: &str| {
        format!(
            r#""DateGreaterThan":{{"aws:CurrentTime":"{from}"}},"DateLessThan":{{"aws:CurrentTime":"{until}"}}"#
        )
    };
    allow(&dates("2027-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), never);
    allow(&dates("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), &[]);

    let addresses = |of: &str, not: &str| {
        format!(
            r#""IpAddress":{{"aws:SourceIp":[{of}]}},"NotIpAddress":{{"aws:SourceIp":[{not}]}}"#
        )
    };
    allow(&addresses(r#""10.1.0.0/16","10.2.3.4""#, r#""10.0.0.0/8""#), never);
    allow(&addresses(r#""10.0.0.0/8""#, r#""10.1.0.0/16""#), &[]);
    allow(&addresses(r#""10.1.0.0/16","2001:db8::/32""#, r#""10.0.0.0/8""#), &[]);
}

/// Two statements, or more; what is remarked, and of which statement.
fn several(statements: &[&str], expected: &[(&str, &str)]) {
    let list: Vec<String> = statements.iter().map(|statement| format!("{{{statement}}}")).collect();
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, list.join(","));
    let checked = check_document(&text, ManagedPolicy).unwrap();
    let found: Vec<(&str, &str)> =
        checked.warnings.iter().map(|w| (w.code, w.pointer.as_str())).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn statements_that_another_makes_needless() {
    let get = r#""Effect":"Allow","Action":"order:GetOrder","Resource":"arn:aws:order:::order/1""#;
    let all =
        r#""Effect":"Allow","Action":["x:Y","ORDER:Get*"],"Resource":"arn:aws:order:::order/*""#;
    let deny_all = r#""Effect":"Deny","Action":"*","Resource":"*""#;
    let with = |statement: &str, condition: &str| format!(r#"{statement},"Condition":{condition}"#);
    let (team, ip) =
        (r#"{"StringEquals":{"a:Team":"x"}}"#, r#"{"Bool":{"aws:SecureTransport":"true"}}"#);
    let both = r#"{"StringEquals":{"A:TEAM":"x"},"Bool":{"aws:SecureTransport":"true"}}"#;
    let redundant: &[(&str, &str)] = &[("RedundantStatement", "/Statement/0")];
    several(&[get, get], &[("DuplicateStatement", "/Statement/1")]);
    several(&[get, all], redundant);
    several(&[all, get], &[("RedundantStatement", "/Statement/1")]);
    several(&[&with(get, team), all], redundant);
    several(&[&with(get, both), &with(all, team)], redundant);
    several(&[get, &with(all, team)], &[]);
    several(&[&with(get, ip), &with(all, team)], &[]);
    several(&[get, &all.replace("order/*", "order/1?")], &[]);
    several(&[get, &all.replace("order/*", "order/${aws:username}")], &[]);
    several(&[&get.replace("order/1", "order/${aws:username}"), all], &[]);
    several(&[&get.replace("arn:aws:order:::order/1", "*"), all], &[]);
    // K7: an Allow on a wildcard type does not match what has a type.
    let contested = all.replace("order/*", "o*/1");
    several(&[get, &contested], &[("WildcardInResourceType", "/Statement/1/Resource")]);
    several(&[r#""Effect":"Deny","NotAction":"order:*","Resource":"*""#, deny_all], redundant);
    several(
        &[
            r#""Effect":"Deny","NotAction":["order:*","x:Y"],"Resource":"*""#,
            r#""Effect":"Deny","NotAction":"order:Get","Resource":"*""#,
        ],
        redundant,
    );

    let shadowed: &[(&str, &str)] = &[("ShadowedAllow", "/Statement/0")];
    several(&[get, deny_all], shadowed);
    several(&[&with(get, both), &with(deny_all, team)], shadowed);
    several(&[get, &with(deny_all, team)], &[]);
    several(&[get, r#""Effect":"Deny","NotAction":"order:*","Resource":"*""#], &[]);
    // The Deny itself never applies.
    several(
        &[get, r#""Effect":"Deny","Action":"*","NotResource":"*""#],
        &[("NeverMatches", "/Statement/1/NotResource")],
    );
}

#[test]
fn principals_count_when_statements_are_compared() {
    let pair = |first: &str, second: &str, expected: &[&str]| {
        let statement = |effect_and_principal: &str| {
            format!(r#"{{{effect_and_principal},"Action":"sts:AssumeRole"}}"#)
        };
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{},{}]}}"#,
            statement(first),
            statement(second)
        );
        check(TrustPolicy, &text, Ok(expected));
    };
    let app = r#""Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/App"}"#;
    let both = r#""Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:role/App","111122223333"]}"#;
    let anybody = r#""Effect":"Allow","Principal":"*""#;
    let nobody = r#""Effect":"Deny","Principal":"*""#;
    pair(app, both, &["RedundantStatement"]);
    pair(app, anybody, &["AnybodyWithoutCondition"]);
    pair(app, nobody, &["ShadowedAllow"]);
    pair(both, &app.replace("Allow", "Deny"), &[]);
}

#[test]
fn elements_that_another_makes_needless() {
    let allow = |actions: &str, resources: &str, expected: &[(&str, &str)]| {
        several(
            &[&format!(r#""Effect":"Allow","Action":[{actions}],"Resource":[{resources}]"#)],
            expected,
        );
    };
    let action = "/Statement/0/Action/1";
    allow(r#""s3:*","s3:GetObject""#, r#""*""#, &[("RedundantAction", action)]);
    allow(r#""s3:Get","S3:get""#, r#""*""#, &[("RedundantAction", action)]);
    allow(
        r#""s3:GetObject","s3:Get?bject""#,
        r#""*""#,
        &[("RedundantAction", "/Statement/0/Action/0")],
    );
    allow(r#""s3:Get*","s3:Put*""#, r#""*""#, &[]);
    allow(
        r#""s3:GetObject""#,
        r#""arn:aws:s3:::b/*","arn:aws:s3:::b/1""#,
        &[("RedundantResource", "/Statement/0/Resource/1")],
    );
    allow(r#""s3:GetObject""#, r#""arn:aws:s3:::b/*","arn:aws:s3:::b/${aws:username}""#, &[]);
    allow(r#""s3:GetObject""#, r#""arn:aws:s3:::b/*","arn:*:s3:::b/1""#, &[]);
    conditioned("Deny", r#""StringEquals":{"a:k":["x","y","x"]}"#, &["RedundantConditionValue"]);
}

#[test]
fn conditions_that_do_not_say_what_they_seem_to() {
    let deny = |conditions: &str, expected| conditioned("Deny", conditions, expected);
    deny(r#""StringEquals":{"aws:SourcIp":"x"}"#, &["MisspelledKey"]);
    deny(r#""StringEquals":{"aws:PrincipalTags/team":"x"}"#, &["MisspelledKey"]);
    deny(
        r#""StringEquals":{"AWS:principaltag/team":"x","aws:userid":"x","aws:username":"x"}"#,
        &[],
    );
    deny(r#""StringEquals":{"app:SourcIp":"x","aws:Zebra":"x"}"#, &[]);
    deny(r#""StringEquals":{"aws:TagKeys":"x"}"#, &["PlainOperatorOnSet"]);
    deny(r#""ForAnyValue:StringEquals":{"aws:TagKeys":"x"},"Null":{"aws:TagKeys":"false"}"#, &[]);
    deny(r#""StringEquals":{"a:k":"x*"}"#, &["WildcardWithoutLike"]);
    deny(r#""StringEquals":{"a:k":"x${*}"},"StringLike":{"a:k":"x*"}"#, &[]);
    let session = "arn:aws:sts::111122223333:assumed-role/App/*";
    let role = "arn:aws:iam::111122223333:role/App";
    deny(
        &format!(r#""ArnLike":{{"aws:PrincipalArn":["{session}","{role}"]}}"#),
        &["AssumedRoleAsPrincipalArn"],
    );
    deny(&format!(r#""ArnLike":{{"aws:SourceArn":"{session}"}}"#), &[]);
    let old = |text: &str, expected| {
        let text = format!(
            r#"{{"Version":"2008-10-17","Statement":{{"Effect":"Deny","Action":"*","Resource":"{text}","Condition":{{"StringEquals":{{"a:k":"{text}"}}}}}}}}"#
        );
        check(ManagedPolicy, &text, Ok(expected));
    };
    old("arn:aws:s3:::b/${aws:username}", &["VariableInOldVersion", "VariableInOldVersion"]);
    old("arn:aws:s3:::b/c", &[]);
}

/// What a person reads: line and column, what was found, and what to write.
#[test]
fn a_finding_as_text() {
    let text = "{\"Version\":\"2012-10-17\",\"Statement\":[\n  {\"Effect\":\"Deny\",\"Action\":\"*\",\n  \"Resource\":\"*\",\n  \"Condition\":{\"StringEquals\":{\"aws:SourcIp\":\"x\"}}}]}";
    let checked = check_document(text, ManagedPolicy).unwrap();
    let found: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    let expected = "line 4, column 32: `aws:SourcIp` is none of the global condition keys (did you mean \"aws:SourceIp\"?)";
    assert_eq!(found, [expected]);
}

/// Some thousand patterns that all but cover each other: reviewing them stays within its budget.
#[test]
#[expect(clippy::disallowed_methods, reason = "this test measures time")]
fn reviewing_takes_no_longer_than_its_budget() {
    let actions: Vec<String> =
        (0..1_000).map(|i| format!("\"a:*{}{i:03}*\"", "a".repeat(i % 10))).collect();
    let actions = actions.join(",");
    let text = document(&format!(
        r#""Effect":"Deny","Principal":"*","Action":[{actions}],"Resource":"*""#
    ));
    let start = std::time::Instant::now();
    check(ResourcePolicy, &text, Ok(&[]));
    assert!(start.elapsed().as_secs() < 5);
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
