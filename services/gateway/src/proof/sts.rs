//! The STS GetCallerIdentity proof: checked against a closed form, rebuilt from constants and our own values, sent on to an allowed
//! endpoint alone, and believed only as far as that endpoint may speak.
//!
//! Grammar, time and the answer's form are the `sigv4` crate's; whether the proof was used before is asked elsewhere.

use countersign_sigv4::{AnswerError, ProofError, StsProof, parse_answer, proof::MAX_AGE};
use countersign_token::Binding;

use crate::{
    endpoints::{AllowList, Endpoint},
    error::Refusal,
    proof::ProvenCaller,
    upstream::{NoAnswer, Upstream},
};

/// STS takes a signature for 15 minutes after its date, whatever the proof says (ATTACKS 31); and the clocks may differ.
const STS_WINDOW: i64 = 15 * 60 + 5 * 60;
/// A claim in memory outlives our own, shorter window by this.
const MARGIN: i64 = 10;

/// The verifier of STS proofs.
pub struct StsVerifier {
    issuer: String,
    endpoints: AllowList,
    upstream: Upstream,
}

/// A proof that may be sent to STS. Only [`StsVerifier::check`] makes one.
pub struct CheckedProof {
    proof: StsProof,
    endpoint: Endpoint,
    binding: Binding,
    challenge: Option<String>,
}

impl CheckedProof {
    /// What makes the proof one and the same however it is spelled (ATTACKS 37).
    #[must_use]
    pub fn replay_key(&self) -> String {
        self.proof.replay_key()
    }

    /// From then on our own window refuses it.
    #[must_use]
    pub fn claimed_until(&self) -> i64 {
        self.proof.amz_date().saturating_add(MAX_AGE + MARGIN)
    }

    /// From then on STS refuses it.
    #[must_use]
    pub fn spent_until(&self) -> i64 {
        self.proof.amz_date().saturating_add(STS_WINDOW)
    }
}

impl StsVerifier {
    /// A verifier for proofs made for `issuer`, which asks through `upstream`.
    #[must_use]
    pub fn new(issuer: String, endpoints: AllowList, upstream: Upstream) -> Self {
        Self { issuer, endpoints, upstream }
    }

    /// All that can be said of a proof without asking anybody. `challenge` is the one that was given for it, if one was.
    ///
    /// # Errors
    /// When it is not of the closed form, was made for another gateway or another request, is too old, or leads nowhere.
    pub fn check(
        &self,
        subject_token: &str,
        binding: &Binding,
        challenge: Option<&str>,
        now: i64,
    ) -> Result<CheckedProof, Refusal> {
        let proof = StsProof::parse(subject_token)?;
        // A challenge that nobody gave is refused here too.
        proof.check_claims(&self.issuer, binding.as_str(), challenge).map_err(
            |error| match error {
                ProofError::AudienceMismatch => {
                    let found = proof.audience().to_owned();
                    Refusal::WrongAudience { found, issuer: self.issuer.clone() }
                }
                ProofError::BindingMismatch => Refusal::BindingMismatch,
                other => Refusal::Proof(other),
            },
        )?;
        proof.check_time(now)?;
        let endpoint = self.endpoints.lookup(&proof.origin(), proof.scope_region())?;
        Ok(CheckedProof {
            proof,
            endpoint,
            binding: binding.clone(),
            challenge: challenge.map(str::to_owned),
        })
    }

    /// Asks STS who signed.
    ///
    /// # Errors
    /// When STS is away, refuses, or names somebody whom it may not.
    pub async fn ask(&self, checked: &CheckedProof) -> Result<ProvenCaller, Refusal> {
        let CheckedProof { proof, endpoint, binding, challenge } = checked;
        let challenge = challenge.as_deref();
        let request =
            proof.rebuild_with(&self.issuer, binding.as_str(), challenge, endpoint.format);
        let answer = self
            .upstream
            .send(endpoint, request)
            .await
            .map_err(|error| no_answer(endpoint, &error))?;
        let identity = parse_answer(
            answer.status,
            &answer.content_type,
            &answer.body,
            endpoint.format,
            endpoint.unique_ids,
        )
        .map_err(|error| bad_answer(endpoint, error))?;
        ProvenCaller::from_answer(endpoint, identity)
    }
}

fn no_answer(endpoint: &Endpoint, error: &NoAnswer) -> Refusal {
    let origin = endpoint.origin.clone();
    let cause = error.to_string();
    match error {
        NoAnswer::Busy => Refusal::Busy,
        NoAnswer::Transport(_) | NoAnswer::TimedOut => Refusal::StsUnavailable { origin, cause },
        NoAnswer::TooLong => Refusal::StsAnswer { origin, code: "AnswerTooLarge", cause },
        NoAnswer::ContentType => Refusal::StsAnswer { origin, code: "AnswerTypeMismatch", cause },
        NoAnswer::Request(_) => Refusal::ServiceBroken { service: "the client for STS", cause },
    }
}

fn bad_answer(endpoint: &Endpoint, error: AnswerError) -> Refusal {
    let origin = endpoint.origin.clone();
    let code = error.code();
    let cause = error.to_string();
    match error {
        AnswerError::Unavailable { .. } => Refusal::StsUnavailable { origin, cause },
        // STS's own code where it gave one, such as `SignatureDoesNotMatch` or `ExpiredToken`.
        AnswerError::Refused { code, message } if code != "Unknown" => {
            Refusal::StsRefused { code, message }
        }
        AnswerError::Refused { .. } => {
            let message = "it gave no reason".to_owned();
            Refusal::StsRefused { code: code.to_owned(), message }
        }
        AnswerError::AnswerRedirected(_)
        | AnswerError::UnexpectedStatus(_)
        | AnswerError::AnswerTooLarge
        | AnswerError::AnswerTypeMismatch
        | AnswerError::AnswerMalformed
        | AnswerError::ArnMalformed
        | AnswerError::AccountMismatch
        | AnswerError::UserIdMismatch
        | AnswerError::PartitionMismatch => Refusal::StsAnswer { origin, code, cause },
    }
}
