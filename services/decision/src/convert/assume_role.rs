//! AuthorizeAssumeRole's request: what a gateway has found out about a caller, checked once more.

use std::{fmt, net::IpAddr};

use countersign_evaluator::Realm;
use countersign_policy::{
    arn::AccountId,
    principal::{self, IamArn},
};
use countersign_proto::decision::v1::{
    self as proto, AuthorizeAssumeRoleRequest, ProofOfPossession, ProvenIdentity,
};

use super::{
    instance::Instance,
    possession::Possession,
    question::{own_partition, shown},
    web_identity::WebIdentity,
    wished::{Wished, WishedFields},
};
use crate::error::Refusal;

/// STS's own bounds: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
const MIN_DURATION: i32 = 900;
const MAX_DURATION: i32 = 43_200;
const MAX_PROOF_TYPE_BYTES: usize = 256;

/// May this identity assume that role?
#[derive(Clone, Debug)]
pub struct AssumeRoleQuestion {
    /// Who asks.
    pub proven: Proven,
    /// `countersign:ProofType`.
    pub proof_type: String,
    /// `countersign:ProofBound`.
    pub proof_bound: bool,
    /// `countersign:ProofChallenged`.
    pub proof_challenged: bool,
    /// The role's ARN; always a role's.
    pub role_arn: IamArn,
    /// `sts:RoleSessionName`.
    pub role_session_name: String,
    /// Asked for, in seconds.
    pub duration_seconds: Option<u32>,
    /// `sts:ExternalId`.
    pub external_id: Option<String>,
    /// `aws:SourceIp`. It is always there: a trust policy's `NotIpAddress` would hold of an address that is missing.
    pub source_address: IpAddr,
    /// What the session is to be.
    pub wished: Wished,
    /// The least revision to answer at; may be empty.
    pub at_least_revision: String,
}

/// What a gateway has been shown.
#[derive(Clone, Debug)]
pub enum Proven {
    /// A proof, of this identity.
    Identity(Identity),
    /// A token of ours, not verified yet: its session chains.
    Token(SubjectToken, Possession),
    /// A web identity token.
    WebIdentity(WebIdentity),
    /// An EC2 instance's identity document.
    Instance(Instance),
}

/// A token. Its `Debug` does not show it.
#[derive(Clone)]
pub struct SubjectToken(pub String);

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectToken(<redacted>)")
    }
}

/// Who a proof has shown. Its parts agree.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who vouches for it.
    pub realm: Realm,
    /// Equal to the ARN's.
    pub partition: String,
    /// Equal to the ARN's.
    pub account: AccountId,
    /// AIDA…, AROA…, or the account's number.
    pub unique_id: String,
    /// As STS shows it: a session's ARN lacks the role's path.
    pub arn: IamArn,
}

/// Parses an AuthorizeAssumeRoleRequest.
pub fn assume_role_question(
    request: AuthorizeAssumeRoleRequest,
) -> Result<AssumeRoleQuestion, Refusal> {
    let AuthorizeAssumeRoleRequest {
        identity,
        proof_type,
        proof_bound,
        proof_challenged,
        role_arn,
        role_session_name,
        duration_seconds,
        external_id,
        source_address,
        at_least_revision,
        subject_token,
        policy,
        policy_arns,
        scope,
        tags,
        transitive_tag_keys,
        source_identity,
        web_identity,
        instance,
        proof_of_possession,
    } = request;
    let shown = Shown { identity, subject_token, web_identity, instance };
    let proven = proven(shown, proof_of_possession)?;
    if proof_type.is_empty() {
        return Err(Refusal::invalid("proof_type", "missing"));
    }
    if proof_type.len() > MAX_PROOF_TYPE_BYTES {
        let message = format!("longer than {MAX_PROOF_TYPE_BYTES} bytes");
        return Err(Refusal::invalid("proof_type", message));
    }
    Ok(AssumeRoleQuestion {
        proven,
        proof_type,
        proof_bound,
        proof_challenged,
        role_arn: role(&role_arn)?,
        role_session_name: session_name(role_session_name)?,
        duration_seconds: duration(duration_seconds)?,
        external_id: external(external_id)?,
        source_address: address(&source_address)?,
        wished: Wished::parse(WishedFields {
            policy,
            policy_arns,
            scope,
            tags,
            transitive_tag_keys,
            source_identity,
        })?,
        at_least_revision,
    })
}

