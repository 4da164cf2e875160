//! Envelopes and certificates as AWS makes them, and as nobody should: for tests, which include this file where they need it.

#![allow(dead_code, reason = "each test that includes it needs another part")]

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
pub const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
pub const SHA256_OID: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
pub const SHA1_OID: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
pub const DSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x03];
pub const RSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub const SHA256_RSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
pub const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
pub const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
pub const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
pub const PROTECTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x34];

/// A value of DER.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    bytes.extend_from_slice(content);
    bytes
}

/// The same with its length left open.
pub fn open(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], content, &[0, 0]].concat()
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn algorithm(oid: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(6, oid), &[5, 0]])
}

fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(6, oid), &tlv(0x31, value)])
}

/// A region of a made-up AWS: its key, and the certificate that names it.
pub struct Region {
    pub name: &'static str,
    pub key: RsaKeyPair,
    serial: [u8; 4],
}

impl Region {
    pub fn new(name: &'static str, serial: u8) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { name, key, serial: [1, 2, 3, serial] }
    }

    /// AWS's issuers all have one name; the serial number tells them apart.
    pub fn issuer() -> Vec<u8> {
        let name = sequence(&[&tlv(6, &[0x55, 4, 10]), &tlv(0x13, b"Amazon Web Services LLC")]);
        tlv(0x30, &tlv(0x31, &name))
    }

    pub fn serial(&self) -> Vec<u8> {
        tlv(2, &self.serial)
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub fn certificate(&self) -> Vec<u8> {
        let key: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        let body = sequence(&[
            &tlv(0xa0, &[2, 1, 2]),
            &self.serial(),
            &algorithm(SHA256_RSA_OID),
            &Self::issuer(),
            &sequence(&[&tlv(0x17, b"150814085912Z"), &tlv(0x18, b"21950117085912Z")]),
            &Self::issuer(),
            key.as_ref(),
        ]);
        let signature = [&[0][..], &self.sign(&body)].concat();
        sequence(&[&body, &algorithm(SHA256_RSA_OID), &tlv(3, &signature)])
    }

    pub fn pem(&self) -> String {
        let body = STANDARD.encode(self.certificate());
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }
}

/// A document as AWS writes it.
pub fn document(account: &str, region: &str, instance_id: &str, launched: &str) -> String {
    format!(
        "{{\n  \"accountId\" : \"{account}\",\n  \"architecture\" : \"x86_64\",\n  \"availabilityZone\" : \"{region}a\",\n  \
         \"billingProducts\" : null,\n  \"devpayProductCodes\" : null,\n  \"imageId\" : \"ami-0ce3c55a31d29040e\",\n  \
         \"instanceId\" : \"{instance_id}\",\n  \"instanceType\" : \"t2.micro\",\n  \"kernelId\" : null,\n  \
         \"marketplaceProductCodes\" : null,\n  \"pendingTime\" : \"{launched}\",\n  \"privateIp\" : \"10.0.0.209\",\n  \
         \"ramdiskId\" : null,\n  \"region\" : \"{region}\",\n  \"version\" : \"2017-09-30\"\n}}"
    )
}

/// An envelope's parts, each to be spoilt. As it is made, it is what AWS would send.
pub struct Parts {
    pub outer_type: Vec<u8>,
    pub version: u8,
    pub digest_algorithms: Vec<u8>,
    pub inner_type: Vec<u8>,
    /// What stands in the envelope, whole; empty for nothing.
    pub content: Vec<u8>,
    /// What stands between content and signers.
    pub certificates: Vec<u8>,
    pub signer_version: u8,
    pub issuer: Vec<u8>,
    pub serial: Vec<u8>,
    pub digest_algorithm: Vec<u8>,
    /// None for a signature over the content itself.
    pub attributes: Option<Vec<Vec<u8>>>,
    pub signature_algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    pub unsigned: Vec<u8>,
    pub signers: usize,
    pub trailing: Vec<u8>,
}

impl Parts {
    pub fn of(region: &Region, document: &str) -> Self {
        let mut parts = Self::of_unsigned(region, document);
        parts.sign(region);
        parts
    }

    /// The same without a signature, which takes its time to make.
    pub fn of_unsigned(region: &Region, document: &str) -> Self {
        let content = document.as_bytes();
        let digest = digest(&SHA256, content);
        let protection = sequence(&[
            &algorithm(SHA256_OID),
            &tlv(0xa1, &[&tlv(6, SHA256_RSA_OID)[..], &[5, 0]].concat()),
        ]);
        let attributes = vec![
            attribute(CONTENT_TYPE, &tlv(6, DATA)),
            attribute(SIGNING_TIME, &tlv(0x17, b"210903212547Z")),
            attribute(PROTECTION, &protection),
            attribute(MESSAGE_DIGEST, &tlv(4, digest.as_ref())),
        ];
        Self {
            outer_type: SIGNED_DATA.to_vec(),
            version: 1,
            digest_algorithms: algorithm(SHA256_OID),
            inner_type: DATA.to_vec(),
            content: open(0xa0, &open(0x24, &tlv(4, content))),
            certificates: Vec::new(),
            signer_version: 1,
            issuer: Region::issuer(),
            serial: region.serial(),
            digest_algorithm: algorithm(SHA256_OID),
            attributes: Some(attributes),
            signature_algorithm: algorithm(SHA256_RSA_OID),
            signature: Vec::new(),
            unsigned: Vec::new(),
            signers: 1,
            trailing: Vec::new(),
        }
    }

    /// Signs the attributes as they are now.
    pub fn sign(&mut self, region: &Region) {
        let attributes = self.attributes.as_ref().map(|attributes| attributes.concat());
        self.signature = region.sign(&tlv(0x31, &attributes.unwrap_or_default()));
    }

    pub fn der(&self) -> Vec<u8> {
        let attributes = self.attributes.as_ref().map(|attributes| tlv(0xa0, &attributes.concat()));
        let signer = sequence(&[
            &tlv(2, &[self.signer_version]),
            &sequence(&[&self.issuer, &self.serial]),
            &self.digest_algorithm,
            &attributes.unwrap_or_default(),
            &self.signature_algorithm,
            &tlv(4, &self.signature),
            &self.unsigned,
        ]);
        let data = [
            tlv(2, &[self.version]),
            tlv(0x31, &self.digest_algorithms),
            open(0x30, &[tlv(6, &self.inner_type), self.content.clone()].concat()),
            self.certificates.clone(),
            tlv(0x31, &signer.repeat(self.signers)),
        ];
        let info = [tlv(6, &self.outer_type), open(0xa0, &open(0x30, &data.concat()))];
        [open(0x30, &info.concat()), self.trailing.clone()].concat()
    }

    /// In lines, as the metadata service writes it.
    pub fn text(&self) -> String {
        let text = STANDARD.encode(self.der());
        let lines: Vec<&str> =
            text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join("\n")
    }
}
