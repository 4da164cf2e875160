//! The short way against the general one: the same answers, byte for byte, or none.

mod faults;
mod streams;
mod tokens;

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeResponse, BatchAuthorizeRequest, BatchAuthorizeResponse,
        Check as CheckMessage, ContextValue, authorize_request::Subject, batch_authorize_request,
        context_value::Kind,
    },
    policy::v1::{
        GroupRecord, InlinePolicy, ManagedPolicyRecord, ResourcePolicyRecord, RevokedTokenRecord,
        RoleRecord, SigningKeyRecord, Tag, UserRecord, record::Record,
    },
};
use countersign_replica::{Follower, Replica, World};
use countersign_serve::{ServiceCredential, ServiceIdentities, ServiceSecret};
use countersign_token::{
    Caller as ProvenBy, Claims, Confirmation, Realm, Session, SigningKey, mint,
};
use http::{HeaderMap, header::AUTHORIZATION};
use prost::Message;

use super::*;
use crate::{
    authn::Call,
    check,
    config::Config,
    convert, decider,
    samples::{self, OURS, THEIRS},
    session::{self, Came, OWN_AUDIENCE, Opened},
};

/// A generator that everybody can follow: SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(most).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }
}

struct Both {
    decider: Decider,
    direct: Direct,
    follower: Follower,
    key: SigningKey,
    number: u64,
    world: World,
}

impl Both {
    fn new() -> Self {
        let (replica, follower) = Replica::new("test", &[]);
        let secret = ServiceSecret::generate().unwrap();
        let config = Config::new(
            "http://127.0.0.1:7400",
            "http://127.0.0.1:1",
            ServiceCredential::new(&secret),
            ServiceIdentities::default(),
        );
        let decider = Decider::new(replica, &config);
        let key = SigningKey::generate().unwrap();
        let mut own = Self {
            direct: Direct::new(decider.clone()),
            decider,
            follower,
            key,
            number: 1,
            world: world(),
        };
        own.put_key(false);
        own.show();
        own
    }

    fn put_key(&mut self, revoked: bool) {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let record = SigningKeyRecord {
            kid: self.key.kid().to_owned(),
            jwk: self.key.public().to_jwk(),
            publisher: "gateway".into(),
            publish_date: at(decider::now()),
            signs_until: at(decider::now() + 3600),
            accept_until: at(decider::now() + 7200),
            revoked,
        };
        samples::put(&mut self.world, "key", Record::SigningKey(record));
    }

    fn show(&mut self) {
        self.number += 1;
        let revision = format!("aaaa:{}", self.number).parse().unwrap();
        self.follower.hold(revision, self.world.clone());
    }

    fn change(&mut self, key: &str, record: Record) {
        samples::put(&mut self.world, key, record);
        self.show();
    }

    fn token(&self, account: &str, role: &str, audience: &str, tags: &[(&str, &str)]) -> String {
        self.token_with(account, role, audience, tags, |_| {})
    }

    fn token_with(
        &self,
        account: &str,
        role: &str,
        audience: &str,
        tags: &[(&str, &str)],
        change: impl FnOnce(&mut Claims),
    ) -> String {
        let session = Session {
            account: account.into(),
            partition: "aws".into(),
            role_name: role.into(),
            role_id: format!("AROA{}", role.to_uppercase()),
            session_name: "s1".into(),
            source_identity: None,
            session_tags: tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            transitive_tag_keys: Default::default(),
            session_policies: Vec::new(),
            narrowings: Vec::new(),
            parents: Vec::new(),
            proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
            caller: ProvenBy {
                realm: Realm::Countersign,
                account: account.into(),
                unique_id: "AIDAALICE".into(),
                arn: format!("arn:aws:iam::{account}:user/alice"),
            },
            revision: "aaaa:1".into(),
        };
        let now = decider::now();
        let issuer = "http://127.0.0.1:7400".to_owned();
        let mut claims =
            Claims::for_session(issuer, audience.into(), now, now + 900, session).unwrap();
        change(&mut claims);
        mint(&claims, &self.key).unwrap()
    }

    /// The general way: the door, then the verb. `None` for whatever is refused.
    async fn general(&self, token: &str, request: AuthorizeRequest) -> Option<AuthorizeResponse> {
        let call = self.call(token).await?;
        let question = convert::authorize_question(request).ok()?;
        check::authorize(&self.decider, &call, question).await.ok()
    }

