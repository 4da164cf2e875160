//! The gateway as it runs, over real sockets and real signatures; around it a policy store and a decision service that do as they are
//! told, and an STS that answers well or badly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on ends here"
)]

mod altered;
mod attacks;
mod audited;
mod aws_face;
mod bound;
mod chained;
mod challenged;
mod client;
mod decision;
mod door;
mod ec2;
mod failures;
#[path = "../../../../crates/token/src/instance/forged.rs"]
mod forged;
mod granted;
mod http_token;
mod idp;
mod instance;
mod life;
mod limits;
mod narrowed;
mod proofs;
mod proxied;
mod rates;
mod refused;
mod rotated;
mod rpc;
mod store;
mod sts;
mod system;
mod web_identity;
