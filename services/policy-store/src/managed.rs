//! AWS's own managed policies, as AWS publishes them: data, under AWS's ARNs. Nobody here may change them.
//!
//! Source: <https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html>, one page a policy; `version_id` is the
//! version of that page.

/// One of AWS's managed policies.
pub struct AwsManagedPolicy {
    pub name: &'static str,
    pub version_id: &'static str,
    pub description: &'static str,
    pub document: &'static str,
}

/// Those that are built in.
pub const AWS_MANAGED_POLICIES: [AwsManagedPolicy; 4] = [
    AwsManagedPolicy {
        name: "AmazonS3FullAccess",
        version_id: "v2",
        description: "Full access to all buckets.",
        document: include_str!("../managed-policies/AmazonS3FullAccess.json"),
    },
    AwsManagedPolicy {
        name: "AmazonDynamoDBFullAccess",
        version_id: "v15",
        description: "Full access to Amazon DynamoDB.",
        document: include_str!("../managed-policies/AmazonDynamoDBFullAccess.json"),
    },
    AwsManagedPolicy {
        name: "SecretsManagerReadWrite",
        version_id: "v6",
        description: "Read and write access to AWS Secrets Manager; no IAM actions.",
        document: include_str!("../managed-policies/SecretsManagerReadWrite.json"),
    },
    AwsManagedPolicy {
        name: "AmazonEC2ContainerRegistryFullAccess",
        version_id: "v3",
        description: "Administrative access to Amazon ECR.",
        document: include_str!("../managed-policies/AmazonEC2ContainerRegistryFullAccess.json"),
    },
];

#[cfg(test)]
mod tests {
    use countersign_policy::findings::{DocumentKind, check};

    #[test]
    fn each_is_a_managed_policy_by_our_own_rules() {
        for policy in super::AWS_MANAGED_POLICIES {
            let checked = check(policy.document, DocumentKind::ManagedPolicy);
            assert!(checked.is_ok(), "{}: {:?}", policy.name, checked.err());
        }
    }
}
