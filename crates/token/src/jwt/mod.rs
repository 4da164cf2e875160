//! Checking a JWT that somebody else signed: AWS STS (`GetWebIdentityToken`), an EKS cluster, an OIDC issuer.
//!
//! In two steps, because who signed decides which keys to look in: [`Jwt::parse`] reads a token without believing it, and says
//! whose it claims to be; [`Jwt::verify`] holds it to that issuer's rules and keys. Only `verify` makes a [`WebIdentity`].
//!
//! Declines to know where keys come from, and what a web identity may do.
//!
//! Sources: RFC 7519, RFC 8725; <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html>;
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>.

mod aws;
mod claims;
mod error;
mod jwks;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::json::{self, JsonFault};
use crate::verify::Part;

pub use aws::AwsPrincipal;
pub use error::{JwtError, KeySetError};
pub use jwks::{Jwks, MAX_JWKS_BYTES};

/// The longest token that is read, in bytes, before anything of it is decoded.
pub const MAX_JWT_BYTES: usize = 16 * 1024;

/// A signature algorithm. Each key has one; the token's header only repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256; the key has 2048 to 8192 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl JwtAlgorithm {
    /// All that there are.
    pub const ALL: [JwtAlgorithm; 3] =
        [JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::Es384];

    /// As `alg` spells it (RFC 7518 section 3.1).
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::Es384 => "ES384",
        }
    }

    /// From `alg`'s spelling, exactly.
    pub fn from_name(name: &str) -> Option<JwtAlgorithm> {
        JwtAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// What kind of issuer it is: what its tokens look like beyond what all JWTs have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKind {
    /// AWS STS's outbound federation. Each account has an issuer of its own, which speaks for that account alone.
    AwsSts {
        /// Twelve digits.
        account: String,
        /// Such as `aws`.
        partition: String,
    },
    /// An EKS cluster: tokens of its service accounts.
    Eks,
    /// Any other OIDC issuer.
    Oidc,
}

/// What an issuer's tokens are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerRules {
    /// `iss`, byte by byte.
    pub issuer: String,
    pub kind: IssuerKind,
    /// `aud`, byte by byte: the one audience.
    pub audience: String,
    /// The longest `exp - iat`, in seconds.
    pub max_lifetime: i64,
    /// Whether `jti` must be there. Kubernetes before 1.32 and a few identity providers give none.
    pub requires_jti: bool,
}

/// A token as it was read. Nothing of it is believed.
#[derive(Debug)]
pub struct Jwt<'t> {
    /// What the signature is over.
    signing_input: &'t str,
    signature: Vec<u8>,
    header: Header,
    claims: Map<String, Value>,
}

#[derive(Debug)]
struct Header {
    typ: Option<String>,
    alg: String,
    kid: String,
}

/// Who a good token shows. Only [`Jwt::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebIdentity {
    provider: String,
    subject: String,
    audience: String,
    amr: Vec<String>,
    jti: Option<String>,
    expires_at: i64,
    aws: Option<AwsPrincipal>,
}

impl WebIdentity {
    /// The issuer's URL without its scheme: what IAM calls the provider, and what its condition keys begin with.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// `sub`: at most 255 printable ASCII characters.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `aud`.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// `amr` (RFC 8176): how the issuer has authenticated its subject; empty when it does not say.
    pub fn amr(&self) -> &[String] {
        &self.amr
    }

    /// `jti`, if the issuer gives one.
    pub fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// `exp`, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// What AWS says of the principal that it made the token for; of AWS STS's issuers alone.
    pub fn aws(&self) -> Option<&AwsPrincipal> {
        self.aws.as_ref()
    }
}

