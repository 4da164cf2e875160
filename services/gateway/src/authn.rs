//! Who calls the gateway. An exchange, with a challenge or without, is authenticated by its proof, inside; every other RPC needs a service identity, or a token of
//! ours whose audience is `countersign`.
//!
//! The gateway holds no policy, so it does not know whether the token's role still exists: signature, issuer, audience, expiry and key
//! are what it checks. Whoever wants more than the keys, which are public, is asked about at the decision service (`life.rs`).

use std::sync::Arc;

use countersign_proto::decision::v1::ProofOfPossession;
use countersign_serve::{
    Fault, ServiceIdentities, ServiceName,
    authn::{Authenticate, Credential, called, credential, missing_credentials},
    incoming::Peer,
};
use countersign_token::{
    DpopError, Expected, Shown, TokenError, check_signature,
    dpop::{self, SeenProofs},
};
use http::{HeaderMap, Uri};

use crate::{clock, error::Refusal, keys::Keys, life::SessionCaller};

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
    seen_proofs: Arc<SeenProofs>,
}

/// A call, as it came to the door.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Which RPC, or which page.
    pub path: &'a str,
    /// What a DPoP proof must have been made for, beside `POST`.
    pub uri: &'a str,
    /// Its metadata.
    pub headers: &'a HeaderMap,
    /// Whose connection it is, where a certificate may stand for a service.
    pub peer: Option<&'a Peer>,
    /// The connection's client certificate (RFC 8705).
    pub certificate: Option<&'a str>,
}

impl Door {
    /// Lets in `identities`, and the sessions of `issuer` whose keys are known.
    #[must_use]
    pub fn new(
        issuer: &str,
        identities: ServiceIdentities,
        keys: Arc<Keys>,
        seen_proofs: Arc<SeenProofs>,
    ) -> Self {
        Self { issuer: issuer.into(), identities, keys, seen_proofs }
    }

    /// Who this call shows at `now`.
    ///
    /// # Errors
    /// When there are no credentials, or bad ones.
    pub fn caller(&self, call: Call<'_>, now: i64) -> Result<Caller, Fault> {
        if matches!(call.path, EXCHANGE_PATH | CHALLENGE_PATH) {
            return Ok(Caller::Unproven);
        }
        let service = self.identities.identify(call.headers, call.peer);
        let service = service
            .map_err(|error| Fault::unauthenticated("InvalidServiceIdentity", error.to_string()))?;
        match (service, credential(call.headers)?) {
            (None, None) => Err(missing_credentials()),
            (Some(service), None) => Ok(Caller::Service(service)),
            (None, Some(shown)) => self.session(shown, call, now),
            // Two identities would have two sets of rights.
            (Some(_), Some(_)) => Err(Fault::unauthenticated(
                "InvalidServiceIdentity",
                "a service identity and a token at once; send one",
            )),
        }
    }

    /// A token that is bound to a key is good only with what shows that the caller holds it (RFC 9449 section 7, RFC 8705 section 3).
    fn session(&self, shown: Credential<'_>, call: Call<'_>, now: i64) -> Result<Caller, Fault> {
        let refused = |error: TokenError| {
            Fault::unauthenticated(error.code(), format!("the token is refused: {error}"))
        };
        let keys = self.keys.known();
        let signed = check_signature(shown.token, &keys).map_err(refused)?;
        let (uri, access_token) = (call.uri, Some(shown.token));
        let request = dpop::Request { method: "POST", uri, access_token };
        let key = shown.dpop.map(|proof| dpop::check(proof, &request, now)).transpose();
        let key = key.map_err(no_proof)?;
        let certificate = call.certificate;
        let expected = Expected { issuer: &self.issuer, audience: AUDIENCE, leeway: LEEWAY };
        let held = Shown { key: key.as_ref(), certificate };
        let verified = signed.check_shown(now, &expected, &keys, &held).map_err(refused)?;
        // Only once the token is good: else strangers would fill the memory.
        if let Some(key) = &key {
            let account = &verified.claims().session.account;
            self.seen_proofs.take(key, account, now).map_err(no_proof)?;
        }
        let possession = signed.is_bound().then(|| ProofOfPossession {
            dpop_proof: shown.dpop.unwrap_or_default().to_owned(),
            method: shown.dpop.map(|_| "POST").unwrap_or_default().to_owned(),
            uri: shown.dpop.map(|_| uri).unwrap_or_default().to_owned(),
            client_certificate_thumbprint: certificate.unwrap_or_default().to_owned(),
        });
        Ok(Caller::Session(SessionCaller {
            verified: Arc::new(verified),
            token: shown.token.into(),
            possession,
        }))
    }
}

fn no_proof(error: DpopError) -> Fault {
    Fault::from(&Refusal::Possession(error))
}

impl Authenticate for Door {
    type Caller = Caller;

    async fn authenticate(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, Fault> {
        let certificate = peer.and_then(Peer::certificate).map(AsRef::as_ref);
        let path = uri.path();
        let uri = &called(uri);
        self.caller(Call { path, uri, headers, peer, certificate }, clock::now())
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
            Arc::new(SeenProofs::new(1)),
        );
        fn call<'a>(path: &'a str, headers: &'a HeaderMap) -> Call<'a> {
            Call { path, uri: "", headers, peer: None, certificate: None }
        }
        let check = |path: &str, headers: &HeaderMap, expected: Result<&str, &str>| {
            let found = door.caller(call(path, headers), 0);
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
            "RotateSigningKey",
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
            assert!(door.caller(call(&path, &token), 0).is_err());
        }
    }
}
