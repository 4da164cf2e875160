//! Every way in which an envelope is not AWS's word, and the one in which it is. ATTACKS 52 to 55.

use std::sync::LazyLock;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::der::{BIT_STRING, Reader, SEQUENCE};
use super::forged::*;
use super::published::RSA_2048;
use super::*;

const NOW: i64 = 1_795_537_020;
const LAUNCHED: &str = "2026-11-24T16:00:00Z";
const INSTANCE: &str = "i-078517ca8a70a1dde";

/// Two regions of a made-up AWS, and one of nobody's.
struct World {
    west: Region,
    east: Region,
    stranger: Region,
    certificates: Certificates,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (west, east) = (Region::new("us-west-2", 1), Region::new("us-east-1", 2));
    // The same name and number as the west's, with another key.
    let stranger = Region::new("us-west-2", 1);
    let mut certificates = Certificates::default();
    certificates.add(west.name, &west.pem()).unwrap();
    certificates.add(east.name, &east.pem()).unwrap();
    World { west, east, stranger, certificates }
});

fn good() -> String {
    document("123456789012", "us-west-2", INSTANCE, LAUNCHED)
}

fn verified(text: &str) -> Result<InstanceDocument, &'static str> {
    verify(text, &WORLD.certificates, NOW).map_err(|error| error.code())
}

#[test]
fn a_document_as_aws_sends_it() {
    let document = verified(&Parts::of(&WORLD.west, &good()).text()).unwrap();
    assert_eq!(
        (document.account(), document.region(), document.instance_id(), document.launched()),
        ("123456789012", "us-west-2", INSTANCE, NOW - 1020)
    );
}

/// An envelope with one part spoilt, and the signature made before that: what whoever has no key can do.
#[test]
fn a_spoilt_envelope() {
    fn check(spoil: impl FnOnce(&mut Parts), expected: Result<(), &str>) {
        let mut parts = Parts::of(&WORLD.west, &good());
        spoil(&mut parts);
        let at = expected.err().unwrap_or("good");
        assert_eq!(verified(&parts.text()).map(|_| ()), expected, "{at}");
    }
    let other = || document("210987654321", "us-west-2", INSTANCE, LAUNCHED).into_bytes();
    check(|_| {}, Ok(()));
    // The content in one piece, in two, and with its lengths known.
    let whole = || good().into_bytes();
    check(|p| p.content = open(0xa0, &tlv(4, &whole())), Ok(()));
    check(|p| p.content = tlv(0xa0, &tlv(4, &whole())), Ok(()));
    let pieces = |text: &[u8]| [tlv(4, &text[..100]), tlv(4, &text[100..])].concat();
    check(|p| p.content = open(0xa0, &open(0x24, &pieces(&whole()))), Ok(()));
    // 52: another document in the envelope, or none.
    check(|p| p.content = tlv(0xa0, &tlv(4, &other())), Err("DocumentDigestMismatch"));
    check(|p| p.content = Vec::new(), Err("DocumentDetached"));
    check(|p| p.content = open(0xa0, &tlv(4, &[])), Err("DocumentDetached"));
    let two = [tlv(4, &whole()), tlv(4, &other())].concat();
    check(|p| p.content = open(0xa0, &two), Err("DocumentMalformed"));
    check(
        |p| p.content = [open(0xa0, &tlv(4, &whole())), tlv(4, &other())].concat(),
        Err("DocumentMalformed"),
    );
    // 53: certificates in the envelope are not read, whoever's they are.
    check(|p| p.certificates = tlv(0xa0, &WORLD.west.certificate()), Ok(()));
    check(|p| p.certificates = tlv(0xa0, b"no certificate at all"), Ok(()));
    check(|p| p.certificates = tlv(0xa1, &[]), Err("DocumentMalformed"));
    check(|p| p.certificates = open(0xa0, &[]), Err("DocumentMalformed"));
    check(
        |p| {
            p.certificates = tlv(0xa0, &WORLD.stranger.certificate());
            p.sign(&WORLD.stranger);
        },
        Err("SignatureDoesNotMatch"),
    );
    check(|p| p.serial = tlv(2, &[9]), Err("UnknownSigner"));
    check(|p| p.issuer = tlv(0x30, &[]), Err("UnknownSigner"));
    check(|p| p.serial = WORLD.east.serial(), Err("SignatureDoesNotMatch"));
    // 54: weak forms.
    check(|p| p.digest_algorithms = algorithm(SHA1_OID), Err("AlgorithmNotAllowed"));
    check(|p| p.digest_algorithm = algorithm(SHA1_OID), Err("AlgorithmNotAllowed"));
    check(|p| p.signature_algorithm = algorithm(DSA_OID), Err("AlgorithmNotAllowed"));
    check(|p| p.signature_algorithm = algorithm(SHA1_OID), Err("AlgorithmNotAllowed"));
    check(|p| p.digest_algorithms = algorithm(SHA256_OID).repeat(2), Err("DocumentMalformed"));
    check(|p| p.digest_algorithms = Vec::new(), Err("DocumentMalformed"));
    check(|p| p.signers = 2, Err("OneSignerRequired"));
    check(|p| p.signers = 0, Err("OneSignerRequired"));
    check(|p| p.attributes = None, Err("DocumentMalformed"));
    check(
        |p| {
            // A signature over the content alone, as the form without attributes has it.
            p.attributes = None;
            p.signature = WORLD.west.sign(good().as_bytes());
        },
        Err("DocumentMalformed"),
    );
    // The rest of the form.
    check(|p| p.outer_type = DATA.to_vec(), Err("DocumentMalformed"));
    check(|p| p.inner_type = SIGNED_DATA.to_vec(), Err("DocumentMalformed"));
    check(|p| p.version = 3, Err("DocumentMalformed"));
    check(|p| p.signer_version = 3, Err("DocumentMalformed"));
    check(|p| p.unsigned = tlv(0xa1, &[]), Err("DocumentMalformed"));
    check(|p| p.unsigned = vec![5, 0], Err("DocumentMalformed"));
    check(|p| p.trailing = vec![0], Err("DocumentMalformed"));
    check(|p| p.signature[9] ^= 1, Err("SignatureDoesNotMatch"));
    check(|p| p.signature.truncate(255), Err("SignatureDoesNotMatch"));
    check(|p| p.signature.clear(), Err("SignatureDoesNotMatch"));
    check(|p| p.signature.insert(0, 0), Err("SignatureDoesNotMatch"));
}

