//! A token in, a narrower one of the same session out (RFC 8693): without a role, and without a proof of who asks, since whoever holds the
//! token could do all that the new one can.
//!
//! Nothing of the new token is more than in the old one (ATTACKS 72 to 77): it begins when the session began, ends no later, may do what
//! each narrowing allows, stays bound to the same key, and is for the same audience, or for one that the subject's policies allow.

use std::net::IpAddr;

use countersign_proto::{
    decision::v1::{AuthorizeExchangeRequest, AuthorizeExchangeResponse, Decision, DecisionReason},
    token::v1::{ExchangeRequest, ExchangeResponse},
};
use countersign_replica::Revision;
use countersign_token::{
    Actor, BoundRequest, Claims, Confirmation, MayAct, Session, TokenError, VerifiedToken,
    claims::{MAX_ACTORS, MAX_PARENTS, jti},
    scope,
};
use tonic::Code;

use crate::{
    authn::AUDIENCE,
    beside::{self, Beside},
    clock,
    convert::{self, ACCESS_TOKEN},
    error::Refusal,
    exchange::{Account, DECISION, Exchange, failed, invalid, known, later, reached},
};

/// What is asked for.
struct Asked {
    subject_token: String,
    actor_token: Option<String>,
    audience: String,
    scope: String,
    duration_seconds: i64,
    policy: String,
    policy_arns: Vec<String>,
    confirmation: Option<Confirmation>,
    may_act: Option<MayAct>,
}

/// Whether a request is to narrow a token: it shows one, and names no role.
#[must_use]
pub fn is_asked(request: &ExchangeRequest) -> bool {
    request.subject_token_type == ACCESS_TOKEN && request.role_arn.is_empty()
}

/// The default, and the most is what is left of the session.
const DEFAULT_DURATION: i64 = 3600;

impl Asked {
    fn parse(request: ExchangeRequest, issuer: &str) -> Result<Self, Refusal> {
        let (tokens, bound) = convert::split(request);
        if tokens.subject.is_empty() {
            return Err(Refusal::MissingProof);
        }
        of_the_same_session(&bound)?;
        convert::requested_token_type(&bound)?;
        convert::audience(&bound)?;
        convert::check_sizes(&bound)?;
        let actor_token = actor_token(tokens.actor, &bound, &tokens.subject)?;
        let duration_seconds = match bound.duration_seconds {
            0 => DEFAULT_DURATION,
            seconds @ 1..=43_200 => i64::from(seconds),
            _ => {
                let message = "must be 0 (for 3,600), or 1 to 43,200 seconds".to_owned();
                return Err(Refusal::Invalid { field: "duration_seconds", message });
            }
        };
        Ok(Self {
            confirmation: convert::confirmation(&bound)?,
            may_act: convert::may_act(&bound.may_act, issuer)?,
            subject_token: tokens.subject,
            actor_token,
            audience: bound.audience,
            scope: bound.scope,
            duration_seconds,
            policy: bound.policy,
            policy_arns: bound.policy_arns,
        })
    }
}

/// A narrowed token is the same session, under the same name and with the same marks.
fn of_the_same_session(bound: &BoundRequest) -> Result<(), Refusal> {
    let fields = [
        ("role_session_name", !bound.role_session_name.is_empty()),
        ("tags", !bound.tags.is_empty()),
        ("transitive_tag_keys", !bound.transitive_tag_keys.is_empty()),
        ("external_id", !bound.external_id.is_empty()),
        ("source_identity", !bound.source_identity.is_empty()),
    ];
    match fields.into_iter().find(|(_, present)| *present) {
        Some((field, _)) => {
            let message = "only with `role_arn`: without one, the session stays as it is";
            Err(Refusal::Invalid { field, message: message.to_owned() })
        }
        None => Ok(()),
    }
}

