//! Who a proof has shown: the one type that the rest of the gateway believes. Each kind of proof has one verifier, chosen by
//! `subject_token_type`: STS proofs have theirs in [`sts`], web identities in [`jwt`], EC2 instances in [`instance`], our own tokens theirs in the `token` crate.

pub mod instance;
pub mod jwt;
pub mod sts;

use countersign_policy::{arn::AccountId, provider::OidcProvider};
use countersign_sigv4::{CallerIdentity, CallerKind};
use countersign_token::{Realm, VerifiedToken, instance::InstanceDocument, jwt::WebIdentity};

use crate::{endpoints::Endpoint, error::Refusal};

/// A caller whom an allowed STS endpoint has named, whose session a token of ours carries, whom a configured issuer vouches for, or whose
/// document one of AWS's certificates has signed.
/// Nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenCaller {
    realm: Realm,
    partition: String,
    account: String,
    unique_id: String,
    arn: String,
    pinned_name: Option<String>,
    web_identity: Option<Box<WebIdentity>>,
    instance: Option<Box<InstanceDocument>>,
}

impl ProvenCaller {
    /// Who `endpoint`, having answered `identity`, vouches for.
    ///
    /// # Errors
    /// When the endpoint may not speak for that principal, or that principal may assume nothing.
    fn from_answer(endpoint: &Endpoint, identity: CallerIdentity) -> Result<Self, Refusal> {
        let origin = || endpoint.origin.clone();
        if identity.partition() != endpoint.partition {
            let found = identity.partition().to_owned();
            return Err(Refusal::PartitionMismatch { origin: origin(), found });
        }
        if let Some(accounts) = &endpoint.accounts
            && !accounts.iter().any(|account| account.as_str() == identity.account())
        {
            let account = identity.account().to_owned();
            return Err(Refusal::AccountNotAllowed { origin: origin(), account });
        }
        let arn = || identity.arn().to_owned();
        match (identity.kind(), endpoint.realm) {
            // The root of a local account may assume one role; which, the decision service knows.
            (
                CallerKind::User { .. } | CallerKind::AssumedRole { .. },
                Realm::Aws | Realm::Countersign | Realm::WebIdentity,
            )
            | (CallerKind::Root, Realm::Countersign) => {}
            (CallerKind::Root, Realm::Aws | Realm::WebIdentity) => {
                return Err(Refusal::RootNotAllowed { arn: arn() });
            }
            (
                CallerKind::FederatedUser { .. },
                Realm::Aws | Realm::Countersign | Realm::WebIdentity,
            ) => {
                return Err(Refusal::FederatedUserNotAllowed { arn: arn() });
            }
        }
        let pinned_name = match identity.kind() {
            CallerKind::User { path_and_name } => Some(format!("user/{path_and_name}")),
            CallerKind::AssumedRole { role_name, .. } => Some(format!("role/{role_name}")),
            CallerKind::Root | CallerKind::FederatedUser { .. } => None,
        };
        Ok(Self {
            realm: endpoint.realm,
            partition: identity.partition().to_owned(),
            account: identity.account().to_owned(),
            unique_id: identity.unique_id().to_owned(),
            arn: identity.arn().to_owned(),
            pinned_name,
            web_identity: None,
            instance: None,
        })
    }

    /// The session that a good token carries, which assumes a role in its turn. Its role's id is in the token, so there is nothing to pin.
    #[must_use]
    pub fn of_session(token: &VerifiedToken) -> Self {
        let claims = token.claims();
        Self {
            realm: Realm::Countersign,
            partition: claims.session.partition.clone(),
            account: claims.session.account.clone(),
            unique_id: claims.session.role_id.clone(),
            arn: claims.sub.clone(),
            pinned_name: None,
            web_identity: None,
            instance: None,
        }
    }

    /// Whom an issuer vouches for, towards a role of `account`: the issuer's provider is of that account, as a trust policy must name it.
    #[must_use]
    pub fn of_web_identity(shown: WebIdentity, partition: &str, account: &AccountId) -> Self {
        let provider = OidcProvider {
            partition: partition.to_owned(),
            account: *account,
            provider: shown.provider().to_owned(),
        };
        Self {
            realm: Realm::WebIdentity,
            partition: partition.to_owned(),
            account: account.to_string(),
            unique_id: shown.subject().to_owned(),
            arn: provider.to_string(),
            pinned_name: None,
            web_identity: Some(Box::new(shown)),
            instance: None,
        }
    }

    /// The instance of a good document, of `partition`. Its id is no secret, and its key is pinned apart.
    #[must_use]
    pub fn of_instance(document: InstanceDocument, partition: &str) -> Self {
        let (account, region) = (document.account(), document.region());
        let instance_id = document.instance_id();
        Self {
            realm: Realm::Aws,
            partition: partition.to_owned(),
            account: account.to_owned(),
            unique_id: instance_id.to_owned(),
            arn: format!("arn:{partition}:ec2:{region}:{account}:instance/{instance_id}"),
            pinned_name: None,
            web_identity: None,
            instance: Some(Box::new(document)),
        }
    }

    /// Who vouches.
    #[must_use]
    pub fn realm(&self) -> Realm {
        self.realm
    }

