//! An issuer's keys: from a file, or asked for at the place that OIDC discovery names, on the issuer's own origin.
//!
//! They are kept, asked for anew now and then, and once more when a token names a key that is not among them; never more often than
//! every ten seconds, whatever strangers send (ATTACKS 60).

use std::sync::{Arc, PoisonError, RwLock};

use countersign_sigv4::Url;
use countersign_token::jwt::{IssuerRules, Jwks, JwtAlgorithm};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::issuers::Configured;
use crate::{
    endpoints::Network,
    error::Refusal,
    upstream::{DEADLINE, Upstream},
};

/// Then they are asked for anew: so long does a key live on that its issuer has withdrawn.
const FRESH: i64 = 300;
/// While the issuer does not answer, they are used for as long as this.
const STALE: i64 = 3600;
/// Between two questions, in seconds.
const PAUSE: i64 = 10;

/// A configured issuer, with its keys as far as they are known.
pub(super) struct Issuer {
    rules: IssuerRules,
    algorithms: Vec<JwtAlgorithm>,
    network: Network,
    source: Source,
    upstream: Arc<Upstream>,
}

enum Source {
    File(Arc<Jwks>),
    Discovery {
        known: RwLock<Option<Known>>,
        /// When the issuer was last asked. Whoever holds it asks, and the others wait for the answer.
        asked_at: Mutex<Option<i64>>,
    },
}

#[derive(Clone)]
struct Known {
    keys: Arc<Jwks>,
    read_at: i64,
}

/// Of <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata>; the rest is for others.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    pub(super) fn new(configured: Configured, audience: &str, upstream: Arc<Upstream>) -> Self {
        let Configured { mut rules, algorithms, network, keys } = configured;
        if rules.audience.is_empty() {
            audience.clone_into(&mut rules.audience);
        }
        let source = match keys {
            Some(keys) => Source::File(Arc::new(keys)),
            None => Source::Discovery { known: RwLock::default(), asked_at: Mutex::default() },
        };
        Self { rules, algorithms, network, source, upstream }
    }

    pub(super) fn url(&self) -> &str {
        &self.rules.issuer
    }

    pub(super) fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// The keys to look for `kid` in. It need not be among them.
    pub(super) async fn keys(self: &Arc<Self>, kid: &str, now: i64) -> Result<Arc<Jwks>, Refusal> {
        let known = match &self.source {
            Source::File(keys) => return Ok(keys.clone()),
            Source::Discovery { known, .. } => known,
        };
        let read = || known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = read().filter(|known| known.is_fresh(now) && known.keys.contains(kid))
        {
            return Ok(known.keys);
        }
        // In a task of its own: a caller that hangs up must not take the answer from those who wait for it.
        let (issuer, kid) = (self.clone(), kid.to_owned());
        let asked = tokio::spawn(async move { issuer.refresh(&kid, now).await }).await;
        let failure = match asked {
            Ok(Ok(())) => String::new(),
            Ok(Err(cause)) => cause,
            Err(_) => "the task that asked ended".to_owned(),
        };
        read().filter(|known| known.is_usable(now)).map(|known| known.keys).ok_or_else(|| {
            Refusal::IssuerUnavailable { issuer: self.url().to_owned(), cause: failure }
        })
    }

    /// Asks the issuer, unless somebody has just done so.
    async fn refresh(&self, kid: &str, now: i64) -> Result<(), String> {
        let Source::Discovery { known, asked_at } = &self.source else { return Ok(()) };
        let mut asked_at = asked_at.lock().await;
        let current = known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if current.is_some_and(|known| known.is_fresh(now) && known.keys.contains(kid)) {
            return Ok(());
        }
        if asked_at.is_some_and(|asked| (0..PAUSE).contains(&now.saturating_sub(asked))) {
            return Err(format!("it was asked less than {PAUSE} seconds ago"));
        }
        *asked_at = Some(now);
        let answer = tokio::time::timeout(DEADLINE, self.fetch()).await;
        let keys = answer.unwrap_or_else(|_| Err("no answer in time".to_owned())).inspect_err(
            |cause| tracing::warn!(issuer = self.url(), cause, "an issuer's keys cannot be had"),
        )?;
        let read = Known { keys: Arc::new(keys), read_at: now };
        *known.write().unwrap_or_else(PoisonError::into_inner) = Some(read);
        Ok(())
    }

    async fn fetch(&self) -> Result<Jwks, String> {
        let base = self.url().trim_end_matches('/');
        let metadata = self.get(&format!("{base}/.well-known/openid-configuration")).await?;
        let metadata: Metadata =
            serde_json::from_slice(&metadata).map_err(|error| format!("its metadata: {error}"))?;
        let uri = jwks_uri(self.url(), &metadata)?;
        Jwks::parse(&self.get(&uri).await?, &self.algorithms)
            .map_err(|error| format!("its keys: {error}"))
    }

    async fn get(&self, url: &str) -> Result<bytes::Bytes, String> {
        let answer = self.upstream.get(self.network, url).await;
        let answer = answer.map_err(|error| format!("{url}: {error}"))?;
        // A redirect is an answer like any other that is not the document (ATTACKS 66).
        if answer.status != 200 {
            return Err(format!("{url}: status {}", answer.status));
        }
        Ok(answer.body)
    }
}

/// Where the keys are: as the metadata say, if they are this issuer's, and on its own origin.
fn jwks_uri(issuer: &str, metadata: &Metadata) -> Result<String, String> {
    if metadata.issuer != issuer {
        return Err("its metadata are of another issuer".to_owned());
    }
    let own = Url::parse(issuer).map_err(|error| error.to_string())?;
    let uri = Url::parse(&metadata.jwks_uri).map_err(|error| format!("its `jwks_uri`: {error}"))?;
    if uri.origin() != own.origin() {
        let message = "its `jwks_uri` is of another origin; give its keys by `jwks_file`";
        return Err(message.to_owned());
    }
    Ok(metadata.jwks_uri.clone())
}

impl Known {
    fn is_fresh(&self, now: i64) -> bool {
        (0..FRESH).contains(&now.saturating_sub(self.read_at))
    }

    fn is_usable(&self, now: i64) -> bool {
        (0..STALE).contains(&now.saturating_sub(self.read_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ATTACKS 66.
    #[test]
    fn keys_are_on_the_issuers_own_origin() {
        let check = |issuer: &str, named: &str, uri: &str, expected: bool| {
            let metadata = Metadata { issuer: named.to_owned(), jwks_uri: uri.to_owned() };
            assert_eq!(jwks_uri(issuer, &metadata).is_ok(), expected, "{issuer} {named} {uri}");
        };
        let issuer = "https://idp.example.com/id/1";
        check(issuer, issuer, "https://idp.example.com/keys", true);
        check(issuer, issuer, "https://idp.example.com/keys?v=1", true);
        check(issuer, "https://idp.example.com/id/2", "https://idp.example.com/keys", false);
        for uri in [
            "http://idp.example.com/keys",
            "https://idp.example.com:8443/keys",
            "https://idp.example.com@evil.com/keys",
            "https://idp.example.com.evil.com/keys",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "//evil.com/keys",
            "",
        ] {
            check(issuer, issuer, uri, false);
        }
    }

    #[test]
    fn ages() {
        let known = Known { keys: Arc::default(), read_at: 1000 };
        let check = |now: i64, fresh: bool, usable: bool| {
            assert_eq!((known.is_fresh(now), known.is_usable(now)), (fresh, usable), "{now}");
        };
        check(999, false, false);
        check(1000, true, true);
        check(1299, true, true);
        check(1300, false, true);
        check(4600, false, false);
    }
}
