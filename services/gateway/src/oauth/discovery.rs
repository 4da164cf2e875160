//! What there is, for clients and verifiers that look (RFC 8414, OpenID Connect Discovery 1.0). It says what is so, and nothing else.

use countersign_token::dpop;
use serde_json::{Value, json};

use super::{JWKS_PATH, form::GRANT_TYPE, token, tokens};

/// The metadata of `issuer`.
#[must_use]
pub fn metadata(issuer: &str) -> Value {
    let at = |path: &str| format!("{issuer}{path}");
    json!({
        "issuer": issuer,
        "jwks_uri": at(JWKS_PATH),
        "token_endpoint": at(token::PATH),
        "grant_types_supported": [GRANT_TYPE],
        // The subject token is the credential.
        "token_endpoint_auth_methods_supported": ["none"],
        // RFC 8414 section 2: a caller shows an access token of its own.
        "introspection_endpoint": at(tokens::INTROSPECT),
        "introspection_endpoint_auth_methods_supported": ["Bearer", "DPoP"],
        "revocation_endpoint": at(tokens::REVOKE),
        "revocation_endpoint_auth_methods_supported": ["Bearer", "DPoP"],
        // There is no authorization endpoint, so there is nothing that it could answer.
        "response_types_supported": [],
        "dpop_signing_alg_values_supported": [dpop::ALGORITHM],
        "tls_client_certificate_bound_access_tokens": true,
        // OpenID Connect requires these two. No id tokens are made; access tokens are signed so.
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}
