//! Web identities: whom the trust policy means by a provider, and by what the provider says.

use countersign_evaluator::Context;
use countersign_proto::policy::v1::Tag;

use super::*;

const PROVIDER: &str = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE";
const GATEWAY: &str = "https://tokens.example.com";

fn shown() -> WebIdentity {
    WebIdentity {
        provider: PROVIDER.into(),
        subject: "system:serviceaccount:shop:orders".into(),
        audience: GATEWAY.into(),
        aws_account: None,
        keys: Context::new(),
    }
}

/// A pod of one namespace, for this gateway.
fn trust() -> String {
    format!(
        r#"{{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity",
            "Principal":{{"Federated":"arn:aws:iam::{OURS}:oidc-provider/{PROVIDER}"}},
            "Condition":{{"StringEquals":{{"{PROVIDER}:aud":"{GATEWAY}"}},"StringLike":{{"{PROVIDER}:sub":"system:serviceaccount:shop:*"}}}}}}"#
    )
}

fn decided(trust: &str, shown: WebIdentity) -> (String, bool) {
    let mut world = world();
    put(&mut world, "r/Pod", Kind::Role(trusting(OURS, "Pod", trust, &[])));
    let mut question = question(user("alice"), "Pod");
    question.proven = Proven::WebIdentity(shown.clone());
    let asker = Asker::WebIdentity(Box::new(shown));
    let (judgement, grant) = decide(&world, &asker, &question, NOW).unwrap();
    assert_eq!(judgement.decision == Decision::Allow, grant.is_some());
    // There is no unique id to pin.
    assert!(grant.as_ref().is_none_or(|grant| !grant.pin_required));
    let reason = judgement.reason.as_str_name().trim_start_matches("DECISION_REASON_").to_owned();
    (reason, grant.is_some())
}

fn check(trust: &str, change: impl FnOnce(&mut WebIdentity), expected: &str) {
    let mut shown = shown();
    change(&mut shown);
    let (reason, granted) = decided(trust, shown);
    assert_eq!((reason.as_str(), granted), (expected, expected.starts_with("ALLOWED")), "{trust}");
}

#[test]
fn a_pod_assumes_the_role_that_trusts_it() {
    let allowed = "ALLOWED_BY_TRUST_POLICY";
    check(&trust(), |_| {}, allowed);
    check(&trust(), |w| w.subject = "system:serviceaccount:evil:orders".into(), "NO_TRUST_ALLOW");
    check(&trust(), |w| w.audience = "sts.amazonaws.com".into(), "NO_TRUST_ALLOW");
    check(&trust(), |w| w.provider.push('X'), "NO_TRUST_ALLOW");
    // Another action, another account's provider, everybody, the account.
    check(&trust().replace("WithWebIdentity", ""), |_| {}, "NO_TRUST_ALLOW");
    check(&trust().replace(OURS, THEIRS), |_| {}, "NO_TRUST_ALLOW");
    let anybody = r#"{"Effect":"Allow","Action":"sts:*","Principal":"*"}"#;
    check(anybody, |_| {}, "NO_TRUST_ALLOW");
    let account =
        format!(r#"{{"Effect":"Allow","Action":"sts:*","Principal":{{"AWS":"{OURS}"}}}}"#);
    check(&account, |_| {}, "NO_TRUST_ALLOW");
    let denied = format!("{},{}", trust(), trust().replace("Allow\",\"Action", "Deny\",\"Action"));
    check(&denied, |_| {}, "DENIED_BY_TRUST_POLICY");
}

#[test]
fn the_provider_is_a_condition_key_too() {
    let by_key = format!(
        r#"{{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity",
            "Principal":{{"Federated":"arn:aws:iam::{OURS}:oidc-provider/{PROVIDER}"}},
            "Condition":{{"ArnEquals":{{"aws:FederatedProvider":"arn:aws:iam::{OURS}:oidc-provider/{PROVIDER}"}}}}}}"#
    );
    check(&by_key, |_| {}, "ALLOWED_BY_TRUST_POLICY");
}

// ATTACKS 67, 85.
#[test]
fn what_aws_says_of_its_principal() {
    let by_tag = trust().replace(
        r#""StringLike":{"#,
        r#""Null":{"aws:RequestTag/team":"true"},"StringLike":{"aws:PrincipalTag/team":"data","#,
    );
    let aws = |account: &str, tag: &str| {
        let (account, tag) = (account.to_owned(), tag.to_owned());
        move |w: &mut WebIdentity| {
            w.aws_account = Some(account.parse().unwrap());
            w.keys.insert("aws:PrincipalTag/team", tag.as_str()).unwrap();
        }
    };
    check(&by_tag, aws(AWS, "data"), "ALLOWED_BY_TRUST_POLICY");
    check(&by_tag, aws(AWS, "other"), "NO_TRUST_ALLOW");
    check(&by_tag, |_| {}, "NO_TRUST_ALLOW");
    // AWS does not speak for a local account.
    check(&by_tag, aws(OURS, "data"), "EXTERNAL_PRINCIPAL");
    check(&by_tag, aws(THEIRS, "data"), "EXTERNAL_PRINCIPAL");
}

