//! EC2 instance identity documents: what the metadata service's `instance-identity/rsa2048` gives, a PKCS #7 envelope around a JSON text.
//!
//! Knows the envelope's one form, AWS's certificates, and what a document must say. Only what stood inside an envelope whose signature
//! held is ever handed out ([`InstanceDocument`]).
//!
//! Declines to know: whose instances are believed, and that a document proves little by itself. It has no expiry, no nonce and no
//! audience, and every process on the instance can read it (ATTACKS 56): who shows one must show a key too, elsewhere.
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html>

mod certificate;
mod der;
mod document;
mod envelope;
mod error;
mod published;

#[cfg(test)]
mod forged;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use certificate::Certificates;
pub use der::DerFault;
pub use error::{CertificateError, InstanceError};

use document::Document;
use envelope::Envelope;

use crate::MAX_LEEWAY_SECONDS;

/// The longest envelope that is read, in bytes of its base64. AWS's are around 2 KB.
pub const MAX_ENVELOPE_BYTES: usize = 12 * 1024;
/// The longest document.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024;

/// What AWS says of an instance. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceDocument(Document);

impl InstanceDocument {
    /// The account whose instance it is: twelve digits.
    pub fn account(&self) -> &str {
        &self.0.account
    }

    /// Such as `eu-west-1`; its own certificate signed it.
    pub fn region(&self) -> &str {
        &self.0.region
    }

    /// `i-` and 8 or 17 hexadecimal digits.
    pub fn instance_id(&self) -> &str {
        &self.0.instance_id
    }

    /// `pendingTime`: when it was last started, in seconds since 1970.
    pub fn launched(&self) -> i64 {
        self.0.launched
    }
}

/// Verifies `text`, the base64 of an envelope, at `now`. Line feeds in it are passed over, as the metadata service puts them there.
///
/// # Errors
/// The first reason found; the document is not looked into before its signature holds.
pub fn verify(
    text: &str,
    certificates: &Certificates,
    now: i64,
) -> Result<InstanceDocument, InstanceError> {
    if text.len() > MAX_ENVELOPE_BYTES {
        return Err(InstanceError::TooLarge { bytes: text.len() });
    }
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = STANDARD.decode(text).map_err(|_| InstanceError::NotBase64)?;
    let Envelope { content, issuer, serial, digest: signed_digest, signed, signature } =
        Envelope::read(&bytes)?;
    let mut pins = certificates.named(issuer, serial).peekable();
    if pins.peek().is_none() {
        return Err(InstanceError::UnknownSigner);
    }
    if digest(&SHA256, &content).as_ref() != signed_digest {
        return Err(InstanceError::WrongDigest);
    }
    let regions: Vec<&str> = pins
        .filter(|pin| pin.verifies(&signed, signature))
        .map(|pin| pin.region.as_str())
        .collect();
    if regions.is_empty() {
        return Err(InstanceError::InvalidSignature);
    }
    let document = Document::read(&content)?;
    // The certificate says which region may be named, and never the other way about (ATTACKS 55).
    if !regions.contains(&document.region.as_str()) {
        return Err(InstanceError::WrongRegion { found: document.region });
    }
    if document.launched > now.saturating_add(MAX_LEEWAY_SECONDS) {
        return Err(InstanceError::LaunchedInTheFuture);
    }
    Ok(InstanceDocument(document))
}
