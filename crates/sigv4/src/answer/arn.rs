//! The ARNs that GetCallerIdentity answers with, typed and total: what is none of the four is no ARN here.
//! Source: IAM User Guide, "IAM identifiers", and STS API Reference, GetCallerIdentity.

/// A caller's ARN. An assumed role's has no path, whatever path the role has (ATTACKS 45).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallerArn {
    text: String,
    partition: String,
    account: String,
    kind: CallerKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerKind {
    /// `arn:aws:iam::<account>:user/<path><name>`.
    User { path_and_name: String },
    /// `arn:aws:sts::<account>:assumed-role/<role name>/<session name>`.
    AssumedRole { role_name: String, session_name: String },
    /// `arn:aws:iam::<account>:root`.
    Root,
    /// `arn:aws:sts::<account>:federated-user/<name>`.
    FederatedUser { name: String },
}

impl CallerArn {
    pub fn parse(text: &str) -> Option<CallerArn> {
        let mut parts = text.splitn(6, ':');
        let (prefix, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let well_formed = prefix == "arn"
            && matches!(partition, "aws" | "aws-cn" | "aws-us-gov")
            && region.is_empty()
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit());
        if !well_formed {
            return None;
        }
        let kind = match service {
            "iam" => parse_iam(resource)?,
            "sts" => parse_sts(resource)?,
            _ => return None,
        };
        Some(CallerArn {
            text: text.to_owned(),
            partition: partition.to_owned(),
            account: account.to_owned(),
            kind,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn partition(&self) -> &str {
        &self.partition
    }

    pub fn account(&self) -> &str {
        &self.account
    }

    pub fn kind(&self) -> &CallerKind {
        &self.kind
    }
}

fn parse_iam(resource: &str) -> Option<CallerKind> {
    if resource == "root" {
        return Some(CallerKind::Root);
    }
    let path_and_name = resource.strip_prefix("user/")?;
    let (path, name) = path_and_name.rsplit_once('/').unwrap_or(("", path_and_name));
    // A path is of visible ASCII, at most 512 with its slashes.
    let path_ok = path.len() <= 510 && path.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
    (path_ok && is_name(name)).then(|| CallerKind::User { path_and_name: path_and_name.to_owned() })
}

fn parse_sts(resource: &str) -> Option<CallerKind> {
    let (kind, rest) = resource.split_once('/')?;
    match kind {
        "assumed-role" => {
            let (role_name, session_name) = rest.split_once('/')?;
            (is_name(role_name) && is_name(session_name)).then(|| CallerKind::AssumedRole {
                role_name: role_name.to_owned(),
                session_name: session_name.to_owned(),
            })
        }
        "federated-user" => {
            is_name(rest).then(|| CallerKind::FederatedUser { name: rest.to_owned() })
        }
        _ => None,
    }
}

/// `[\w+=,.@-]{1,64}`, which every name here follows.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<CallerKind>) {
        assert_eq!(CallerArn::parse(text).map(|arn| arn.kind().clone()), expected, "{text}");
    }

    fn user(path_and_name: &str) -> Option<CallerKind> {
        Some(CallerKind::User { path_and_name: path_and_name.to_owned() })
    }

    fn session(role_name: &str, session_name: &str) -> Option<CallerKind> {
        Some(CallerKind::AssumedRole {
            role_name: role_name.to_owned(),
            session_name: session_name.to_owned(),
        })
    }

    #[test]
    fn four_kinds_and_no_others() {
        check("arn:aws:iam::123456789012:user/Alice", user("Alice"));
        check("arn:aws:iam::123456789012:user/teams/a:b/Alice", user("teams/a:b/Alice"));
        check("arn:aws:sts::123456789012:assumed-role/Deploy/i-0abc", session("Deploy", "i-0abc"));
        check(
            "arn:aws-cn:sts::123456789012:assumed-role/Deploy/a@b.example",
            session("Deploy", "a@b.example"),
        );
        check("arn:aws-us-gov:iam::123456789012:root", Some(CallerKind::Root));
        let federated = CallerKind::FederatedUser { name: "Bob".to_owned() };
        check("arn:aws:sts::123456789012:federated-user/Bob", Some(federated));
        // ATTACKS 48, 49
        for text in [
            "",
            "arn",
            "arn:aws:iam::123456789012",
            "arn:aws:iam::123456789012:",
            "arn:aws:iam::123456789012:user",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:user/a/",
            "arn:aws:iam::123456789012:user/a b",
            "arn:aws:iam::123456789012:root/",
            "arn:aws:iam::123456789012:role/Deploy",
            "arn:aws:iam::123456789012:assumed-role/Deploy/x",
            "arn:aws:sts::123456789012:user/moto",
            "arn:aws:sts::123456789012:root",
            "arn:aws:sts::123456789012:assumed-role/x",
            "arn:aws:sts::123456789012:assumed-role//x",
            "arn:aws:sts::123456789012:assumed-role/x/",
            "arn:aws:sts::123456789012:assumed-role/teams/Deploy/x",
            "arn:aws:sts::123456789012:assumed-role/Deploy/a:b",
            "arn:aws:sts::123456789012:federated-user/a/b",
            "arn:aws:sts:us-east-1:123456789012:assumed-role/a/b",
            "arn:aws:sts::*:assumed-role/a/b",
            "arn:aws:sts::12345678901:assumed-role/a/b",
            "arn:aws:sts::1234567890123:assumed-role/a/b",
            "arn:aws:sts::12345678901２:assumed-role/a/b",
            "arn:aws-iso:iam::123456789012:root",
            "arn::iam::123456789012:root",
            "ARN:aws:iam::123456789012:root",
            "arn:aws:ec2::123456789012:instance/i-0abc",
            " arn:aws:iam::123456789012:root",
        ] {
            check(text, None);
        }
    }
}
