//! EC2 instances' documents: nothing but the very document that the region signed is taken, from whatever envelope.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_token::instance::{Certificates, InstanceDocument, verify};

use crate::forged::{Parts, Region, document, open, tlv};

pub(crate) const WORDS: &[&str] = &[
    "0\u{80}",
    "\u{0}\u{0}",
    "\u{24}\u{80}",
    "0\u{0}",
    "\u{4}\u{1}x",
    "-----BEGIN CERTIFICATE-----",
    "-----END CERTIFICATE-----",
    "MIAGCSqGSIb3DQEHAqCAMIACAQEx",
    "\"accountId\" : \"210987654321\",",
    "\"region\" : \"us-east-1\"",
    "\"version\" : \"2017-09-30\"",
    "\\u0000",
];

const NOW: i64 = 1_800_000_000;
const ACCOUNT: &str = "123456789012";
const ID: &str = "i-078517ca8a70a1dde";

struct Signed {
    region: Region,
    certificates: Certificates,
    document: String,
    signature: Vec<u8>,
    der: Vec<u8>,
}

/// Signed once a run, by a key that nobody else has.
fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let region = Region::new("us-west-2", 1);
        let mut certificates = Certificates::default();
        certificates.add(region.name, &region.pem()).expect("a certificate");
        let document = document(ACCOUNT, region.name, ID, "2026-11-24T16:00:00Z");
        let parts = Parts::of(&region, &document);
        let der = parts.der();
        Signed { region, certificates, document, signature: parts.signature, der }
    })
}

/// The bytes as an envelope and as its base64, as an envelope's content, certificates, attributes and signature, as changes of a good
/// one (place, mask, …), and as a certificate.
///
/// # Panics
/// If anything but the signed document comes out of an envelope that the region did not sign.
pub fn instance_envelope(bytes: &[u8]) {
    let Signed { region, certificates: _, document, signature, der } = signed();
    let text = String::from_utf8_lossy(bytes);
    refused_unless_good(&text);
    refused_unless_good(&STANDARD.encode(bytes));
    let spoilt = |spoil: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of_unsigned(region, document);
        parts.signature.clone_from(signature);
        spoil(&mut parts);
        refused_unless_good(&parts.text());
    };
    // Their lengths go up to 64 KiB.
    let bytes = bytes.get(..8_000).unwrap_or(bytes);
    spoilt(&|parts| parts.content = bytes.to_vec());
    spoilt(&|parts| parts.content = open(0xa0, &open(0x24, &tlv(4, bytes))));
    spoilt(&|parts| parts.certificates = bytes.to_vec());
    spoilt(&|parts| parts.attributes = Some(vec![bytes.to_vec()]));
    spoilt(&|parts| parts.signature = bytes.to_vec());
    spoilt(&|parts| parts.unsigned = bytes.to_vec());
    let mut changed = der.clone();
    for change in bytes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % changed.len();
        changed[place] ^= change[2];
    }
    refused_unless_good(&STANDARD.encode(changed));
    let _ = Certificates::default().add("us-west-2", &text);
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
        STANDARD.encode(bytes)
    );
    let _ = Certificates::default().add("us-west-2", &pem);
}

fn refused_unless_good(envelope: &str) {
    let Signed { certificates, .. } = signed();
    if let Ok(found) = verify(envelope, certificates, NOW) {
        let good: [fn(&InstanceDocument) -> &str; 3] =
            [InstanceDocument::account, InstanceDocument::instance_id, InstanceDocument::region];
        assert_eq!(good.map(|part| part(&found)), [ACCOUNT, ID, "us-west-2"], "{envelope}");
    }
}
