//! The exchange, from top to bottom: each step either turns back with a named reason, or hands on what the next one needs. What is
//! cheap comes first; neither STS nor the signer is reached before it must be.

mod account;
mod counts;
mod instance;
mod web_identity;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_proto::{
    decision::v1::{ProofOfPossession, decision_service_client::DecisionServiceClient},
    policy::v1::{ConsumeProofRequest, PinPrincipalRequest},
    token::v1::{ExchangeRequest, ExchangeResponse},
};
use countersign_replica::Revision;
use countersign_serve::ServiceCredential;
use countersign_token::{
    Caller, Claims, Realm, Session, TokenError, VerifiedToken, dpop::SeenProofs,
};
use tokio::sync::Semaphore;
use tonic::{Code, Status, service::interceptor::InterceptedService, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    StoreClient,
    answered::{Answered, Granted},
    audit::Audit,
    authn::AUDIENCE,
    beside::{self, Beside},
    clock,
    convert::{self, Asked, Shown},
    error::Refusal,
    keys::Keys,
    limits::{Limits, TooOften},
    narrow,
    proof::{
        ProvenCaller,
        instance::Instances,
        jwt::JwtVerifier,
        sts::{CheckedProof, StsVerifier},
    },
    replay::{self, Unclaimed},
    session::Marks,
    uses::Uses,
};

pub(crate) use account::Account;
pub use counts::Counts;

/// For the whole exchange.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const STORE: &str = "the policy store";
pub(crate) const DECISION: &str = "the decision service";

/// The decision service's client, as the gateway uses it.
pub type DecisionClient = DecisionServiceClient<InterceptedService<Channel, ServiceCredential>>;

/// All that an exchange needs.
pub struct Exchange {
    /// `iss`.
    pub issuer: String,
    /// The partition of roles.
    pub partition: String,
    /// Whose sessions may ask for another signing key; nobody's where it is not said.
    pub operator_account: Option<String>,
    /// Proofs.
    pub sts: StsVerifier,
    /// Web identities.
    pub jwts: JwtVerifier,
    /// EC2 instances.
    pub instances: Instances,
    /// Proofs in hand.
    pub claims: replay::Claims,
    /// Where each exchange is written down.
    pub audit: Audit,
    /// Where each is counted.
    pub counts: Counts,
    /// How often anybody may come.
    pub limits: Limits,
    /// For those under way at once.
    pub room: Arc<Semaphore>,
    /// Whom to ask whether.
    pub decision: DecisionClient,
    /// Where proofs are spent.
    pub store: StoreClient,
    /// What signs.
    pub keys: Arc<Keys>,
    /// DPoP proofs that were taken.
    pub seen_proofs: Arc<SeenProofs>,
    /// Which roles were used.
    pub uses: Arc<Uses>,
}

