//! IAM's policy simulator.

use countersign_proto::policy::v1::{PolicyEvaluationDecisionType as Decision, *};
use tonic::Code;

use crate::support::{
    ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust,
};

const BUCKET: &str = "arn:aws:s3:::b/1";

fn deny(action: &str, resource: &str) -> String {
    allow(action, resource).replace(r#""Allow""#, r#""Deny""#)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn custom(documents: &[&str], actions: &[&str], resources: &[&str]) -> SimulateCustomPolicyRequest {
    SimulateCustomPolicyRequest {
        policy_input_list: texts(documents),
        action_names: texts(actions),
        resource_arns: texts(resources),
        ..Default::default()
    }
}

async fn simulate(
    iam: &mut Client<Bearer>,
    request: SimulateCustomPolicyRequest,
) -> Vec<EvaluationResult> {
    iam.simulate_custom_policy(request).await.unwrap().into_inner().evaluation_results
}

fn decisions(results: &[EvaluationResult]) -> Vec<Decision> {
    results.iter().map(EvaluationResult::eval_decision).collect()
}

#[tokio::test]
async fn documents_are_judged_as_they_are_sent() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let gets = allow("s3:Get*", "arn:aws:s3:::b/*");
    let no_secrets = deny("s3:*", "arn:aws:s3:::b/secret");
    let request = custom(
        &[&gets, &no_secrets],
        &["s3:GetObject", "s3:PutObject"],
        &[BUCKET, "arn:aws:s3:::b/secret"],
    );
    let results = simulate(&mut iam, request).await;
    assert_eq!(decisions(&results), [Decision::ExplicitDeny, Decision::ExplicitDeny]);
    let each: Vec<(Decision, Vec<&str>)> = results[0]
        .resource_specific_results
        .iter()
        .map(|one| {
            let sources = one.matched_statements.iter().map(|it| it.source_policy_id.as_str());
            (one.eval_resource_decision(), sources.collect())
        })
        .collect();
    assert_eq!(each[0], (Decision::Allowed, vec!["PolicyInputList.1"]));
    assert_eq!(each[1], (Decision::ExplicitDeny, vec!["PolicyInputList.2"]));

    // One resource: the answer is the action's own, and says where the statement stands.
    let spread = "{\n \"Version\": \"2012-10-17\",\n \"Statement\": [\n  {\"Effect\": \"Deny\", \"Action\": \"x:*\", \"Resource\": \"*\"},\n  {\"Effect\": \"Allow\",\n   \"Action\": \"s3:*\", \"Resource\": \"*\"}\n ]\n}";
    let results = simulate(&mut iam, custom(&[spread], &["s3:GetObject"], &[BUCKET])).await;
    let found = &results[0].matched_statements[0];
    assert_eq!(found.source_policy_type(), PolicySourceType::None);
    assert_eq!(found.start_position, Some(Position { line: 5, column: 3 }));
    assert_eq!(found.end_position, Some(Position { line: 6, column: 38 }));
    assert_eq!(results[0].eval_resource_name, BUCKET);
    assert!(results[0].resource_specific_results.is_empty());

    // A boundary, and the levels of an organization.
    let bounded = SimulateCustomPolicyRequest {
        permissions_boundary_policy_input_list: vec![allow("sqs:*", "*")],
        ordered_organization_policy_input_list: vec![
            OrderedOrganizationPolicyType {
                service_control_policy_input_list: vec![allow("*", "*")],
            },
            OrderedOrganizationPolicyType {
                service_control_policy_input_list: vec![allow("s3:*", "*")],
            },
        ],
        ..custom(&[&allow("*", "*")], &["s3:GetObject", "sqs:SendMessage"], &[])
    };
    let results = simulate(&mut iam, bounded).await;
    let parts: Vec<(bool, bool)> = results
        .iter()
        .map(|one| {
            (
                one.permissions_boundary_decision_detail.unwrap().allowed_by_permissions_boundary,
                one.organizations_decision_detail.unwrap().allowed_by_organizations,
            )
        })
        .collect();
    assert_eq!(parts, [(false, true), (true, false)]);
    assert_eq!(decisions(&results), [Decision::ImplicitDeny, Decision::ImplicitDeny]);
}

