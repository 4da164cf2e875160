//! Where AWS's STS answers: host, partition and the one region whose credential scope it takes.
//!
//! The table was made from the region lists of AWS's endpoint data (`endpoints.json`, as botocore 1.44.5 carries it): every
//! region of the partitions `aws`, `aws-cn` and `aws-us-gov` that has an `sts` endpoint, as `sts.<region>.<dns suffix>`,
//! and the global `sts.amazonaws.com`, whose scope is `us-east-1`. Left out: FIPS hosts, dual-stack hosts, and the
//! isolated and sovereign partitions. A new region is a new row here; until then its host is refused.

/// A row: AWS's own STS endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StsHost {
    pub host: &'static str,
    pub partition: &'static str,
    pub region: &'static str,
}

/// Whole-string equality, byte for byte: no suffix, no case folding, no trailing dot (ATTACKS 1, 2).
pub fn lookup(host: &str) -> Option<StsHost> {
    STS_HOSTS.iter().find(|row| row.host == host).copied()
}

const fn row(partition: &'static str, region: &'static str, host: &'static str) -> StsHost {
    StsHost { host, partition, region }
}

/// All rows.
pub const STS_HOSTS: &[StsHost] = &[
    row("aws", "us-east-1", "sts.amazonaws.com"),
    row("aws", "af-south-1", "sts.af-south-1.amazonaws.com"),
    row("aws", "ap-east-1", "sts.ap-east-1.amazonaws.com"),
    row("aws", "ap-east-2", "sts.ap-east-2.amazonaws.com"),
    row("aws", "ap-northeast-1", "sts.ap-northeast-1.amazonaws.com"),
    row("aws", "ap-northeast-2", "sts.ap-northeast-2.amazonaws.com"),
    row("aws", "ap-northeast-3", "sts.ap-northeast-3.amazonaws.com"),
    row("aws", "ap-south-1", "sts.ap-south-1.amazonaws.com"),
    row("aws", "ap-south-2", "sts.ap-south-2.amazonaws.com"),
    row("aws", "ap-southeast-1", "sts.ap-southeast-1.amazonaws.com"),
    row("aws", "ap-southeast-2", "sts.ap-southeast-2.amazonaws.com"),
    row("aws", "ap-southeast-3", "sts.ap-southeast-3.amazonaws.com"),
    row("aws", "ap-southeast-4", "sts.ap-southeast-4.amazonaws.com"),
    row("aws", "ap-southeast-5", "sts.ap-southeast-5.amazonaws.com"),
    row("aws", "ap-southeast-6", "sts.ap-southeast-6.amazonaws.com"),
    row("aws", "ap-southeast-7", "sts.ap-southeast-7.amazonaws.com"),
    row("aws", "ca-central-1", "sts.ca-central-1.amazonaws.com"),
    row("aws", "ca-west-1", "sts.ca-west-1.amazonaws.com"),
    row("aws", "eu-central-1", "sts.eu-central-1.amazonaws.com"),
    row("aws", "eu-central-2", "sts.eu-central-2.amazonaws.com"),
    row("aws", "eu-north-1", "sts.eu-north-1.amazonaws.com"),
    row("aws", "eu-south-1", "sts.eu-south-1.amazonaws.com"),
    row("aws", "eu-south-2", "sts.eu-south-2.amazonaws.com"),
    row("aws", "eu-west-1", "sts.eu-west-1.amazonaws.com"),
    row("aws", "eu-west-2", "sts.eu-west-2.amazonaws.com"),
    row("aws", "eu-west-3", "sts.eu-west-3.amazonaws.com"),
    row("aws", "il-central-1", "sts.il-central-1.amazonaws.com"),
    row("aws", "me-central-1", "sts.me-central-1.amazonaws.com"),
    row("aws", "me-south-1", "sts.me-south-1.amazonaws.com"),
    row("aws", "mx-central-1", "sts.mx-central-1.amazonaws.com"),
    row("aws", "sa-east-1", "sts.sa-east-1.amazonaws.com"),
    row("aws", "us-east-1", "sts.us-east-1.amazonaws.com"),
    row("aws", "us-east-2", "sts.us-east-2.amazonaws.com"),
    row("aws", "us-west-1", "sts.us-west-1.amazonaws.com"),
    row("aws", "us-west-2", "sts.us-west-2.amazonaws.com"),
    row("aws-cn", "cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
    row("aws-cn", "cn-northwest-1", "sts.cn-northwest-1.amazonaws.com.cn"),
    row("aws-us-gov", "us-gov-east-1", "sts.us-gov-east-1.amazonaws.com"),
    row("aws-us-gov", "us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::is_region;
    use crate::url::Url;

    fn check(host: &str, expected: Option<(&str, &str)>) {
        assert_eq!(lookup(host).map(|row| (row.partition, row.region)), expected, "{host}");
    }

    #[test]
    fn only_awss_own_hosts_are_found() {
        check("sts.amazonaws.com", Some(("aws", "us-east-1")));
        check("sts.us-east-1.amazonaws.com", Some(("aws", "us-east-1")));
        check("sts.eu-west-1.amazonaws.com", Some(("aws", "eu-west-1")));
        check("sts.cn-north-1.amazonaws.com.cn", Some(("aws-cn", "cn-north-1")));
        check("sts.us-gov-west-1.amazonaws.com", Some(("aws-us-gov", "us-gov-west-1")));
        // ATTACKS 1, 2, 8
        for host in [
            "attacker.example",
            "sts.amazonaws.com.evil.com",
            "sts.us-east-1.amazonaws.com.",
            "xsts.amazonaws.com",
            "STS.amazonaws.com",
            "sts.amazonaws.com:443",
            "xn--sts-0ia.amazonaws.com",
            "sts.xx-east-1.amazonaws.com",
            "sts.cn-north-1.amazonaws.com",
            "s3.amazonaws.com",
            "amazonaws.com",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "0x7f.1",
            "",
        ] {
            check(host, None);
        }
    }

    #[test]
    fn every_row_is_well_formed_and_alone() {
        for row in STS_HOSTS {
            assert!(is_region(row.region), "{row:?}");
            assert_eq!(Url::parse(&format!("https://{}/", row.host)).unwrap().host(), row.host);
            assert_eq!(
                STS_HOSTS.iter().filter(|other| other.host == row.host).count(),
                1,
                "{row:?}"
            );
            assert!(
                row.host == "sts.amazonaws.com"
                    || row.host.starts_with(&format!("sts.{}.", row.region)),
                "{row:?}"
            );
        }
        assert_eq!(STS_HOSTS.len(), 1 + 34 + 2 + 2);
    }
}