/// Attributes that the region's own key signed: what is wrong is not the signature.
#[test]
fn attributes() {
    fn check(change: impl FnOnce(&mut Vec<Vec<u8>>), expected: Result<(), &str>) {
        let mut parts = Parts::of(&WORLD.west, &good());
        change(parts.attributes.as_mut().unwrap());
        parts.sign(&WORLD.west);
        let at = parts.attributes.as_ref().map(Vec::len);
        assert_eq!(verified(&parts.text()).map(|_| ()), expected, "{at:?}");
    }
    let kind = |oid: &[u8], value: &[u8]| sequence(&[&tlv(6, oid), &tlv(0x31, value)]);
    check(|a| a.truncate(4), Ok(()));
    // Time and protection may be left out; type and digest may not.
    check(|a| drop(a.drain(1..3)), Ok(()));
    check(|a| drop(a.remove(0)), Err("DocumentMalformed"));
    check(|a| drop(a.remove(3)), Err("DocumentMalformed"));
    check(|a| a.clear(), Err("DocumentMalformed"));
    check(|a| a.push(a[3].clone()), Err("DocumentMalformed"));
    check(|a| a[0] = kind(CONTENT_TYPE, &tlv(6, SIGNED_DATA)), Err("DocumentMalformed"));
    check(|a| a[3] = kind(MESSAGE_DIGEST, &tlv(4, &[0; 32])), Err("DocumentDigestMismatch"));
    check(|a| a[3] = kind(MESSAGE_DIGEST, &tlv(4, &[])), Err("DocumentDigestMismatch"));
    check(|a| a[3] = kind(MESSAGE_DIGEST, &[]), Err("DocumentMalformed"));
    let twice = tlv(4, digest(&SHA256, good().as_bytes()).as_ref()).repeat(2);
    check(|a| a[3] = kind(MESSAGE_DIGEST, &twice), Err("DocumentMalformed"));
    check(|a| a.push(kind(&[0x2a, 3], &[5, 0])), Err("DocumentMalformed"));
    let other =
        sequence(&[&algorithm(SHA256_OID), &tlv(0xa1, &[&tlv(6, RSA_OID)[..], &[5, 0]].concat())]);
    check(|a| a[2] = kind(PROTECTION, &other), Err("DocumentMalformed"));
    let weak = sequence(&[
        &algorithm(SHA1_OID),
        &tlv(0xa1, &[&tlv(6, SHA256_RSA_OID)[..], &[5, 0]].concat()),
    ]);
    check(|a| a[2] = kind(PROTECTION, &weak), Err("AlgorithmNotAllowed"));
}

