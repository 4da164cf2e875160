//! SHA-256 as keys and files hold it: 64 lower-case hexadecimal digits.

use aws_lc_rs::digest;
use countersign_sigv4::encoding::hex;

/// Of these bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}