    async fn call(&self, token: &str) -> Option<Call> {
        let deadline = std::time::Instant::now();
        let (audience, possession) = (Some(OWN_AUDIENCE), &convert::Possession::default());
        let presented = session::Presented { token, audience, possession, came: Came::ToAsker };
        let opened = session::open(&self.decider, presented, decider::now(), deadline).await;
        let Opened { view, session, signed: _ } = opened.ok()?;
        check::session_subject(view.world(), &session).ok()?;
        let caller = crate::authn::Caller::Session(Arc::new(session));
        Some(Call { caller, source: Some("10.0.0.1".parse().unwrap()), deadline })
    }

    fn short(&self, token: &str, request: &AuthorizeRequest) -> Option<AuthorizeResponse> {
        let mut out = Vec::new();
        self.direct.authorize(&headers(token), &request.encode_to_vec(), &mut out)?;
        let answer = AuthorizeResponse::decode(out.as_slice()).unwrap();
        assert_eq!(answer.encode_to_vec(), out, "what prost would write");
        Some(answer)
    }

    /// Whether the short way answered; if so, as the general one does.
    async fn check(&self, token: &str, request: AuthorizeRequest) -> bool {
        let shown = format!("{} {} {:?}", request.action, request.resource, request.context);
        let expected = self.general(token, request.clone()).await;
        let Some(mut answer) = self.short(token, &request) else { return false };
        let mut expected = expected.unwrap_or_else(|| panic!("refused: {shown}: {answer:?}"));
        assert!(answer.decision_id.len() == 18 && answer.decision_id.starts_with("d-"));
        for one in [&mut answer, &mut expected] {
            one.decision_id.clear();
            one.snapshot_age = None;
        }
        assert_eq!(answer, expected, "{shown}");
        true
    }
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    headers
}

fn managed(name: &str, statement: &str) -> Record {
    Record::ManagedPolicy(ManagedPolicyRecord {
        account_id: OURS.into(),
        policy_name: name.into(),
        arn: format!("arn:aws:iam::{OURS}:policy/{name}"),
        default_version_id: "v1".into(),
        document: samples::document(&[statement]),
        ..Default::default()
    })
}

fn arn_of_policy(name: &str) -> String {
    format!("arn:aws:iam::{OURS}:policy/{name}")
}

/// Users and roles with policies of every type that the short way knows.
fn world() -> World {
    let mut world = samples::world();
    let team = r#"{"Sid":"Team","Effect":"Allow","Action":"orders:*","Resource":"*","Condition":{"StringEquals":{"orders:team":"${aws:PrincipalTag/team}"}}}"#;
    let near = r#"{"Effect":"Allow","Action":"orders:Get*","Resource":"arn:aws:orders:*:*:order/4*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}"#;
    let never = r#"{"Sid":"Never","Effect":"Deny","Action":"orders:DeleteOrder","Resource":"*"}"#;
    let reads = r#"{"Effect":"Allow","Action":"orders:Get*","Resource":"*"}"#;
    for (name, statement) in [("Team", team), ("Near", near), ("Never", never), ("Reads", reads)] {
        samples::put(&mut world, &format!("p/{name}"), managed(name, statement));
    }
    let group = GroupRecord {
        account_id: OURS.into(),
        path: "/".into(),
        group_name: "g".into(),
        group_id: "AGPAG".into(),
        inline_policies: vec![InlinePolicy {
            policy_name: "in-group".into(),
            policy_document: samples::document(&[reads]),
        }],
        attached_policy_arns: vec![arn_of_policy("Never")],
        create_date: None,
    };
    samples::put(&mut world, "g/g", Record::Group(group));
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let attached = |names: &[&str]| names.iter().map(|name| arn_of_policy(name)).collect();
    let users = [
        UserRecord {
            attached_policy_arns: attached(&["Team", "Near"]),
            tags: vec![tag("team", "blue")],
            ..samples::user(OURS, "tagged", &[])
        },
        UserRecord { group_ids: vec!["AGPAG".into()], ..samples::user(OURS, "grouped", &[]) },
        UserRecord {
            attached_policy_arns: attached(&["Team", "Orders"]),
            permissions_boundary_arn: arn_of_policy("Reads"),
            ..samples::user(OURS, "bounded", &[("own", near)])
        },
        UserRecord {
            attached_policy_arns: attached(&["Gone"]),
            ..samples::user(OURS, "missing", &[("own", reads)])
        },
        UserRecord {
            path: "/far/away/".into(),
            ..samples::user(OURS, "pathed", &[("own", reads)])
        },
    ];
    for user in users {
        samples::put(&mut world, &format!("u/{}", user.user_name), Record::User(user));
    }
    let role = RoleRecord {
        attached_policy_arns: attached(&["Team", "Never"]),
        tags: vec![tag("team", "red")],
        ..samples::role(OURS, "Tagged", &[])
    };
    samples::put(&mut world, "r/Tagged", Record::Role(role));
    let ask_here = r#"{"Effect":"Allow","Action":"countersign:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}"#;
    let role = samples::role(OURS, "AsksHere", &[("ask", ask_here)]);
    samples::put(&mut world, "r/AsksHere", Record::Role(role));
    world
}