impl Exchange {
    /// Trades a proof for a token, and says so in the log.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn exchange(
        &self,
        request: ExchangeRequest,
        source: Option<IpAddr>,
    ) -> Result<ExchangeResponse, Refusal> {
        self.exchange_beside(request, &Beside::default(), source).await
    }

    /// The same, with what came beside the request.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn exchange_beside(
        &self,
        request: ExchangeRequest,
        beside: &Beside,
        source: Option<IpAddr>,
    ) -> Result<ExchangeResponse, Refusal> {
        let mut account = Account::default();
        let source = source.map(|address| address.to_canonical());
        let outcome = match self.begin(&mut account, source) {
            Ok(()) => within(self.either(request, beside, source, &mut account)).await,
            Err(refusal) => Err(refusal),
        };
        account.end(outcome).await
    }

    /// An exchange for a session, or for less of a token. Whatever is read or verified is so here, behind [`Self::begin`].
    async fn either(
        &self,
        mut request: ExchangeRequest,
        beside: &Beside,
        source: Option<IpAddr>,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        beside.name_in(&mut request.client_key_thumbprint, clock::now())?;
        if narrow::is_asked(&request) {
            return self.narrow(request, beside, source, account).await;
        }
        let asked = Asked { beside: beside.clone(), ..Asked::parse(request, &self.partition)? };
        self.work(asked, None, source, account).await
    }

    /// Trades a proof that signs `challenge`, which its stream alone was given, for a token, and says so in the log. Whoever takes a
    /// challenge back asks once: it is not given to two proofs.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn exchange_challenged(
        &self,
        asked: Asked,
        challenge: &str,
        source: Option<IpAddr>,
    ) -> Result<ExchangeResponse, Refusal> {
        let mut account = Account::default();
        let source = source.map(|address| address.to_canonical());
        let outcome = match self.begin(&mut account, source) {
            Ok(()) => within(self.work(asked, Some(challenge), source, &mut account)).await,
            Err(refusal) => Err(refusal),
        };
        account.end(outcome).await
    }

    /// Before any exchange, of whatever kind.
    fn begin(&self, account: &mut Account, source: Option<IpAddr>) -> Result<(), Refusal> {
        account.audit = self.audit.clone();
        account.counts = Some(self.counts.clone());
        account.source = source.map(|address| address.to_string()).unwrap_or_default();
        self.admit(source)?;
        // Whoever waited would be answered when it is no longer there.
        account.room = Some(self.room.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?);
        Ok(())
    }

    /// Whether one more may come from `source`. One without an address is refused for that, by [`known`].
    ///
    /// # Errors
    /// [`Refusal::TooOften`].
    pub fn admit(&self, source: Option<IpAddr>) -> Result<(), Refusal> {
        let Some(source) = source else { return Ok(()) };
        self.limits
            .admit(source, Instant::now())
            .map_err(|TooOften { retry_after }| Refusal::TooOften { retry_after })
    }

    async fn work(
        &self,
        asked: Asked,
        challenge: Option<&str>,
        source: Option<IpAddr>,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        // Before anything is asked or spent.
        convert::may_act(&asked.may_act, &self.issuer)?;
        let source = known(source)?;
        account.action = asked.shown.action();
        account.proof = asked.shown.proof_type();
        account.role.clone_from(&asked.role_arn);
        account.session.clone_from(&asked.role_session_name);
        account.audience.clone_from(&asked.audience);
        match (&asked.shown, challenge) {
            (Shown::StsProof(proof), None) => self.by_proof(&asked, proof, &source, account).await,
            (Shown::StsProof(proof), Some(challenge)) => {
                self.by_challenge(&asked, proof, challenge, &source, account).await
            }
            (Shown::Token(token), _) => self.by_token(&asked, token, &source, account).await,
            (Shown::Jwt(token), _) => self.by_jwt(&asked, token, &source, account).await,
            (Shown::Instance(envelope), _) => {
                self.by_instance(&asked, envelope, &source, account).await
            }
        }
    }

    /// One shot: the proof is claimed in memory, and spent in the store.
    async fn by_proof(
        &self,
        asked: &Asked,
        proof: &str,
        source: &str,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let now = clock::now();
        let proof = self.sts.check(proof, &asked.binding, None, now)?;
        // Without a key there will be no token: better said before the proof is used up.
        self.keys.signer(now)?;
        let claim =
            self.claims.claim(&proof.replay_key(), proof.claimed_until(), now).map_err(|why| {
                match why {
                    Unclaimed::Taken => Refusal::ProofAlreadyUsed,
                    Unclaimed::Full => Refusal::Busy,
                }
            })?;
        let outcome = self.judge(asked, &proof, source, account).await;
        // Nobody could judge it: the client may send it again. Any other end keeps the claim.
        if outcome.as_ref().is_err_and(Refusal::is_no_verdict) {
            claim.release();
        }
        outcome
    }

    /// The nonce dies with its stream, so there is nothing to spend, and no write (ATTACKS 35, 36).
    async fn by_challenge(
        &self,
        asked: &Asked,
        proof: &str,
        challenge: &str,
        source: &str,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let now = clock::now();
        let proof = self.sts.check(proof, &asked.binding, Some(challenge), now)?;
        self.keys.signer(now)?;
        let caller = self.sts.ask(&proof).await?;
        caller.arn().clone_into(&mut account.principal);
        let question = Question { challenged: true, ..Question::of(asked, &caller, source) };
        let heard = self.keys.heard();
        let granted = self.authorize(&question, heard.as_ref(), account).await?;
        account.service_principal.clone_from(&granted.service_principal);
        if granted.pin_required {
            self.pin(&caller).await?;
        }
        self.answer(asked, &caller, &granted, None, account)
    }

    /// Role chaining: a session of ours assumes a role in its turn, for no longer than it lasts itself (ATTACKS 73).
    async fn by_token(
        &self,
        asked: &Asked,
        token: &str,
        source: &str,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let now = clock::now();
        self.keys.signer(now)?;
        // A token for a service of yours is not that service's to exchange (ATTACKS 88).
        let (issuer, keys) = (&self.issuer, self.keys.known());
        let session = beside::verify(token, &asked.beside, issuer, Some(AUDIENCE), &keys, now)?;
        if !session.claims().may_be_exchanged_by(None) {
            return Err(Refusal::MayNotAct(narrow::NOBODY_ACTS));
        }
        let caller = ProvenCaller::of_session(&session);
        caller.arn().clone_into(&mut account.principal);
        let marks = asked.marks.clone().handed_on(&session)?;
        let possession = asked.beside.of_tokens([&session]);
        let question = Question {
            marks: &marks,
            possession: possession.as_ref(),
            ..Question::of(asked, &caller, source)
        };
        let heard = self.keys.heard();
        let granted = self.authorize(&question, heard.as_ref(), account).await?;
        if granted.pin_required || !granted.service_principal.is_empty() {
            let cause = "a session is pinned nowhere, and speaks for nobody".to_owned();
            return Err(Refusal::ServiceBroken { service: DECISION, cause });
        }
        self.answer(asked, &caller, &granted, Some(&session), account)
    }

    async fn judge(
        &self,
        asked: &Asked,
        proof: &CheckedProof,
        source: &str,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let caller = self.sts.ask(proof).await?;
        caller.arn().clone_into(&mut account.principal);

        // Whether the proof is worth spending; nothing is minted from this answer. What this gateway has heard of, such as a role made a
        // moment ago, the decision service must have heard of too.
        let question = Question::of(asked, &caller, source);
        let heard = self.keys.heard();
        self.authorize(&question, heard.as_ref(), account).await?;
        let spent = self.consume(proof).await?;
        // The decision service may have lagged. Nothing that was committed before the proof was spent is unknown to the second answer,
        // so that no old grant is used (DESIGN.md section 6).
        let granted = self.authorize(&question, Some(&spent), account).await?;
        account.service_principal.clone_from(&granted.service_principal);

        if granted.pin_required {
            self.pin(&caller).await?;
        }
        self.answer(asked, &caller, &granted, None, account)
    }

    fn answer(
        &self,
        asked: &Asked,
        caller: &ProvenCaller,
        granted: &Granted,
        parent: Option<&VerifiedToken>,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let (token, claims) = self.mint(asked, caller, granted, parent)?;
        account.token_id.clone_from(&claims.jti);
        self.uses.role(&granted.role_id, claims.iat);
        Ok(convert::answer(token, &claims, claims.iat))
    }

    /// Asks the decision service, for an answer at `floor` or later. An answer that contradicts itself is no permission.
    async fn authorize(
        &self,
        question: &Question<'_>,
        floor: Option<&Revision>,
        account: &mut Account,
    ) -> Result<Granted, Refusal> {
        let Question { asked, caller, challenged, source, marks, possession } = *question;
        let mut message = convert::question(asked, caller, challenged, source, floor);
        message.proof_of_possession = possession.cloned();
        let answer = self.decision.clone().authorize_assume_role(message).await;
        let answer = answer.map_err(|status| match status.code() {
            Code::InvalidArgument => invalid(&status),
            // It follows another store than the one that the proof was spent in.
            Code::FailedPrecondition => Refusal::OtherStore,
            code => failed(DECISION, code, &status),
        })?;
        let answer = answer.into_inner();
        account.decision_id.clone_from(&answer.decision_id);
        match Answered::parse(answer, asked, marks) {
            Answered::Granted(granted) => {
                if let Some(floor) = floor {
                    reached(&granted.revision, floor)?;
                }
                Ok(granted)
            }
            Answered::Denied(denied) => Err(denied.refusal(asked, caller)),
            Answered::Broken(cause) => {
                Err(Refusal::ServiceBroken { service: DECISION, cause: cause.to_owned() })
            }
        }
    }

    /// Spends the proof, for all gateways and for good, and says at which revision. When that cannot be written down there is no token.
    async fn consume(&self, proof: &CheckedProof) -> Result<Revision, Refusal> {
        let request = ConsumeProofRequest {
            replay_key: proof.replay_key(),
            expire_time: Some(prost_types::Timestamp { seconds: proof.spent_until(), nanos: 0 }),
        };
        match self.store.clone().consume_proof(request).await {
            Ok(answer) => answer.into_inner().revision.parse().map_err(|error| {
                Refusal::ServiceBroken { service: STORE, cause: format!("ConsumeProof: {error}") }
            }),
            Err(status) => Err(match status.code() {
                Code::AlreadyExists => Refusal::ProofAlreadyUsed,
                code => failed(STORE, code, &status),
            }),
        }
    }

    /// An external principal is its unique id; a name that was given to somebody else is not enough (ATTACKS 46).
    async fn pin(&self, caller: &ProvenCaller) -> Result<(), Refusal> {
        let principal_name = match (caller.realm(), caller.pinned_name()) {
            (Realm::Aws, Some(name)) => name,
            (Realm::Aws | Realm::Countersign | Realm::WebIdentity, _) => {
                let cause = "it wants a pin where there is nothing to pin".to_owned();
                return Err(Refusal::ServiceBroken { service: DECISION, cause });
            }
        };
        let request = PinPrincipalRequest {
            partition: caller.partition().to_owned(),
            account_id: caller.account().to_owned(),
            principal_name,
            unique_id: caller.unique_id().to_owned(),
            ..PinPrincipalRequest::default()
        };
        match self.store.clone().pin_principal(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(match status.code() {
                Code::FailedPrecondition => {
                    Refusal::PrincipalIdChanged { arn: caller.arn().to_owned() }
                }
                code => failed(STORE, code, &status),
            }),
        }
    }

    fn mint(
        &self,
        asked: &Asked,
        caller: &ProvenCaller,
        granted: &Granted,
        parent: Option<&VerifiedToken>,
    ) -> Result<(String, Claims), Refusal> {
        let iat = clock::now();
        let Marks { tags, transitive_tag_keys, source_identity } = granted.marks.clone();
        let signer = self.keys.signer(iat)?;
        let session = Session {
            account: granted.account.clone(),
            partition: self.partition.clone(),
            role_name: granted.role_name.clone(),
            role_id: granted.role_id.clone(),
            session_name: asked.role_session_name.clone(),
            source_identity,
            session_tags: tags,
            transitive_tag_keys,
            session_policies: granted.session_policies.clone(),
            narrowings: Vec::new(),
            parents: parent.map(beside::parents).transpose()?.unwrap_or_default(),
            proof_type: asked.shown.proof_type().to_owned(),
            caller: Caller {
                realm: caller.realm(),
                account: caller.account().to_owned(),
                unique_id: caller.unique_id().to_owned(),
                arn: caller.arn().to_owned(),
            },
            revision: later(signer.revision(), &granted.revision)?.to_string(),
        };
        let mut exp = iat.saturating_add(i64::from(granted.duration_seconds));
        if let Some(parent) = parent {
            exp = exp.min(parent.claims().exp);
            if exp <= iat {
                return Err(Refusal::SubjectToken(TokenError::Expired { exp }));
            }
        }
        let (issuer, audience) = (self.issuer.clone(), asked.audience.clone());
        let claims = Claims {
            scope: (!asked.scope.is_empty()).then(|| asked.scope.clone()),
            cnf: beside::confirmation(asked.confirmation.as_ref(), parent)?,
            act: parent.and_then(|parent| parent.claims().act.clone()),
            may_act: convert::may_act(&asked.may_act, &self.issuer)?,
            ..Claims::for_session(issuer, audience, iat, exp, session)?
        };
        // Of two that come with one proof of a key, one gets a token.
        asked.beside.take(&self.seen_proofs, iat)?;
        Ok((signer.mint(&claims)?, claims))
    }
}