#[tokio::test]
async fn what_the_context_lacks_is_named() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}/${app:part, 'x'}","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"StringEquals":{"aws:PrincipalTag/team":"${app:team}"}}}]}"#;
    let ask = custom(&[document], &["s3:GetObject"], &["arn:aws:s3:::b/ann/x"]);
    let results = simulate(&mut iam, ask.clone()).await;
    assert_eq!(
        results[0].missing_context_values,
        ["app:team", "aws:PrincipalTag/team", "aws:SourceIp", "aws:username"]
    );
    let entry = |key: &str, value: &str, kind: ContextKeyType| ContextEntry {
        context_key_name: key.into(),
        context_key_values: vec![value.into()],
        context_key_type: kind.into(),
    };
    let whole = SimulateCustomPolicyRequest {
        context_entries: vec![
            entry("AWS:SourceIP", "10.1.2.3", ContextKeyType::Ip),
            entry("aws:username", "ann", ContextKeyType::String),
            entry("app:team", "a", ContextKeyType::String),
            entry("aws:PrincipalTag/team", "a", ContextKeyType::String),
        ],
        ..ask.clone()
    };
    let results = simulate(&mut iam, whole).await;
    assert_eq!(decisions(&results), [Decision::Allowed]);
    assert!(results[0].missing_context_values.is_empty());
    for bad in [
        entry("aws:SourceIp", "nowhere", ContextKeyType::Ip),
        entry("aws:SourceIp", "10.0.0.1", ContextKeyType::Unspecified),
        entry("aws:EpochTime", "x", ContextKeyType::Numeric),
        entry("aws:SecureTransport", "yes", ContextKeyType::Boolean),
        entry("aws:CurrentTime", "soon", ContextKeyType::DateList),
        entry("key", "x", ContextKeyType::String),
        ContextEntry {
            context_key_values: texts(&["a", "b"]),
            ..entry("aws:username", "", ContextKeyType::String)
        },
    ] {
        let request = SimulateCustomPolicyRequest { context_entries: vec![bad], ..ask.clone() };
        let answer = iam.simulate_custom_policy(request).await;
        refused(answer, Code::InvalidArgument, "ValidationError");
    }
}

#[tokio::test]
async fn what_is_not_a_question_is_refused_by_name() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let all = allow("*", "*");
    let ask = custom(&[&all], &["s3:GetObject"], &[]);
    let everybody = all.replace(r#""Action""#, r#""Principal":"*","Action""#);
    for (bad, reason) in [
        (custom(&[&all], &[], &[]), "ValidationError"),
        (custom(&[&all], &["s3:Get*"], &[]), "ValidationError"),
        (custom(&[&all], &["s3:GetObject"], &["b"]), "ValidationError"),
        (custom(&["{}"], &["s3:GetObject"], &[]), "MalformedPolicyDocument"),
        (custom(&[&everybody], &["s3:GetObject"], &[]), "MalformedPolicyDocument"),
        (
            SimulateCustomPolicyRequest { resource_policy: everybody.clone(), ..ask.clone() },
            "ValidationError",
        ),
        (
            SimulateCustomPolicyRequest { resource_owner: "x".into(), ..ask.clone() },
            "ValidationError",
        ),
        (
            SimulateCustomPolicyRequest {
                caller_arn: "arn:aws:iam::444455556666:user/x".into(),
                ..ask.clone()
            },
            "ValidationError",
        ),
        (
            SimulateCustomPolicyRequest {
                resource_owner: "arn:aws:iam::444455556666:root".into(),
                ..custom(&[&all], &["sqs:Send"], &["arn:aws:sqs:eu-west-1:111122223333:q"])
            },
            "ValidationError",
        ),
    ] {
        let said =
            refused(iam.simulate_custom_policy(bad.clone()).await, Code::InvalidArgument, reason);
        assert!(!said.is_empty(), "{bad:?}");
    }
    let scenario =
        SimulateCustomPolicyRequest { resource_handling_option: "EC2-VPC".into(), ..ask.clone() };
    assert_eq!(iam.simulate_custom_policy(scenario).await.unwrap_err().code(), Code::Unimplemented);
    // A page at a time.
    let actions: Vec<String> = (0..5).map(|number| format!("s3:Action{number}")).collect();
    let mut request =
        SimulateCustomPolicyRequest { action_names: actions.clone(), max_items: 2, ..ask };
    let mut seen = Vec::new();
    loop {
        let page = iam.simulate_custom_policy(request.clone()).await.unwrap().into_inner();
        seen.extend(page.evaluation_results.into_iter().map(|one| one.eval_action_name));
        if !page.is_truncated {
            break;
        }
        request.marker = page.marker;
    }
    assert_eq!(seen, actions);
}