impl<'t> Jwt<'t> {
    /// Reads `token` (RFC 7515's compact form). Sizes come first, before anything is decoded.
    ///
    /// # Errors
    /// [`JwtError`] for what no rules and no key could make good.
    pub fn parse(token: &'t str) -> Result<Jwt<'t>, JwtError> {
        if token.len() > MAX_JWT_BYTES {
            return Err(JwtError::TooLarge { bytes: token.len() });
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwtError::NotThreeParts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwtError::NotThreeParts)?;
        if payload.contains('.') {
            return Err(JwtError::NotThreeParts);
        }
        let header = Header::read(object(Part::Header, header)?)?;
        let claims = object(Part::Payload, payload)?;
        let signature = decode(Part::Signature, signature)?;
        Ok(Jwt { signing_input, signature, header, claims })
    }

    /// Whose it claims to be. To be looked up among the configured issuers, and never fetched from.
    ///
    /// # Errors
    /// [`JwtError::MissingClaim`] without `iss`.
    pub fn claimed_issuer(&self) -> Result<&str, JwtError> {
        claims::text(&self.claims, "iss")
    }

    /// The key that it claims to be signed with.
    pub fn kid(&self) -> &str {
        &self.header.kid
    }

    /// Holds the token to `rules` and `keys`, which must be that issuer's. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`JwtError`], the first reason found; [`JwtError::UnknownKey`] when newer keys could change that.
    pub fn verify(
        &self,
        rules: &IssuerRules,
        keys: &Jwks,
        now: i64,
    ) -> Result<WebIdentity, JwtError> {
        // RFC 8725 section 3.8: the issuer's keys are for its tokens alone.
        if self.claimed_issuer()? != rules.issuer {
            return Err(JwtError::WrongIssuer);
        }
        self.check_type(&rules.kind)?;
        let key = keys
            .lookup(&self.header.kid)
            .ok_or_else(|| JwtError::UnknownKey { kid: self.header.kid.clone() })?;
        // RFC 8725 section 3.1: the key has one algorithm, and the header does not choose.
        if key.algorithm().as_str() != self.header.alg {
            return Err(JwtError::WrongAlgorithm { expected: key.algorithm().as_str() });
        }
        if !key.verifies(self.signing_input.as_bytes(), &self.signature) {
            return Err(JwtError::InvalidSignature);
        }
        claims::identity(&self.claims, rules, now)
    }

    /// RFC 8725 section 3.11. AWS STS writes `JWT`; Kubernetes writes none.
    fn check_type(&self, kind: &IssuerKind) -> Result<(), JwtError> {
        match (kind, self.header.typ.as_deref()) {
            (IssuerKind::AwsSts { .. } | IssuerKind::Eks | IssuerKind::Oidc, Some("JWT"))
            | (IssuerKind::Eks | IssuerKind::Oidc, None) => Ok(()),
            (IssuerKind::AwsSts { .. }, None)
            | (IssuerKind::AwsSts { .. } | IssuerKind::Eks | IssuerKind::Oidc, Some(_)) => {
                Err(JwtError::WrongType)
            }
        }
    }
}

impl Header {
    /// `crit`, `jwk`, `jku`, `x5u`, `x5c`, `zip`, `b64`, `cty` and all else is refused: a member that asks for something which this
    /// reader does not do must not be passed over. A certificate's thumbprint asks for nothing.
    fn read(members: Map<String, Value>) -> Result<Header, JwtError> {
        let (mut typ, mut alg, mut kid) = (None, None, None);
        for (name, value) in members {
            match name.as_str() {
                "typ" => typ = Some(value.as_str().ok_or(JwtError::WrongType)?.to_owned()),
                "alg" => alg = value.as_str().map(str::to_owned),
                "kid" => kid = value.as_str().map(str::to_owned),
                "x5t" | "x5t#S256" => {}
                _ => return Err(JwtError::UnknownHeaderMember { name: error::shown(&name) }),
            }
        }
        let alg = alg.ok_or(JwtError::WrongAlgorithm { expected: "one of the issuer's" })?;
        let kid = kid.filter(|kid| is_key_id(kid)).ok_or(JwtError::InvalidKeyId)?;
        Ok(Header { typ, alg, kid })
    }
}

/// A key's name is looked up in a map, and is nothing else: no path, no query.
fn is_key_id(kid: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
    (1..=128).contains(&kid.len()) && kid.bytes().all(sound)
}

fn decode(part: Part, text: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed { part })
}

fn object(part: Part, text: &str) -> Result<Map<String, Value>, JwtError> {
    json::object(&decode(part, text)?).map_err(|fault| match fault {
        JsonFault::Syntax | JsonFault::NotAnObject => JwtError::Malformed { part },
        JsonFault::DuplicateMember(name) => {
            JwtError::DuplicateMember { part, name: error::shown(&name) }
        }
        JsonFault::TooDeep => JwtError::TooDeep { part },
    })
}
