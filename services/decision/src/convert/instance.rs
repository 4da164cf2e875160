//! An EC2 instance that an identity document has shown, checked once more.

use countersign_policy::arn::AccountId;
use countersign_proto::decision::v1::InstanceIdentity;

use super::question::{own_partition, shown};
use crate::error::Refusal;

/// An instance, as AWS names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Such as `aws`.
    pub partition: String,
    /// Whose instance it is.
    pub account: AccountId,
    /// Such as `eu-west-1`.
    pub region: String,
    /// `i-` and 8 or 17 hexadecimal digits.
    pub instance_id: String,
}

impl Instance {
    /// Parses what a gateway has found out.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(identity: InstanceIdentity) -> Result<Self, Refusal> {
        let InstanceIdentity { partition, account_id, region, instance_id } = identity;
        own_partition("instance.partition", &partition)?;
        let account = account_id
            .parse()
            .map_err(|error| Refusal::invalid("instance.account_id", format!("{error}")))?;
        if !is_region(&region) {
            let message = format!("`{}` is no region", shown(&region));
            return Err(Refusal::invalid("instance.region", message));
        }
        if !is_instance_id(&instance_id) {
            let message = format!("`{}` is no instance's id", shown(&instance_id));
            return Err(Refusal::invalid("instance.instance_id", message));
        }
        Ok(Self { partition, account, region, instance_id })
    }

    /// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html#amazonec2-resources-for-iam-policies>
    #[must_use]
    pub fn arn(&self) -> String {
        let Self { partition, account, region, instance_id } = self;
        format!("arn:{partition}:ec2:{region}:{account}:instance/{instance_id}")
    }
}

/// No colon and no wildcard: it becomes part of an ARN.
fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        fn check(change: impl FnOnce(&mut InstanceIdentity), expected: Result<&str, &str>) {
            let mut identity = InstanceIdentity {
                partition: "aws".into(),
                account_id: "444455556666".into(),
                region: "us-west-2".into(),
                instance_id: "i-078517ca8a70a1dde".into(),
            };
            change(&mut identity);
            match (Instance::parse(identity), expected) {
                (Ok(instance), expected) => assert_eq!(Ok(instance.arn().as_str()), expected),
                (Err(refusal), expected) => {
                    let said = refusal.to_string();
                    assert!(expected.is_err_and(|field| said.starts_with(field)), "{said}");
                }
            }
        }
        let arn = "arn:aws:ec2:us-west-2:444455556666:instance/i-078517ca8a70a1dde";
        check(|_| {}, Ok(arn));
        check(|i| i.partition = "aws-cn".into(), Err("instance.partition"));
        check(|i| i.partition.clear(), Err("instance.partition"));
        check(|i| i.account_id = "4444".into(), Err("instance.account_id"));
        check(|i| i.account_id = "*".into(), Err("instance.account_id"));
        check(|i| i.region.clear(), Err("instance.region"));
        check(|i| i.region = "us-west-2:123456789012".into(), Err("instance.region"));
        check(|i| i.region = "*".into(), Err("instance.region"));
        check(|i| i.instance_id = "i-078517ca8a70a1dd".into(), Err("instance.instance_id"));
        check(|i| i.instance_id = "i-*".into(), Err("instance.instance_id"));
        check(|i| i.instance_id = "AIDAEXAMPLE".into(), Err("instance.instance_id"));
    }
}
