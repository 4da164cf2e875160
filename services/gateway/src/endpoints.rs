//! Where a proof may be sent: AWS's own STS hosts of one partition, Countersign's own, and those that the operator lists. Each is
//! tied to a realm and a region, and, where it is not AWS's own, to the accounts that it may speak for.
//!
//! It compares origins byte by byte; what a URL is, the proof's parser has settled before.

use std::{collections::BTreeSet, fmt, str::FromStr};

use countersign_policy::arn::AccountId;
use countersign_sigv4::{
    AnswerFormat, UniqueIds, Url,
    fields::is_region,
    sts_hosts::{self, StsHost},
    url::Scheme,
};
use countersign_token::Realm;

/// An STS endpoint that the operator configured: `<region>=<origin>/[;accounts=<12 digits>,…][;format=xml|json]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsEndpoint {
    region: String,
    origin: String,
    /// AWS's own row, when the host is one of AWS's.
    aws: Option<StsHost>,
    accounts: BTreeSet<AccountId>,
    format: AnswerFormat,
}

/// Why a text is no STS endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StsEndpointError {
    /// No region, or no URL.
    #[error(
        "`{0}` is no STS endpoint; write `<region>=<url>;accounts=<12 digits>[,…]`, such as `us-east-1=http://127.0.0.1:5000/;accounts=123456789012`"
    )]
    Form(String),
    /// The region is none.
    #[error("`{0}` is no region; a region looks like `us-east-1`")]
    Region(String),
    /// The URL is more or less than an origin and a slash.
    #[error(
        "`{0}` must be an http or https origin with a slash at the end, such as `http://127.0.0.1:5000/`, and nothing more"
    )]
    Url(String),
    /// AWS's own host in the clear.
    #[error("`{0}` is AWS's own host, which is spoken to over https alone")]
    Cleartext(String),
    /// AWS's own host with another region than its own.
    #[error("`{host}` is the STS of region `{expected}`, not of `{found}`")]
    HostRegion {
        /// The host.
        host: String,
        /// Its region.
        expected: String,
        /// What was written.
        found: String,
    },
    /// An option that there is not.
    #[error("`{0}` is no option of an STS endpoint; there are `accounts=` and `format=`")]
    Option(String),
    /// An option twice.
    #[error("`{0}=` is there twice")]
    Twice(String),
    /// A number that is no account.
    #[error("`{0}` is no account; an account is 12 digits")]
    Account(String),
    /// A format that there is not.
    #[error("`{0}` is no format; there are `xml` and `json`")]
    Format(String),
    /// A private endpoint that speaks for any account.
    #[error(
        "`{0}` needs `;accounts=<12 digits>[,…]`: a private endpoint speaks for listed accounts alone"
    )]
    NoAccounts(String),
}

impl FromStr for StsEndpoint {
    type Err = StsEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(';');
        let place = parts.next().unwrap_or_default();
        let (region, url) =
            place.split_once('=').ok_or_else(|| StsEndpointError::Form(text.to_owned()))?;
        if !is_region(region) {
            return Err(StsEndpointError::Region(region.to_owned()));
        }
        let (origin, aws) = parse_url(url, region)?;
        let mut accounts = None;
        let mut format = None;
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| StsEndpointError::Option(part.to_owned()))?;
            let repeated = match name {
                "accounts" => accounts.replace(parse_accounts(value)?).is_some(),
                "format" => format.replace(parse_format(value)?).is_some(),
                other => return Err(StsEndpointError::Option(other.to_owned())),
            };
            if repeated {
                return Err(StsEndpointError::Twice(name.to_owned()));
            }
        }
        let accounts = accounts.unwrap_or_default();
        if accounts.is_empty() && aws.is_none() {
            return Err(StsEndpointError::NoAccounts(url.to_owned()));
        }
        let format = format.unwrap_or(AnswerFormat::Xml);
        Ok(Self { region: region.to_owned(), origin, aws, accounts, format })
    }
}

fn parse_url(text: &str, region: &str) -> Result<(String, Option<StsHost>), StsEndpointError> {
    let malformed = || StsEndpointError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| malformed())?;
    if url.path() != "/" || url.query().is_some() {
        return Err(malformed());
    }
    let aws = sts_hosts::lookup(url.host()).filter(|_| url.port().is_none());
    if let Some(row) = aws {
        match url.scheme() {
            Scheme::Http => return Err(StsEndpointError::Cleartext(text.to_owned())),
            Scheme::Https => {}
        }
        if row.region != region {
            return Err(StsEndpointError::HostRegion {
                host: row.host.to_owned(),
                expected: row.region.to_owned(),
                found: region.to_owned(),
            });
        }
    }
    Ok((url.origin(), aws))
}

