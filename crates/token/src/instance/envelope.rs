//! The envelope: a CMS `SignedData` (RFC 5652) as AWS sends it, read as a closed form.
//!
//! Knows which parts there may be and what the signer signed. It verifies nothing, and of the certificates that an envelope may carry
//! it reads none: who the signer is, a pinned certificate says (ATTACKS 53).

use super::der::{
    DerFault, INTEGER, NULL, OCTET_STRING, OID, Reader, SEQUENCE, SET, UTC_TIME, context,
};
use super::error::InstanceError;

/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.1.1, of which RFC 3370 says that it may name the signature too.
pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.113549.1.1.11
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// 1.2.840.113549.1.9.3
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// 1.2.840.113549.1.9.4
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 1.2.840.113549.1.9.5
const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
/// 1.2.840.113549.1.9.52 (RFC 6211)
const ALGORITHM_PROTECTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x34];

/// An envelope that was read, and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope<'d> {
    /// What is said to be signed: nobody looks into it before the signature holds.
    pub content: Vec<u8>,
    /// The signer's certificate: its issuer's name, whole, and its serial number.
    pub issuer: &'d [u8],
    pub serial: &'d [u8],
    /// SHA-256 of the content, as the signer signed it.
    pub digest: &'d [u8],
    /// The bytes that the signature is over.
    pub signed: Vec<u8>,
    pub signature: &'d [u8],
}

impl<'d> Envelope<'d> {
    /// Reads a `ContentInfo`, to its last byte.
    pub(super) fn read(bytes: &'d [u8]) -> Result<Self, InstanceError> {
        let mut reader = Reader::new(bytes);
        let envelope = reader.inside(SEQUENCE, |info| {
            if info.value(OID)? != SIGNED_DATA {
                return Err(form("contentType", "must be `signedData`"));
            }
            info.inside(context(0), |explicit| explicit.inside(SEQUENCE, signed_data))
        })?;
        reader.end()?;
        Ok(envelope)
    }
}

fn form(field: &'static str, must: &'static str) -> InstanceError {
    InstanceError::Form { field, must }
}

/// RFC 5652 section 5.1.
fn signed_data<'d>(data: &mut Reader<'d>) -> Result<Envelope<'d>, InstanceError> {
    version("version", data)?;
    let mut digests = data.nested(SET)?;
    is_sha256("digestAlgorithms", algorithm(&mut digests)?)?;
    if !digests.is_empty() {
        return Err(form("digestAlgorithms", "must name one algorithm"));
    }
    let content = data.inside(SEQUENCE, content)?;
    // Certificates in the envelope are whoever sent it's, and are passed over unread.
    if data.next_is(context(0)) {
        data.value(context(0))?;
    }
    if data.next_is(context(1)) {
        return Err(form("crls", "must not be there"));
    }
    let signers = data.nested(SET)?;
    let mut signer = one_signer(signers)?;
    let envelope = signer_info(&mut signer, content)?;
    signer.end()?;
    Ok(envelope)
}

/// RFC 5652 section 5.2. `data` alone, and within the envelope (ATTACKS 52, 54).
fn content(info: &mut Reader<'_>) -> Result<Vec<u8>, InstanceError> {
    if info.value(OID)? != DATA {
        return Err(form("eContentType", "must be `data`"));
    }
    if !info.next_is(context(0)) {
        return Err(InstanceError::Detached);
    }
    let content = info.inside(context(0), |explicit| explicit.octets())?;
    if content.is_empty() { Err(InstanceError::Detached) } else { Ok(content) }
}

/// Of two signers it would not be plain whose word counts (ATTACKS 54).
fn one_signer(mut signers: Reader<'_>) -> Result<Reader<'_>, InstanceError> {
    let mut found = 0;
    let mut first = None;
    while !signers.is_empty() {
        let signer = signers.nested(SEQUENCE)?;
        first.get_or_insert(signer);
        found += 1;
    }
    match (first, found) {
        (Some(signer), 1) => Ok(signer),
        (_, found) => Err(InstanceError::Signers { found }),
    }
}

/// RFC 5652 section 5.3.
fn signer_info<'d>(
    signer: &mut Reader<'d>,
    content: Vec<u8>,
) -> Result<Envelope<'d>, InstanceError> {
    version("signerInfo.version", signer)?;
    let mut identifier = signer.nested(SEQUENCE)?;
    let issuer = identifier.whole(SEQUENCE)?;
    let serial = identifier.value(INTEGER)?;
    identifier.end()?;
    is_sha256("signerInfo.digestAlgorithm", algorithm(signer)?)?;
    if !signer.next_is(context(0)) {
        // Without them the signature would be over the content, which could then be read as attributes, or they as it.
        return Err(form("signedAttrs", "must be there"));
    }
    let whole = signer.whole(context(0))?;
    let attributes = Reader::new(whole).nested(context(0))?;
    let signature_algorithm = algorithm(signer)?;
    is_rsa_with_sha256("signerInfo.signatureAlgorithm", signature_algorithm)?;
    let digest = attributes_digest(attributes, signature_algorithm)?;
    let signature = signer.value(OCTET_STRING)?;
    if signer.next_is(context(1)) {
        return Err(form("unsignedAttrs", "must not be there"));
    }
    // "the IMPLICIT [0] tag in the signedAttrs is not used for the DER encoding, rather an EXPLICIT SET OF tag is used": section 5.4.
    let signed = whole.split_first().map(|(_, rest)| [&[SET], rest].concat());
    let signed = signed.ok_or(DerFault::Truncated)?;
    Ok(Envelope { content, issuer, serial, digest, signed, signature })
}

