//! Who may do what: every RPC, asked by every kind of caller, held to a table that a reviewer reads (authorization.txt). A new RPC
//! fails here until it has a row. `COUNTERSIGN_BLESS=1 cargo test -p countersign-policy-store --test it matrix` writes the table anew.
//!
//! Writes are asked with `validate_only`, so each question is put to the same store. The few that know no such thing are the gateways'
//! own, or name what is not there.

use std::{collections::BTreeSet, fmt::Write, pin::Pin, time::SystemTime};

use countersign_proto::{FILE_DESCRIPTOR_SET, policy::v1::*};
use countersign_serve::ServiceCredential;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request, Status, service::Interceptor};

use crate::{
    matrix_rows::rows,
    support::{ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, trust},
};

const TENANT: &str = "222222222222";
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/authorization.txt");

/// A caller of any kind.
#[derive(Clone)]
pub enum Whoever {
    Nobody,
    Session(Bearer),
    Service(ServiceCredential),
}

impl Interceptor for Whoever {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match self {
            Self::Nobody => Ok(request),
            Self::Session(bearer) => bearer.call(request),
            Self::Service(credential) => credential.call(request),
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Status>>>>;

/// One RPC, with a request that is sound in [`fixture`].
pub struct Row {
    pub rpc: &'static str,
    /// What a session of the first account needs for it; nothing helps where it is empty.
    pub actions: &'static [&'static str],
    pub resource: &'static str,
    pub call: Box<dyn Fn(Client<Whoever>) -> Answer>,
}

/// What the rows name.
pub struct Fixture {
    pub access_key_id: String,
    pub user_id: String,
    pub unit_id: String,
    pub guardrail_id: String,
    pub jwk: String,
    pub soon: prost_types::Timestamp,
    pub today: String,
}

async fn fixture(store: &TestStore) -> Fixture {
    let mut iam = store.admin().await;
    let policy = |policy_name: &str| CreatePolicyRequest {
        policy_name: policy_name.into(),
        policy_document: allow("s3:GetObject", "*"),
        ..Default::default()
    };
    iam.create_account(CreateAccountRequest { account_id: TENANT.into(), ..Default::default() })
        .await
        .unwrap();
    let user = iam.create_user(new_user("alice")).await.unwrap().into_inner().user.unwrap();
    iam.create_role(new_role("Deploy", &trust(r#"{"Service":"ec2.amazonaws.com"}"#)))
        .await
        .unwrap();
    iam.create_group(CreateGroupRequest { group_name: "Staff".into(), ..Default::default() })
        .await
        .unwrap();
    iam.create_policy(policy("Rules")).await.unwrap();
    let version = CreatePolicyVersionRequest {
        policy_arn: format!("arn:aws:iam::{ACCOUNT}:policy/Rules"),
        policy_document: allow("s3:PutObject", "*"),
        ..Default::default()
    };
    iam.create_policy_version(version).await.unwrap();
    let key = CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    let key = iam.create_access_key(key).await.unwrap().into_inner().access_key.unwrap();
    let unit = CreateOrganizationalUnitRequest { name: "Prod".into(), ..Default::default() };
    let unit = iam.create_organizational_unit(unit).await.unwrap().into_inner();
    let guardrail = CreateGuardrailRequest {
        name: "Fence".into(),
        content: allow("*", "*"),
        r#type: GuardrailType::ServiceControlPolicy.into(),
        ..Default::default()
    };
    let guardrail = iam.create_guardrail(guardrail).await.unwrap().into_inner();
    let now = time::OffsetDateTime::now_utc().date();
    Fixture {
        access_key_id: key.access_key_id,
        user_id: user.user_id,
        unit_id: unit.organizational_unit.unwrap().id,
        guardrail_id: guardrail.guardrail.unwrap().guardrail_summary.unwrap().id,
        jwk: store.signing_key.public().to_jwk(),
        soon: (SystemTime::now() + std::time::Duration::from_secs(600)).into(),
        today: format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day()),
    }
}

/// Gives a role of an account one inline policy, or takes it away.
async fn grant(admin: &mut Client<Bearer>, role_name: &str, document: Option<String>) {
    match document {
        Some(policy_document) => {
            let put = PutRolePolicyRequest {
                role_name: role_name.into(),
                policy_name: "P".into(),
                policy_document,
                ..Default::default()
            };
            admin.put_role_policy(put).await.unwrap();
        }
        None => {
            let delete = DeleteRolePolicyRequest {
                role_name: role_name.into(),
                policy_name: "P".into(),
                ..Default::default()
            };
            // It may have none.
            let _ = admin.delete_role_policy(delete).await;
        }
    }
}

fn policy(actions: &[&str], resource: &str) -> Option<String> {
    (!actions.is_empty()).then(|| {
        let actions = actions.join(r#"",""#);
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["{actions}"],"Resource":"{resource}"}}]}}"#
        )
    })
}

