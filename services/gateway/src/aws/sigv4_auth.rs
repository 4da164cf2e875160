//! Who signed an AWS request: verified with a key that the policy store derives for one day, region and service. The secret itself
//! never comes here, and the access key's standing is asked for each time; what is remembered only ever refuses ([`super::derived`]).

use std::sync::Arc;

use countersign_aws_query::Fault;
use countersign_proto::policy::v1::{
    AccessKeyState, DeriveSigningKeyRequest, DeriveSigningKeyResponse,
};
use countersign_sigv4::{
    ClockWindow, DerivedKey, ParsedSignature, ReceivedRequest, SignatureError,
};
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::derived::{Derived, Name};
use crate::{StoreClient, clock, uses::Uses};

const SERVICE: &str = "sts";

/// Verifies AWS requests.
pub struct SigV4Auth {
    region: String,
    store: StoreClient,
    uses: Arc<Uses>,
    derived: Derived,
}

/// A user, or the root of a local account, who signed a request. Only [`SigV4Auth::authenticate`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCaller {
    account_id: String,
    user_id: String,
    arn: String,
}

impl LocalCaller {
    /// Twelve digits.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// `AIDA…`, or the account of a root.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// `arn:aws:iam::<account>:user/<path><name>`, or `…:root`.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }
}

impl SigV4Auth {
    /// For requests signed for STS in `region`.
    #[must_use]
    pub fn new(region: String, store: StoreClient, uses: Arc<Uses>) -> Self {
        Self { region, store, uses, derived: Derived::default() }
    }

    /// Who signed `request`.
    ///
    /// # Errors
    /// AWS's own codes.
    pub async fn authenticate(&self, request: &ReceivedRequest<'_>) -> Result<LocalCaller, Fault> {
        let signature = ParsedSignature::from_request(request).map_err(|error| refused(&error))?;
        // Also before the store is asked: an old request costs it nothing.
        signature.check_time(clock::now(), ClockWindow::AWS).map_err(|error| refused(&error))?;
        let credential = signature.credential();
        if credential.service != SERVICE || credential.region != self.region {
            let message = format!(
                "the credential must be scoped to region `{}` and service `{SERVICE}`, not to `{}` and `{}`",
                self.region, credential.region, credential.service
            );
            return Err(Fault::sender("SignatureDoesNotMatch", &message).with_status(403));
        }
        // Countersign gives out no temporary access keys.
        if signature.session_token().is_some() {
            return Err(invalid_key());
        }
        let name = Name {
            access_key_id: credential.access_key_id.clone(),
            day: credential.day.clone(),
            region: credential.region.clone(),
            service: credential.service.clone(),
        };
        if let Some(key) = self.derived.recall(&name) {
            let verified = signature.verify(&key, clock::now(), ClockWindow::AWS);
            verified.map_err(|error| refused(&error))?;
        }
        let question = DeriveSigningKeyRequest {
            access_key_id: credential.access_key_id.clone(),
            date: credential.day.clone(),
            region: credential.region.clone(),
            service_name: credential.service.clone(),
        };
        let answer = self.store.clone().derive_signing_key(question).await;
        let answer = answer.map_err(|status| no_key(&status))?.into_inner();
        let (key, caller) = owner(answer, &credential.access_key_id)?;
        let key = Arc::new(key);
        self.derived.remember(name, key.clone());
        let now = clock::now();
        signature.verify(&key, now, ClockWindow::AWS).map_err(|error| refused(&error))?;
        // Only now: whoever knows no more than a key's id has not used it.
        self.uses.access_key(&credential.access_key_id, &credential.service, now);
        Ok(caller)
    }
}

/// The key and whose it is, if the store's answer is about an active key, and the one asked about.
fn owner(
    answer: DeriveSigningKeyResponse,
    access_key_id: &str,
) -> Result<(DerivedKey, LocalCaller), Fault> {
    let DeriveSigningKeyResponse { derived_key, access_key, arn } = answer;
    let derived_key = Zeroizing::new(derived_key);
    let broken = || Fault::receiver("InternalFailure", "the access key cannot be read", 500);
    let access_key =
        access_key.filter(|key| key.access_key_id == access_key_id).ok_or_else(broken)?;
    match access_key.state() {
        AccessKeyState::Active => {}
        AccessKeyState::Inactive | AccessKeyState::Unspecified => return Err(invalid_key()),
    }
    let bytes: [u8; 32] = derived_key.as_slice().try_into().map_err(|_| broken())?;
    if arn.is_empty() || access_key.user_id.is_empty() || access_key.account_id.is_empty() {
        return Err(broken());
    }
    let caller =
        LocalCaller { account_id: access_key.account_id, user_id: access_key.user_id, arn };
    Ok((DerivedKey::from_bytes(bytes), caller))
}

