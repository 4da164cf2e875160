//! Secret keys and the keys derived from them. Both are wiped when dropped and never printed.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A secret access key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey(String);

impl SecretKey {
    pub fn new(text: impl Into<String>) -> SecretKey {
        SecretKey(text.into())
    }

    /// The key itself, for whoever must store or show it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(<redacted>)")
    }
}

/// A signing key for one day, region and service: it signs there, and reveals nothing of the secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DerivedKey([u8; 32]);

impl DerivedKey {
    pub fn from_bytes(bytes: [u8; 32]) -> DerivedKey {
        DerivedKey(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA256 of the string to sign: the signature, before it is spelled in hexadecimal.
    pub fn sign(&self, string_to_sign: &str) -> [u8; 32] {
        hmac_sha256(&self.0, string_to_sign.as_bytes())
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(<redacted>)")
    }
}

/// The key for `day` (`YYYYMMDD`), `region` and `service`. Source: AWS, "Create a signed AWS API request", step 4.
pub fn derive(secret: &SecretKey, day: &str, region: &str, service: &str) -> DerivedKey {
    let prefixed = Zeroizing::new(format!("AWS4{}", secret.0));
    let day_key = Zeroizing::new(hmac_sha256(prefixed.as_bytes(), day.as_bytes()));
    let region_key = Zeroizing::new(hmac_sha256(&*day_key, region.as_bytes()));
    let service_key = Zeroizing::new(hmac_sha256(&*region_key, service.as_bytes()));
    DerivedKey(hmac_sha256(&*service_key, b"aws4_request"))
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut bytes = [0; 32];
    for (byte, signed) in bytes.iter_mut().zip(tag.as_ref()) {
        *byte = *signed;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex;

    #[test]
    fn derives_the_key_of_awss_published_example() {
        // AWS General Reference, "Examples of how to derive a signing key".
        let secret = SecretKey::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let key = derive(&secret, "20120215", "us-east-1", "iam");
        assert_eq!(
            hex(key.as_bytes()),
            "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"
        );
        assert_eq!(DerivedKey::from_bytes(*key.as_bytes()).sign("x"), key.sign("x"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = SecretKey::new("wJalrXUtnFEMI");
        assert_eq!(format!("{secret:?}"), "SecretKey(<redacted>)");
        assert_eq!(
            format!("{:?}", derive(&secret, "20120215", "r", "s")),
            "DerivedKey(<redacted>)"
        );
    }
}
