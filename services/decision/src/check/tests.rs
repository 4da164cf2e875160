use std::time::Instant;

use countersign_evaluator::explain;
use countersign_policy::parse;
use countersign_proto::{decision::v1::AuthorizeRequest, policy::v1::record::Record as Kind};
use countersign_serve::ServiceName;

use super::*;
use crate::convert::Owner;
use crate::samples::{self, AWS, NOW, OURS, THEIRS, caller, document, session, world};

const ORDER: &str = "arn:aws:orders:eu-west-1:111122223333:order/42";

fn parsed(action: &str, resource: &str) -> Check {
    let request = AuthorizeRequest {
        subject: Some(countersign_proto::decision::v1::authorize_request::Subject::PrincipalArn(
            "x".into(),
        )),
        action: action.into(),
        resource: resource.into(),
        resource_account: if resource.contains(":::") { "*".into() } else { String::new() },
        ..Default::default()
    };
    convert::authorize_question(request).unwrap().check
}

fn token_of(account: &str, role: &str) -> Who {
    Who::Session(session(account, role))
}

fn named(arn: &str) -> Who {
    Who::Principal(arn.parse().unwrap())
}

fn call(caller: &Caller) -> Call {
    let source = Some("10.1.2.3".parse().unwrap());
    Call { caller: caller.clone(), source, deadline: Instant::now() }
}

/// The reason's name, or what the caller is told.
fn ask(
    world: &World,
    caller: &Caller,
    who: &Who,
    check: Check,
    depth: Depth,
) -> Result<(String, String), String> {
    let judgement = match consider(world, &call(caller), who, check, depth, NOW)
        .map_err(|refusal| refusal.to_string())?
    {
        Matter::Settled(judgement) => judgement,
        Matter::Open(matter) => {
            let (request, policies) = *matter;
            let verdict = reference::decide(&request, &policies);
            assert_eq!(verdict, explain(&request, &policies).verdict);
            Judgement::of(verdict, &request)
        }
    };
    let name = judgement.reason.as_str_name().trim_start_matches("DECISION_REASON_");
    Ok((name.to_owned(), judgement.message))
}

#[test]
fn decisions_and_their_words() {
    fn check(who: &Who, action: &str, resource: &str, reason: &str, words: &str) {
        let answer =
            ask(&world(), &caller(OURS, "Service"), who, parsed(action, resource), Depth::Answer);
        let (found, message) = answer.unwrap();
        assert_eq!((found.as_str(), message.as_str()), (reason, words));
    }
    let app = token_of(OURS, "App");
    check(
        &app,
        "orders:GetOrder",
        ORDER,
        "ALLOWED_BY_IDENTITY_POLICY",
        "allowed by statement AllOrders of policy arn:aws:iam::111122223333:policy/Orders",
    );
    check(
        &app,
        "orders:DeleteOrder",
        ORDER,
        "DENIED_BY_IDENTITY_POLICY",
        "denied by statement NoDeletes of inline policy deletes",
    );
    check(
        &app,
        "s3:GetObject",
        "arn:aws:s3:::b/k",
        "NO_IDENTITY_ALLOW",
        "no identity policy of role App allows s3:GetObject on arn:aws:s3:::b/k",
    );
    check(
        &app,
        "s3:ListAllMyBuckets",
        "*",
        "NO_IDENTITY_ALLOW",
        "no identity policy of role App allows s3:ListAllMyBuckets on *",
    );
    check(
        &named("arn:aws:iam::111122223333:role/App"),
        "orders:GetOrder",
        ORDER,
        "ALLOWED_BY_IDENTITY_POLICY",
        "allowed by statement AllOrders of policy arn:aws:iam::111122223333:policy/Orders",
    );
    check(
        &named("arn:aws:iam::111122223333:user/dave"),
        "orders:GetOrder",
        ORDER,
        "NO_IDENTITY_ALLOW",
        "no identity policy of user dave allows orders:GetOrder on arn:aws:orders:eu-west-1:111122223333:order/42",
    );
    check(
        &Who::Service("ec2.amazonaws.com".into()),
        "orders:GetOrder",
        ORDER,
        "NO_RESOURCE_ALLOW",
        "no resource policy of arn:aws:orders:eu-west-1:111122223333:order/42 allows orders:GetOrder to service ec2.amazonaws.com",
    );
}