fn parse_accounts(text: &str) -> Result<BTreeSet<AccountId>, StsEndpointError> {
    text.split(',')
        .map(|account| account.parse().map_err(|_| StsEndpointError::Account(account.to_owned())))
        .collect()
}

fn parse_format(text: &str) -> Result<AnswerFormat, StsEndpointError> {
    match text {
        "xml" => Ok(AnswerFormat::Xml),
        "json" => Ok(AnswerFormat::Json),
        other => Err(StsEndpointError::Format(other.to_owned())),
    }
}

/// Whose network an endpoint is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// AWS's hosts, as the table has them: their names must not lead to a private address.
    Public,
    /// Where the operator said, which may be anywhere.
    Operator,
}

/// An endpoint that a proof may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `scheme://host[:port]`: ours, never the client's text.
    pub origin: String,
    /// Who vouches for what it answers.
    pub realm: Realm,
    /// The partition that its answers are of.
    pub partition: String,
    /// The region of its credential scope.
    pub region: String,
    /// The accounts it may speak for; `None` means every one.
    pub accounts: Option<BTreeSet<AccountId>>,
    /// What its answer is asked for as.
    pub format: AnswerFormat,
    /// Where it may be.
    pub network: Network,
    /// Who makes the unique ids in its answers.
    pub unique_ids: UniqueIds,
}

/// Why endpoints contradict each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointsError {
    /// Listed twice.
    #[error("the STS endpoint `{0}/` is listed twice")]
    Twice(String),
    /// Countersign's own, as if AWS vouched for it.
    #[error("the STS endpoint `{0}/` is Countersign's own, which is always there")]
    Own(String),
    /// AWS's host of another partition.
    #[error(
        "the STS endpoint `{origin}/` is of partition `{found}`; this gateway speaks to `{expected}` alone"
    )]
    Partition {
        /// The endpoint.
        origin: String,
        /// Its partition.
        found: String,
        /// Ours.
        expected: String,
    },
}

/// Why a proof's URL leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// Not on the list.
    #[error("the proof is for `{origin}`, which is no STS endpoint of this gateway")]
    HostNotAllowed {
        /// The origin.
        origin: String,
    },
    /// AWS, but another partition.
    #[error("the proof is for partition `{found}`; this gateway accepts `{expected}` alone")]
    PartitionNotAllowed {
        /// The host's.
        found: String,
        /// Ours.
        expected: String,
    },
    /// The credential scope is of another region than the host.
    #[error("the proof is signed for region `{found}`, but `{origin}` takes `{expected}`")]
    RegionMismatch {
        /// The origin.
        origin: String,
        /// Its region.
        expected: String,
        /// The scope's.
        found: String,
    },
}

impl NoEndpoint {
    /// A stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostNotAllowed { .. } => "HostNotAllowed",
            Self::PartitionNotAllowed { .. } => "PartitionNotAllowed",
            Self::RegionMismatch { .. } => "RegionMismatch",
        }
    }
}

/// All endpoints of a gateway.
#[derive(Clone)]
pub struct AllowList {
    partition: String,
    /// Countersign's own, and the operator's.
    listed: Vec<Endpoint>,
}

impl AllowList {
    /// The list of a gateway whose own STS answers at `issuer`.
    ///
    /// # Errors
    /// See [`EndpointsError`].
    pub fn new(
        issuer: &str,
        region: &str,
        partition: &str,
        operators: &[StsEndpoint],
    ) -> Result<Self, EndpointsError> {
        let mut listed = vec![Endpoint {
            origin: issuer.to_owned(),
            realm: Realm::Countersign,
            partition: partition.to_owned(),
            region: region.to_owned(),
            accounts: None,
            format: AnswerFormat::Xml,
            network: Network::Operator,
            unique_ids: UniqueIds::Aws,
        }];
        for operator in operators {
            let origin = operator.origin.clone();
            if origin == issuer {
                return Err(EndpointsError::Own(origin));
            }
            if listed.iter().any(|endpoint| endpoint.origin == origin) {
                return Err(EndpointsError::Twice(origin));
            }
            if let Some(row) = operator.aws
                && row.partition != partition
            {
                return Err(EndpointsError::Partition {
                    origin,
                    found: row.partition.to_owned(),
                    expected: partition.to_owned(),
                });
            }
            // Without accounts it is AWS's own host (the parser saw to it), which speaks for all of AWS.
            let accounts = (!operator.accounts.is_empty()).then(|| operator.accounts.clone());
            listed.push(Endpoint {
                origin,
                realm: Realm::Aws,
                partition: partition.to_owned(),
                region: operator.region.clone(),
                accounts,
                format: operator.format,
                network: Network::Operator,
                unique_ids: if operator.aws.is_some() {
                    UniqueIds::Aws
                } else {
                    UniqueIds::Private
                },
            });
        }
        Ok(Self { partition: partition.to_owned(), listed })
    }

