//! RFC 7638 thumbprints: the name of a public key, made of the key itself.

use crate::canonical::{Node, canonical, sha256_base64url};

/// The RFC 7638 thumbprint of a JWK, base64url without padding (43 characters), from its *required* members and no others
/// (RFC 7638 section 3.2: `crv`, `kty`, `x`, `y` for an elliptic curve key; `e`, `kty`, `n` for RSA), in any order.
pub fn thumbprint(members: &[(&str, &str)]) -> String {
    let object = members.iter().map(|(name, value)| (*name, Node::Text(value))).collect();
    sha256_base64url(canonical(&Node::Object(object)).as_bytes())
}

/// The thumbprint of the P-256 key with these coordinates, each base64url without padding.
pub(crate) fn p256_thumbprint(x: &str, y: &str) -> String {
    thumbprint(&[("crv", "P-256"), ("kty", "EC"), ("x", x), ("y", y)])
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7638 section 3.1, the RFC's own example.
    #[test]
    fn the_example_of_rfc_7638() {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn\
                       jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qM\
                       QvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJz\
                       KnqDKgw";
        let members = [("kty", "RSA"), ("n", modulus), ("e", "AQAB")];
        assert_eq!(thumbprint(&members), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    // The key of RFC 7515 appendix A.3; the thumbprint was computed by another implementation.
    #[test]
    fn an_elliptic_curve_key() {
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        assert_eq!(p256_thumbprint(x, y), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    }
}
