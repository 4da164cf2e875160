//! RotateSigningKey: another signing key before the day is over, for an operator that asks by RPC (SIGUSR1 does the same on the spot).
//!
//! Who may is for the decision service to say; that it is of the operator's account, and not the administrator role, is said here, where no
//! policy can change it.

use std::net::IpAddr;

use countersign_serve::Fault;

use crate::{
    audit::{End, Event},
    authn::Caller,
    error::Refusal,
    exchange::{Exchange, known},
    life::{SessionCaller, session},
};

const ROTATE: &str = "countersign:RotateSigningKey";
/// The role that `up` renews a token of, and that key operations are kept from (DESIGN.md section 3).
const ADMINISTRATOR: &str = "CountersignAdministrator";

impl Exchange {
    /// Answers RotateSigningKey: the next key's name. Written down before it is answered.
    ///
    /// # Errors
    /// When the caller may not, and when no key was published.
    pub async fn rotate(&self, caller: &Caller, source: Option<IpAddr>) -> Result<String, Refusal> {
        let source = source.map(|address| address.to_canonical());
        self.admit(source)?;
        let caller = session(caller, ROTATE)?;
        let outcome = match self.may_rotate(caller, source).await {
            Ok(()) => self.keys.another().await,
            Err(refusal) => Err(refusal),
        };
        let end = match &outcome {
            Ok(kid) => End::Rotated { kid: kid.clone() },
            Err(refusal) => End::Refused {
                reason: Fault::from(refusal).reason().to_owned(),
                message: refusal.to_string(),
            },
        };
        let event = Event {
            name: "RotateSigningKey",
            principal: caller.verified.claims().sub.clone(),
            source: known(source)?,
            end,
            ..Event::default()
        };
        match (self.audit.write(&event).await, outcome) {
            (Err(_), Ok(_)) => Err(Refusal::NotAudited),
            (_, outcome) => outcome,
        }
    }

    async fn may_rotate(
        &self,
        caller: &SessionCaller,
        source: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let claims = caller.verified.claims();
        let denied = |because| {
            Err(Refusal::KeyDenied { caller: claims.sub.clone(), action: ROTATE, because })
        };
        if self.operator_account.as_ref() != Some(&claims.session.account) {
            return denied("only sessions of the operator's account may (`operator-account`)");
        }
        if claims.session.role_name.eq_ignore_ascii_case(ADMINISTRATOR) {
            return denied(
                "the administrator role is barred from key operations; use another role of the first account that has \
                 countersign:RotateSigningKey",
            );
        }
        match self.may(caller, ROTATE, "*", &[], source).await? {
            true => Ok(()),
            false => denied("no policy of the caller's allows it"),
        }
    }
}
