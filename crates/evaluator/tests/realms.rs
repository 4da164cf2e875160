//! A name is not an identity: realms, unique ids, and who may never be allowed (DESIGN.md section 4; ATTACKS.md 45, 46, 85).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod world;

use countersign_evaluator::Decision::{self, Allow, ExplicitDeny, ImplicitDeny};
use countersign_evaluator::Realm::{Aws, Countersign};
use countersign_evaluator::{
    ExternalPrincipal, PolicyType, Principal, Reason, Session, reference::decide,
};
use world::{
    ORDER, ROLE, SESSION, TARGET, USER, all, all_for, arn, attached, request, resolved, session,
    trust, user, with_identity, with_resource,
};

const EXTERNAL_ROLE: &str = "arn:aws:iam::999988887777:role/Deploy";
const EXTERNAL_PATH_ROLE: &str = "arn:aws:iam::999988887777:role/teams/Deploy";
const EXTERNAL_SESSION: &str = "arn:aws:sts::999988887777:assumed-role/Deploy/i-1";

fn external() -> Principal {
    Principal::External(ExternalPrincipal::new(arn(EXTERNAL_SESSION), "AROAEXT").unwrap())
}

fn quoted(text: &str) -> String {
    format!(r#"{{"AWS":"{text}"}}"#)
}

#[test]
fn a_recreated_entity_inherits_nothing() {
    fn check(principal: Principal, element: &str, id: Option<&str>, expected: Decision) {
        let trust = resolved(trust("Allow", &quoted(element)), &[(element, Countersign, id)]);
        let found = decide(&request(principal, "sts:AssumeRole", TARGET), &with_resource(trust));
        assert_eq!(found.decision, expected, "{element} {id:?}: {found:?}");
    }
    check(user(), USER, Some("AIDAALICE"), Allow);
    check(user(), USER, Some("AIDAOLDALICE"), ImplicitDeny);
    check(user(), USER, None, ImplicitDeny);
    check(session(), ROLE, Some("AROAAPP"), Allow);
    check(session(), ROLE, Some("AROAOLD"), ImplicitDeny);
    check(session(), ROLE, None, ImplicitDeny);
    check(session(), SESSION, Some("AROAAPP"), Allow);
    check(session(), SESSION, Some("AROAOLD"), ImplicitDeny);
    check(session(), SESSION, None, ImplicitDeny);
    let without_id = Principal::User { arn: arn(USER), unique_id: None };
    check(without_id, USER, Some("AIDAALICE"), ImplicitDeny);
}

#[test]
fn an_element_that_was_not_resolved_does_not_allow_and_still_denies() {
    let elements = [("arn:aws:iam::111122223333:user/other", Countersign, Some("AIDAALICE"))];
    let allow = resolved(trust("Allow", &quoted(USER)), &elements);
    assert_eq!(
        decide(&request(user(), "sts:AssumeRole", TARGET), &with_resource(allow)).decision,
        ImplicitDeny
    );
    let deny = resolved(trust("Deny", &quoted(USER)), &elements);
    assert_eq!(
        decide(&request(user(), "sts:AssumeRole", TARGET), &with_resource(deny)).decision,
        ExplicitDeny
    );
}

#[test]
fn a_deny_matches_by_name_or_by_unique_id() {
    fn check(element: &str, id: Option<&str>, expected: Decision) {
        let deny = resolved(trust("Deny", &quoted(element)), &[(element, Countersign, id)]);
        let found = decide(&request(user(), "sts:AssumeRole", TARGET), &with_resource(deny));
        assert_eq!(found.decision, expected, "{element} {id:?}");
    }
    check(USER, Some("AIDAOLDALICE"), ExplicitDeny);
    check(USER, None, ExplicitDeny);
    check("arn:aws:iam::111122223333:user/before/alice", Some("AIDAALICE"), ExplicitDeny);
    check("arn:aws:iam::111122223333:user/bob", Some("AIDABOB"), ImplicitDeny);
}

#[test]
fn a_session_without_a_known_role_arn_is_granted_nothing_by_role() {
    let account = "111122223333".parse().unwrap();
    let unknown = Principal::Session(Session::new("aws", account, "App", None, "s1", None));
    let named = "arn:aws:iam::111122223333:role/App";
    let allow = with_resource(attached(PolicyType::Resource, &all_for("Allow", &quoted(named))));
    assert_eq!(
        decide(&request(unknown.clone(), "orders:Get", ORDER), &allow).decision,
        ImplicitDeny
    );
    let deny = with_resource(attached(PolicyType::Resource, &all_for("Deny", &quoted(named))));
    assert_eq!(decide(&request(unknown, "orders:Get", ORDER), &deny).decision, ExplicitDeny);
}

#[test]
fn an_external_principal_is_denied_outside_trust_policies() {
    let everything = {
        let mut set = with_identity(&all("Allow"));
        let both =
            format!("[{},{}]", all_for("Allow", "\"*\""), all_for("Allow", &quoted(EXTERNAL_ROLE)));
        set.resource = Some(resolved(
            attached(PolicyType::Resource, &both),
            &[(EXTERNAL_ROLE, Aws, Some("AROAEXT"))],
        ));
        set
    };
    let found = decide(&request(external(), "orders:Get", ORDER), &everything);
    assert_eq!((found.decision, found.reason), (ImplicitDeny, Reason::ExternalPrincipal));
    let found = decide(&request(external(), "orders:Get", ORDER), &with_identity(&all("Allow")));
    assert_eq!((found.decision, found.reason), (ImplicitDeny, Reason::ExternalPrincipal));
}

#[test]
fn a_trust_policy_allows_an_external_principal_in_its_realm_alone() {
    fn check(
        element: &str,
        resolution: Option<(countersign_evaluator::Realm, Option<&str>)>,
        expected: Decision,
    ) {
        let policy = trust("Allow", &quoted(element));
        let policy = match resolution {
            Some((realm, id)) => resolved(policy, &[(element, realm, id)]),
            None => policy,
        };
        let found = decide(&request(external(), "sts:AssumeRole", TARGET), &with_resource(policy));
        assert_eq!(found.decision, expected, "{element} {resolution:?}: {found:?}");
    }
    check(EXTERNAL_ROLE, Some((Aws, Some("AROAEXT"))), Allow);
    check(EXTERNAL_ROLE, Some((Aws, None)), Allow); // to be pinned
    check(EXTERNAL_ROLE, Some((Aws, Some("AROAOLD"))), ImplicitDeny);
    check(EXTERNAL_ROLE, Some((Countersign, Some("AROAEXT"))), ImplicitDeny);
    check(EXTERNAL_ROLE, None, ImplicitDeny);
    check(EXTERNAL_PATH_ROLE, Some((Aws, Some("AROAEXT"))), Allow);
    check(EXTERNAL_PATH_ROLE, Some((Aws, None)), ImplicitDeny);
    check(EXTERNAL_SESSION, Some((Aws, None)), Allow);
    check(EXTERNAL_SESSION, Some((Aws, Some("AROAOLD"))), ImplicitDeny);
    check("arn:aws:iam::999988887777:root", Some((Aws, None)), Allow);
    check("999988887777", Some((Aws, None)), Allow);
    check("999988887777", Some((Countersign, None)), ImplicitDeny);
    check("999988887777", None, ImplicitDeny);
    check("arn:aws-cn:iam::999988887777:root", Some((Aws, None)), ImplicitDeny);
    check("arn:aws:iam::999988887777:user/Deploy", Some((Aws, Some("AROAEXT"))), ImplicitDeny);
    check("*", Some((Aws, None)), ImplicitDeny);
    check("*", None, ImplicitDeny);
}

#[test]
fn everybody_in_a_deny_is_everybody() {
    let resolution = [(EXTERNAL_ROLE, Aws, Some("AROAEXT"))];
    for denied in [
        "\"*\"".to_owned(),
        quoted("999988887777"),
        quoted(EXTERNAL_ROLE),
        quoted(EXTERNAL_SESSION),
    ] {
        let statements = format!(
            r#"[{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{}}},{{"Effect":"Deny","Action":"sts:AssumeRole","Principal":{denied}}}]"#,
            quoted(EXTERNAL_ROLE)
        );
        let policy = resolved(attached(PolicyType::Trust, &statements), &resolution);
        let found = decide(&request(external(), "sts:AssumeRole", TARGET), &with_resource(policy));
        assert_eq!(found.decision, ExplicitDeny, "{denied}");
    }
}

#[test]
fn a_local_principal_of_the_same_number_is_not_the_external_one() {
    let account = "999988887777".parse().unwrap();
    let local = Principal::Session(Session::new(
        "aws",
        account,
        "Deploy",
        Some(arn(EXTERNAL_ROLE)),
        "i-1",
        Some("AROAEXT".to_owned()),
    ));
    for element in [EXTERNAL_ROLE, EXTERNAL_SESSION, "999988887777"] {
        let policy = resolved(trust("Allow", &quoted(element)), &[(element, Aws, Some("AROAEXT"))]);
        let mut set = with_resource(policy);
        set.identity = with_identity(&all("Allow")).identity;
        assert_eq!(
            decide(&request(local.clone(), "sts:AssumeRole", TARGET), &set).decision,
            ImplicitDeny,
            "{element}"
        );
    }
}

#[test]
fn guardrails_of_the_resource_stop_external_principals() {
    let mut set = with_resource(resolved(
        trust("Allow", &quoted(EXTERNAL_ROLE)),
        &[(EXTERNAL_ROLE, Aws, None)],
    ));
    set.rcps = vec![vec![attached(PolicyType::Rcp, &all_for("Deny", "\"*\""))]];
    let found = decide(&request(external(), "sts:AssumeRole", TARGET), &set);
    assert_eq!((found.decision, found.reason), (ExplicitDeny, Reason::DeniedByRcp));
}

#[test]
fn a_service_must_be_named() {
    fn check(principal: &str, expected: Decision) {
        let service = Principal::Service { name: "ec2.amazonaws.com".to_owned() };
        let mut set = with_resource(trust("Allow", principal));
        set.identity = with_identity(&all("Allow")).identity;
        assert_eq!(
            decide(&request(service, "sts:AssumeRole", TARGET), &set).decision,
            expected,
            "{principal}"
        );
    }
    check(r#"{"Service":"ec2.amazonaws.com"}"#, Allow);
    check(r#"{"Service":["lambda.amazonaws.com","ec2.amazonaws.com"]}"#, Allow);
    check(r#"{"Service":"EC2.amazonaws.com"}"#, ImplicitDeny);
    check(r#"{"Service":"lambda.amazonaws.com"}"#, ImplicitDeny);
    check("\"*\"", ImplicitDeny);
    check(r#"{"AWS":"ec2.amazonaws.com"}"#, ImplicitDeny);
}

#[test]
fn nobody_is_a_service_by_name() {
    let named = Principal::User {
        arn: arn("arn:aws:iam::111122223333:user/ec2.amazonaws.com"),
        unique_id: None,
    };
    let set = with_resource(trust("Allow", r#"{"Service":"ec2.amazonaws.com"}"#));
    assert_eq!(decide(&request(named, "sts:AssumeRole", TARGET), &set).decision, ImplicitDeny);
}

#[test]
fn the_account_root() {
    fn check(resource: &str, set: &countersign_evaluator::PolicySet, expected: (Decision, Reason)) {
        let root = Principal::AccountRoot {
            partition: "aws".to_owned(),
            account: "111122223333".parse().unwrap(),
        };
        let found = decide(&request(root, "orders:Get", resource), set);
        assert_eq!((found.decision, found.reason), expected, "{resource}");
    }
    let nothing = countersign_evaluator::PolicySet::default();
    let elsewhere = "arn:aws:orders:us-east-1:444455556666:order/42";
    check(ORDER, &nothing, (Allow, Reason::AllowedAsAccountRoot));
    check("*", &nothing, (Allow, Reason::AllowedAsAccountRoot));
    check(elsewhere, &nothing, (ImplicitDeny, Reason::NoResourceAllow));
    let granted =
        with_resource(attached(PolicyType::Resource, &all_for("Allow", &quoted("111122223333"))));
    check(elsewhere, &granted, (Allow, Reason::AllowedAsAccountRoot));
    let mut guarded = nothing.clone();
    guarded.scps = vec![vec![]];
    check(ORDER, &guarded, (ImplicitDeny, Reason::NotAllowedByScp));
    let mut bounded = nothing;
    bounded.boundary = Some(vec![]);
    check(ORDER, &bounded, (Allow, Reason::AllowedAsAccountRoot));
}

#[test]
fn not_principal_in_a_deny_spares_the_right_realm_alone() {
    let both = format!(r#"{{"AWS":["{EXTERNAL_ROLE}","{EXTERNAL_SESSION}","999988887777"]}}"#);
    let statements = format!(
        r#"[{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{both}}},{{"Effect":"Deny","Action":"sts:AssumeRole","NotPrincipal":{both}}}]"#
    );
    let policy = attached(PolicyType::Trust, &statements);
    let check = |realm, expected| {
        let elements = [
            (EXTERNAL_ROLE, realm, None),
            (EXTERNAL_SESSION, realm, None),
            ("999988887777", realm, None),
        ];
        let set = with_resource(resolved(policy.clone(), &elements));
        assert_eq!(
            decide(&request(external(), "sts:AssumeRole", TARGET), &set).decision,
            expected,
            "{realm:?}"
        );
    };
    check(Aws, Allow);
    check(Countersign, ExplicitDeny);
}

#[test]
fn a_federated_user_is_reached_by_an_unresolved_user_name_alone() {
    let federated =
        Principal::FederatedUser { arn: arn("arn:aws:sts::111122223333:federated-user/alice") };
    let check = |resource, boundary: Option<Vec<_>>, expected: Decision| {
        let mut set = with_resource(resource);
        set.boundary = boundary;
        let found = decide(&request(federated.clone(), "sts:AssumeRole", TARGET), &set);
        assert_eq!(found.decision, expected, "{found:?}");
    };
    let named = trust("Allow", &quoted(USER));
    check(named.clone(), None, Allow);
    check(named.clone(), Some(vec![]), ImplicitDeny);
    check(resolved(named, &[(USER, Countersign, Some("AIDAALICE"))]), None, ImplicitDeny);
    check(trust("Allow", &quoted("arn:aws:iam::111122223333:user/x/alice")), None, ImplicitDeny);
    check(trust("Deny", &quoted("arn:aws:iam::111122223333:user/x/alice")), None, ExplicitDeny);
}

// ATTACKS 65, 85: a provider of the role's own account, by its whole name, and nobody else's word.
#[test]
fn a_web_identity_is_named_by_its_provider_alone() {
    const OWN: &str = "arn:aws:iam::777788889999:oidc-provider/idp.example.com/a";
    fn check(effect: &str, element: &str, expected: Decision) {
        let principal = Principal::WebIdentity { provider: OWN.parse().unwrap() };
        let set = with_resource(trust(effect, element));
        let request = request(principal, "sts:AssumeRole", TARGET);
        let found = decide(&request, &set);
        assert_eq!(found.decision, expected, "{effect} {element}: {found:?}");
        let compiled = countersign_evaluator::compiled::decide(&request, &set);
        assert_eq!(compiled, found, "{effect} {element}");
    }
    let federated = |name: &str| format!(r#"{{"Federated":"{name}"}}"#);
    check("Allow", &federated(OWN), Allow);
    for other in [
        "arn:aws:iam::111122223333:oidc-provider/idp.example.com/a",
        "arn:aws:iam::777788889999:oidc-provider/idp.example.com/b",
        "arn:aws:iam::777788889999:oidc-provider/idp.example.com",
        "arn:aws:iam::777788889999:oidc-provider/IDP.example.com/a",
        "arn:aws-cn:iam::777788889999:oidc-provider/idp.example.com/a",
        "idp.example.com/a",
    ] {
        check("Allow", &federated(other), ImplicitDeny);
    }
    check("Allow", "\"*\"", ImplicitDeny);
    check("Allow", &quoted("777788889999"), ImplicitDeny);
    check("Allow", r#"{"Service":"idp.example.com"}"#, ImplicitDeny);
    // A Deny means it in whatever spelling.
    check(
        "Deny",
        &federated("arn:aws:iam::111122223333:oidc-provider/IDP.example.com/a"),
        ExplicitDeny,
    );
    check("Deny", &federated("idp.example.com/a"), ExplicitDeny);
    check("Deny", "\"*\"", ExplicitDeny);
    check("Deny", &federated("idp.example.com/b"), ImplicitDeny);
    // Nowhere but in a trust policy.
    let everything =
        with_resource(attached(PolicyType::Resource, &all_for("Allow", &federated(OWN))));
    let principal = Principal::WebIdentity { provider: OWN.parse().unwrap() };
    let found = decide(&request(principal, "orders:Get", ORDER), &everything);
    assert_eq!((found.decision, found.reason), (ImplicitDeny, Reason::ExternalPrincipal));
}
