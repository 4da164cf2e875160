//! AWS's RSA-2048 certificates, one file a region, as AWS publishes them. A test holds each to its own signature, so that none was
//! copied wrongly.
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/regions-certs.html>

/// Regions, and the PEM of each.
pub(super) const RSA_2048: &[(&str, &str)] = &[
    ("us-west-1", include_str!("published/us-west-1.pem")),
    ("us-west-2", include_str!("published/us-west-2.pem")),
];
