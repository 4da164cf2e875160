//! The proof covers the whole request: whatever is changed after signing is refused, and mints nothing.

use std::collections::BTreeSet;

use countersign_proto::{
    FILE_DESCRIPTOR_SET,
    token::v1::{ExchangeRequest, Tag},
};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};

use crate::{
    proofs::{Form, Workload, request, spoil},
    system::System,
};

type Change = (&'static str, &'static str, fn(&mut ExchangeRequest));

/// Each field of the request, changed to another good value, and the reason of the refusal.
const FIELDS: [Change; 23] = [
    ("subject_token", "MissingAuthenticationToken", |r| r.subject_token.clear()),
    ("subject_token", "ProofNotBase64Url", |r| r.subject_token.insert(0, '=')),
    ("subject_token_type", "UnsupportedTokenType", |r| {
        r.subject_token_type = "urn:ietf:params:oauth:token-type:id_token".into()
    }),
    ("actor_token", "ValidationError", |r| r.actor_token = r.subject_token.clone()),
    ("actor_token_type", "ValidationError", |r| r.actor_token_type = r.subject_token_type.clone()),
    ("role_arn", "BindingMismatch", |r| r.role_arn = "arn:aws:iam::000000000000:role/Other".into()),
    ("role_arn", "BindingMismatch", |r| r.role_arn = "arn:aws:iam::000000000000:role/r".into()),
    ("role_session_name", "BindingMismatch", |r| r.role_session_name = "other".into()),
    ("audience", "BindingMismatch", |r| r.audience = "payments".into()),
    ("scope", "BindingMismatch", |r| r.scope = "s3:GetObject".into()),
    ("duration_seconds", "BindingMismatch", |r| r.duration_seconds = 43_200),
    ("duration_seconds", "BindingMismatch", |r| r.duration_seconds = 0),
    ("policy", "BindingMismatch", |r| r.policy = "{}".into()),
    ("policy_arns", "BindingMismatch", |r| {
        r.policy_arns = vec!["arn:aws:iam::aws:policy/AdministratorAccess".into()]
    }),
    ("tags", "BindingMismatch", |r| r.tags = vec![Tag { key: "k".into(), value: "v".into() }]),
    ("transitive_tag_keys", "ValidationError", |r| r.transitive_tag_keys = vec!["k".into()]),
    ("external_id", "BindingMismatch", |r| r.external_id = "other".into()),
    ("source_identity", "BindingMismatch", |r| r.source_identity = "alice".into()),
    ("requested_token_type", "BindingMismatch", |r| {
        r.requested_token_type = "urn:ietf:params:oauth:token-type:access_token".into();
    }),
    ("client_key_thumbprint", "ValidationError", |r| r.client_key_thumbprint = "x".into()),
    ("client_key_thumbprint", "BindingMismatch", |r| r.client_key_thumbprint = "A".repeat(43)),
    ("may_act", "ValidationError", |r| r.may_act = "x".into()),
    ("may_act", "BindingMismatch", |r| r.may_act = "AROATHIEF:s".into()),
];

#[test]
fn the_table_has_every_field() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let messages = files
        .file
        .iter()
        .filter(|file| file.package() == "countersign.token.v1")
        .flat_map(|file| &file.message_type);
    let request = messages.into_iter().find(|message| message.name() == "ExchangeRequest").unwrap();
    let fields: BTreeSet<_> = request.field.iter().map(|field| field.name()).collect();
    assert_eq!(FIELDS.iter().map(|(name, _, _)| *name).collect::<BTreeSet<_>>(), fields);
}

// ATTACKS 30.
#[tokio::test]
async fn no_field_can_be_changed_after_signing() {
    let system = System::start().await;
    system.ready().await;
    for form in [Form::Post, Form::Presigned] {
        let workload =
            Workload::local(&system.gateway.issuer).with(|workload| workload.form = form);
        for (field, reason, change) in FIELDS {
            let mut request = workload.sign(request());
            change(&mut request);
            let refused = system.exchange(request).await.expect_err(field);
            assert_eq!(refused.reason, reason, "{field}: {refused:?}");
        }
    }
    assert_eq!(system.store.calls("ConsumeProof"), 0);
    assert_eq!(system.store.calls("DeriveSigningKey"), 0, "STS was not asked");
}

