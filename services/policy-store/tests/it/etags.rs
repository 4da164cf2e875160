//! Two people who edit one document: the second is told, and nothing is overwritten unseen.

use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{
    ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust,
};

const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;
const ARN: &str = "arn:aws:orders:us-east-1:123456789012:order/1";

/// A document that can be edited.
#[derive(Clone, Copy, Debug)]
enum Document {
    User,
    Group,
    Role,
    Trust,
    Resource,
    Guardrail,
}

struct Editor {
    iam: Client<Bearer>,
    guardrail_id: String,
}

fn text(document: Document, action: &str) -> String {
    match document {
        Document::User | Document::Group | Document::Role | Document::Guardrail => {
            allow(action, "*")
        }
        Document::Trust => trust(EC2).replace(
            "sts:AssumeRole",
            &format!(r#"sts:AssumeRole","Sid":"{}"#, action.replace(':', "")),
        ),
        Document::Resource => format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"{action}","Resource":"{ARN}"}}]}}"#
        ),
    }
}

impl Editor {
    /// Puts a document in force; the etag of what is there then.
    async fn put(
        &mut self,
        document: Document,
        action: &str,
        etag: &str,
    ) -> Result<tonic::Response<String>, tonic::Status> {
        let (policy_document, etag) = (text(document, action), etag.to_owned());
        let policy_name = "p".to_owned();
        let answered = match document {
            Document::User => {
                let user_name = "u".to_owned();
                let put = PutUserPolicyRequest {
                    user_name,
                    policy_name,
                    policy_document,
                    etag,
                    ..Default::default()
                };
                self.iam.put_user_policy(put).await?.into_inner().etag
            }
            Document::Group => {
                let group_name = "g".to_owned();
                let put = PutGroupPolicyRequest {
                    group_name,
                    policy_name,
                    policy_document,
                    etag,
                    ..Default::default()
                };
                self.iam.put_group_policy(put).await?.into_inner().etag
            }
            Document::Role => {
                let role_name = "r".to_owned();
                let put = PutRolePolicyRequest {
                    role_name,
                    policy_name,
                    policy_document,
                    etag,
                    ..Default::default()
                };
                self.iam.put_role_policy(put).await?.into_inner().etag
            }
            Document::Trust => {
                let role_name = "r".to_owned();
                let put = UpdateAssumeRolePolicyRequest {
                    role_name,
                    policy_document,
                    etag,
                    ..Default::default()
                };
                self.iam.update_assume_role_policy(put).await?.into_inner().etag
            }
            Document::Resource => {
                let (resource_arn, policy) = (ARN.to_owned(), policy_document);
                let put =
                    PutResourcePolicyRequest { resource_arn, policy, etag, ..Default::default() };
                self.iam.put_resource_policy(put).await?.into_inner().etag
            }
            Document::Guardrail => {
                let (guardrail_id, content) = (self.guardrail_id.clone(), Some(policy_document));
                let put =
                    UpdateGuardrailRequest { guardrail_id, content, etag, ..Default::default() };
                self.iam.update_guardrail(put).await?.into_inner().guardrail.unwrap().etag
            }
        };
        Ok(tonic::Response::new(answered))
    }

    /// Deletes what holds the document.
    async fn delete(&mut self, document: Document, etag: &str) -> Result<(), tonic::Status> {
        let (policy_name, etag) = ("p".to_owned(), etag.to_owned());
        match document {
            Document::User => {
                let user_name = "u".to_owned();
                let gone =
                    DeleteUserPolicyRequest { user_name, policy_name, etag, ..Default::default() };
                self.iam.delete_user_policy(gone).await.map(drop)
            }
            Document::Group => {
                let group_name = "g".to_owned();
                let gone = DeleteGroupPolicyRequest {
                    group_name,
                    policy_name,
                    etag,
                    ..Default::default()
                };
                self.iam.delete_group_policy(gone).await.map(drop)
            }
            Document::Role => {
                let role_name = "r".to_owned();
                let gone =
                    DeleteRolePolicyRequest { role_name, policy_name, etag, ..Default::default() };
                self.iam.delete_role_policy(gone).await.map(drop)
            }
            Document::Trust => {
                let role_name = "r".to_owned();
                let gone = DeleteRoleRequest { role_name, etag, ..Default::default() };
                self.iam.delete_role(gone).await.map(drop)
            }
            Document::Resource => {
                let resource_arn = ARN.to_owned();
                let gone = DeleteResourcePolicyRequest { resource_arn, etag, ..Default::default() };
                self.iam.delete_resource_policy(gone).await.map(drop)
            }
            Document::Guardrail => {
                let guardrail_id = self.guardrail_id.clone();
                let gone = DeleteGuardrailRequest { guardrail_id, etag, ..Default::default() };
                self.iam.delete_guardrail(gone).await.map(drop)
            }
        }
    }