#[test]
fn principals_that_are_not_there() {
    fn check(who: &Who, reason: &str) {
        let answer = ask(
            &world(),
            &caller(OURS, "Service"),
            who,
            parsed("orders:GetOrder", ORDER),
            Depth::Answer,
        );
        assert_eq!(answer.map(|(reason, _)| reason), Ok(reason.to_owned()));
    }
    check(&named("arn:aws:iam::111122223333:user/nobody"), "PRINCIPAL_NOT_FOUND");
    check(&named("arn:aws:iam::111122223333:role/Nothing"), "PRINCIPAL_NOT_FOUND");
    // Another path, or another spelling, is another name.
    check(&named("arn:aws:iam::111122223333:role/teams/App"), "PRINCIPAL_NOT_FOUND");
    check(&named("arn:aws:iam::111122223333:role/app"), "PRINCIPAL_NOT_FOUND");
    check(&named("arn:aws-cn:iam::111122223333:role/App"), "PRINCIPAL_NOT_FOUND");
    check(&named(&format!("arn:aws:iam::{AWS}:role/App")), "EXTERNAL_PRINCIPAL");
    check(&token_of(OURS, "Gone"), "PRINCIPAL_NOT_FOUND");
    let mut recreated = session(OURS, "App");
    recreated.facts.role_id = "AROABEFORE".into();
    check(&Who::Session(recreated), "ROLE_RECREATED");
}

#[test]
fn who_may_ask_what() {
    fn check(caller: &Caller, who: &Who, resource: &str, depth: Depth, refused: Option<&str>) {
        let answer = ask(&world(), caller, who, parsed("orders:GetOrder", resource), depth);
        match (answer, refused) {
            (Ok(_), None) => {}
            (Err(said), Some(part)) => assert!(said.contains(part), "{said}, not {part}"),
            (answer, refused) => panic!("{refused:?}: {answer:?}"),
        }
    }
    let service = caller(OURS, "Service");
    let little = caller(OURS, "Little");
    let nobody = caller(OURS, "App");
    let app = token_of(OURS, "App");
    let theirs = token_of(THEIRS, "Foreign");
    let their_order = "arn:aws:orders:eu-west-1:444455556666:order/42";
    check(&service, &app, ORDER, Depth::Explanation, None);
    check(&little, &app, ORDER, Depth::Answer, None);
    check(
        &little,
        &app,
        "arn:aws:orders:eu-west-1:111122223333:order/9",
        Depth::Answer,
        Some(
            "arn:aws:sts::111122223333:assumed-role/Little/s1 is not authorized to perform: countersign:Authorize on resource: \
         arn:aws:orders:eu-west-1:111122223333:order/9",
        ),
    );
    check(&little, &app, ORDER, Depth::Explanation, Some("perform: countersign:Explain"));
    check(
        &little,
        &named("arn:aws:iam::111122223333:role/App"),
        ORDER,
        Depth::Answer,
        Some("perform: countersign:AuthorizePrincipal"),
    );
    check(
        &little,
        &Who::Service("ec2.amazonaws.com".into()),
        ORDER,
        Depth::Answer,
        Some("perform: countersign:AuthorizePrincipal"),
    );
    check(&nobody, &app, ORDER, Depth::Answer, Some("perform: countersign:Authorize"));
    check(&caller(OURS, "Gone"), &app, ORDER, Depth::Answer, Some("the session is over"));
    check(
        &Caller::Service(ServiceName::Gateway),
        &app,
        ORDER,
        Depth::Answer,
        Some("the gateway is not authorized"),
    );
    // Another account's resources, and another tenant's principals, whether they exist or not.
    check(&service, &app, their_order, Depth::Answer, Some("perform: countersign:Authorize"));
    for arn in ["role/Foreign", "role/Nothing", "user/eve"] {
        let who = named(&format!("arn:aws:iam::{THEIRS}:{arn}"));
        check(&service, &who, ORDER, Depth::Answer, Some("the principal is of another account"));
    }
    // A token was shown by its bearer; but it is no leave to read the policies behind it.
    check(&service, &theirs, ORDER, Depth::Answer, None);
    check(&service, &theirs, ORDER, Depth::Explanation, Some("whose policies it would show"));
    check(&service, &theirs, "*", Depth::Answer, Some("perform: countersign:Authorize"));
}

