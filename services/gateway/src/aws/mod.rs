//! The AWS face: the Query protocol on the HTTP port, as the aws CLI and every SDK speak it. Of STS it knows GetCallerIdentity; IAM
//! comes later.

mod derived;
pub mod router;
pub mod sigv4_auth;
pub mod sts;
