//! Web identities: JWTs of configured issuers. What makes one good is the `token` crate's to say; which issuers there are, and where
//! their keys come from, is said here.

mod issuers;
mod keys;

use std::{collections::HashMap, sync::Arc};

use countersign_token::jwt::{Jwt, JwtError, WebIdentity};

use crate::{error::Refusal, upstream::Upstream};

pub use issuers::{IssuersError, JwtIssuers};
use keys::Issuer;

/// The verifier of web identity tokens.
pub struct JwtVerifier {
    issuers: HashMap<String, Arc<Issuer>>,
}

impl JwtVerifier {
    /// For tokens of `issuers` made for `audience`, where they name no other.
    #[must_use]
    pub fn new(issuers: JwtIssuers, audience: &str, upstream: Upstream) -> Self {
        let upstream = Arc::new(upstream);
        let issuers = issuers.0.into_iter().map(|configured| {
            let issuer = Issuer::new(configured, audience, upstream.clone());
            (issuer.url().to_owned(), Arc::new(issuer))
        });
        Self { issuers: issuers.collect() }
    }

    /// Who `token` shows at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// When its issuer is not configured, the token is no good, or its issuer's keys cannot be had.
    pub async fn verify(&self, token: &str, now: i64) -> Result<WebIdentity, Refusal> {
        let jwt = Jwt::parse(token)?;
        let claimed = jwt.claimed_issuer()?;
        let issuer = self
            .issuers
            .get(claimed)
            .ok_or_else(|| Refusal::UnknownIssuer { found: shown(claimed) })?;
        let keys = issuer.keys(jwt.kid(), now).await?;
        Ok(jwt.verify(issuer.rules(), &keys, now)?)
    }
}

/// A caller's text as a message and the log may show it.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(80).collect()
}

impl From<JwtError> for Refusal {
    fn from(error: JwtError) -> Self {
        Refusal::WebIdentity(error)
    }
}