    /// The endpoint at `origin` for a proof whose credential scope is of `region`.
    ///
    /// # Errors
    /// See [`NoEndpoint`].
    pub fn lookup(&self, origin: &str, region: &str) -> Result<Endpoint, NoEndpoint> {
        let endpoint = match self.listed.iter().find(|endpoint| endpoint.origin == origin) {
            Some(endpoint) => endpoint.clone(),
            None => self.aws(origin)?,
        };
        if endpoint.region != region {
            return Err(NoEndpoint::RegionMismatch {
                origin: endpoint.origin,
                expected: endpoint.region,
                found: region.to_owned(),
            });
        }
        Ok(endpoint)
    }

    fn aws(&self, origin: &str) -> Result<Endpoint, NoEndpoint> {
        let host = origin.strip_prefix("https://");
        let row = host.and_then(sts_hosts::lookup);
        let row = row.ok_or_else(|| NoEndpoint::HostNotAllowed { origin: origin.to_owned() })?;
        if row.partition != self.partition {
            return Err(NoEndpoint::PartitionNotAllowed {
                found: row.partition.to_owned(),
                expected: self.partition.clone(),
            });
        }
        Ok(Endpoint {
            origin: format!("https://{}", row.host),
            realm: Realm::Aws,
            partition: row.partition.to_owned(),
            region: row.region.to_owned(),
            accounts: None,
            format: AnswerFormat::Xml,
            network: Network::Public,
            unique_ids: UniqueIds::Aws,
        })
    }
}

