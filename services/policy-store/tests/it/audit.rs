//! What each write leaves behind: its event, and its answer if it was named.

use countersign_policy_store::audit::trail;
use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{
    ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust,
};

const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;

fn wanted(key: LookupAttributeKey, value: &str) -> LookupEventsRequest {
    let attribute =
        LookupAttribute { attribute_key: key.into(), attribute_value: value.to_owned() };
    LookupEventsRequest { lookup_attributes: vec![attribute], ..Default::default() }
}

async fn names(iam: &mut Client<Bearer>, mut request: LookupEventsRequest) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let page = iam.lookup_events(request.clone()).await.unwrap().into_inner();
        names.extend(page.events.into_iter().map(|event| event.event_name));
        request.marker = page.marker;
        if !page.is_truncated {
            return names;
        }
    }
}

#[tokio::test]
async fn each_write_leaves_one_event() {
    let mut store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("ann")).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: "ann".into(), ..Default::default() };
    let key = iam.create_access_key(request).await.unwrap().into_inner().access_key.unwrap();
    iam.create_role(new_role("R", &trust(EC2))).await.unwrap();
    // Refused, checked alone, and reads: none of them is a write.
    refused(iam.create_user(new_user("ann")).await, Code::AlreadyExists, "EntityAlreadyExists");
    let dry = CreateUserRequest { validate_only: true, ..new_user("bob") };
    iam.create_user(dry).await.unwrap();
    iam.get_user(GetUserRequest { user_name: "ann".into() }).await.unwrap();

    let all = iam.lookup_events(LookupEventsRequest::default()).await.unwrap().into_inner().events;
    let found: Vec<&str> = all.iter().map(|event| event.event_name.as_str()).collect();
    assert_eq!(found, ["CreateRole", "CreateAccessKey", "CreateUser"]);
    let event = &all[2];
    assert_eq!(
        (event.username.as_str(), event.event_source.as_str()),
        ("test", "iam.amazonaws.com")
    );
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/ann");
    assert_eq!(event.resources[0].resource_name, arn);
    assert_eq!(event.resources[0].resource_type, "AWS::IAM::User");
    let whole: serde_json::Value = serde_json::from_str(&event.cloud_trail_event).unwrap();
    assert_eq!(whole["eventName"], "CreateUser");
    assert_eq!(whole["requestParameters"]["userName"], "ann");
    assert_eq!(whole["responseElements"]["user"]["arn"], arn.as_str());
    assert_eq!(whole["userIdentity"]["type"], "AssumedRole");
    assert_eq!(whole["sourceIPAddress"], "127.0.0.1");
    // The secret is in no event, nor anywhere in the data folder in plain.
    assert!(all.iter().all(|event| !event.cloud_trail_event.contains(&key.secret_access_key)));
    assert!(all[1].cloud_trail_event.contains(&key.access_key_id));

    use LookupAttributeKey::{EventId, EventName, ReadOnly, ResourceName, ResourceType, Username};
    assert_eq!(names(&mut iam, wanted(EventName, "CreateRole")).await, ["CreateRole"]);
    assert_eq!(names(&mut iam, wanted(EventId, &event.event_id)).await, ["CreateUser"]);
    assert_eq!(names(&mut iam, wanted(ResourceName, "R")).await, ["CreateRole"]);
    assert_eq!(
        names(&mut iam, wanted(ResourceName, &arn)).await,
        ["CreateAccessKey", "CreateUser"]
    );
    assert_eq!(names(&mut iam, wanted(ResourceType, "AWS::IAM::Role")).await, ["CreateRole"]);
    assert_eq!(names(&mut iam, wanted(Username, "test")).await.len(), 3);
    assert_eq!(names(&mut iam, wanted(Username, "nobody")).await, [""; 0]);
    assert_eq!(names(&mut iam, wanted(ReadOnly, "true")).await, [""; 0]);
    let paged = LookupEventsRequest { max_items: 1, ..Default::default() };
    assert_eq!(names(&mut iam, paged).await, ["CreateRole", "CreateAccessKey", "CreateUser"]);
    let time = |event: &AuditEvent| event.event_time;
    let since = LookupEventsRequest { start_time: time(&all[1]), ..Default::default() };
    assert_eq!(names(&mut iam, since).await, ["CreateRole", "CreateAccessKey"]);
    let until = LookupEventsRequest { end_time: time(&all[1]), ..Default::default() };
    assert_eq!(names(&mut iam, until).await, ["CreateAccessKey", "CreateUser"]);
    let between = LookupEventsRequest {
        start_time: time(&all[1]),
        end_time: time(&all[1]),
        ..Default::default()
    };
    assert_eq!(names(&mut iam, between.clone()).await, ["CreateAccessKey"]);
    let backwards = LookupEventsRequest { start_time: time(&all[0]), ..between };
    refused(iam.lookup_events(backwards).await, Code::InvalidArgument, "ValidationError");
    refused(
        iam.lookup_events(wanted(EventName, "")).await,
        Code::InvalidArgument,
        "ValidationError",
    );

    // Another account sees its own alone.
    let account = CreateAccountRequest { account_id: "444455556666".into(), ..Default::default() };
    iam.create_account(account).await.unwrap();
    let mut tenant = store.session("444455556666", "CountersignAdministrator").await;
    tenant.create_user(new_user("theirs")).await.unwrap();
    assert_eq!(names(&mut tenant, LookupEventsRequest::default()).await, ["CreateUser"]);
    assert_eq!(names(&mut iam, LookupEventsRequest::default()).await.len(), 5);

    // The files have all of them, chained, and go on after a restart.
    store.stop().await;
    let folder = store.path().join("audit");
    assert_eq!(trail::verify(&folder).unwrap().sequence, 5);
    store.run(ACCOUNT).await.unwrap();
    let mut iam = store.admin().await;
    iam.create_user(new_user("later")).await.unwrap();
    store.stop().await;
    assert_eq!(trail::verify(&folder).unwrap().sequence, 6);
}