/// A tag needs its own leave, as with every other proof (RULES.md 41).
#[test]
fn tags_need_leave() {
    let mut world = world();
    let both = trust().replace(
        "\"sts:AssumeRoleWithWebIdentity\"",
        "[\"sts:AssumeRoleWithWebIdentity\",\"sts:TagSession\"]",
    );
    put(&mut world, "r/Pod", Kind::Role(trusting(OURS, "Pod", &trust(), &[])));
    put(&mut world, "r/Tagged", Kind::Role(trusting(OURS, "Tagged", &both, &[])));
    let asker = Asker::WebIdentity(Box::new(shown()));
    for (role, allowed) in [("Pod", false), ("Tagged", true)] {
        let mut question = question(user("alice"), role);
        question.proven = Proven::WebIdentity(shown());
        question.wished.tags.insert("team".into(), "x".into());
        let (_, grant) = decide(&world, &asker, &question, NOW).unwrap();
        assert_eq!(grant.is_some(), allowed, "{role}");
    }
}

/// Each key that AWS documents for the exchange of a web identity is there, with the value that it must have: a Deny on it holds, and an
/// Allow on another value does not.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif>
#[test]
fn every_key_of_a_web_identity_is_there() {
    let aud = format!("{PROVIDER}:aud");
    let (sub, amr) = (format!("{PROVIDER}:sub"), format!("{PROVIDER}:amr"));
    let federated = format!("arn:aws:iam::{OURS}:oidc-provider/{PROVIDER}");
    let rows: [(&str, &str); 16] = [
        (&aud, GATEWAY),
        (&sub, "system:serviceaccount:shop:orders"),
        ("aws:FederatedProvider", &federated),
        ("sts:RoleSessionName", "s1"),
        ("sts:SourceIdentity", "carol"),
        ("sts:ExternalId", "e-1"),
        ("aws:RequestTag/team", "blue"),
        ("aws:ResourceTag/Stage", "prod"),
        ("iam:ResourceTag/Stage", "prod"),
        ("aws:PrincipalIsAWSService", "false"),
        ("aws:SourceIp", "10.1.2.3"),
        ("countersign:ProofType", "t"),
        ("countersign:ProofBound", "false"),
        ("countersign:ProofChallenged", "false"),
        ("aws:PrincipalTag/desk", "7"),
        ("aws:SourceIdentity", "dave"),
    ];
    let sets: [(&str, &str); 3] =
        [(&amr, "mfa"), ("aws:TagKeys", "team"), ("sts:TransitiveTagKeys", "team")];
    let granted = |condition: &str, effect: &str| {
        let actions =
            r#"["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"]"#;
        let statement = |effect: &str, condition: &str| {
            format!(
                r#"{{"Effect":"{effect}","Action":{actions},"Principal":{{"Federated":"{federated}"}},"Condition":{{{condition}}}}}"#
            )
        };
        let trust = match effect {
            "Allow" => statement("Allow", condition),
            _ => format!(
                "{},{}",
                statement("Allow", r#""Null":{"aws:Nonesuch":"true"}"#),
                statement("Deny", condition)
            ),
        };
        let mut role = trusting(OURS, "Pod", &trust, &[]);
        role.tags = vec![Tag { key: "Stage".into(), value: "prod".into() }];
        let mut world = world();
        put(&mut world, "r/Pod", Kind::Role(role));
        let mut shown = shown();
        shown.keys.insert(amr.clone(), vec!["pwd".to_owned(), "mfa".to_owned()]).unwrap();
        shown.keys.insert("aws:PrincipalTag/desk", "7").unwrap();
        shown.keys.insert("aws:SourceIdentity", "dave").unwrap();
        let mut question = question(user("alice"), "Pod");
        question.proven = Proven::WebIdentity(shown.clone());
        question.role_session_name = "s1".into();
        question.proof_type = "t".into();
        question.proof_bound = false;
        question.source_address = "10.1.2.3".parse().unwrap();
        question.external_id = Some("e-1".into());
        question.wished.tags.insert("team".into(), "blue".into());
        question.wished.transitive_tag_keys.insert("team".into());
        question.wished.source_identity = Some("carol".into());
        let asker = Asker::WebIdentity(Box::new(shown));
        decide(&world, &asker, &question, NOW).unwrap().1.is_some()
    };
    let check = |operator: &str, key: &str, value: &str| {
        let is = |value: &str| format!(r#""{operator}":{{"{key}":"{value}"}}"#);
        assert!(granted(&is(value), "Allow"), "{key} is {value}");
        assert!(!granted(&is("other"), "Allow"), "{key} is nothing else");
        assert!(!granted(&is(value), "Deny"), "{key} is seen by a Deny");
    };
    for (key, value) in rows {
        check("StringEquals", key, value);
    }
    for (key, value) in sets {
        check("ForAnyValue:StringEquals", key, value);
    }
}