fn word(answer: &Result<(), Status>) -> &'static str {
    match answer.as_ref().map_err(Status::code) {
        Ok(()) => "yes",
        Err(Code::PermissionDenied) => "no",
        Err(Code::Unauthenticated) => "who?",
        Err(Code::NotFound) => "missing",
        Err(Code::InvalidArgument) => "invalid",
        Err(Code::Unimplemented) => "later",
        Err(Code::FailedPrecondition) => "conflict",
        Err(Code::AlreadyExists) => "exists",
        Err(other) => panic!("{other:?}: {answer:?}"),
    }
}

const HEADING: &str = "\
# Every RPC of the policy store, by kind of caller. Made by matrix.rs; read it as a whole when it changes.
#
# yes: done (or, of a write, it would be). no: PERMISSION_DENIED. who?: UNAUTHENTICATED. later: not implemented. missing, conflict,
# exists: the caller may, and the request failed for what it names; `stranger` and `tenant` act in their own account, which has no such
# thing. invalid: refused before the caller is judged, as an ARN of another account is.
#
# nobody: no credentials. garbage: a token that is none. gateway, decision: service identities. stranger: a session of another account
# that is allowed every action on what IAM has in the first. tenant: the administrator of another account. bare: a session of the first
# account without policies. wrong: one with the right action on another resource. exact: one with exactly the action on the resource.
# operator: the administrator of the first account.
";

#[tokio::test]
async fn every_rpc_answers_each_kind_of_caller_as_the_table_says() {
    let store = TestStore::start().await;
    let fixture = fixture(&store).await;
    let mut admin = store.admin().await;
    let mut tenant_admin = store.session(TENANT, "CountersignAdministrator").await;
    for (admin, account, roles) in [
        (&mut admin, ACCOUNT, &["Bare", "Wrong", "Exact"][..]),
        (&mut tenant_admin, TENANT, &["Stranger"]),
    ] {
        for role in roles {
            let trusting = trust(&format!(r#"{{"AWS":"{account}"}}"#));
            admin.create_role(new_role(role, &trusting)).await.unwrap();
        }
    }
    let everything = allow("*", &format!("arn:aws:iam::{ACCOUNT}:*"));
    grant(&mut tenant_admin, "Stranger", Some(everything)).await;

    let mut callers = vec![
        ("nobody", Whoever::Nobody),
        ("garbage", Whoever::Session(Bearer("eyJhbGciOiJub25lIn0.e30.".to_owned()))),
        ("gateway", Whoever::Service(store.gateway_credential())),
        ("decision", Whoever::Service(store.decision_credential())),
    ];
    for (name, account, role) in [
        ("stranger", TENANT, "Stranger"),
        ("tenant", TENANT, "CountersignAdministrator"),
        ("bare", ACCOUNT, "Bare"),
        ("wrong", ACCOUNT, "Wrong"),
        ("exact", ACCOUNT, "Exact"),
        ("operator", ACCOUNT, "CountersignAdministrator"),
    ] {
        let role_id = store.role_id(account, role).await;
        callers.push((
            name,
            Whoever::Session(store.token(account, role, &role_id, "countersign", 900)),
        ));
    }

    let mut table = HEADING.to_owned();
    let names: String = callers.iter().map(|(name, _)| format!(" {name:<9}")).collect();
    writeln!(table, "{:<38}{}", "", names.trim_end()).unwrap();
    for row in rows(&fixture) {
        grant(&mut admin, "Exact", policy(row.actions, row.resource)).await;
        let elsewhere = format!("arn:aws:iam::{ACCOUNT}:user/Elsewhere");
        grant(&mut admin, "Wrong", policy(row.actions, &elsewhere)).await;
        let mut words = String::new();
        for (_, caller) in &callers {
            let answer = (row.call)(store.client(caller.clone())).await;
            write!(words, " {:<9}", word(&answer)).unwrap();
        }
        writeln!(table, "{:<38}{}", row.rpc, words.trim_end()).unwrap();
    }

    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        std::fs::write(GOLDEN, &table).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    for (made, kept) in table.lines().zip(golden.lines()) {
        assert_eq!(made, kept, "COUNTERSIGN_BLESS=1 writes {GOLDEN} anew");
    }
    assert_eq!(
        table.lines().count(),
        golden.lines().count(),
        "COUNTERSIGN_BLESS=1 writes {GOLDEN} anew"
    );
}

/// Whoever adds an RPC says who may call it.
#[tokio::test]
async fn matrix_has_a_row_for_every_rpc() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let service = services.filter(|service| service.name() == "PolicyStoreService");
    let rpcs: BTreeSet<&str> =
        service.flat_map(|service| &service.method).map(|rpc| rpc.name()).collect();
    let any = Fixture {
        access_key_id: String::new(),
        user_id: String::new(),
        unit_id: String::new(),
        guardrail_id: String::new(),
        jwk: String::new(),
        soon: SystemTime::now().into(),
        today: String::new(),
    };
    let rows = rows(&any);
    let covered: BTreeSet<&str> = rows.iter().map(|row| row.rpc).collect();
    assert_eq!(covered.len(), rows.len(), "an RPC has two rows");
    assert_eq!(covered, rpcs);
}