#[tokio::test]
async fn a_named_write_happens_once() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let named = |user_name: &str, id: &str| CreateUserRequest {
        request_id: id.into(),
        ..new_user(user_name)
    };
    let first = iam.create_user(named("ann", "try-1")).await.unwrap().into_inner();
    let again = iam.create_user(named("ann", "try-1")).await.unwrap().into_inner();
    assert_eq!(first, again);
    // Another write of that name is refused, and so are names that are none.
    let mismatch = "IdempotentParameterMismatch";
    refused(iam.create_user(named("bob", "try-1")).await, Code::InvalidArgument, mismatch);
    let role = CreateRoleRequest { request_id: "try-1".into(), ..new_role("R", &trust(EC2)) };
    refused(iam.create_role(role).await, Code::InvalidArgument, mismatch);
    let long = "x".repeat(129);
    for bad in ["a b", "é", "a\n", long.as_str()] {
        let answer = iam.create_user(named("bob", bad)).await;
        refused(answer, Code::InvalidArgument, "ValidationError");
    }
    let both = CreateUserRequest { validate_only: true, ..named("bob", "try-2") };
    refused(iam.create_user(both).await, Code::InvalidArgument, "ValidationError");
    // A new secret is answered again, and kept sealed.
    let request = CreateAccessKeyRequest {
        user_name: "ann".into(),
        request_id: "key-1".into(),
        ..Default::default()
    };
    let first = iam.create_access_key(request.clone()).await.unwrap().into_inner();
    let again = iam.create_access_key(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert!(!again.access_key.unwrap().secret_access_key.is_empty());
    // The name is the caller's own.
    iam.create_role(new_role("Other", &trust(EC2))).await.unwrap();
    let put = PutRolePolicyRequest {
        role_name: "Other".into(),
        policy_name: "p".into(),
        policy_document: allow("iam:*", "*"),
        ..Default::default()
    };
    iam.put_role_policy(put).await.unwrap();
    let mut other = store.session(ACCOUNT, "Other").await;
    refused(
        other.create_user(named("ann", "try-1")).await,
        Code::AlreadyExists,
        "EntityAlreadyExists",
    );
    // Whoever has lost the right meanwhile does not get the answer either.
    let mine = CreateUserRequest { request_id: "mine".into(), ..new_user("mine") };
    other.create_user(mine.clone()).await.unwrap();
    let gone = DeleteRolePolicyRequest {
        role_name: "Other".into(),
        policy_name: "p".into(),
        ..Default::default()
    };
    iam.delete_role_policy(gone).await.unwrap();
    refused(other.create_user(mine).await, Code::PermissionDenied, "AccessDenied");

    // Twenty of one name at once: one write, one answer.
    let attempts = (0..20).map(|_| {
        let mut iam = iam.clone();
        let request = named("eve", "at-once");
        tokio::spawn(async move { iam.create_user(request).await.unwrap().into_inner() })
    });
    let mut answers = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        answers.push(attempt.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let made = wanted(LookupAttributeKey::ResourceName, "eve");
    assert_eq!(names(&mut iam, made).await, ["CreateUser"]);
}

/// As CloudTrail has them; and no way to fill the disk.
#[tokio::test]
async fn what_was_refused_is_in_the_trail_and_bounded() {
    let mut store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_role(new_role("Powerless", &trust(EC2))).await.unwrap();
    let mut powerless = store.session(ACCOUNT, "Powerless").await;
    let attempts = 60;
    for _ in 0..attempts {
        let answer = powerless.create_user(new_user("eve")).await;
        refused(answer, Code::PermissionDenied, "AccessDenied");
    }
    // Asked about, and not done: no event.
    let dry =
        CreateGroupRequest { group_name: "g".into(), validate_only: true, ..Default::default() };
    refused(powerless.create_group(dry).await, Code::PermissionDenied, "AccessDenied");
    let events = async |iam: &mut Client<Bearer>| {
        let asked = wanted(LookupAttributeKey::EventName, "CreateUser");
        let found = iam.lookup_events(asked).await.unwrap().into_inner().events;
        let parsed = found.iter().map(|it| serde_json::from_str(&it.cloud_trail_event).unwrap());
        parsed.collect::<Vec<serde_json::Value>>()
    };
    let mut found = events(&mut iam).await;
    while found.len() < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        found = events(&mut iam).await;
    }
    // Twenty at once, and one a second.
    assert!(found.len() < attempts, "{}", found.len());
    let event = found.last().unwrap();
    assert_eq!(
        (event["errorCode"].as_str(), event["responseElements"].is_null()),
        (Some("AccessDenied"), true)
    );
    let message = event["errorMessage"].as_str().unwrap();
    assert!(message.contains("is not authorized to perform: iam:CreateUser"), "{message}");
    assert_eq!(event["requestParameters"]["userName"], "eve");
    assert_eq!(event["resources"][0]["ARN"], format!("arn:aws:iam::{ACCOUNT}:user/eve").as_str());
    assert_eq!(event["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], "Powerless");
    assert_eq!(
        names(&mut iam, wanted(LookupAttributeKey::EventName, "CreateGroup")).await,
        Vec::<String>::new()
    );

    // How many are missing is said by the next one, and the sum is what was refused.
    let told = |found: &[serde_json::Value]| -> u64 {
        let missing = |event: &serde_json::Value| {
            event["additionalEventData"]["refusedAndNotRecorded"].as_u64()
        };
        found.len() as u64 + found.iter().filter_map(missing).sum::<u64>()
    };
    let mut asked = attempts as u64;
    while told(&found) < asked {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        powerless.create_user(new_user("eve")).await.unwrap_err();
        asked += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        found = events(&mut iam).await;
    }
    assert_eq!(told(&found), asked);
    // They are in the files too, in the chain with the others.
    store.stop().await;
    let head = trail::verify(&store.path().join("audit")).unwrap();
    assert_eq!(head.sequence, found.len() as u64 + 1);
}