/// RFC 8693 section 2.1: the two come together (ATTACKS 77).
fn actor_token(
    token: String,
    bound: &BoundRequest,
    subject_token: &str,
) -> Result<Option<String>, Refusal> {
    match (token.is_empty(), bound.actor_token_type.as_str()) {
        (true, "") => Ok(None),
        (true, _) => Err(Refusal::Actor("missing, though `actor_token_type` is there")),
        (false, "") => {
            let message = "missing, though `actor_token` is there".to_owned();
            Err(Refusal::Invalid { field: "actor_token_type", message })
        }
        (false, ACCESS_TOKEN) if token == subject_token => Err(SELF),
        (false, ACCESS_TOKEN) => Ok(Some(token)),
        (false, _) => {
            let message = format!("must be `{ACCESS_TOKEN}`");
            Err(Refusal::Invalid { field: "actor_token_type", message })
        }
    }
}

const SELF: Refusal = Refusal::Actor("is the subject itself, which needs nobody to act for it");

/// A token that says who may act for it is not for its holder to exchange alone.
pub(crate) const NOBODY_ACTS: &str = "show that session's token as `actor_token`, without a role";

/// The tokens that came in, verified.
struct Parties {
    subject: VerifiedToken,
    actor: Option<VerifiedToken>,
}

impl Exchange {
    /// Trades a token for a narrower one, and says so in the log as every exchange does.
    pub(crate) async fn narrow(
        &self,
        request: ExchangeRequest,
        beside: &Beside,
        source: Option<IpAddr>,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        account.action = "countersign:ExchangeToken";
        account.proof = ACCESS_TOKEN;
        let asked = Asked::parse(request, &self.issuer)?;
        let source = known(source)?;
        account.audience.clone_from(&asked.audience);
        let now = clock::now();
        self.keys.signer(now)?;
        let parties = self.parties(&asked, beside, now)?;
        let claims = parties.subject.claims();
        account.principal.clone_from(&claims.sub);
        account.session.clone_from(&claims.session.session_name);
        to_that_audience(&claims.aud, &asked)?;
        let scope = granted_scope(&asked.scope, claims.scope.as_deref())?;
        let answer =
            self.authorize_exchange(&asked, scope.as_deref(), beside, &parties, source).await?;
        account.decision_id.clone_from(&answer.decision_id);
        let (documents, revision) = granted(answer, &asked, scope.as_deref(), claims)?;
        if let Some(heard) = self.keys.heard() {
            reached(&revision, &heard)?;
        }
        let iat = clock::now();
        let signer = self.keys.signer(iat)?;
        let revision = later(signer.revision(), &revision)?;
        let claims = narrowed(&parties, &asked, scope, documents, revision, iat)?;
        // Of two that come with one proof, one gets a token.
        beside.take(&self.seen_proofs, iat)?;
        let token = signer.mint(&claims)?;
        account.token_id.clone_from(&claims.jti);
        self.uses.role(&claims.session.role_id, iat);
        Ok(convert::answer(token, &claims, iat))
    }

    fn parties(&self, asked: &Asked, beside: &Beside, now: i64) -> Result<Parties, Refusal> {
        let keys = self.keys.known();
        let subject = beside::verify(&asked.subject_token, beside, &self.issuer, None, &keys, now)?;
        let Some(token) = &asked.actor_token else {
            return match subject.claims().may_be_exchanged_by(None) {
                true => Ok(Parties { subject, actor: None }),
                false => Err(Refusal::MayNotAct(NOBODY_ACTS)),
            };
        };
        // A token for a service of yours is not that service: who acts shows one for Countersign (ATTACKS 88).
        let actor = beside::verify(token, beside, &self.issuer, Some(AUDIENCE), &keys, now);
        let actor = actor.map_err(|refusal| match refusal {
            Refusal::SubjectToken(error) => Refusal::ActorToken(error),
            other => other,
        })?;
        if actor.claims().client_id == subject.claims().client_id {
            return Err(SELF);
        }
        if actor.claims().act.is_some() {
            return Err(Refusal::Actor("acts for somebody itself; show a token of its own"));
        }
        // The name in the token and the policies must both let it act (ATTACKS 76).
        if !subject.claims().may_be_exchanged_by(Some(actor.claims())) {
            return Err(Refusal::MayNotAct("the actor token is of another session"));
        }
        Ok(Parties { subject, actor: Some(actor) })
    }

