//! Policy documents: what is read can be read again, what is refused is refused somewhere in the text, and both engines agree.

use std::sync::Arc;

use countersign_evaluator::{
    Attached, Context, PolicySet, PolicyType, Principal, Request, Resource, compiled, reference,
};
use countersign_policy::findings::{DocumentKind, Finding, Severity, check};
use countersign_policy::parse::parse;

const KINDS: [DocumentKind; 5] = [
    DocumentKind::ManagedPolicy,
    DocumentKind::TrustPolicy,
    DocumentKind::ResourcePolicy,
    DocumentKind::ServiceControlPolicy,
    DocumentKind::ResourceControlPolicy,
];

pub(crate) const WORDS: &[&str] = &[
    "\"Version\":\"2012-10-17\"",
    "\"Statement\":",
    "\"Effect\":\"Allow\"",
    "\"Effect\":\"Deny\"",
    "\"NotAction\":",
    "\"Action\":\"*\"",
    "\"Resource\":[\"arn:aws:s3:::b/*\"]",
    "\"NotResource\":",
    "\"Principal\":\"*\"",
    "\"Principal\":{\"AWS\":\"111122223333\"}",
    "\"NotPrincipal\":",
    "\"Condition\":{\"StringEquals\":{\"aws:username\":\"x\"}}",
    "${aws:username}",
    "\\u0000",
    "\\ud800",
    "[[[[[[[[",
    "{\"",
    "},",
    "1e309",
];

/// Any text as a document of every kind.
///
/// # Panics
/// If a remark stands outside the text, a sound document cannot be read again, or the engines disagree.
pub fn document_parser(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for kind in KINDS {
        match check(&text, kind) {
            Ok(checked) => {
                let again = check(&checked.document.source(), kind).expect("its own source");
                assert_eq!(again.document.statements().len(), checked.document.statements().len());
                assert!(checked.warnings.iter().all(|warning| warning.severity != Severity::Error));
                checked.warnings.iter().for_each(|warning| lies_in(warning, &text));
            }
            Err(malformed) => {
                assert!(!malformed.findings.is_empty());
                malformed.findings.iter().for_each(|finding| lies_in(finding, &text));
            }
        }
    }
    if let Ok(document) = parse(&text) {
        let document = Arc::new(document);
        engines_agree(&attached(PolicyType::Identity, &document), false);
        engines_agree(&attached(PolicyType::Resource, &document), true);
    }
}

fn lies_in(finding: &Finding, text: &str) {
    let lines = text.split('\n').count();
    let line = finding.line as usize;
    assert!((1..=lines).contains(&line), "{finding}: the text has {lines} lines");
    let longest = text.chars().count() + 1;
    assert!((1..=longest).contains(&(finding.column as usize)), "{finding}");
}

fn attached(policy_type: PolicyType, document: &Arc<countersign_policy::Document>) -> Attached {
    Attached {
        policy_type,
        name: Arc::from("p"),
        version_id: None,
        document: Arc::clone(document),
        resolved: None,
    }
}

fn engines_agree(attached: &Attached, is_resource: bool) {
    let mut policies = PolicySet::default();
    if is_resource {
        policies.resource = Some(attached.clone());
    } else {
        policies.identity = vec![attached.clone()];
    }
    for (action, resource) in [("s3:GetObject", "arn:aws:s3:::b/alice"), ("sts:AssumeRole", "*")] {
        let request = request(action, resource, Context::new());
        let expected = reference::decide(&request, &policies);
        let found = compiled::decide(&request, &policies);
        assert_eq!((found.decision, found.reason), (expected.decision, expected.reason));
    }
}

/// The user alice asks, in account 111122223333.
pub(crate) fn request(action: &str, resource: &str, context: Context) -> Request {
    Request {
        principal: Principal::User {
            arn: "arn:aws:iam::111122223333:user/alice".parse().expect("a user's ARN"),
            unique_id: Some("AIDAALICE".to_owned()),
        },
        action: action.parse().expect("an action"),
        resource: Resource {
            arn: resource.parse().expect("a resource"),
            account: "111122223333".parse().ok(),
        },
        context,
    }
}