    /// Such as `aws`.
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// Twelve digits.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// `AIDA…`, `AROA…`, the account of a root, or an instance's `i-…`.
    #[must_use]
    pub fn unique_id(&self) -> &str {
        &self.unique_id
    }

    /// As STS answered it.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// As messages and the log have it: the ARN, and of a web identity the subject too.
    #[must_use]
    pub fn name(&self) -> String {
        match self.realm {
            Realm::Countersign | Realm::Aws => self.arn.clone(),
            Realm::WebIdentity => format!("{} ({})", self.arn, self.unique_id),
        }
    }

    /// What its issuer says, of a web identity alone.
    #[must_use]
    pub fn web_identity(&self) -> Option<&WebIdentity> {
        self.web_identity.as_deref()
    }

    /// What AWS says, of an instance alone.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceDocument> {
        self.instance.as_deref()
    }

    /// What its unique id is pinned under: `user/<path><name>`, or `role/<name>` (STS does not show a role's path). A root has no
    /// other id than its account's number, so there is nothing to pin.
    #[must_use]
    pub fn pinned_name(&self) -> Option<String> {
        self.pinned_name.clone()
    }
}

#[cfg(test)]
mod tests {
    use countersign_serve::Fault;
    use countersign_sigv4::{AnswerFormat, UniqueIds, parse_answer};

    use super::*;
    use crate::endpoints::AllowList;

    const OWN: &str = "http://127.0.0.1:7400";
    const PRIVATE: &str = "http://127.0.0.1:5000";
    const AWS: &str = "https://sts.us-east-1.amazonaws.com";

    fn proven(
        origin: &str,
        account: &str,
        arn: &str,
        user_id: &str,
    ) -> Result<ProvenCaller, String> {
        let private = format!("us-east-1={PRIVATE}/;accounts=123456789012").parse().unwrap();
        let list = AllowList::new(OWN, "us-east-1", "aws", &[private]).unwrap();
        let endpoint = list.lookup(origin, "us-east-1").unwrap();
        let body = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );
        let identity =
            parse_answer(200, "text/xml", body.as_bytes(), AnswerFormat::Xml, UniqueIds::Aws)
                .unwrap();
        ProvenCaller::from_answer(&endpoint, identity)
            .map_err(|refusal| Fault::from(&refusal).reason().to_owned())
    }

    // ATTACKS 10, 45, 48, 49, 85.
    #[test]
    fn endpoints_vouch_for_their_own() {
        let check =
            |origin: &str, arn: &str, user_id: &str, expected: Result<(&str, &str, &str), &str>| {
                let account = arn.split(':').nth(4).unwrap();
                let found = proven(origin, account, arn, user_id);
                let found = found.as_ref().map(|caller| {
                    (
                        caller.realm().as_str(),
                        caller.unique_id().to_owned(),
                        caller.pinned_name().unwrap_or_default(),
                    )
                });
                let expected =
                    expected.map(|(realm, id, name)| (realm, id.to_owned(), name.to_owned()));
                assert_eq!(found.map_err(String::as_str), expected, "{origin} {arn}");
            };
        let (user, role) = ("AIDA1234567890ABCDEF", "AROA1234567890ABCDEF");
        let session = &format!("{role}:i-0abc");
        check(
            AWS,
            "arn:aws:iam::123456789012:user/teams/alice",
            user,
            Ok(("aws", user, "user/teams/alice")),
        );
        check(
            AWS,
            "arn:aws:sts::123456789012:assumed-role/App/i-0abc",
            session,
            Ok(("aws", role, "role/App")),
        );
        check(
            OWN,
            "arn:aws:iam::000000000000:user/alice",
            user,
            Ok(("countersign", user, "user/alice")),
        );
        check(
            OWN,
            "arn:aws:iam::000000000000:root",
            "000000000000",
            Ok(("countersign", "000000000000", "")),
        );
        check(
            PRIVATE,
            "arn:aws:iam::123456789012:user/alice",
            user,
            Ok(("aws", user, "user/alice")),
        );
        check(PRIVATE, "arn:aws:iam::210987654321:user/alice", user, Err("AccountNotAllowed"));
        check(PRIVATE, "arn:aws:iam::000000000000:root", "000000000000", Err("AccountNotAllowed"));
        check(PRIVATE, "arn:aws:iam::123456789012:root", "123456789012", Err("RootNotAllowed"));
        check(AWS, "arn:aws:iam::123456789012:root", "123456789012", Err("RootNotAllowed"));
        let federated = "123456789012:bob";
        check(
            AWS,
            "arn:aws:sts::123456789012:federated-user/bob",
            federated,
            Err("FederatedUserNotAllowed"),
        );
        check(
            OWN,
            "arn:aws:sts::123456789012:federated-user/bob",
            federated,
            Err("FederatedUserNotAllowed"),
        );
        check(AWS, "arn:aws-cn:iam::123456789012:user/alice", user, Err("PartitionMismatch"));
        check(
            PRIVATE,
            "arn:aws-us-gov:iam::123456789012:user/alice",
            user,
            Err("PartitionMismatch"),
        );
    }
}