#[tokio::test]
async fn a_principals_own_policies_are_judged() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("ann")).await.unwrap();
    let group = CreateGroupRequest { group_name: "Staff".into(), ..Default::default() };
    iam.create_group(group).await.unwrap();
    let join = AddUserToGroupRequest {
        group_name: "Staff".into(),
        user_name: "ann".into(),
        ..Default::default()
    };
    iam.add_user_to_group(join).await.unwrap();
    let put = PutGroupPolicyRequest {
        group_name: "Staff".into(),
        policy_name: "p".into(),
        policy_document: allow("sqs:*", "*"),
        ..Default::default()
    };
    iam.put_group_policy(put).await.unwrap();
    let put = PutUserPolicyRequest {
        user_name: "ann".into(),
        policy_name: "p".into(),
        policy_document: deny("sqs:DeleteQueue", "*"),
        ..Default::default()
    };
    iam.put_user_policy(put).await.unwrap();
    let managed = "arn:aws:iam::aws:policy/AmazonS3FullAccess";
    let attach = AttachUserPolicyRequest {
        user_name: "ann".into(),
        policy_arn: managed.into(),
        ..Default::default()
    };
    iam.attach_user_policy(attach).await.unwrap();

    let arn = format!("arn:aws:iam::{ACCOUNT}:user/ann");
    let of = |source: &str, actions: &[&str]| SimulatePrincipalPolicyRequest {
        policy_source_arn: source.into(),
        action_names: texts(actions),
        ..Default::default()
    };
    let actions = ["sqs:SendMessage", "sqs:DeleteQueue", "s3:GetObject", "ec2:RunInstances"];
    let answer = iam.simulate_principal_policy(of(&arn, &actions)).await.unwrap().into_inner();
    let found: Vec<(Decision, Vec<(String, PolicySourceType)>)> = answer
        .evaluation_results
        .iter()
        .map(|one| {
            let sources = one.matched_statements.iter();
            let sources = sources.map(|it| (it.source_policy_id.clone(), it.source_policy_type()));
            (one.eval_decision(), sources.collect())
        })
        .collect();
    let source = |id: &str, kind: PolicySourceType| vec![(id.to_owned(), kind)];
    assert_eq!(
        found,
        [
            (Decision::Allowed, source("p", PolicySourceType::Group)),
            (Decision::ExplicitDeny, source("p", PolicySourceType::User)),
            (Decision::Allowed, source(managed, PolicySourceType::AwsManaged)),
            (Decision::ImplicitDeny, Vec::new()),
        ]
    );
    // The group by itself; and further documents besides.
    let staff = format!("arn:aws:iam::{ACCOUNT}:group/Staff");
    let further = SimulatePrincipalPolicyRequest {
        policy_input_list: vec![allow("ec2:*", "*")],
        ..of(&staff, &["sqs:DeleteQueue", "s3:GetObject", "ec2:RunInstances"])
    };
    let answer = iam.simulate_principal_policy(further).await.unwrap().into_inner();
    assert_eq!(
        decisions(&answer.evaluation_results),
        [Decision::Allowed, Decision::ImplicitDeny, Decision::Allowed]
    );
    // A role may be assumed as its trust policy says, whatever an identity policy does.
    let trusted = trust(&format!(r#"{{"AWS":"{arn}"}}"#));
    iam.create_role(new_role("Trusting", &trusted)).await.unwrap();
    let ec2 = trust(r#"{"Service":"ec2.amazonaws.com"}"#);
    iam.create_role(new_role("Other", &ec2)).await.unwrap();
    let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/{name}");
    let assume = SimulatePrincipalPolicyRequest {
        resource_arns: vec![role("Trusting"), role("Other"), role("Gone")],
        policy_input_list: vec![allow("sts:*", "*")],
        ..of(&arn, &["sts:AssumeRole"])
    };
    let answer = iam.simulate_principal_policy(assume).await.unwrap().into_inner();
    let each: Vec<Decision> = answer.evaluation_results[0]
        .resource_specific_results
        .iter()
        .map(ResourceSpecificResult::eval_resource_decision)
        .collect();
    assert_eq!(each, [Decision::Allowed, Decision::ImplicitDeny, Decision::ImplicitDeny]);
    // Whom there is not, whoever may not ask, and what is another account's.
    for (source, code, reason) in [
        (format!("{arn}a"), Code::NotFound, "NoSuchEntity"),
        (arn.replace("user/", "user/path/"), Code::NotFound, "NoSuchEntity"),
        (format!("{staff}a"), Code::NotFound, "NoSuchEntity"),
        (arn.replace(ACCOUNT, "444455556666"), Code::InvalidArgument, "ValidationError"),
        ("ann".to_owned(), Code::InvalidArgument, "ValidationError"),
    ] {
        let answer = iam.simulate_principal_policy(of(&source, &["s3:GetObject"])).await;
        refused(answer, code, reason);
    }
    let mut other = store.session(ACCOUNT, "Other").await;
    let answer = other.simulate_principal_policy(of(&arn, &["s3:GetObject"])).await;
    refused(answer, Code::PermissionDenied, "AccessDenied");
}