// ATTACKS 53, 55: whose certificate, and of which region.
#[test]
fn signers() {
    fn check(signer: &Region, region: &str, expected: Result<(), &str>) {
        let text = document("123456789012", region, INSTANCE, LAUNCHED);
        let found = verified(&Parts::of(signer, &text).text()).map(|_| ());
        assert_eq!(found, expected, "{region}");
    }
    check(&WORLD.west, "us-west-2", Ok(()));
    check(&WORLD.east, "us-east-1", Ok(()));
    check(&WORLD.east, "us-west-2", Err("RegionMismatch"));
    check(&WORLD.west, "us-east-1", Err("RegionMismatch"));
    check(&WORLD.west, "eu-west-1", Err("RegionMismatch"));
    check(&WORLD.west, "../us-west-2", Err("InvalidInstanceDocument"));
    check(&WORLD.west, "us-west-2\\u0000", Err("InvalidInstanceDocument"));
    check(&WORLD.stranger, "us-west-2", Err("SignatureDoesNotMatch"));
    let none = verify(&Parts::of(&WORLD.west, &good()).text(), &Certificates::default(), NOW);
    assert_eq!(none.map_err(|error| error.code()), Err("UnknownSigner"));
}

/// Documents that AWS signed, and that say too little or too much.
#[test]
fn documents() {
    fn check(text: &str, expected: Result<(), &str>) {
        let found = verified(&Parts::of(&WORLD.west, text).text()).map(|_| ());
        assert_eq!(found, expected, "{text}");
    }
    fn with(from: &str, to: &str) -> String {
        assert!(good().contains(from), "{from}");
        good().replace(from, to)
    }
    let wrong = Err("InvalidInstanceDocument");
    check(&good(), Ok(()));
    check(&with("\"i-078517ca8a70a1dde\"", "\"i-1234abcd\""), Ok(()));
    check(&with("\"kernelId\" : null", "\"kernelId\" : {\"new\":[1]}"), Ok(()));
    check(&with("123456789012", "12345678901"), wrong);
    check(&with("\"123456789012\"", "123456789012"), wrong);
    check(&with("\"123456789012\"", "null"), wrong);
    check(&with("accountId", "AccountId"), wrong);
    check(&with("\"i-078517ca8a70a1dde\"", "\"i-078517CA8A70A1DDE\""), wrong);
    check(&with("\"i-078517ca8a70a1dde\"", "\"i-078517ca8a70a1dd\""), wrong);
    check(&with("\"i-078517ca8a70a1dde\"", "\"../078517ca8a70a1dde\""), wrong);
    check(&with("\"i-078517ca8a70a1dde\"", "\"AIDA1234567890123\""), wrong);
    check(&with("2017-09-30", "2027-09-30"), wrong);
    check(&with(LAUNCHED, "2026-11-24"), wrong);
    check(&with(LAUNCHED, "2026-11-24T16:17:05Z"), Ok(()));
    check(&with(LAUNCHED, "2026-11-24T16:17:06Z"), wrong);
    check(&with("\"kernelId\"", "\"accountId\" : \"210987654321\", \"kernelId\""), wrong);
    check(&with("\"kernelId\"", "\"account\\u0049d\" : \"210987654321\", \"kernelId\""), wrong);
    check(&format!("{}{{}}", good()), wrong);
    check(&format!("[{}]", good()), wrong);
    check("null", wrong);
    check(&format!("{}{}", good(), " ".repeat(MAX_DOCUMENT_BYTES)), wrong);
}