const USERS: [&str; 10] = [
    "user/alice",
    "user/tagged",
    "user/grouped",
    "user/bounded",
    "user/missing",
    "user/pathed",
    "user/far/away/pathed",
    "user/nobody",
    "role/App",
    "role/Tagged",
];

const ACTIONS: [&str; 8] = [
    "orders:GetOrder",
    "orders:DeleteOrder",
    "ORDERS:getorder",
    "orders:Ship",
    // Not plain, or not actions.
    "iam:GetUser",
    "countersign:Authorize",
    "orders",
    "orders:Get*",
];

const RESOURCES: [&str; 8] = [
    "arn:aws:orders:eu-west-1:111122223333:order/42",
    "arn:aws:orders:eu-west-1:111122223333:order/7",
    "arn:aws:orders::111122223333:kept/1",
    "arn:aws:orders:eu-west-1:444455556666:order/42",
    "arn:aws:s3:::bucket/key",
    "arn:aws-cn:orders:eu-west-1:111122223333:order/42",
    "arn:aws:orders:eu-west-1:111122223333:",
    "*",
];

const KEYS: [&str; 9] = [
    "orders:team",
    "aws:SourceIp",
    "orders:amount",
    "orders:Team",
    "aws:sourceip",
    "aws:PrincipalArn",
    "aws:RequestTag/a",
    "none",
    ":",
];

const SHIPS: &str = r#"{"Effect":"Allow","Action":"orders:Ship","Resource":"*"}"#;

fn some_of<'a>(chance: &mut Chance, plain: bool, texts: &[&'a str], plain_ones: usize) -> &'a str {
    chance.of(if plain { &texts[..plain_ones] } else { texts })
}

/// Mostly plain.
fn question(chance: &mut Chance, tokens: &[String]) -> AuthorizeRequest {
    let plain = chance.below(4) != 0;
    let value = |text: &str| ContextValue { kind: Some(Kind::Value(text.into())) };
    let subject = match chance.below(3) {
        0 => Subject::Token(tokens[chance.below(tokens.len())].clone()),
        _ => {
            let account = if chance.below(20) == 0 { THEIRS } else { OURS };
            Subject::PrincipalArn(format!("arn:aws:iam::{account}:{}", chance.of(&USERS)))
        }
    };
    let by_token = matches!(subject, Subject::Token(_));
    let mut request = AuthorizeRequest {
        subject: Some(subject),
        audience: if by_token { "orders".into() } else { String::new() },
        action: some_of(chance, plain, &ACTIONS, 4).into(),
        resource: some_of(chance, plain, &RESOURCES, 3).into(),
        ..Default::default()
    };
    for _ in 0..chance.below(4) {
        let key = some_of(chance, plain, &KEYS, 3);
        let text = chance.of(&["blue", "red", "10.1.2.3", "192.0.2.1", "", "7"]);
        request.context.insert(key.into(), value(text));
    }
    if chance.below(40) == 0 {
        request.resource_tags.insert("team".into(), "blue".into());
    }
    if chance.below(30) == 0 {
        request.at_least_revision = "aaaa:1".into();
    }
    request
}