/// A part of the proof, the reason of the refusal, and a change.
type Spoil = (&'static str, &'static str, fn(&mut Value));
const SIGNATURE: &str = "SignatureDoesNotMatch";

fn header<'a>(proof: &'a mut Value, name: &str) -> &'a mut Value {
    &mut proof["headers"][name]
}

fn remove(proof: &mut Value, name: &str) {
    proof["headers"].as_object_mut().unwrap().remove(name).unwrap();
}

fn edit(value: &mut Value, from: &str, to: &str) {
    let text = value.as_str().unwrap();
    assert!(text.contains(from), "{text} has no {from}");
    *value = text.replacen(from, to, 1).into();
}

/// Another digit in place of the last.
fn turn(value: &mut Value) {
    let mut text = value.as_str().unwrap().to_owned();
    let last = text.pop().unwrap();
    text.push(if last == '0' { '1' } else { '0' });
    *value = text.into();
}

const POST: &[Spoil] = &[
    ("method", "BodyNotAllowed", |p| p["method"] = "GET".into()),
    ("method", "MethodNotAllowed", |p| p["method"] = "PUT".into()),
    ("url: host", "HostNotAllowed", |p| p["url"] = "https://attacker.example/".into()),
    ("url: path", "PathNotAllowed", |p| {
        p["url"] = format!("{}x", p["url"].as_str().unwrap()).into()
    }),
    ("url: query", "QueryNotAllowed", |p| {
        p["url"] = format!("{}?Action=AssumeRole", p["url"].as_str().unwrap()).into()
    }),
    ("body: action", "ActionNotAllowed", |p| {
        edit(&mut p["body"], "GetCallerIdentity", "GetSessionToken")
    }),
    ("body: version", "ActionNotAllowed", |p| edit(&mut p["body"], "2011-06-15", "2010-05-08")),
    ("body: more", "ActionNotAllowed", |p| {
        edit(&mut p["body"], "2011-06-15", "2011-06-15&Action=AssumeRole")
    }),
    ("authorization: signature", SIGNATURE, |p| turn(header(p, "authorization"))),
    ("authorization: access key", "InvalidClientTokenId", |p| {
        edit(header(p, "authorization"), "AKIALOCAL00000000001", "AKIALOCAL00000000009")
    }),
    ("authorization: inactive key", "InvalidClientTokenId", |p| {
        edit(header(p, "authorization"), "AKIALOCAL00000000001", "AKIALOCAL00000000002")
    }),
    ("authorization: region", "RegionMismatch", |p| {
        edit(header(p, "authorization"), "us-east-1", "eu-west-1")
    }),
    ("authorization: service", "ServiceNotAllowed", |p| {
        edit(header(p, "authorization"), "/sts/", "/iam/")
    }),
    ("authorization: signed headers", "UnsignedAudienceHeader", |p| {
        edit(header(p, "authorization"), "x-countersign-audience;", "")
    }),
    ("authorization: signed headers", "UnsignedBindingHeader", |p| {
        edit(header(p, "authorization"), ";x-countersign-binding", "")
    }),
    ("authorization: signed headers", SIGNATURE, |p| {
        edit(header(p, "authorization"), "content-type;", "")
    }),
    ("authorization: absent", "MissingHeader", |p| remove(p, "authorization")),
    ("x-amz-date: seconds", SIGNATURE, |p| {
        // A second more or less: still within the window.
        let mut date = header(p, "x-amz-date").as_str().unwrap().to_owned().into_bytes();
        date[14] ^= 1;
        *header(p, "x-amz-date") = String::from_utf8(date).unwrap().into();
    }),
    ("x-amz-date: absent", "MissingHeader", |p| remove(p, "x-amz-date")),
    ("content-type", SIGNATURE, |p| {
        edit(header(p, "content-type"), "urlencoded", "urlencoded; charset=utf-8")
    }),
    ("content-type", "ContentTypeNotAllowed", |p| *header(p, "content-type") = "text/plain".into()),
    ("content-type: absent", "SignedHeaderAbsent", |p| remove(p, "content-type")),
    ("x-countersign-audience", "WrongAudience", |p| {
        *header(p, "x-countersign-audience") = "https://other.example".into()
    }),
    ("x-countersign-audience: absent", "MissingAudienceHeader", |p| {
        remove(p, "x-countersign-audience")
    }),
    ("x-countersign-binding", "BindingMismatch", |p| turn(header(p, "x-countersign-binding"))),
    ("x-countersign-binding: absent", "MissingBindingHeader", |p| {
        remove(p, "x-countersign-binding")
    }),
    ("x-amz-security-token: added", "UnsignedHeader", |p| {
        *header(p, "x-amz-security-token") = "token".into()
    }),
    ("x-countersign-challenge: added", "UnsignedHeader", |p| {
        *header(p, "x-countersign-challenge") = "c".into()
    }),
    ("host: added", "HeaderNotAllowed", |p| *header(p, "host") = "sts.amazonaws.com".into()),
    ("accept: added", "HeaderNotAllowed", |p| *header(p, "accept") = "application/json".into()),
    ("transfer-encoding: added", "HeaderNotAllowed", |p| {
        *header(p, "transfer-encoding") = "chunked".into()
    }),
    ("X-Countersign-Audience: added", "HeaderNotAllowed", |p| {
        *header(p, "X-Countersign-Audience") = "x".into()
    }),
    ("member: added", "MemberNotAllowed", |p| p["extra"] = "x".into()),
];

