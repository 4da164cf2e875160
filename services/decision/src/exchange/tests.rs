//! What may become what.

use countersign_proto::policy::v1::record::Record as Kind;

use super::*;
use crate::{
    convert::Wished,
    samples::{self, NOW, OURS, put, role, world},
};

const EXCHANGE: &str = r#"{"Effect":"Allow","Action":"countersign:ExchangeToken","Resource":"*"}"#;

fn question(audience: &str) -> ExchangeQuestion {
    ExchangeQuestion {
        subject_token: SubjectToken("x".into()),
        actor_token: None,
        possession: Possession::default(),
        is_introspection: false,
        audience: audience.into(),
        source_address: "10.1.2.3".parse().unwrap(),
        wished: Wished::default(),
        at_least_revision: String::new(),
    }
}

fn parties(subject: &str, audience: &str, actor: Option<&str>) -> Parties {
    Parties {
        subject: samples::session(OURS, subject),
        audience: audience.into(),
        actor: actor.map(|name| {
            let account = if name == "Foreign" { samples::THEIRS } else { OURS };
            samples::session(account, name)
        }),
    }
}

/// The reason, for a token of `subject` for audience `orders` that becomes one for `audience`.
fn check(
    policies: &[(&str, &str)],
    change: impl FnOnce(&mut Parties),
    audience: &str,
    actor: Option<&str>,
    expected: &str,
) {
    let mut world = world();
    let named: Vec<_> = policies.iter().filter(|(role, _)| *role == "Subject").collect();
    let acting: Vec<_> = policies.iter().filter(|(role, _)| *role == "Actor").collect();
    for (name, policies) in [("Subject", named), ("Actor", acting)] {
        let texts: Vec<(String, &str)> = policies
            .iter()
            .enumerate()
            .map(|(index, (_, text))| (format!("p{index}"), *text))
            .collect();
        let texts: Vec<(&str, &str)> =
            texts.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        put(&mut world, &format!("r/{name}"), Kind::Role(role(OURS, name, &texts)));
    }
    let mut parties = parties("Subject", "orders", actor);
    change(&mut parties);
    let (judgement, documents) = decide(&world, &parties, &question(audience), NOW).unwrap();
    let reason = judgement.reason.as_str_name().trim_start_matches("DECISION_REASON_");
    assert_eq!(reason, expected, "{}", judgement.message);
    assert!(documents.is_empty());
}

// ATTACKS 72.
#[test]
fn another_audience_is_for_the_subjects_policies_to_allow() {
    fn one(text: &str) -> [(&str, &str); 1] {
        [("Subject", text)]
    }
    check(&[], |_| {}, "orders", None, "ALLOWED_AS_NARROWING");
    check(&[], |_| {}, "billing", None, "NO_IDENTITY_ALLOW");
    check(&one(EXCHANGE), |_| {}, "billing", None, "ALLOWED_BY_IDENTITY_POLICY");
    let to = |audience: &str| {
        EXCHANGE.replace(
            "\"Resource\"",
            &format!(
                r#""Condition":{{"StringEquals":{{"countersign:Audience":"{audience}"}}}},"Resource""#
            ),
        )
    };
    check(&one(&to("billing")), |_| {}, "billing", None, "ALLOWED_BY_IDENTITY_POLICY");
    check(&one(&to("billing")), |_| {}, "Billing", None, "NO_IDENTITY_ALLOW");
    // What narrows the token narrows this too.
    let parsed = |text: &str| {
        let text = format!(r#"{{"Statement":[{text}]}}"#);
        Arc::new(countersign_policy::parse::parse(&text).unwrap())
    };
    let orders = parsed(r#"{"Effect":"Allow","Action":"orders:*","Resource":"*"}"#);
    let narrowed = |parties: &mut Parties| {
        parties.subject.facts.narrowings = vec![vec![parsed(EXCHANGE)], vec![orders.clone()]];
    };
    check(&one(EXCHANGE), narrowed, "billing", None, "NO_SESSION_ALLOW");
    let limited =
        |parties: &mut Parties| parties.subject.facts.session_policies = vec![orders.clone()];
    check(&one(EXCHANGE), limited, "billing", None, "NO_SESSION_ALLOW");
    check(&[], limited, "orders", None, "ALLOWED_AS_NARROWING");
    // A session that is over has nothing to exchange.
    let made_again = |parties: &mut Parties| parties.subject.facts.role_id = "AROABEFORE".into();
    check(&[], made_again, "orders", None, "ROLE_RECREATED");
    let gone = |parties: &mut Parties| parties.subject.facts.role_name = "Nobody".into();
    check(&[], gone, "orders", None, "PRINCIPAL_NOT_FOUND");
}

// ATTACKS 76.
#[test]
fn an_actor_is_allowed_by_both() {
    let act = format!(
        r#"{{"Effect":"Allow","Action":"countersign:ActFor","Resource":"arn:aws:iam::{OURS}:role/Subject"}}"#
    );
    let act = act.as_str();
    let allowed = "ALLOWED_BY_IDENTITY_POLICY";
    let both = [("Subject", EXCHANGE), ("Actor", act)];
    check(&both, |_| {}, "billing", Some("Actor"), allowed);
    check(&both, |_| {}, "orders", Some("Actor"), allowed);
    check(&[("Subject", EXCHANGE)], |_| {}, "orders", Some("Actor"), "NO_IDENTITY_ALLOW");
    check(&[("Actor", act)], |_| {}, "orders", Some("Actor"), "NO_IDENTITY_ALLOW");
    let other = act.replace("role/Subject", "role/Other");
    check(
        &[("Subject", EXCHANGE), ("Actor", &other)],
        |_| {},
        "orders",
        Some("Actor"),
        "NO_IDENTITY_ALLOW",
    );
    // Another tenant's actor may do everything in its own account, and nothing here.
    check(&[("Subject", EXCHANGE)], |_| {}, "orders", Some("Foreign"), "NO_RESOURCE_ALLOW");
    let over = |parties: &mut Parties| {
        let actor = parties.actor.as_mut().unwrap();
        actor.facts.role_id = "AROABEFORE".into();
    };
    check(&both, over, "orders", Some("Actor"), "ROLE_RECREATED");
    // Who may act can be said where the token comes from, and that somebody must.
    let by = |condition: &str| {
        EXCHANGE.replace("\"Resource\"", &format!(r#""Condition":{condition},"Resource""#))
    };
    let arn = format!("arn:aws:sts::{OURS}:assumed-role/Actor/*");
    let named = by(&format!(r#"{{"ArnLike":{{"countersign:ActorArn":"{arn}"}}}}"#));
    let someone_else =
        by(&format!(r#"{{"ArnLike":{{"countersign:ActorArn":"{}"}}}}"#, arn.replace("Actor", "B")));
    check(&[("Subject", &named), ("Actor", act)], |_| {}, "orders", Some("Actor"), allowed);
    check(&[("Subject", &named)], |_| {}, "billing", None, "NO_IDENTITY_ALLOW");
    check(
        &[("Subject", &someone_else), ("Actor", act)],
        |_| {},
        "orders",
        Some("Actor"),
        "NO_IDENTITY_ALLOW",
    );
    let never_alone = by(r#"{"Null":{"countersign:ActorArn":"true"}}"#).replace("Allow", "Deny");
    let policies = [("Subject", EXCHANGE), ("Subject", &never_alone), ("Actor", act)];
    check(&policies, |_| {}, "billing", None, "DENIED_BY_IDENTITY_POLICY");
    check(&policies, |_| {}, "billing", Some("Actor"), allowed);
}