/// Whatever is asked, by whomever: the short way says what the general one says, or nothing.
#[tokio::test]
async fn the_short_way_gives_the_general_answers() {
    let mut both = Both::new();
    let callers = [
        both.token(OURS, "Service", OWN_AUDIENCE, &[]),
        both.token(OURS, "Little", OWN_AUDIENCE, &[]),
        both.token(OURS, "AsksHere", OWN_AUDIENCE, &[]),
        both.token(OURS, "App", OWN_AUDIENCE, &[]),
        both.token(THEIRS, "Foreign", OWN_AUDIENCE, &[]),
        both.token(OURS, "Service", "orders", &[]),
        "rubbish".to_owned(),
    ];
    let subjects = [
        both.token(OURS, "App", "orders", &[]),
        both.token(OURS, "Tagged", "orders", &[]),
        both.token(OURS, "Tagged", "orders", &[("team", "blue")]),
        both.token(OURS, "Nobody", "orders", &[]),
        both.token(THEIRS, "Foreign", "orders", &[]),
        both.token(OURS, "App", "others", &[]),
        both.token_with(OURS, "App", "orders", &[], |claims| {
            claims.session.narrowings = vec![vec![samples::document(&[SHIPS])]];
        }),
        both.token_with(OURS, "App", "orders", &[], |claims| {
            claims.session.session_policies = vec![samples::document(&[SHIPS])];
        }),
        both.token_with(OURS, "Tagged", "orders", &[], |claims| {
            claims.cnf = Some(Confirmation::Key("k".repeat(43)));
        }),
    ];
    let mut chance = Chance(7);
    let mut short = [0; 7];
    for turn in 0..12_000 {
        let number = if turn % 2 == 0 { 0 } else { chance.below(callers.len()) };
        let request = question(&mut chance, &subjects);
        short[number] += usize::from(both.check(&callers[number], request).await);
        // Something changes now and then.
        if turn % 500 == 499 {
            let statement = chance.of(&[
                r#"{"Effect":"Allow","Action":"orders:*","Resource":"*"}"#,
                r#"{"Effect":"Deny","Action":"orders:Ship","Resource":"*"}"#,
                r#"{"Effect":"Allow","Action":"orders:Ship","Resource":"*"}"#,
            ]);
            both.change("p/Near", managed("Near", statement));
        }
    }
    // Those that may ask everything go the short way, and nobody else does.
    let [service, little, here, app, _foreign, other, rubbish] = short;
    assert!(service > 1_500, "{short:?}");
    assert_eq!([little, here, app, other, rubbish], [0; 5], "{short:?}");
}