const PRESIGNED: &[Spoil] = &[
    ("method", "QueryNotAllowed", |p| p["method"] = "POST".into()),
    ("url: host", "HostNotAllowed", |p| {
        let query = p["url"].as_str().unwrap().split_once('?').unwrap().1.to_owned();
        p["url"] = format!("https://attacker.example/?{query}").into();
    }),
    ("Action", "ActionNotAllowed", |p| edit(&mut p["url"], "GetCallerIdentity", "GetSessionToken")),
    ("Action: spelling", "QueryNotCanonical", |p| edit(&mut p["url"], "GetCaller", "%47etCaller")),
    ("Version", "VersionNotAllowed", |p| edit(&mut p["url"], "2011-06-15", "2010-05-08")),
    ("X-Amz-Algorithm", "AlgorithmNotAllowed", |p| {
        edit(&mut p["url"], "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")
    }),
    ("X-Amz-Credential", "InvalidClientTokenId", |p| {
        edit(&mut p["url"], "AKIALOCAL00000000001", "AKIALOCAL00000000009")
    }),
    ("X-Amz-Credential: region", "RegionMismatch", |p| {
        edit(&mut p["url"], "us-east-1", "eu-west-1")
    }),
    ("X-Amz-Date: absent", "MissingParameter", |p| {
        let url = p["url"].as_str().unwrap();
        let at = url.find("X-Amz-Date=").unwrap();
        p["url"] =
            format!("{}{}", &url[..at], &url[at + "X-Amz-Date=20260101T000000Z&".len()..]).into();
    }),
    ("X-Amz-Expires", SIGNATURE, |p| edit(&mut p["url"], "X-Amz-Expires=60", "X-Amz-Expires=59")),
    ("X-Amz-Expires: long", "ExpiresNotAllowed", |p| {
        edit(&mut p["url"], "X-Amz-Expires=60", "X-Amz-Expires=604800")
    }),
    ("X-Amz-SignedHeaders", "UnsignedAudienceHeader", |p| {
        edit(&mut p["url"], "x-countersign-audience%3B", "")
    }),
    ("X-Amz-SignedHeaders", "UnsignedBindingHeader", |p| {
        edit(&mut p["url"], "%3Bx-countersign-binding", "")
    }),
    ("X-Amz-Signature", SIGNATURE, |p| {
        let url = p["url"].as_str().unwrap();
        let at = url.find("X-Amz-Signature=").unwrap() + "X-Amz-Signature=".len();
        let other = if &url[at..=at] == "0" { "1" } else { "0" };
        p["url"] = format!("{}{other}{}", &url[..at], &url[at + 1..]).into();
    }),
    ("X-Amz-Signature: twice", "RepeatedParameter", |p| {
        p["url"] = format!("{}&X-Amz-Signature=0", p["url"].as_str().unwrap()).into();
    }),
    ("X-Amz-Security-Token: added", "InvalidClientTokenId", |p| {
        edit(&mut p["url"], "&X-Amz-Signature=", "&X-Amz-Security-Token=token&X-Amz-Signature=");
    }),
    ("unknown parameter", "ParameterNotAllowed", |p| {
        p["url"] = format!("{}&X-Amz-Foo=1", p["url"].as_str().unwrap()).into()
    }),
    ("x-countersign-audience", "WrongAudience", |p| {
        *header(p, "x-countersign-audience") = "https://other.example".into()
    }),
    ("x-countersign-audience: absent", "MissingAudienceHeader", |p| {
        remove(p, "x-countersign-audience")
    }),
    ("x-countersign-binding", "BindingMismatch", |p| turn(header(p, "x-countersign-binding"))),
    ("x-countersign-binding: absent", "MissingBindingHeader", |p| {
        remove(p, "x-countersign-binding")
    }),
    ("x-amz-date: added", "HeaderNotAllowed", |p| {
        *header(p, "x-amz-date") = "20260101T000000Z".into()
    }),
    ("authorization: added", "HeaderNotAllowed", |p| *header(p, "authorization") = "x".into()),
    ("body: added", "BodyNotAllowed", |p| {
        p["body"] = json!("Action=GetCallerIdentity&Version=2011-06-15")
    }),
];