#[test]
fn a_session_policy_limits_the_caller_too() {
    let narrow =
        document(&[r#"{"Effect":"Allow","Action":"countersign:GetStatus","Resource":"*"}"#]);
    let mut session = session(OURS, "Service");
    session.facts.session_policies = vec![Arc::new(parse::parse(&narrow).unwrap())];
    let caller = Caller::Session(Arc::new(session));
    let answer = ask(
        &world(),
        &caller,
        &token_of(OURS, "App"),
        parsed("orders:GetOrder", ORDER),
        Depth::Answer,
    );
    assert!(answer.unwrap_err().contains("perform: countersign:Authorize"));
    assert!(require(&world(), &call(&caller), "countersign:GetStatus", &anything(), NOW).is_ok());
}

#[test]
fn m4_a_call_from_nowhere_is_denied() {
    let nowhere = Call { source: None, ..call(&caller(OURS, "Service")) };
    for action in ["countersign:GetStatus", AUTHORIZE] {
        let refusal = require(&world(), &nowhere, action, &anything(), NOW).unwrap_err();
        assert!(matches!(refusal, Refusal::AccessDenied { .. }), "{refusal}");
    }
}

#[test]
fn owners() {
    fn check(owner: Owner, resource: &str, who: &Who, expected: Result<Option<&str>, ()>) {
        let found = owning_account(owner, &resource.parse().unwrap(), who).map_err(|_| ());
        assert_eq!(
            found,
            expected.map(|account| account.map(|account| account.parse().unwrap())),
            "{owner:?} {resource}"
        );
    }
    let ours: AccountId = OURS.parse().unwrap();
    let theirs: AccountId = THEIRS.parse().unwrap();
    let app = token_of(OURS, "App");
    let service = Who::Service("ec2.amazonaws.com".into());
    check(Owner::Account(theirs), ORDER, &app, Ok(Some(THEIRS)));
    check(Owner::Subject, "*", &app, Ok(Some(OURS)));
    check(Owner::Subject, "arn:aws:s3:::b", &app, Ok(Some(OURS)));
    check(Owner::SubjectIn(ours), "*", &app, Ok(Some(OURS)));
    check(Owner::SubjectIn(theirs), "*", &app, Err(()));
    check(Owner::Subject, "*", &service, Ok(None));
    check(Owner::Subject, "arn:aws:s3:::b", &service, Err(()));
}

#[test]
fn a_resource_policy_that_the_caller_brings() {
    fn check(statement: &str, who: &Who, reason: &str) {
        let mut check = parsed("orders:GetOrder", ORDER);
        check.resource_policy = Some(Arc::new(parse::parse(&document(&[statement])).unwrap()));
        let answer = ask(&world(), &caller(OURS, "Service"), who, check, Depth::Answer);
        assert_eq!(answer.map(|(reason, _)| reason), Ok(reason.to_owned()));
    }
    let allow = |principal: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":{principal},"Action":"orders:GetOrder","Resource":"*"}}"#
        )
    };
    let dave = named("arn:aws:iam::111122223333:user/dave");
    check(
        &allow(r#"{"AWS":"arn:aws:iam::111122223333:user/dave"}"#),
        &dave,
        "ALLOWED_BY_RESOURCE_POLICY",
    );
    check(&allow(r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#), &dave, "NO_IDENTITY_ALLOW");
    check(
        &allow(r#"{"Service":"ec2.amazonaws.com"}"#),
        &Who::Service("ec2.amazonaws.com".into()),
        "ALLOWED_BY_RESOURCE_POLICY",
    );
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}"#;
    check(deny, &token_of(OURS, "App"), "DENIED_BY_RESOURCE_POLICY");
    // Across accounts both sides must allow.
    check(&allow("\"*\""), &token_of(THEIRS, "Foreign"), "NO_IDENTITY_ALLOW");
}

#[test]
fn a_role_is_assumed_only_as_its_trust_policy_says() {
    fn check(user: &str, role: &str, reason: &str) {
        let who = named(&format!("arn:aws:iam::{OURS}:user/{user}"));
        let check = parsed("sts:AssumeRole", &format!("arn:aws:iam::{OURS}:role/{role}"));
        let answer = ask(&world(), &caller(OURS, "Service"), &who, check, Depth::Answer);
        assert_eq!(answer.map(|(reason, _)| reason), Ok(reason.to_owned()), "{user} {role}");
    }
    check("alice", "Target", "ALLOWED_BY_TRUST_POLICY");
    check("alice", "Machine", "NO_TRUST_ALLOW");
    check("alice", "Nothing", "NO_TRUST_ALLOW");
    check("alice", "teams/Target", "NO_TRUST_ALLOW");
    check("carol", "Target", "DENIED_BY_IDENTITY_POLICY");
    check("dave", "Target", "NO_TRUST_ALLOW");
    // Without a role there is no trust policy, and so no way.
    let who = named(&format!("arn:aws:iam::{OURS}:user/alice"));
    for (action, resource) in
        [("sts:AssumeRole", "*"), ("STS:assumerole", "arn:aws:iam::111122223333:user/alice")]
    {
        let answer =
            ask(&world(), &caller(OURS, "Service"), &who, parsed(action, resource), Depth::Answer);
        assert_eq!(
            answer.map(|(reason, _)| reason),
            Ok("NO_TRUST_ALLOW".to_owned()),
            "{action} on {resource}"
        );
    }
}

#[test]
fn a_policy_that_is_missing_is_not_passed_over() {
    let mut world = world();
    world.delete("p/Orders");
    let who = token_of(OURS, "App");
    let answer = ask(
        &world,
        &caller(OURS, "Service"),
        &who,
        parsed("orders:GetOrder", ORDER),
        Depth::Answer,
    );
    let (reason, message) = answer.unwrap();
    assert_eq!(reason, "CANNOT_EVALUATE");
    assert!(message.contains("role App"), "{message}");
}

#[test]
fn a_callers_context_counts_and_shadows_nothing() {
    let statement = r#"{"Effect":"Allow","Action":"orders:GetOrder","Resource":"*","Condition":{
        "StringEquals":{"orders:Region":"eu","aws:ResourceTag/Team":"blue","aws:username":"frank"},
        "IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}"#;
    let mut world = world();
    samples::put(
        &mut world,
        "u/frank",
        Kind::User(samples::user(OURS, "frank", &[("p", statement)])),
    );
    let who = named(&format!("arn:aws:iam::{OURS}:user/frank"));
    for (region, allowed) in [("eu", true), ("us", false)] {
        let mut check = parsed("orders:GetOrder", ORDER);
        for (key, value) in [
            ("orders:Region", region),
            ("aws:ResourceTag/Team", "blue"),
            ("aws:SourceIp", "10.1.2.3"),
        ] {
            check.context.insert(key, value).unwrap();
        }
        let (reason, _) =
            ask(&world, &caller(OURS, "Service"), &who, check, Depth::Answer).unwrap();
        assert_eq!(reason == "ALLOWED_BY_IDENTITY_POLICY", allowed, "{reason}");
    }
    // What conversion refuses already would not get through here either.
    let mut check = parsed("orders:GetOrder", ORDER);
    check.context.insert("AWS:userName", "frank").unwrap();
    let refusal = ask(&world, &caller(OURS, "Service"), &who, check, Depth::Answer).unwrap_err();
    assert!(refusal.starts_with("context"), "{refusal}");
}