fn refused(error: &SignatureError) -> Fault {
    let code = error.aws_code();
    let status = match code {
        "SignatureDoesNotMatch" | "MissingAuthenticationToken" => 403,
        _ => 400,
    };
    Fault::sender(code, &error.to_string()).with_status(status)
}

/// One answer for a key that does not exist and for one that is not active, as AWS's.
fn invalid_key() -> Fault {
    Fault::sender("InvalidClientTokenId", "The security token included in the request is invalid.")
        .with_status(403)
}

fn no_key(status: &Status) -> Fault {
    match status.code() {
        Code::NotFound | Code::FailedPrecondition => invalid_key(),
        // The store's own day, or the one beside it: its clock is the judge.
        Code::InvalidArgument => Fault::sender(
            "SignatureDoesNotMatch",
            "no key can be derived for this credential scope",
        )
        .with_status(403),
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted
        | Code::Unknown => Fault::receiver(
            "ServiceUnavailable",
            "the access key cannot be asked about now; try again",
            503,
        ),
        Code::Ok
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => {
            tracing::error!(code = ?status.code(), error = %status.message(), "the policy store derives no key");
            Fault::receiver("InternalFailure", "the access key cannot be asked about", 500)
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_proto::policy::v1::AccessKeyRecord;

    use super::*;

    #[test]
    fn a_key_must_be_active_whole_and_the_one_asked_about() {
        let good = || DeriveSigningKeyResponse {
            derived_key: vec![7; 32],
            access_key: Some(AccessKeyRecord {
                access_key_id: "AKIAEXAMPLE".into(),
                account_id: "000000000000".into(),
                user_name: "alice".into(),
                user_id: "AIDA1234567890ABCDEF".into(),
                state: AccessKeyState::Active.into(),
                create_date: None,
            }),
            arn: "arn:aws:iam::000000000000:user/alice".into(),
        };
        let check = |change: fn(&mut DeriveSigningKeyResponse), expected: Result<(), &str>| {
            let mut answer = good();
            change(&mut answer);
            let found = owner(answer, "AKIAEXAMPLE");
            assert_eq!(found.as_ref().map(|_| ()).map_err(|fault| fault.code.as_str()), expected);
        };
        fn key(answer: &mut DeriveSigningKeyResponse) -> &mut AccessKeyRecord {
            answer.access_key.as_mut().unwrap()
        }
        check(|_| {}, Ok(()));
        check(|a| key(a).state = AccessKeyState::Inactive.into(), Err("InvalidClientTokenId"));
        check(|a| key(a).state = AccessKeyState::Unspecified.into(), Err("InvalidClientTokenId"));
        check(|a| key(a).state = 77, Err("InvalidClientTokenId"));
        check(|a| key(a).access_key_id = "AKIAOTHER".into(), Err("InternalFailure"));
        check(|a| a.access_key = None, Err("InternalFailure"));
        check(|a| a.derived_key.clear(), Err("InternalFailure"));
        check(|a| a.derived_key = vec![7; 31], Err("InternalFailure"));
        check(|a| a.derived_key = vec![7; 33], Err("InternalFailure"));
        check(|a| a.arn.clear(), Err("InternalFailure"));
        check(|a| key(a).user_id.clear(), Err("InternalFailure"));
    }

    #[test]
    fn what_the_store_says_in_awss_words() {
        let check = |code: Code, expected: (&str, u16)| {
            let fault = no_key(&Status::new(code, "secret-cause"));
            assert_eq!((fault.code.as_str(), fault.status), expected, "{code:?}");
            assert!(!fault.message.contains("secret-cause"));
        };
        check(Code::NotFound, ("InvalidClientTokenId", 403));
        check(Code::InvalidArgument, ("SignatureDoesNotMatch", 403));
        check(Code::Unavailable, ("ServiceUnavailable", 503));
        check(Code::PermissionDenied, ("InternalFailure", 500));
    }
}