/// Each change counts for the very next question.
#[tokio::test]
async fn what_is_remembered_ends_with_what_it_was_made_of() {
    let plain = |subject: Subject| AuthorizeRequest {
        audience: if matches!(subject, Subject::Token(_)) {
            "orders".into()
        } else {
            String::new()
        },
        subject: Some(subject),
        action: "orders:GetOrder".into(),
        resource: format!("arn:aws:orders:eu-west-1:{OURS}:order/42"),
        ..Default::default()
    };
    let pathed =
        || plain(Subject::PrincipalArn(format!("arn:aws:iam::{OURS}:user/far/away/pathed")));
    /// Asked before and after; the short way answers before, and afterwards or not.
    async fn check(
        request: &dyn Fn(&Both) -> AuthorizeRequest,
        change: &dyn Fn(&mut Both),
        (before, after): (Option<bool>, Option<bool>),
    ) {
        let mut both = Both::new();
        let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
        let request = request(&both);
        for _ in 0..2 {
            both.check(&caller, request.clone()).await;
        }
        let allowed = |both: &Both| both.short(&caller, &request).map(|answer| answer.allowed);
        assert_eq!(allowed(&both), before);
        change(&mut both);
        // Before the general way has seen it, and after.
        assert_eq!(allowed(&both), after);
        both.check(&caller, request.clone()).await;
    }
    let same = |_: &mut Both| {};
    check(&|_| pathed(), &same, (Some(true), Some(true))).await;
    // The user's own record.
    let user = |record: UserRecord| {
        move |both: &mut Both| both.change("u/pathed", Record::User(record.clone()))
    };
    let without = UserRecord { path: "/far/away/".into(), ..samples::user(OURS, "pathed", &[]) };
    check(&|_| pathed(), &user(without.clone()), (Some(true), Some(false))).await;
    let moved = UserRecord { path: "/".into(), ..without.clone() };
    check(&|_| pathed(), &user(moved), (Some(true), None)).await;
    let gone = |both: &mut Both| {
        both.world.delete("u/pathed");
        both.show();
    };
    check(&|_| pathed(), &gone, (Some(true), None)).await;
    // What stands over it: its account, and what cannot be read.
    let no_account = |both: &mut Both| {
        both.world.delete("a/ours");
        both.show();
    };
    check(&|_| pathed(), &no_account, (Some(true), None)).await;
    // A stored policy of the resource.
    let stored = ResourcePolicyRecord {
        account_id: OURS.into(),
        resource_arn: format!("arn:aws:orders:eu-west-1:{OURS}:order/*"),
        policy: samples::document(&[
            r#"{"Effect":"Deny","Principal":"*","Action":"orders:*","Resource":"*"}"#,
        ]),
        ..Default::default()
    };
    let store = move |both: &mut Both| both.change("rp", Record::ResourcePolicy(stored.clone()));
    check(&|_| pathed(), &store, (Some(true), None)).await;
    // A session: its managed policy, its role, its key, itself.
    let session = |both: &Both| plain(Subject::Token(both.token(OURS, "App", "orders", &[])));
    let denying = |both: &mut Both| {
        let deny = r#"{"Effect":"Deny","Action":"orders:*","Resource":"*"}"#;
        both.change("p/Orders", managed("Orders", deny));
    };
    check(&session, &denying, (Some(true), Some(false))).await;
    let again = |both: &mut Both| {
        let role = RoleRecord { role_id: "AROAOTHER".into(), ..samples::role(OURS, "App", &[]) };
        both.change("r/App", Record::Role(role));
    };
    check(&session, &again, (Some(true), None)).await;
    let over = |both: &mut Both| {
        let at = prost_types::Timestamp { seconds: decider::now() + 60, nanos: 0 };
        let role =
            RoleRecord { sessions_revoked_before: Some(at), ..samples::role(OURS, "App", &[]) };
        both.change("r/App", Record::Role(role));
    };
    check(&session, &over, (Some(true), None)).await;
    let key = |both: &mut Both| {
        both.put_key(true);
        both.show();
    };
    check(&session, &key, (Some(true), None)).await;
    // The caller's own role, and its policies.
    let silent = |both: &mut Both| {
        both.change("r/Service", Record::Role(samples::role(OURS, "Service", &[])));
    };
    check(&session, &silent, (Some(true), None)).await;
    check(&|_| pathed(), &silent, (Some(true), None)).await;
}

/// A batch is its questions: each has the answer that it would have alone.
#[tokio::test]
async fn a_batch_is_its_questions() {
    let both = Both::new();
    let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
    let mut chance = Chance(11);
    let mut short = 0;
    for _ in 0..300 {
        let arn = format!("arn:aws:iam::{OURS}:{}", chance.of(&USERS));
        let asked: Vec<AuthorizeRequest> = (0..=chance.below(5))
            .map(|_| AuthorizeRequest {
                subject: Some(Subject::PrincipalArn(arn.clone())),
                audience: String::new(),
                action: chance.of(&["orders:GetOrder", "orders:Ship"]).into(),
                resource: format!("arn:aws:orders:eu-west-1:{OURS}:order/{}", chance.below(9)),
                ..question(&mut chance, &[String::new()])
            })
            .collect();
        let checks = asked.iter().map(|one| CheckMessage {
            action: one.action.clone(),
            resource: one.resource.clone(),
            context: one.context.clone(),
            resource_tags: one.resource_tags.clone(),
            ..Default::default()
        });
        let batch = BatchAuthorizeRequest {
            subject: Some(batch_authorize_request::Subject::PrincipalArn(arn)),
            checks: checks.collect(),
            ..Default::default()
        };
        let call = both.call(&caller).await.unwrap();
        let general = match convert::batch_question(batch.clone()) {
            Ok(question) => check::many::batch(&both.decider, &call, question).await.ok(),
            Err(_) => None,
        };
        let mut out = Vec::new();
        let bytes = batch.encode_to_vec();
        if both.direct.batch(&headers(&caller), &bytes, &mut out).is_none() {
            continue;
        }
        short += 1;
        let mut answers = BatchAuthorizeResponse::decode(out.as_slice()).unwrap().answers;
        assert_eq!(BatchAuthorizeResponse { answers: answers.clone() }.encode_to_vec(), out);
        let mut expected = general.expect("the general way answers it").answers;
        for one in answers.iter_mut().chain(&mut expected) {
            one.decision_id.clear();
            one.snapshot_age = None;
        }
        assert_eq!(answers, expected);
    }
    assert!(short > 30, "{short}");
}
