//! From a token's text to a session at one revision: the signature first, then the revision that the token itself asks for, then
//! the key's standing at that revision. Whether the role still exists is asked where the session is used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_evaluator::{FederatedBy, SessionFacts};
use countersign_policy::{Document, Malformed, arn::AccountId, parse, provider::InvalidProvider};
use countersign_replica::{Behind, Revision, View};
use countersign_token::{
    Caller, Claims, Confirmation, DpopError, Expected, MAX_LEEWAY_SECONDS, MAX_TOKEN_BYTES, Realm,
    Shown, SignedToken, TokenError, check_signature,
};

use crate::{convert::Possession, decider::Decider, error::Refusal};

/// The audience of tokens for Countersign's own RPCs.
pub const OWN_AUDIENCE: &str = "countersign";

/// A session, as a good token shows it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who acts, and within which limits.
    pub facts: SessionFacts,
    /// `arn:aws:sts::…:assumed-role/…/…`
    pub arn: String,
    /// Of its tags, the keys of those that it hands on when it chains.
    pub transitive_tag_keys: BTreeSet<String>,
}

/// Why a token shows no session.
#[derive(Debug, thiserror::Error)]
pub enum NoSession {
    /// The token is refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A claim is not what it must be, though the signature holds.
    #[error("the token's claim `{claim}` cannot be read: {message}")]
    Claim {
        /// Which.
        claim: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The token was revoked before its time.
    #[error("the token was revoked")]
    Revoked,
    /// What came with the token proves nothing.
    #[error(transparent)]
    Possession(#[from] DpopError),
    /// The replica is not where the token needs it.
    #[error(transparent)]
    Behind(#[from] Behind),
}

impl NoSession {
    /// As it is said of a token that the caller asks about.
    pub fn of_subject(self) -> Refusal {
        match self {
            Self::Token(error) => Refusal::SubjectToken(error),
            Self::Claim { claim, message } => Refusal::SubjectToken(unreadable(claim, &message)),
            Self::Revoked => Refusal::SubjectTokenRevoked,
            Self::Possession(error) => Refusal::Possession(error),
            Self::Behind(behind) => Refusal::Behind(behind),
        }
    }

    /// As it is said of the caller's own token.
    pub fn of_caller(self) -> Refusal {
        match self {
            Self::Token(error) => Refusal::CallerToken(error),
            Self::Claim { claim, message } => Refusal::CallerToken(unreadable(claim, &message)),
            Self::Revoked => Refusal::SessionOver("its token was revoked".to_owned()),
            Self::Possession(error) => Refusal::CallerPossession(error),
            Self::Behind(Behind::OtherStore { .. }) => Refusal::CallerTokenOfAnotherStore,
            // A verified token's revision is never malformed; and what is missing arrives.
            Self::Behind(
                behind @ (Behind::Malformed(_)
                | Behind::NotYet { .. }
                | Behind::Empty
                | Behind::Stale { .. }),
            ) => Refusal::Behind(behind),
        }
    }
}

fn unreadable(claim: &str, message: &str) -> TokenError {
    TokenError::InvalidClaims { reason: format!("`{claim}`: {message}") }
}

/// A token, as it came.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// A secret.
    pub token: &'a str,
    /// Whom it must be for; none where any will do.
    pub audience: Option<&'a str>,
    /// What came beside it.
    pub possession: &'a Possession,
    /// To whom.
    pub came: Came,
}

/// To whom a token came, and what came beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// To whoever asks here: a DPoP proof is for this very token (RFC 9449 section 7.1), and is taken once.
    ToAsker,
    /// To a gateway, which exchanges it: the proof is for a token request (section 5), and the gateway has taken it.
    ToGateway,
    /// To somebody who only asks whether it is good: nothing is done in its name, and there is no proof.
    InQuestion,
}

/// What a good token shows.
pub struct Opened {
    /// The view at which the token was good.
    pub view: Arc<View>,
    /// The session.
    pub session: Session,
    /// What is asked again where the session outlives the call that showed it.
    pub signed: SignedToken,
}

/// Whether a caller's token is still good for Countersign's own RPCs, at `now` and at this view.
pub fn stands(
    decider: &Decider,
    signed: &SignedToken,
    view: &View,
    now: i64,
) -> Result<(), NoSession> {
    let (issuer, audience) = (decider.issuer(), OWN_AUDIENCE);
    let expected = Expected { issuer, audience, leeway: MAX_LEEWAY_SECONDS };
    // What a bound token wants shown was shown when the call began.
    signed.look_at(now, &expected, view.world().keys())?;
    not_revoked(signed, view)
}

/// Neither it, nor a token that it was exchanged for.
pub fn not_revoked(signed: &SignedToken, view: &View) -> Result<(), NoSession> {
    match signed.names().any(|name| view.world().is_revoked(name)) {
        true => Err(NoSession::Revoked),
        false => Ok(()),
    }
}

/// Verifies what was presented at `now`, waiting until `deadline` for the revision that it needs. The view is the one at which
/// the token was good, and so the one to decide at.
pub async fn open(
    decider: &Decider,
    presented: Presented<'_>,
    now: i64,
    deadline: Instant,
) -> Result<Opened, NoSession> {
    let Presented { token, audience, possession, came } = presented;
    let mut view = decider.replica().now()?;
    let signed = match signed(decider, token, &view) {
        Ok(signed) => signed,
        // A gateway's new key may be on its way. The token says at which revision it is there; nothing of it is believed yet,
        // it only tells what to wait for, and a wrong one costs the caller its own time.
        Err(TokenError::UnknownKey { kid }) => {
            view = arrival(decider, token, deadline).await.ok_or(TokenError::UnknownKey { kid })?;
            signed(decider, token, &view)?
        }
        Err(error) => return Err(error.into()),
    };
    let audience = audience.unwrap_or(signed.audience());
    let expected = Expected { issuer: decider.issuer(), audience, leeway: MAX_LEEWAY_SECONDS };
    let made_for = match came {
        Came::ToAsker => Some(token),
        Came::ToGateway | Came::InQuestion => None,
    };
    let key = match (came, signed.confirmation()) {
        // Beside a token that is bound to no key, a proof is of the token that comes out of the exchange.
        (Came::ToGateway, None | Some(Confirmation::Certificate(_))) => None,
        (Came::ToAsker | Came::InQuestion, _) | (Came::ToGateway, Some(Confirmation::Key(_))) => {
            possession.key(made_for, now)?
        }
    };
    let shown = Shown { key: key.as_ref(), certificate: possession.certificate() };
    let check = |view: &View| {
        let keys = view.world().keys();
        match came {
            Came::ToAsker | Came::ToGateway => {
                signed.check_shown(now, &expected, keys, &shown).map(drop)?;
            }
            Came::InQuestion => {}
        }
        signed.look_at(now, &expected, keys)
    };
    let claims = check(&view)?;
    let revision = &claims.session.revision;
    // Only once the token is good: else strangers would fill the memory.
    match (&key, came) {
        (Some(key), Came::ToAsker) => {
            decider.seen_proofs().take(key, &claims.session.account, now)?;
        }
        (Some(_), Came::ToGateway | Came::InQuestion) | (None, _) => {}
    }
    let view = decider.view(revision, deadline).await?;
    // The key may have been revoked since.
    let session = session(check(&view)?)?;
    not_revoked(&signed, &view)?;
    Ok(Opened { view, session, signed })
}

/// A session whose token's signature holds, where the token is good for `audience` at `now` and at this view, without waiting; and the
/// revision that the token asks for.
pub fn of_signed(
    decider: &Decider,
    signed: &SignedToken,
    audience: &str,
    now: i64,
    view: &View,
) -> Option<(Session, Revision)> {
    let expected = Expected { issuer: decider.issuer(), audience, leeway: MAX_LEEWAY_SECONDS };
    let verified = signed.check(now, &expected, view.world().keys()).ok()?;
    let revision: Revision = verified.claims().session.revision.parse().ok()?;
    let have = view.revision();
    let is_there = have.store_id == revision.store_id && have.number >= revision.number;
    if !is_there || not_revoked(signed, view).is_err() {
        return None;
    }
    Some((session(verified.claims()).ok()?, revision))
}

/// What the token says, once its signature holds: checked now, or remembered.
fn signed(decider: &Decider, token: &str, view: &View) -> Result<SignedToken, TokenError> {
    if let Some(signed) = decider.signatures().recall(token) {
        return Ok(signed);
    }
    let signed = check_signature(token, view.world().keys())?;
    decider.signatures().remember(token, signed.clone());
    Ok(signed)
}

async fn arrival(decider: &Decider, token: &str, deadline: Instant) -> Option<Arc<View>> {
    let revision = claimed_revision(token)?;
    decider.view(&revision, deadline).await.ok()
}

/// What an unverified token says of its revision.
fn claimed_revision(token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    let revision = payload.get("countersign")?.get("revision")?.as_str()?;
    (!revision.is_empty()).then(|| revision.to_owned())
}

fn session(claims: &Claims) -> Result<Session, NoSession> {
    let Claims { sub, iat, session, .. } = claims;
    let account: AccountId = session
        .account
        .parse()
        .map_err(|error| NoSession::Claim { claim: "account", message: format!("{error}") })?;
    let session_policies = documents("session_policies", &session.session_policies)?;
    let narrowings = session.narrowings.iter();
    let narrowings = narrowings.map(|narrowing| documents("narrowings", narrowing));
    let narrowings = narrowings.collect::<Result<Vec<_>, _>>()?;
    let session_tags: BTreeMap<String, String> = session.session_tags.clone();
    Ok(Session {
        facts: SessionFacts {
            account,
            partition: session.partition.clone(),
            role_name: session.role_name.clone(),
            role_id: session.role_id.clone(),
            session_name: session.session_name.clone(),
            issued_at: *iat,
            session_policies,
            narrowings,
            session_tags,
            source_identity: session.source_identity.clone(),
            federated: federated(&session.caller)?,
        },
        arn: sub.clone(),
        transitive_tag_keys: session.transitive_tag_keys.clone(),
    })
}

/// A policy that cannot be read limits the session in a way that is not known.
fn documents(claim: &'static str, texts: &[String]) -> Result<Vec<Arc<Document>>, NoSession> {
    let unreadable = |error: Malformed| NoSession::Claim { claim, message: error.to_string() };
    texts.iter().map(|text| parse::parse(text).map(Arc::new).map_err(unreadable)).collect()
}

/// The web identity that the session began with, if it did.
fn federated(caller: &Caller) -> Result<Option<Box<FederatedBy>>, NoSession> {
    match caller.realm {
        Realm::Countersign | Realm::Aws => Ok(None),
        Realm::WebIdentity => {
            let unreadable = |error: InvalidProvider| NoSession::Claim {
                claim: "caller",
                message: error.to_string(),
            };
            let provider = caller.arn.parse().map_err(unreadable)?;
            let subject = caller.unique_id.clone();
            Ok(Some(Box::new(FederatedBy { provider, subject })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unverified_token_tells_what_to_wait_for() {
        fn check(payload: &str, expected: Option<&str>) {
            let token = format!("x.{}.y", URL_SAFE_NO_PAD.encode(payload));
            assert_eq!(claimed_revision(&token).as_deref(), expected, "{payload}");
        }
        check(r#"{"countersign":{"revision":"a:7"}}"#, Some("a:7"));
        check(r#"{"countersign":{"revision":""}}"#, None);
        check(r#"{"countersign":{"revision":7}}"#, None);
        check(r#"{"countersign":{}}"#, None);
        check("{}", None);
        check("[", None);
        assert_eq!(claimed_revision("x"), None);
        assert_eq!(claimed_revision(&format!("x.{}", "A".repeat(5000))), None);
    }
}