/// What a gateway may have been shown, of which there must be one.
struct Shown {
    identity: Option<ProvenIdentity>,
    subject_token: String,
    web_identity: Option<proto::WebIdentity>,
    instance: Option<proto::InstanceIdentity>,
}

fn proven(shown: Shown, proof_of_possession: Option<ProofOfPossession>) -> Result<Proven, Refusal> {
    let Shown { identity, subject_token, web_identity, instance } = shown;
    let subject_token = (!subject_token.is_empty()).then_some(subject_token);
    if subject_token.is_none() && proof_of_possession.is_some() {
        let message = "only with `subject_token`: a proof is bound by its own signature";
        return Err(Refusal::invalid("proof_of_possession", message));
    }
    match (identity, subject_token, web_identity, instance) {
        (Some(identity), None, None, None) => Ok(Proven::Identity(self::identity(identity)?)),
        (None, Some(token), None, None) => {
            let possession = Possession::parse(proof_of_possession)?;
            Ok(Proven::Token(SubjectToken(token), possession))
        }
        (None, None, Some(shown), None) => Ok(Proven::WebIdentity(WebIdentity::parse(shown)?)),
        (None, None, None, Some(instance)) => Ok(Proven::Instance(Instance::parse(instance)?)),
        (None, None, None, None) => {
            let message = "missing, and so are `subject_token`, `web_identity` and `instance`";
            Err(Refusal::invalid("identity", message))
        }
        // Two callers would have two sets of rights.
        (_, _, _, Some(_)) => Err(Refusal::invalid(
            "instance",
            "given beside `identity`, `subject_token` or `web_identity`; send one",
        )),
        (_, _, Some(_), None) => {
            let message = "given beside `identity` or `subject_token`; send one";
            Err(Refusal::invalid("web_identity", message))
        }
        (Some(_), Some(_), None, None) => {
            Err(Refusal::invalid("subject_token", "given beside `identity`; send one"))
        }
    }
}

fn identity(proven: ProvenIdentity) -> Result<Identity, Refusal> {
    let ProvenIdentity { realm, partition, account_id, unique_id, arn } = proven;
    let realm = match realm.as_str() {
        "countersign" => Realm::Countersign,
        "aws" => Realm::Aws,
        other => {
            let message = format!("`{}`: expected `countersign` or `aws`", shown(other));
            return Err(Refusal::invalid("identity.realm", message));
        }
    };
    let account: AccountId = account_id
        .parse()
        .map_err(|error| Refusal::invalid("identity.account_id", format!("{error}")))?;
    let arn: IamArn =
        arn.parse().map_err(|error| Refusal::invalid("identity.arn", format!("{error}")))?;
    own_partition("identity.arn", arn.partition())?;
    if arn.account() != account || arn.partition() != partition {
        return Err(Refusal::invalid(
            "identity.arn",
            format!("`{arn}` is of another account or partition than the identity"),
        ));
    }
    if !unique_id_fits(realm, &arn, &unique_id) {
        return Err(Refusal::invalid(
            "identity.unique_id",
            format!("`{}` is no unique id of `{arn}`", shown(&unique_id)),
        ));
    }
    Ok(Identity { realm, partition, account, unique_id, arn })
}

/// Ours begin with AIDA; so do AWS's, but an operator's private STS may make its own. What an id looks like beyond that is the
/// gateway's to judge, which knows the endpoint.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
fn unique_id_fits(realm: Realm, arn: &IamArn, unique_id: &str) -> bool {
    let sound = (1..=128).contains(&unique_id.len())
        && unique_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match (arn, realm) {
        (IamArn::Root { account, .. }, Realm::Countersign | Realm::Aws) => {
            unique_id == account.as_str()
        }
        (IamArn::User { .. }, Realm::Countersign) => sound && unique_id.starts_with("AIDA"),
        (IamArn::User { .. }, Realm::Aws) => sound,
        // Without the session's name.
        (IamArn::Role { .. } | IamArn::AssumedRole { .. }, Realm::Countersign | Realm::Aws) => {
            sound
        }
        // `123456789012:name`; refused later, by a reason of its own.
        (IamArn::FederatedUser { .. }, Realm::Countersign | Realm::Aws) => !unique_id.is_empty(),
    }
}

