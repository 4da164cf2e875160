//! The five use cases as data: what an AWS user would write for each, word for word.

use super::ACCOUNT;

/// One use case.
pub struct UseCase {
    /// For the heading.
    pub title: &'static str,
    /// The service principal that the trust policy names.
    pub service: &'static str,
    /// The role's name.
    pub role: &'static str,
    /// The permission policy.
    pub policy: Policy,
    /// The stand-in for the workload: a user with an access key.
    pub workload: &'static str,
    /// What the workload calls its session.
    pub session: &'static str,
    /// What the role may do.
    pub allowed: &'static [Call],
    /// What it may not.
    pub denied: Call,
}

/// A permission policy.
pub enum Policy {
    /// One of AWS's managed policies, by name.
    Aws(&'static str),
    /// The account's own.
    Custom {
        /// Its name.
        name: &'static str,
        /// Its document.
        document: &'static str,
    },
}

impl Policy {
    /// Its ARN.
    pub fn arn(&self) -> String {
        match self {
            Self::Aws(name) => format!("arn:aws:iam::aws:policy/{name}"),
            Self::Custom { name, .. } => format!("arn:aws:iam::{ACCOUNT}:policy/{name}"),
        }
    }
}

/// A call that the workload makes, as its service asks about it.
#[derive(Clone, Copy)]
pub struct Call {
    /// `service:Action`.
    pub action: &'static str,
    /// What it acts on.
    pub resource: &'static str,
}

const fn call(action: &'static str, resource: &'static str) -> Call {
    Call { action, resource }
}

impl UseCase {
    /// The trust policy of AWS's own documentation.
    pub fn trust_policy(&self) -> String {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"{}"}},"Action":"sts:AssumeRole"}}]}}"#,
            self.service
        )
    }

    /// The role's ARN.
    pub fn role_arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{}", self.role)
    }
}

/// The use cases, in order.
pub const USE_CASES: [UseCase; 5] = [
    UseCase {
        title: "EC2 instance reads S3 buckets",
        service: "ec2.amazonaws.com",
        role: "EC2S3AccessRole",
        policy: Policy::Aws("AmazonS3FullAccess"),
        workload: "ec2-instance",
        session: "i-0123456789abcdef0",
        allowed: &[
            call("s3:ListAllMyBuckets", "*"),
            call("s3:GetObject", "arn:aws:s3:::my-bucket/logs/today.log"),
        ],
        denied: call("dynamodb:GetItem", "arn:aws:dynamodb:us-east-1:123456789012:table/MyTable"),
    },
    UseCase {
        title: "Lambda function reads DynamoDB",
        service: "lambda.amazonaws.com",
        role: "LambdaDynamoDBAccessRole",
        policy: Policy::Aws("AmazonDynamoDBFullAccess"),
        workload: "lambda-function",
        session: "my-function",
        allowed: &[call(
            "dynamodb:GetItem",
            "arn:aws:dynamodb:us-east-1:123456789012:table/MyTable",
        )],
        denied: call("s3:GetObject", "arn:aws:s3:::my-bucket/logs/today.log"),
    },
    UseCase {
        title: "ECS task reads Secrets Manager",
        service: "ecs-tasks.amazonaws.com",
        role: "ECSSecretsManagerRole",
        policy: Policy::Aws("SecretsManagerReadWrite"),
        workload: "ecs-task",
        session: "task-1",
        allowed: &[call(
            "secretsmanager:GetSecretValue",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:MySecret-AbCdEf",
        )],
        denied: call("iam:CreateUser", "arn:aws:iam::123456789012:user/mallory"),
    },
    UseCase {
        title: "CodeBuild pushes and pulls ECR images",
        service: "codebuild.amazonaws.com",
        role: "CodeBuildECRRole",
        policy: Policy::Aws("AmazonEC2ContainerRegistryFullAccess"),
        workload: "codebuild-project",
        session: "build-1",
        allowed: &[
            call("ecr:GetAuthorizationToken", "*"),
            call("ecr:PutImage", "arn:aws:ecr:us-east-1:123456789012:repository/my-image"),
        ],
        denied: call("s3:PutObject", "arn:aws:s3:::my-bucket/artifact.zip"),
    },
    UseCase {
        title: "CloudFormation acts with a service role",
        service: "cloudformation.amazonaws.com",
        role: "CloudFormationRole",
        policy: Policy::Custom {
            name: "CloudFormationS3EC2",
            document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","ec2:*"],"Resource":"*"}]}"#,
        },
        workload: "cloudformation-stack",
        session: "my-stack",
        allowed: &[
            call("s3:CreateBucket", "arn:aws:s3:::my-new-bucket"),
            call("ec2:RunInstances", "arn:aws:ec2:us-east-1:123456789012:instance/*"),
        ],
        denied: call("iam:CreateRole", "arn:aws:iam::123456789012:role/Another"),
    },
];

/// Who may call BindServicePrincipal, but holds no iam:PassRole.
pub const DEPLOYER_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"countersign:BindServicePrincipal","Resource":"*"}]}"#;

/// What is missing: the right to hand this one role to this one service.
pub const PASS_ROLE_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::123456789012:role/CloudFormationRole","Condition":{"StringEquals":{"iam:PassedToService":"cloudformation.amazonaws.com"}}}]}"#;

/// Trusts one user.
pub fn trusting_user(user: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:user/{user}"}},"Action":"sts:AssumeRole"}}]}}"#
    )
}

#[cfg(test)]
mod tests {
    use countersign_policy::findings::{DocumentKind, check};

    use super::*;

    #[test]
    fn every_document_is_one_that_may_be_stored() {
        let good = |text: &str, kind| {
            let checked = check(text, kind);
            assert!(checked.is_ok(), "{text}: {:?}", checked.err());
        };
        for case in &USE_CASES {
            good(&case.trust_policy(), DocumentKind::TrustPolicy);
            match case.policy {
                Policy::Aws(_) => {}
                Policy::Custom { document, .. } => good(document, DocumentKind::ManagedPolicy),
            }
        }
        good(DEPLOYER_POLICY, DocumentKind::InlineRolePolicy);
        good(PASS_ROLE_POLICY, DocumentKind::InlineRolePolicy);
        good(&trusting_user("deployer"), DocumentKind::TrustPolicy);
    }
}
