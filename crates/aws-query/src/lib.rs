//! AWS's Query protocol, as IAM and STS speak it: a form-encoded call in, XML out.
//!
//! [`Call::parse`] reads the call once and strictly; [`reply`] and [`Fault::render`] write the two shapes of an answer. This
//! crate is pure: no HTTP, no clock, no logging. It knows no action's parameters, and no lists: `Tags.member.1.Key` is a
//! parameter like any other, which [`Call::allow_only`] refuses by name until IAM's operations need it.

mod call;
mod fault;
mod xml;

pub use call::Call;
pub use fault::Fault;
pub use xml::{Element, reply};

/// The namespace of STS's XML.
pub const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// The namespace of IAM's XML.
pub const IAM_NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";
/// The one version of STS's API.
pub const STS_VERSION: &str = "2011-06-15";
/// The one version of IAM's API.
pub const IAM_VERSION: &str = "2010-05-08";
/// What every answer is sent as.
pub const CONTENT_TYPE: &str = "text/xml";