fn role(text: &str) -> Result<IamArn, Refusal> {
    let arn: IamArn =
        text.parse().map_err(|error| Refusal::invalid("role_arn", format!("{error}")))?;
    match &arn {
        IamArn::Role { partition, .. } => {
            own_partition("role_arn", partition)?;
            Ok(arn)
        }
        IamArn::Root { .. }
        | IamArn::User { .. }
        | IamArn::AssumedRole { .. }
        | IamArn::FederatedUser { .. } => {
            Err(Refusal::invalid("role_arn", format!("`{arn}` is no role")))
        }
    }
}

/// `[\w+=,.@-]{2,64}`
fn session_name(text: String) -> Result<String, Refusal> {
    if text.len() >= 2 && principal::is_name(&text) {
        return Ok(text);
    }
    let message = format!("`{}`: expected 2 to 64 letters, digits and `_+=,.@-`", shown(&text));
    Err(Refusal::invalid("role_session_name", message))
}

fn duration(seconds: i32) -> Result<Option<u32>, Refusal> {
    match seconds {
        0 => Ok(None),
        MIN_DURATION..=MAX_DURATION => Ok(u32::try_from(seconds).ok()),
        _ => {
            let message = format!(
                "{seconds}: expected {MIN_DURATION} to {MAX_DURATION} seconds, or 0 for the default"
            );
            Err(Refusal::invalid("duration_seconds", message))
        }
    }
}

/// `[\w+=,.@:/-]{2,1224}`
fn external(text: String) -> Result<Option<String>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
    if (2..=1224).contains(&text.len()) && text.bytes().all(sound) {
        return Ok(Some(text));
    }
    Err(Refusal::invalid("external_id", "expected 2 to 1,224 letters, digits and `_+=,.@:/-`"))
}

