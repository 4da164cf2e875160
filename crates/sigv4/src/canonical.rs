//! The canonical request and the string to sign, one function a stage, so that a failing test names the stage.
//! Source: AWS, "Create a signed AWS API request", steps 1 to 3. It knows nothing of which headers must be signed.

use aws_lc_rs::digest;

use crate::date::AmzDate;
use crate::encoding::{hex, percent_decode, percent_encode, push_encoded};

/// The one algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Lower-case hexadecimal SHA-256 of a body or of a text.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The canonical URI of every service but S3: normalised, then each segment encoded (a second time, if the wire's path
/// was encoded already).
pub fn canonical_uri(path: &str) -> String {
    encode_path(&normalize_path(path))
}

/// UriEncode for every byte but `/`. An empty path is `/`.
pub fn encode_path(path: &str) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let mut encoded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            encoded.push('/');
        }
        push_encoded(&mut encoded, segment.bytes());
    }
    encoded
}

/// RFC 3986 section 5.2.4 (dot segments), and runs of `/` made one.
pub fn normalize_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let open_ended = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let tail = if open_ended && !kept.is_empty() { "/" } else { "" };
    format!("/{}{tail}", kept.join("/"))
}

/// The query as decoded pairs, in the order received. `None` if any part is not strictly percent-encoded, or empty.
pub fn query_pairs(query: &str) -> Option<Vec<(String, String)>> {
    if query.is_empty() {
        return Some(Vec::new());
    }
    query.split('&').map(query_pair).collect()
}

fn query_pair(piece: &str) -> Option<(String, String)> {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    let name = percent_decode(name)?;
    (!name.is_empty()).then_some((name, percent_decode(value)?))
}

/// Each name and value encoded, then sorted by encoded name and encoded value.
pub fn canonical_query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let encode = |(name, value): (&str, &str)| (percent_encode(name), percent_encode(value));
    let mut encoded: Vec<(String, String)> = pairs.into_iter().map(encode).collect();
    encoded.sort();
    let pieces: Vec<String> =
        encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pieces.join("&")
}

/// The signed headers, lower-case, sorted, trimmed: `block` has a line each, `names` is the list joined by `;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalHeaders {
    pub block: String,
    pub names: String,
}

/// Sorts by name; values under one name stay in order and are joined by a comma.
pub fn canonical_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> CanonicalHeaders {
    let lower = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), trim_all(value));
    let mut sorted: Vec<(String, String)> = headers.into_iter().map(lower).collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    let mut canonical = CanonicalHeaders { block: String::new(), names: String::new() };
    let mut previous: Option<String> = None;
    for (name, value) in sorted {
        if previous.as_ref() == Some(&name) {
            canonical.block.pop();
            canonical.block.push_str(&format!(",{value}\n"));
            continue;
        }
        let separator = if previous.is_some() { ";" } else { "" };
        canonical.names.push_str(&format!("{separator}{name}"));
        canonical.block.push_str(&format!("{name}:{value}\n"));
        previous = Some(name);
    }
    canonical
}

/// SigV4's Trimall: no spaces at the ends, one space for a run of them.
pub fn trim_all(value: &str) -> String {
    let words: Vec<&str> =
        value.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Step 1: `uri` and `query` are canonical already; `payload_hash` is the body's SHA-256 in hexadecimal.
pub fn canonical_request(
    method: &str,
    uri: &str,
    query: &str,
    headers: &CanonicalHeaders,
    payload_hash: &str,
) -> String {
    format!("{method}\n{uri}\n{query}\n{}\n{}\n{payload_hash}", headers.block, headers.names)
}

/// Step 3: `scope` is `YYYYMMDD/region/service/aws4_request`.
pub fn string_to_sign(date: AmzDate, scope: &str, canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{date}\n{scope}\n{}", sha256_hex(canonical_request.as_bytes()))
}