    /// The document that is there, and its etag.
    async fn read(&mut self, document: Document) -> (String, String) {
        let policy_name = "p".to_owned();
        match document {
            Document::User => {
                let asked = GetUserPolicyRequest { user_name: "u".into(), policy_name };
                let it = self.iam.get_user_policy(asked).await.unwrap().into_inner();
                (it.policy_document, it.etag)
            }
            Document::Group => {
                let asked = GetGroupPolicyRequest { group_name: "g".into(), policy_name };
                let it = self.iam.get_group_policy(asked).await.unwrap().into_inner();
                (it.policy_document, it.etag)
            }
            Document::Role => {
                let asked = GetRolePolicyRequest { role_name: "r".into(), policy_name };
                let it = self.iam.get_role_policy(asked).await.unwrap().into_inner();
                (it.policy_document, it.etag)
            }
            Document::Trust => {
                let asked = GetRoleRequest { role_name: "r".into() };
                let it = self.iam.get_role(asked).await.unwrap().into_inner().role.unwrap();
                (it.assume_role_policy_document, it.assume_role_policy_etag)
            }
            Document::Resource => {
                let asked = GetResourcePolicyRequest { resource_arn: ARN.into() };
                let it = self.iam.get_resource_policy(asked).await.unwrap().into_inner();
                (it.policy, it.etag)
            }
            Document::Guardrail => {
                let asked = GetGuardrailRequest { guardrail_id: self.guardrail_id.clone() };
                let it =
                    self.iam.get_guardrail(asked).await.unwrap().into_inner().guardrail.unwrap();
                (it.content, it.etag)
            }
        }
    }
}

async fn editor(store: &TestStore) -> Editor {
    let mut iam = store.admin().await;
    iam.create_user(new_user("u")).await.unwrap();
    iam.create_role(new_role("r", &trust(EC2))).await.unwrap();
    iam.create_group(CreateGroupRequest { group_name: "g".into(), ..Default::default() })
        .await
        .unwrap();
    let guardrail = CreateGuardrailRequest {
        name: "Fence".into(),
        content: allow("*", "*"),
        r#type: GuardrailType::ServiceControlPolicy.into(),
        ..Default::default()
    };
    let guardrail = iam.create_guardrail(guardrail).await.unwrap().into_inner().guardrail.unwrap();
    Editor { iam, guardrail_id: guardrail.guardrail_summary.unwrap().id }
}

#[tokio::test]
async fn the_second_of_two_editors_is_told() {
    let store = TestStore::start().await;
    let mut editor = editor(&store).await;
    for document in [
        Document::User,
        Document::Group,
        Document::Role,
        Document::Trust,
        Document::Resource,
        Document::Guardrail,
    ] {
        let may_be_absent = !matches!(document, Document::Trust | Document::Guardrail);
        let begin = if may_be_absent { "none" } else { "" };
        let first = editor.put(document, "a:One", begin).await.unwrap().into_inner();
        assert_eq!(editor.read(document).await, (text(document, "a:One"), first.clone()));
        let again = editor.put(document, "a:Two", "none").await;
        refused(again, Code::Aborted, "ConcurrentModification");
        // Both have read the first; one writes before the other.
        let second = editor.put(document, "a:Two", &first).await.unwrap().into_inner();
        assert_ne!(first, second);
        let message = refused(
            editor.put(document, "a:Three", &first).await,
            Code::Aborted,
            "ConcurrentModification",
        );
        assert!(message.contains("changed underneath"), "{message}");
        assert_eq!(
            editor.read(document).await,
            (text(document, "a:Two"), second.clone()),
            "{document:?}"
        );
        // Read anew, it goes; and without an etag it goes whatever is there.
        editor.put(document, "a:Three", &second).await.unwrap();
        editor.put(document, "a:Four", "").await.unwrap();
        for bad in ["NONE", "x", &first[..31], &first.to_uppercase()] {
            refused(
                editor.put(document, "a:Five", bad).await,
                Code::InvalidArgument,
                "ValidationError",
            );
        }
        assert_eq!(editor.read(document).await.0, text(document, "a:Four"));
    }
    // What is not there has no etag.
    let put = PutUserPolicyRequest {
        user_name: "nobody".into(),
        policy_name: "p".into(),
        policy_document: allow("a:One", "*"),
        etag: "none".into(),
        ..Default::default()
    };
    refused(editor.iam.put_user_policy(put).await, Code::NotFound, "NoSuchEntity");
}