pub(super) fn address(text: &str) -> Result<IpAddr, Refusal> {
    if text.is_empty() {
        return Err(Refusal::invalid("source_address", "missing"));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        Refusal::invalid("source_address", format!("`{}` is no IP address", shown(text)))
    })?;
    // An IPv4 caller of a dual-stack socket is still an IPv4 caller: conditions on IPv4 ranges must see it.
    Ok(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AuthorizeAssumeRoleRequest {
        AuthorizeAssumeRoleRequest {
            identity: Some(ProvenIdentity {
                realm: "aws".into(),
                partition: "aws".into(),
                account_id: "444455556666".into(),
                unique_id: "AROAEXAMPLE".into(),
                arn: "arn:aws:sts::444455556666:assumed-role/App/i-1".into(),
            }),
            proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
            role_arn: "arn:aws:iam::111122223333:role/teams/Target".into(),
            role_session_name: "session".into(),
            source_address: "10.0.0.1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn fields() {
        fn check(change: impl FnOnce(&mut AuthorizeAssumeRoleRequest), refused: Option<&str>) {
            let mut request = request();
            change(&mut request);
            let said = assume_role_question(request).err().map(|refusal| refusal.to_string());
            match (&said, refused) {
                (None, None) => {}
                (Some(said), Some(field)) => {
                    assert!(said.starts_with(&format!("{field}:")), "{said}")
                }
                (said, refused) => panic!("{refused:?}: {said:?}"),
            }
        }
        fn identity(r: &mut AuthorizeAssumeRoleRequest) -> &mut ProvenIdentity {
            r.identity.as_mut().unwrap()
        }
        fn local(unique_id: &str) -> ProvenIdentity {
            ProvenIdentity {
                realm: "countersign".into(),
                partition: "aws".into(),
                account_id: "111122223333".into(),
                unique_id: unique_id.into(),
                arn: "arn:aws:iam::111122223333:user/alice".into(),
            }
        }
        check(|_| {}, None);
        check(|r| r.identity = None, Some("identity"));
        check(|r| r.subject_token = "x.y.z".into(), Some("subject_token"));
        check(|r| r.web_identity = Some(Default::default()), Some("web_identity"));
        check(|r| r.instance = Some(Default::default()), Some("instance"));
        check(
            |r| {
                r.identity = None;
                r.web_identity = Some(Default::default());
                r.instance = Some(Default::default());
            },
            Some("instance"),
        );
        check(
            |r| {
                r.identity = None;
                r.instance = Some(Default::default());
            },
            Some("instance.partition"),
        );
        check(
            |r| {
                r.identity = None;
                r.subject_token = "x.y.z".into();
            },
            None,
        );
        check(|r| r.policy = "{}".into(), Some("policy"));
        check(|r| r.policy_arns = vec![String::new()], Some("policy_arns"));
        check(|r| r.scope = "read".into(), Some("scope"));
        check(|r| r.tags = vec![Default::default()], Some("tags"));
        check(|r| r.transitive_tag_keys = vec!["k".into()], Some("transitive_tag_keys"));
        check(|r| r.source_identity = "a".into(), Some("source_identity"));
        check(|r| identity(r).realm = "AWS".into(), Some("identity.realm"));
        check(|r| identity(r).realm.clear(), Some("identity.realm"));
        check(|r| identity(r).account_id = "4444".into(), Some("identity.account_id"));
        check(|r| identity(r).account_id = "111122223333".into(), Some("identity.arn"));
        check(|r| identity(r).partition = "aws-cn".into(), Some("identity.arn"));
        check(|r| identity(r).arn = "arn:aws:s3:::b".into(), Some("identity.arn"));
        check(|r| r.identity = Some(local("AIDAEXAMPLE")), None);
        check(|r| r.identity = Some(local("alice1")), Some("identity.unique_id"));
        check(
            |r| r.identity = Some(ProvenIdentity { realm: "aws".into(), ..local("alice1") }),
            None,
        );
        check(|r| identity(r).unique_id = "AROAEXAMPLE:i-1".into(), Some("identity.unique_id"));
        check(|r| identity(r).unique_id.clear(), Some("identity.unique_id"));
        check(|r| r.proof_type.clear(), Some("proof_type"));
        check(|r| r.role_arn = "arn:aws:iam::111122223333:user/alice".into(), Some("role_arn"));
        check(|r| r.role_arn.clear(), Some("role_arn"));
        for (name, sound) in
            [("ab", true), ("a", false), ("a b", false), ("a/b", false), ("", false)]
        {
            check(|r| r.role_session_name = name.into(), (!sound).then_some("role_session_name"));
        }
        for (seconds, sound) in
            [(0, true), (900, true), (43_200, true), (899, false), (43_201, false), (-1, false)]
        {
            check(|r| r.duration_seconds = seconds, (!sound).then_some("duration_seconds"));
        }
        for (id, sound) in [("", true), ("ab:c/d", true), ("a", false), ("a b", false)] {
            check(|r| r.external_id = id.into(), (!sound).then_some("external_id"));
        }
        for (address, sound) in
            [("", false), ("10.0.0.1", true), ("::1", true), ("10.0.0.1:80", false), ("x", false)]
        {
            check(|r| r.source_address = address.into(), (!sound).then_some("source_address"));
        }
    }

    #[test]
    fn a_subject_token_is_not_shown() {
        let token = SubjectToken("secret.token.text".into());
        assert_eq!(format!("{token:?}"), "SubjectToken(<redacted>)");
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_address() {
        let question = assume_role_question(AuthorizeAssumeRoleRequest {
            source_address: "::ffff:10.1.2.3".into(),
            ..request()
        });
        assert_eq!(question.unwrap().source_address, "10.1.2.3".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn m4_an_exchange_from_nowhere_is_refused() {
        let nowhere = AuthorizeAssumeRoleRequest { source_address: String::new(), ..request() };
        let said = assume_role_question(nowhere).unwrap_err().to_string();
        assert_eq!(said, "source_address: missing");
    }

    #[test]
    fn l10_other_partitions_are_refused() {
        let check = |change: fn(&mut AuthorizeAssumeRoleRequest), expected: &str| {
            let mut request = request();
            change(&mut request);
            let said = assume_role_question(request).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        };
        check(
            |r| {
                let identity = r.identity.as_mut().unwrap();
                identity.partition = "aws-cn".into();
                identity.arn = identity.arn.replace("aws", "aws-cn");
            },
            "identity.arn: partition `aws-cn`",
        );
        check(|r| r.role_arn = r.role_arn.replace("aws", "aws-cn"), "role_arn: partition `aws-cn`");
    }
}