/// The one deadline of an exchange.
async fn within<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(Refusal::TimedOut))
}

/// A trust policy's `NotIpAddress` would hold of an address that is missing.
pub(crate) fn known(source: Option<IpAddr>) -> Result<String, Refusal> {
    source.map(|address| address.to_string()).ok_or(Refusal::NoSourceAddress)
}

/// A verifier that has reached the later of the two knows the key, and the role as it was when it was granted (DESIGN.md section 6).
pub(crate) fn later<'a>(
    key: &'a Revision,
    decision: &'a Revision,
) -> Result<&'a Revision, Refusal> {
    if key.store_id != decision.store_id {
        return Err(Refusal::OtherStore);
    }
    Ok(if key.number >= decision.number { key } else { decision })
}

/// Whether the decision service kept to the floor that it was given.
pub(crate) fn reached(have: &Revision, floor: &Revision) -> Result<(), Refusal> {
    if have.store_id != floor.store_id {
        return Err(Refusal::OtherStore);
    }
    if have.number < floor.number {
        let cause = format!("it answered at `{have}`, when asked for `{floor}` or later");
        return Err(Refusal::ServiceBroken { service: DECISION, cause });
    }
    Ok(())
}

/// What the decision service says of a field is for the caller to read.
pub(crate) fn invalid(status: &Status) -> Refusal {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    Refusal::InvalidByDecision {
        reason: reason.unwrap_or_else(|| "ValidationError".to_owned()),
        message: status.message().to_owned(),
    }
}

/// A service that is away may be asked again; one that refuses us is misconfigured, and its words are for the log.
pub(crate) fn failed(service: &'static str, code: Code, status: &Status) -> Refusal {
    let cause = format!("{code:?}: {}", status.message());
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unknown => Refusal::ServiceUnavailable { service, cause },
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Refusal::ServiceBroken { service, cause },
    }
}

/// What the decision service is asked, floor apart.
struct Question<'a> {
    asked: &'a Asked,
    caller: &'a ProvenCaller,
    challenged: bool,
    source: &'a str,
    /// What the session must be marked with if it is granted.
    marks: &'a Marks,
    /// With a bound token.
    possession: Option<&'a ProofOfPossession>,
}

impl<'a> Question<'a> {
    /// Of a caller that showed no token of ours: the session is marked as was asked, and there is no possession to show on.
    fn of(asked: &'a Asked, caller: &'a ProvenCaller, source: &'a str) -> Self {
        Self { asked, caller, challenged: false, source, marks: &asked.marks, possession: None }
    }
}

#[cfg(test)]
mod tests;