/// A document that another has edited meanwhile is not deleted either: what they wrote would be lost unseen.
#[tokio::test]
async fn what_changed_meanwhile_is_not_deleted() {
    let store = TestStore::start().await;
    let mut editor = editor(&store).await;
    // The trust policy last: it goes with its role.
    for document in [
        Document::User,
        Document::Group,
        Document::Role,
        Document::Resource,
        Document::Guardrail,
        Document::Trust,
    ] {
        let first = editor.put(document, "a:One", "").await.unwrap().into_inner();
        let second = editor.put(document, "a:Two", &first).await.unwrap().into_inner();
        for (etag, code, reason) in [
            (first.as_str(), Code::Aborted, "ConcurrentModification"),
            ("none", Code::Aborted, "ConcurrentModification"),
            ("x", Code::InvalidArgument, "ValidationError"),
        ] {
            let answer = editor.delete(document, etag).await.map(tonic::Response::new);
            refused(answer, code, reason);
        }
        assert_eq!(editor.read(document).await, (text(document, "a:Two"), second.clone()));
        editor.delete(document, &second).await.unwrap();
        let gone = editor.delete(document, "").await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound, "{document:?}: {gone}");
    }
}

#[tokio::test]
async fn a_default_version_is_not_set_over_another() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let create = CreatePolicyRequest {
        policy_name: "P".into(),
        policy_document: allow("a:One", "*"),
        ..Default::default()
    };
    let one = iam.create_policy(create.clone()).await.unwrap().into_inner().policy.unwrap();
    let policy_arn = one.arn;
    let version = |action: &str, set_as_default: bool, etag: &str| CreatePolicyVersionRequest {
        policy_arn: policy_arn.clone(),
        policy_document: allow(action, "*"),
        set_as_default,
        etag: etag.to_owned(),
        ..Default::default()
    };
    let read = GetPolicyRequest { policy_arn: policy_arn.clone() };
    let asked = version("a:Two", false, &one.etag);
    let two = iam.create_policy_version(asked).await.unwrap().into_inner();
    // Another version, the same default.
    assert_eq!(two.etag, one.etag);
    let asked = version("a:Three", true, &one.etag);
    let three = iam.create_policy_version(asked.clone()).await.unwrap().into_inner();
    assert_ne!(three.etag, one.etag);
    let now = iam.get_policy(read.clone()).await.unwrap().into_inner().policy.unwrap();
    assert_eq!((now.etag, now.default_version_id.as_str()), (three.etag.clone(), "v3"));
    refused(iam.create_policy_version(asked).await, Code::Aborted, "ConcurrentModification");
    let set = |version_id: &str, etag: &str| SetDefaultPolicyVersionRequest {
        policy_arn: policy_arn.clone(),
        version_id: version_id.to_owned(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let answer = iam.set_default_policy_version(set("v2", &one.etag)).await;
    refused(answer, Code::Aborted, "ConcurrentModification");
    let back = iam.set_default_policy_version(set("v1", &three.etag)).await.unwrap().into_inner();
    assert_eq!(back.etag, one.etag);
    // Who thought that v3 was in force deletes neither another version nor the policy.
    for version_id in ["v2", "v3"] {
        let delete = |etag: &str| DeletePolicyVersionRequest {
            policy_arn: policy_arn.clone(),
            version_id: version_id.into(),
            etag: etag.to_owned(),
            ..Default::default()
        };
        let stale = iam.delete_policy_version(delete(&three.etag)).await;
        refused(stale, Code::Aborted, "ConcurrentModification");
        iam.delete_policy_version(delete(&one.etag)).await.unwrap();
    }
    let delete = |etag: &str| DeletePolicyRequest {
        policy_arn: policy_arn.clone(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let stale = iam.delete_policy(delete(&three.etag)).await;
    refused(stale, Code::Aborted, "ConcurrentModification");
    iam.delete_policy(delete(&one.etag)).await.unwrap();
    // Made again under the name it is another.
    let again = iam.create_policy(create).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(again.arn, format!("arn:aws:iam::{ACCOUNT}:policy/P"));
    assert_ne!(again.etag, one.etag);
    let answer = iam.set_default_policy_version(set("v1", &one.etag)).await;
    refused(answer, Code::Aborted, "ConcurrentModification");
}

/// Of many who have read the same, one writes.
#[tokio::test]
async fn of_many_at_once_one_writes() {
    let store = TestStore::start().await;
    let mut editor = editor(&store).await;
    let first = editor.put(Document::Role, "a:One", "none").await.unwrap().into_inner();
    let attempts = (0..16).map(|number| {
        let (iam, guardrail_id) = (editor.iam.clone(), editor.guardrail_id.clone());
        let first = first.clone();
        tokio::spawn(async move {
            let mut editor = Editor { iam, guardrail_id };
            editor.put(Document::Role, &format!("a:N{number}"), &first).await.is_ok()
        })
    });
    let mut written = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        written += usize::from(attempt.await.unwrap());
    }
    assert_eq!(written, 1);
}
