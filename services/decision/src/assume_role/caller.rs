//! Who asks: a proof's, a session's, an issuer's or an instance's word made a subject with its own policies, in the one realm that it is of.

use countersign_evaluator::{
    ExternalPrincipal, Realm, Subject, SubjectError,
    subject::{external_subject, web_identity_subject},
};
use countersign_policy::{principal::IamArn, provider::OidcProvider};
use countersign_proto::decision::v1::DecisionReason;
use countersign_replica::World;

use super::{Asker, instance};
use crate::{
    check::{self, Judgement},
    convert::{Identity, WebIdentity},
    sentence::arn_noun,
};

/// The one role that an account's root may assume; every account is seeded with it.
const ADMINISTRATOR: &str = "CountersignAdministrator";

/// Who asks, with its own policies; or the denial, where there is nobody to ask for.
pub fn subject(world: &World, asker: &Asker, role_arn: &IamArn) -> Result<Subject, Judgement> {
    match asker {
        Asker::Identity(identity) => shown(world, identity, role_arn),
        // Its session policies limit it here as everywhere.
        Asker::Session(session) => world
            .snapshot()
            .session_subject(&session.facts)
            .map_err(|error| check::absent(&error, &session.arn)),
        Asker::WebIdentity(shown) => federated(world, shown, role_arn),
        Asker::Instance(instance) => instance::subject(world.snapshot(), instance),
    }
}

/// Whom an issuer vouches for. Its provider is of the role's own account, as the trust policy must have it.
fn federated(world: &World, shown: &WebIdentity, role_arn: &IamArn) -> Result<Subject, Judgement> {
    let WebIdentity { provider, subject, audience, aws_account, keys } = shown;
    // A number is a local account or an external one, never both.
    if let Some(account) = aws_account.filter(|account| world.snapshot().is_local(*account)) {
        let message =
            format!("realm conflict: account {account} is local, and AWS does not speak for it");
        return Err(Judgement::denied(DecisionReason::ExternalPrincipal, message));
    }
    let provider = OidcProvider {
        partition: role_arn.partition().to_owned(),
        account: role_arn.account(),
        provider: provider.clone(),
    };
    web_identity_subject(provider, subject, audience, keys.clone())
        .map_err(|error| check::absent(&error, subject))
}

/// Who the identity is, in its realm.
fn shown(world: &World, identity: &Identity, role_arn: &IamArn) -> Result<Subject, Judgement> {
    let is_local = world.snapshot().is_local(identity.account);
    match (identity.realm, is_local) {
        (Realm::Countersign, true) => local(world, identity, role_arn),
        (Realm::Aws, false) => external(identity),
        // A number is a local account or an external one, never both.
        (Realm::Aws, true) => {
            let message = format!(
                "realm conflict: account {} is local, and AWS does not speak for it",
                identity.account
            );
            Err(Judgement::denied(DecisionReason::ExternalPrincipal, message))
        }
        (Realm::Countersign, false) => {
            let message = format!(
                "realm conflict: account {} is not local, and Countersign does not speak for it",
                identity.account
            );
            Err(Judgement::denied(DecisionReason::ExternalPrincipal, message))
        }
    }
}

fn local(world: &World, identity: &Identity, role_arn: &IamArn) -> Result<Subject, Judgement> {
    let snapshot = world.snapshot();
    let name = identity.arn.to_string();
    match &identity.arn {
        IamArn::User { .. } => {
            // The id tells whether it is still the same user; the name may have been given to another.
            let same = snapshot
                .user_by_id(&identity.unique_id)
                .is_some_and(|user| user.arn() == identity.arn);
            if !same {
                return Err(check::absent(
                    &SubjectError::NoSuchUser(identity.unique_id.clone()),
                    &name,
                ));
            }
            snapshot.user_subject(&identity.arn).map_err(|error| check::absent(&error, &name))
        }
        IamArn::Root { partition, account } => {
            let administrator = IamArn::Role {
                partition: partition.clone(),
                account: *account,
                path: "/".to_owned(),
                name: ADMINISTRATOR.to_owned(),
            };
            if *role_arn != administrator {
                let message =
                    format!("{} may assume {administrator} alone", arn_noun(&identity.arn));
                return Err(Judgement::denied(DecisionReason::NoTrustAllow, message));
            }
            snapshot.root_subject(partition, *account).map_err(|error| check::absent(&error, &name))
        }
        // Countersign's sessions are tokens; its STS face knows users and the root.
        IamArn::Role { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => {
            let message =
                format!("{} cannot come from Countersign's own STS", arn_noun(&identity.arn));
            Err(Judgement::denied(DecisionReason::CannotEvaluate, message))
        }
    }
}

fn external(identity: &Identity) -> Result<Subject, Judgement> {
    let refused = |message: String| Judgement::denied(DecisionReason::ExternalPrincipal, message);
    // Roots and federated users are refused as proofs (DESIGN.md section 4); the type takes neither.
    let external = ExternalPrincipal::new(identity.arn.clone(), identity.unique_id.as_str())
        .map_err(|error| refused(error.to_string()))?;
    external_subject(external).map_err(|error| check::absent(&error, &identity.arn.to_string()))
}
