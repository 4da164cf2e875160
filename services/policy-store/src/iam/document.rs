//! Documents on their way in: parsed, validated, measured. Nothing is parsed on the way out.

use countersign_policy::findings::{Checked, DocumentKind, Finding, check};

use super::quota;
use crate::error::Error;

/// What is kept of a document, and what a reviewer would say of it.
#[derive(Debug)]
pub struct Accepted {
    /// Parsed.
    pub checked: Checked,
    /// What is not wrong, but worth a look.
    pub findings: Vec<Finding>,
}

/// Takes a document in.
pub fn accept(field: &'static str, text: &str, kind: DocumentKind) -> Result<Accepted, Error> {
    if text.is_empty() {
        return Err(Error::validation(field, "is required"));
    }
    if text.len() > quota::DOCUMENT_BYTES {
        return Err(Error::LimitExceeded {
            what: format!("{field}: bytes of a document, white space included"),
            limit: quota::DOCUMENT_BYTES,
        });
    }
    let checked = check(text, kind)
        .map_err(|malformed| Error::MalformedPolicyDocument { field, malformed })?;
    let findings = checked.warnings.clone();
    Ok(Accepted { checked, findings })
}

/// The characters that IAM counts: all but white space.
pub fn counted(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}