#[test]
fn texts_that_are_no_envelope() {
    fn check(text: &str, expected: &str) {
        assert_eq!(verified(text).err(), Some(expected), "{}", &text[..text.len().min(40)]);
    }
    let good = Parts::of(&WORLD.west, &good()).text();
    check("", "DocumentMalformed");
    check("AAAA", "DocumentMalformed");
    check("MIAGCSqGSIb3DQEHAqCA", "DocumentMalformed");
    check("!", "DocumentMalformed");
    check(&good.replace('\n', " "), "DocumentMalformed");
    check(&format!("{good}="), "DocumentMalformed");
    check(&format!("-----BEGIN PKCS7-----\n{good}\n-----END PKCS7-----"), "DocumentMalformed");
    check(&good.replace('+', "-").replace('/', "_").replace('=', ""), "DocumentMalformed");
    check(&"A".repeat(MAX_ENVELOPE_BYTES + 1), "DocumentTooLarge");
    check(&"MIA".repeat(4000), "DocumentMalformed");
}

/// Every byte counts: one bit changed anywhere, and it is no longer AWS's word; and nothing panics on the way.
#[test]
fn no_bit_can_be_changed() {
    let der = Parts::of(&WORLD.west, &good()).der();
    let mut accepted = 0;
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut changed = der.clone();
            changed[at] ^= 1 << bit;
            accepted += usize::from(verified(&STANDARD.encode(changed)).is_ok());
        }
        assert!(verified(&STANDARD.encode(&der[..at])).is_err(), "cut off at {at}");
    }
    assert_eq!(accepted, 0);
}

/// Copied wrongly, a certificate would not hold its own signature.
#[test]
fn the_certificates_that_are_built_in() {
    let mut seen = std::collections::BTreeSet::new();
    for (region, pem) in RSA_2048 {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        let mut certificate = Reader::new(&der).nested(SEQUENCE).unwrap();
        let signed = certificate.whole(SEQUENCE).unwrap();
        certificate.value(SEQUENCE).unwrap();
        let signature = certificate.value(BIT_STRING).unwrap();
        certificate.end().unwrap();
        let mut body = Reader::new(signed).nested(SEQUENCE).unwrap();
        body.value(0xa0).unwrap();
        assert!(seen.insert(body.value(2).unwrap().to_vec()), "{region}: a serial number twice");
        for _ in 0..4 {
            body.value(SEQUENCE).unwrap();
        }
        let key = body.whole(SEQUENCE).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        assert!(key.verify(signed, &signature[1..]).is_ok(), "{region}");
    }
    let count = |partition: &str| Certificates::built_in(partition).unwrap().regions().count();
    assert_eq!(
        count("aws") + count("aws-cn") + count("aws-us-gov") + count("aws-eusc"),
        RSA_2048.len()
    );
    assert_eq!(count("aws-iso"), 0);
}

#[test]
fn certificates_that_are_none() {
    fn check(region: &str, pem: &str, expected: Result<(), &str>) {
        let found = Certificates::default().add(region, pem).map_err(|error| error.to_string());
        match expected {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(part) => assert!(found.unwrap_err().contains(part), "{region} {part}"),
        }
    }
    let pem = WORLD.west.pem();
    check("us-west-2", &pem, Ok(()));
    check("us-west-2", &format!("{pem}{}", WORLD.east.pem()), Ok(()));
    check("../x", &pem, Err("no name of a region"));
    check("", &pem, Err("no name of a region"));
    check("us-west-2", "", Err("holds no certificate"));
    check("us-west-2", &pem.replace("END", "ENDE"), Err("holds no certificate"));
    check("us-west-2", &pem.replace("\nM", "\n!"), Err("holds no certificate"));
    check("us-west-2", &pem.replace("\nMII", "\nMIA"), Err("no X.509"));
}