impl fmt::Debug for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.listed.iter().map(|endpoint| &endpoint.origin)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "http://127.0.0.1:7400";

    #[test]
    fn endpoints_parse() {
        let check = |text: &str, expected: Result<&str, StsEndpointError>| {
            let found = text.parse::<StsEndpoint>().map(|endpoint| endpoint.origin);
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        };
        use StsEndpointError as E;
        check(
            "us-east-1=http://127.0.0.1:5000/;accounts=123456789012",
            Ok("http://127.0.0.1:5000"),
        );
        check(
            "us-east-1=https://sts.example.com/;accounts=123456789012,210987654321;format=json",
            Ok("https://sts.example.com"),
        );
        check(
            "us-east-1=http://127.0.0.1:5000/;format=xml;accounts=123456789012",
            Ok("http://127.0.0.1:5000"),
        );
        check(
            "eu-west-1=https://sts.eu-west-1.amazonaws.com/",
            Ok("https://sts.eu-west-1.amazonaws.com"),
        );
        check(
            "eu-west-1=https://sts.eu-west-1.amazonaws.com/;format=json",
            Ok("https://sts.eu-west-1.amazonaws.com"),
        );
        check("", Err(E::Form(String::new())));
        check("http://127.0.0.1:5000/", Err(E::Form("http://127.0.0.1:5000/".into())));
        check("moon=http://127.0.0.1:5000/;accounts=123456789012", Err(E::Region("moon".into())));
        for url in [
            "127.0.0.1:5000/",
            "http://127.0.0.1:5000",
            "http://127.0.0.1:5000/x",
            "http://127.0.0.1:5000/?x=y",
            "http://u@127.0.0.1:5000/",
            "http://127.0.0.1:5000/#f",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "",
        ] {
            check(&format!("us-east-1={url};accounts=123456789012"), Err(E::Url(url.into())));
        }
        check(
            "us-east-1=http://127.0.0.1:5000/",
            Err(E::NoAccounts("http://127.0.0.1:5000/".into())),
        );
        check("us-east-1=http://127.0.0.1:5000/;accounts=", Err(E::Account(String::new())));
        check(
            "us-east-1=http://127.0.0.1:5000/;accounts=12345678901",
            Err(E::Account("12345678901".into())),
        );
        check(
            "us-east-1=http://127.0.0.1:5000/;accounts=123456789012,*",
            Err(E::Account("*".into())),
        );
        check(
            "us-east-1=http://127.0.0.1:5000/;account=123456789012",
            Err(E::Option("account".into())),
        );
        check(
            "us-east-1=http://127.0.0.1:5000/;accounts=123456789012;",
            Err(E::Option(String::new())),
        );
        check(
            "us-east-1=http://127.0.0.1:5000/;accounts=123456789012;accounts=123456789012",
            Err(E::Twice("accounts".into())),
        );
        check(
            "us-east-1=http://127.0.0.1:5000/;accounts=123456789012;format=yaml",
            Err(E::Format("yaml".into())),
        );
        check(
            "us-east-1=http://sts.us-east-1.amazonaws.com/",
            Err(E::Cleartext("http://sts.us-east-1.amazonaws.com/".into())),
        );
        check(
            "us-east-1=https://sts.eu-west-1.amazonaws.com/",
            Err(E::HostRegion {
                host: "sts.eu-west-1.amazonaws.com".into(),
                expected: "eu-west-1".into(),
                found: "us-east-1".into(),
            }),
        );
        // A port makes it somebody else's.
        check(
            "us-east-1=https://sts.us-east-1.amazonaws.com:8443/",
            Err(E::NoAccounts("https://sts.us-east-1.amazonaws.com:8443/".into())),
        );
    }

    fn list(operators: &[&str]) -> Result<AllowList, EndpointsError> {
        let operators: Vec<_> = operators.iter().map(|text| text.parse().unwrap()).collect();
        AllowList::new(OWN, "us-east-1", "aws", &operators)
    }

    // ATTACKS 1, 2, 4, 5, 8, 10, 11.
    #[test]
    fn proofs_go_to_listed_endpoints_alone() {
        let list = list(&["us-west-2=http://127.0.0.1:5000/;accounts=123456789012"]).unwrap();
        let check = |origin: &str, region: &str, expected: Result<(Realm, Network), &str>| {
            let found = list.lookup(origin, region);
            let found = found.map(|e| (e.realm, e.network)).map_err(|e| e.code());
            assert_eq!(found, expected, "{origin} {region}");
        };
        check(OWN, "us-east-1", Ok((Realm::Countersign, Network::Operator)));
        check("http://127.0.0.1:5000", "us-west-2", Ok((Realm::Aws, Network::Operator)));
        check("https://sts.amazonaws.com", "us-east-1", Ok((Realm::Aws, Network::Public)));
        check(
            "https://sts.eu-west-1.amazonaws.com",
            "eu-west-1",
            Ok((Realm::Aws, Network::Public)),
        );
        for other in [
            "https://127.0.0.1:7400",
            "http://127.0.0.1:7401",
            "http://127.0.0.1",
            "http://localhost:5000",
            "http://sts.amazonaws.com",
            "https://sts.amazonaws.com:8443",
            "https://sts.amazonaws.com.",
            "https://STS.amazonaws.com",
            "https://sts.amazonaws.com.evil.com",
            "https://xsts.amazonaws.com",
            "https://attacker.example",
            "https://169.254.169.254",
            "",
        ] {
            check(other, "us-east-1", Err("HostNotAllowed"));
        }
        check("https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1", Err("PartitionNotAllowed"));
        check(
            "https://sts.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
            Err("PartitionNotAllowed"),
        );
        check("https://sts.eu-west-1.amazonaws.com", "us-east-1", Err("RegionMismatch"));
        check(OWN, "us-west-2", Err("RegionMismatch"));
        check("http://127.0.0.1:5000", "us-east-1", Err("RegionMismatch"));
    }

    #[test]
    fn contradictions() {
        let check = |operators: &[&str], expected: Option<EndpointsError>| {
            assert_eq!(list(operators).err(), expected, "{operators:?}");
        };
        let private = "us-east-1=http://127.0.0.1:5000/;accounts=123456789012";
        check(&[private], None);
        check(&[private, private], Some(EndpointsError::Twice("http://127.0.0.1:5000".into())));
        check(
            &["us-east-1=http://127.0.0.1:7400/;accounts=123456789012"],
            Some(EndpointsError::Own(OWN.into())),
        );
        check(
            &["cn-north-1=https://sts.cn-north-1.amazonaws.com.cn/"],
            Some(EndpointsError::Partition {
                origin: "https://sts.cn-north-1.amazonaws.com.cn".into(),
                found: "aws-cn".into(),
                expected: "aws".into(),
            }),
        );
    }

    #[test]
    fn a_private_endpoint_speaks_for_listed_accounts() {
        let list =
            list(&["us-east-1=http://127.0.0.1:5000/;accounts=123456789012;format=json"]).unwrap();
        let endpoint = list.lookup("http://127.0.0.1:5000", "us-east-1").unwrap();
        let accounts: Vec<_> = endpoint.accounts.iter().flatten().map(AccountId::as_str).collect();
        assert_eq!((accounts, endpoint.format), (vec!["123456789012"], AnswerFormat::Json));
    }
}
