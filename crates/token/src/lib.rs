//! Countersign's tokens: claims, keys, minting, verifying, and the binding of a proof to a request.
//!
//! Knows the form of a Countersign token (RFC 9068 `at+jwt`, ES256, at most 4 KiB), what makes one acceptable, and how an
//! `ExchangeRequest` is bound to the proof that travels with it. `now` is always an argument, in seconds since 1970.
//!
//! Knows as well what makes a JWT of a configured issuer acceptable (`jwt`): AWS STS's web identity tokens, those of EKS's service
//! accounts, and of OIDC issuers; and an EC2 instance's identity document (`instance`).
//!
//! Declines to know: the clock, the network, where public keys come from, which `jti`s and roles are revoked (each use asks
//! elsewhere), and which issuers there are.

pub mod binding;
mod canonical;
pub mod claims;
pub mod dpop;
mod ecdsa;
pub mod instance;
mod json;
pub mod jwt;
pub mod key;
pub mod keyset;
pub mod mint;
pub mod scope;
pub mod thumbprint;
pub mod verify;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod samples;

pub use binding::{Binding, BoundRequest, BoundTag};
pub use claims::{Actor, Caller, Claims, Confirmation, MayAct, Realm, Session};
pub use dpop::{DpopError, ProvenKey};
pub use key::{KeyError, PublicKey, SigningKey, jwks};
pub use keyset::{KeyRecord, KeySet};
pub use mint::{MintError, mint};
pub use thumbprint::thumbprint;
pub use verify::{
    Expected, Shown, SignedToken, TokenError, VerifiedToken, check_signature, verify,
};

/// The longest token that is minted or verified, in bytes of its compact form. With the other header fields it stays under
/// the 8 KiB that common HTTP stacks allow for all headers.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The longest life of a token, in seconds: 12 hours, the highest `MaxSessionDuration` a role may have.
pub const MAX_LIFETIME_SECONDS: i64 = 43_200;

/// How far, at most, an issuer's clock may run ahead of ours, in seconds.
pub const MAX_LEEWAY_SECONDS: i64 = 5;