    async fn authorize_exchange(
        &self,
        asked: &Asked,
        scope: Option<&str>,
        beside: &Beside,
        parties: &Parties,
        source_address: String,
    ) -> Result<AuthorizeExchangeResponse, Refusal> {
        // A scope that was not asked for limits the new token as it limits the old one.
        let scope = if asked.scope.is_empty() { None } else { scope };
        let message = AuthorizeExchangeRequest {
            subject_token: asked.subject_token.clone(),
            actor_token: asked.actor_token.clone().unwrap_or_default(),
            audience: asked.audience.clone(),
            policy: asked.policy.clone(),
            policy_arns: asked.policy_arns.clone(),
            scope: scope.unwrap_or_default().to_owned(),
            source_address,
            at_least_revision: self.keys.heard().map(|heard| heard.to_string()).unwrap_or_default(),
            proof_of_possession: beside
                .of_tokens([&parties.subject].into_iter().chain(&parties.actor)),
            is_introspection: false,
        };
        let answer = self.decision.clone().authorize_exchange(message).await;
        let answer = answer.map_err(|status| match status.code() {
            Code::InvalidArgument => invalid(&status),
            Code::FailedPrecondition => Refusal::OtherStore,
            code => failed(DECISION, code, &status),
        })?;
        Ok(answer.into_inner())
    }
}

/// Who receives a token for its own audience could do with it whatever that service can; nobody may turn it into one for Countersign,
/// or, without saying who they are, for another service.
fn to_that_audience(own: &str, asked: &Asked) -> Result<(), Refusal> {
    let refused = |why| {
        let (own, asked) = (own.to_owned(), asked.audience.clone());
        Err(Refusal::AudienceNotAllowed { own, asked, why })
    };
    if own == asked.audience || own == AUDIENCE {
        return Ok(());
    }
    match (&asked.actor_token, asked.audience.as_str()) {
        (_, AUDIENCE) => refused("begin anew with a proof"),
        (None, _) => refused("say who acts, with `actor_token`"),
        (Some(_), _) => Ok(()),
    }
}

/// `requested ∩ subject` (ATTACKS 72).
fn granted_scope(asked: &str, own: Option<&str>) -> Result<Option<String>, Refusal> {
    match (asked, own) {
        ("", own) => Ok(own.map(str::to_owned)),
        (asked, None) => Ok(Some(asked.to_owned())),
        (asked, Some(own)) => match scope::intersection(asked, own) {
            nothing if nothing.is_empty() => {
                let shown = |text: &str| text.escape_debug().take(256).collect();
                Err(Refusal::NothingInScope { asked: shown(asked), own: shown(own) })
            }
            left => Ok(Some(left)),
        },
    }
}

/// The documents that narrow the new token, and the revision of the decision. What contradicts itself is no permission.
fn granted(
    answer: AuthorizeExchangeResponse,
    asked: &Asked,
    scope: Option<&str>,
    subject: &Claims,
) -> Result<(Vec<String>, Revision), Refusal> {
    let broken =
        |cause: &str| Err(Refusal::ServiceBroken { service: DECISION, cause: cause.to_owned() });
    let AuthorizeExchangeResponse {
        decision,
        allowed,
        reason,
        message,
        session_policies,
        revision,
        decision_id,
    } = answer;
    match (Decision::try_from(decision), allowed) {
        (Ok(Decision::Allow), true) => {}
        (Ok(Decision::ExplicitDeny | Decision::ImplicitDeny), false) => {
            let reason = DecisionReason::try_from(reason).unwrap_or_default().as_str_name();
            return Err(Refusal::ExchangeDenied {
                subject: subject.sub.clone(),
                audience: asked.audience.clone(),
                detail: format!("decision {decision_id}"),
                cause: format!("{reason}: {message}"),
            });
        }
        (Ok(Decision::Allow), false)
        | (Ok(Decision::ExplicitDeny | Decision::ImplicitDeny), true)
        | (Ok(Decision::Unspecified) | Err(_), _) => {
            return broken("`decision` and `allowed` contradict each other");
        }
    }
    let Ok(revision) = revision.parse() else { return broken("`revision` is none") };
    // One for each limit: a token that asked for limits and got none would be free of them.
    let limits = usize::from(!asked.policy.is_empty())
        + asked.policy_arns.len()
        + usize::from(!asked.scope.is_empty() && scope.is_some());
    if session_policies.len() != limits || session_policies.iter().any(String::is_empty) {
        return broken("the documents are not as many as were asked for");
    }
    Ok((session_policies, revision))
}