/// Version 1 is the one of an envelope whose signer is named by issuer and serial number (sections 5.1, 5.3).
fn version(field: &'static str, reader: &mut Reader<'_>) -> Result<(), InstanceError> {
    match reader.value(INTEGER)? {
        [1] => Ok(()),
        _ => Err(form(field, "must be 1")),
    }
}

/// An `AlgorithmIdentifier`: its OID. Parameters must be NULL, or not there.
fn algorithm<'d>(reader: &mut Reader<'d>) -> Result<&'d [u8], InstanceError> {
    identifier(reader.nested(SEQUENCE)?)
}

fn identifier(mut algorithm: Reader<'_>) -> Result<&[u8], InstanceError> {
    let oid = algorithm.value(OID)?;
    if algorithm.next_is(NULL) && !algorithm.value(NULL)?.is_empty() {
        return Err(DerFault::Length.into());
    }
    if !algorithm.is_empty() {
        return Err(form("parameters", "of an algorithm must be NULL"));
    }
    Ok(oid)
}

fn is_sha256(field: &'static str, oid: &[u8]) -> Result<(), InstanceError> {
    if oid == SHA256 {
        return Ok(());
    }
    Err(InstanceError::WeakAlgorithm { field, expected: "SHA-256" })
}

fn is_rsa_with_sha256(field: &'static str, oid: &[u8]) -> Result<(), InstanceError> {
    if oid == SHA256_WITH_RSA || oid == RSA {
        return Ok(());
    }
    Err(InstanceError::WeakAlgorithm { field, expected: "RSA with SHA-256" })
}

/// The signed digest. RFC 5652 section 11: each attribute once and with one value; content type and digest must be there.
fn attributes_digest<'d>(
    mut attributes: Reader<'d>,
    signature_algorithm: &[u8],
) -> Result<&'d [u8], InstanceError> {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut digest = None;
    while !attributes.is_empty() {
        let mut attribute = attributes.nested(SEQUENCE)?;
        let kind = attribute.value(OID)?;
        if seen.contains(&kind) {
            return Err(form("signedAttrs", "must have each attribute once"));
        }
        seen.push(kind);
        let mut value = attribute.nested(SET)?;
        attribute.end()?;
        if kind == CONTENT_TYPE {
            if value.value(OID)? != DATA {
                return Err(form("signedAttrs.contentType", "must be `data`"));
            }
        } else if kind == MESSAGE_DIGEST {
            digest = Some(value.value(OCTET_STRING)?);
        } else if kind == SIGNING_TIME {
            // The document is made when it is asked for; what counts is when the instance was launched.
            value.value(UTC_TIME)?;
        } else if kind == ALGORITHM_PROTECTION {
            protected(value.nested(SEQUENCE)?, signature_algorithm)?;
        } else {
            return Err(form("signedAttrs", "has an attribute that AWS does not send"));
        }
        value.end()?;
    }
    if !seen.contains(&CONTENT_TYPE) {
        return Err(form("signedAttrs.contentType", "is missing"));
    }
    digest.ok_or(form("signedAttrs.messageDigest", "is missing"))
}

/// RFC 6211: the algorithms as the signer signed them.
fn protected(mut both: Reader<'_>, signature_algorithm: &[u8]) -> Result<(), InstanceError> {
    is_sha256("signedAttrs.cmsAlgorithmProtect", algorithm(&mut both)?)?;
    let signature = identifier(both.nested(context(1))?)?;
    both.end()?;
    if signature == signature_algorithm {
        return Ok(());
    }
    Err(form("signedAttrs.cmsAlgorithmProtect", "names another algorithm than the signature's"))
}
