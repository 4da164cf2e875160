//! The certificates that AWS publishes for its regions, pinned: a key, and the name that an envelope calls it by.
//!
//! They are pinned by hand, one region at a time, and vouch for nothing but themselves: there is no chain, and their dates say nothing
//! that the pin does not. What an envelope carries never comes here.

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::der::{BIT_STRING, INTEGER, NULL, OID, Reader, SEQUENCE, context};
use super::envelope::RSA;
use super::error::CertificateError;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// AWS's certificates of the regions that documents are taken from.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Vec<Pin>);

/// One region's.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    pub region: String,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    key: ParsedPublicKey,
}

impl Certificates {
    /// Those that AWS published for the regions of `partition`, as far as they are built in.
    /// Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/regions-certs.html>
    ///
    /// # Errors
    /// Never, as a test shows; a certificate that cannot be read is no reason to go on without it.
    pub fn built_in(partition: &str) -> Result<Self, CertificateError> {
        let mut certificates = Self::default();
        for (region, pem) in super::published::RSA_2048 {
            if partition_of(region) == partition {
                certificates.add(region, pem)?;
            }
        }
        Ok(certificates)
    }

    /// Adds those of `region` that the text of a PEM file holds, beside any that are there.
    ///
    /// # Errors
    /// When it holds none, or one that is not of AWS's kind.
    pub fn add(&mut self, region: &str, pem: &str) -> Result<(), CertificateError> {
        if !is_region(region) {
            return Err(CertificateError::NotARegion(region.escape_debug().take(64).collect()));
        }
        let blocks = blocks(pem)?;
        for der in blocks {
            self.0.push(Pin::read(region, &der)?);
        }
        Ok(())
    }

    /// The regions that there are certificates of.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pin| pin.region.as_str())
    }

    /// Those that an envelope calls so.
    pub(super) fn named<'p>(
        &'p self,
        issuer: &'p [u8],
        serial: &'p [u8],
    ) -> impl Iterator<Item = &'p Pin> {
        self.0.iter().filter(move |pin| pin.issuer == issuer && pin.serial == serial)
    }
}

impl Pin {
    /// RFC 5280 section 4.1: as far as it is needed.
    fn read(region: &str, der: &[u8]) -> Result<Self, CertificateError> {
        let mut reader = Reader::new(der);
        let mut certificate = reader.nested(SEQUENCE)?;
        reader.end()?;
        let mut body = certificate.nested(SEQUENCE)?;
        if body.next_is(context(0)) {
            body.value(context(0))?;
        }
        let serial = body.value(INTEGER)?.to_vec();
        body.value(SEQUENCE)?;
        let issuer = body.whole(SEQUENCE)?.to_vec();
        body.value(SEQUENCE)?;
        body.value(SEQUENCE)?;
        let key = public_key(body.nested(SEQUENCE)?)?;
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .map_err(|_| CertificateError::NotRsa2048)?;
        Ok(Self { region: region.to_owned(), issuer, serial, key })
    }

    /// AWS-LC refuses RSA keys under 2048 bits, and padding that is not to the letter.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// A `SubjectPublicKeyInfo`: the `RSAPublicKey` in it.
fn public_key(mut info: Reader<'_>) -> Result<&[u8], CertificateError> {
    let mut algorithm = info.nested(SEQUENCE)?;
    if algorithm.value(OID)? != RSA || !algorithm.next_is(NULL) {
        return Err(CertificateError::NotRsa2048);
    }
    // No bit of the last byte is unused.
    match info.value(BIT_STRING)? {
        [0, key @ ..] => Ok(key),
        _ => Err(CertificateError::NotRsa2048),
    }
}

fn blocks(pem: &str) -> Result<Vec<Vec<u8>>, CertificateError> {
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (body, after) = after.split_once(END).ok_or(CertificateError::NotPem)?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        found.push(STANDARD.decode(body).map_err(|_| CertificateError::NotPem)?);
        rest = after;
    }
    if found.is_empty() { Err(CertificateError::NotPem) } else { Ok(found) }
}

/// Such as `us-gov-west-1`. It is compared with, and never made into a path.
pub(super) fn is_region(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= 32 && text.split('-').count() >= 3 && text.split('-').all(is_word)
}

fn partition_of(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("eusc-") {
        "aws-eusc"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}