/// The new token's claims: the old one's, and less.
fn narrowed(
    parties: &Parties,
    asked: &Asked,
    scope: Option<String>,
    documents: Vec<String>,
    revision: &Revision,
    now: i64,
) -> Result<Claims, Refusal> {
    let Parties { subject, actor } = parties;
    let old = subject.claims();
    // The old token's revision is of no later moment: the decision was made where it was good.
    let mut session = Session {
        parents: parents(parties)?,
        revision: revision.to_string(),
        ..old.session.clone()
    };
    if !documents.is_empty() {
        session.narrowings.push(documents);
    }
    let ends = actor.iter().map(|actor| actor.claims().exp);
    let asked_end = now.saturating_add(asked.duration_seconds);
    let exp = ends.fold(old.exp.min(asked_end), i64::min);
    if exp <= now {
        return Err(Refusal::SubjectToken(TokenError::Expired { exp }));
    }
    Ok(Claims {
        aud: asked.audience.clone(),
        exp,
        jti: jti()?,
        scope,
        cnf: beside::confirmation(asked.confirmation.as_ref(), Some(subject))?,
        act: act(old, actor.as_ref())?,
        may_act: may_act(old.may_act.as_ref(), asked.may_act.as_ref())?,
        session,
        // The session began when it began: what is revoked by time must not outlive its revocation in a new token.
        ..old.clone()
    })
}

/// What ends the new token when it is revoked: the subject's token and the actor's, and what those were exchanged for.
fn parents(Parties { subject, actor }: &Parties) -> Result<Vec<String>, Refusal> {
    let mut parents = beside::parents(subject)?;
    let of_actor = actor.as_ref().map(beside::parents).transpose()?.unwrap_or_default();
    parents.extend(of_actor.into_iter().filter(|name| !parents.contains(name)).collect::<Vec<_>>());
    if parents.len() > MAX_PARENTS {
        return Err(Refusal::Actor(
            "has, with the subject, too many tokens behind it; begin anew with a proof",
        ));
    }
    Ok(parents)
}

/// Who may act is said once: by whoever has it in hand later, it is not said anew.
fn may_act(own: Option<&MayAct>, asked: Option<&MayAct>) -> Result<Option<MayAct>, Refusal> {
    match (own, asked) {
        (Some(own), Some(asked)) if own != asked => {
            Err(Refusal::MayNotAct("that cannot be changed; leave `may_act` out"))
        }
        (Some(own), Some(_) | None) => Ok(Some(own.clone())),
        (None, asked) => Ok(asked.cloned()),
    }
}

/// Who acts, and who acted before, whole (RFC 8693 section 4.1).
fn act(subject: &Claims, actor: Option<&VerifiedToken>) -> Result<Option<Actor>, Refusal> {
    let Some(actor) = actor else { return Ok(subject.act.clone()) };
    let act = Actor {
        sub: actor.claims().sub.clone(),
        client_id: actor.claims().client_id.clone(),
        act: subject.act.clone().map(Box::new),
    };
    if act.depth() > MAX_ACTORS {
        return Err(Refusal::Actor("would be the fifth to act for the subject; four may"));
    }
    Ok(Some(act))
}
