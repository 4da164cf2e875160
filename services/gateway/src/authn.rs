//! Who calls the gateway. An exchange, with a challenge or without, is authenticated by its proof, inside; every other RPC needs a service identity, or a token of
//! ours whose audience is `countersign`.
//!
//! The gateway holds no policy, so it does not know whether the token's role still exists: signature, issuer, audience, expiry and key
//! are what it checks. Whoever wants more than the keys, which are public, is asked about at the decision service (`life.rs`).

use std::sync::Arc;

use countersign_serve::{
    Fault, ServiceIdentities, ServiceName,
    authn::{Authenticate, bearer, missing_credentials},
    incoming::Peer,
};
use countersign_token::{Expected, verify};
use http::HeaderMap;

use crate::{clock, keys::Keys, life::SessionCaller};

/// The RPCs that pass the door without credentials: they bring their own.
pub const EXCHANGE_PATH: &str = "/countersign.token.v1.TokenExchangeService/Exchange";
/// The other.
pub const CHALLENGE_PATH: &str = "/countersign.token.v1.TokenExchangeService/ExchangeWithChallenge";
/// Countersign's own audience.
pub const AUDIENCE: &str = "countersign";

/// How far another gateway's clock may be ahead, in seconds.
pub const LEEWAY: i64 = 5;

/// Who calls.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Somebody with a proof, who is nobody until it has been judged.
    Unproven,
    /// Another part of Countersign.
    Service(ServiceName),
    /// A session.
    Session(SessionCaller),
}

/// The gateway's door.
#[derive(Clone)]
pub struct Door {
    issuer: Arc<str>,
    identities: ServiceIdentities,
    keys: Arc<Keys>,
}

impl Door {
    /// Lets in `identities`, and the sessions of `issuer` whose keys are known.
    #[must_use]
    pub fn new(issuer: &str, identities: ServiceIdentities, keys: Arc<Keys>) -> Self {
        Self { issuer: issuer.into(), identities, keys }
    }

    /// Who these headers, and the certificate of `peer`, show at `now`.
    ///
    /// # Errors
    /// When there are no credentials, or bad ones.
    pub fn caller(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        now: i64,
    ) -> Result<Caller, Fault> {
        if matches!(path, EXCHANGE_PATH | CHALLENGE_PATH) {
            return Ok(Caller::Unproven);
        }
        let service = self.identities.identify(headers, peer);
        let service = service
            .map_err(|error| Fault::unauthenticated("InvalidServiceIdentity", error.to_string()))?;
        match (service, bearer(headers)?) {
            (None, None) => Err(missing_credentials()),
            (Some(service), None) => Ok(Caller::Service(service)),
            (None, Some(token)) => self.session(token, now),
            // Two identities would have two sets of rights.
            (Some(_), Some(_)) => Err(Fault::unauthenticated(
                "InvalidServiceIdentity",
                "a service identity and a token at once; send one",
            )),
        }
    }

    fn session(&self, token: &str, now: i64) -> Result<Caller, Fault> {
        let expected = Expected { issuer: &self.issuer, audience: AUDIENCE, leeway: LEEWAY };
        match verify(token, &self.keys.known(), &expected, now) {
            Ok(verified) => Ok(Caller::Session(SessionCaller {
                verified: Arc::new(verified),
                token: token.into(),
            })),
            Err(error) => {
                Err(Fault::unauthenticated(error.code(), format!("the token is refused: {error}")))
            }
        }
    }
}

impl Authenticate for Door {
    type Caller = Caller;

    async fn authenticate(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, Fault> {
        self.caller(path, headers, peer, clock::now())
    }
}

#[cfg(test)]
mod tests {
    use countersign_replica::Replica;
    use countersign_serve::{ServiceCredential, ServiceSecret};
    use tonic::{Request, service::Interceptor};

    use super::*;
    use crate::keys::Rotation;

    #[test]
    fn the_door() {
        let secret = ServiceSecret::generate().unwrap();
        let mut credential = ServiceCredential::new(&secret);
        let service = credential.call(Request::new(())).unwrap().into_parts().0.into_headers();
        let identities = ServiceIdentities::default().accept(ServiceName::Decision, secret);
        let (replica, _follower) = Replica::new("test", &[]);
        let door = Door::new(
            "http://127.0.0.1:7400",
            identities,
            Arc::new(Keys::new(replica, Rotation::default())),
        );
        let check = |path: &str, headers: &HeaderMap, expected: Result<&str, &str>| {
            let found = door.caller(path, headers, None, 0);
            let found = found.as_ref().map(|caller| match caller {
                Caller::Unproven => "unproven",
                Caller::Service(_) => "service",
                Caller::Session(_) => "session",
            });
            assert_eq!(found.map_err(|fault| fault.reason()), expected, "{path}");
        };
        let none = HeaderMap::new();
        let mut stranger = HeaderMap::new();
        stranger.insert("x-countersign-service", "guess".parse().unwrap());
        let mut token = HeaderMap::new();
        token.insert("authorization", "Bearer x.y.z".parse().unwrap());
        let mut both = service.clone();
        both.extend(token.clone());
        check(EXCHANGE_PATH, &none, Ok("unproven"));
        check(CHALLENGE_PATH, &none, Ok("unproven"));
        for rpc in [
            "GetJwks",
            "Introspect",
            "Revoke",
            "ExchangeWithChallenge/",
            "Nonesuch",
            "exchange",
            "Exchange/",
        ] {
            let path = format!("/countersign.token.v1.TokenExchangeService/{rpc}");
            check(&path, &none, Err("MissingAuthenticationToken"));
            check(&path, &stranger, Err("InvalidServiceIdentity"));
            check(&path, &service, Ok("service"));
            check(&path, &both, Err("InvalidServiceIdentity"));
            assert!(door.caller(&path, &token, None, 0).is_err());
        }
    }
}