#[tokio::test]
async fn no_part_of_the_proof_can_be_changed_after_signing() {
    let system = System::start().await;
    system.ready().await;
    for (form, table) in [(Form::Post, POST), (Form::Presigned, PRESIGNED)] {
        for (part, reason, change) in table {
            let workload =
                Workload::local(&system.gateway.issuer).with(|workload| workload.form = form);
            let request = spoil(workload.sign(request()), change);
            let refused = system.exchange(request).await.expect_err(part);
            assert_eq!(refused.reason, *reason, "{form:?} {part}: {refused:?}");
            assert_eq!(refused.code, tonic::Code::Unauthenticated, "{form:?} {part}: {refused:?}");
        }
    }
    assert_eq!(system.store.calls("ConsumeProof"), 0);
}

#[tokio::test]
async fn a_proof_for_one_endpoint_is_no_proof_for_another() {
    let system = System::start().await;
    system.ready().await;
    let (own, private) = (system.gateway.issuer.clone(), system.sts.origin.clone());
    let local = Workload::local(&own);
    let external = Workload::external(&own, &private);
    for (workload, to) in [(local, &private), (external, &own)] {
        let request =
            spoil(workload.sign(request()), |proof| proof["url"] = format!("{to}/").into());
        let refused = system.exchange(request).await.unwrap_err();
        assert_eq!(refused.reason, "InvalidClientTokenId", "{refused:?}");
    }
    assert_eq!(system.store.calls("ConsumeProof"), 0);
}

#[tokio::test]
async fn the_session_token_is_part_of_the_proof() {
    let system = System::start().await;
    system.ready().await;
    let workload = Workload::external(&system.gateway.issuer, &system.sts.origin);
    let rows: [Spoil; 2] = [
        ("altered", "InvalidClientTokenId", |p| turn(header(p, "x-amz-security-token"))),
        ("absent", "SignedHeaderAbsent", |p| remove(p, "x-amz-security-token")),
    ];
    for (part, reason, change) in rows {
        let refused =
            system.exchange(spoil(workload.sign(request()), change)).await.expect_err(part);
        assert_eq!(refused.reason, reason, "{part}: {refused:?}");
    }
    assert_eq!(system.store.calls("ConsumeProof"), 0);
}
