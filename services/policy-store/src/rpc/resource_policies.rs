//! Resource policies of the caller's account.

use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert,
    error::Error,
    iam::{etag, resource_policy},
};

fn asks(action: &'static str, resource_arn: &str) -> Vec<Ask<'static>> {
    let texts = resource_policy::asked_about(resource_arn);
    texts.into_iter().map(|text| Ask::new(action, On::Arn(text))).collect()
}

impl PolicyStore {
    pub async fn put_resource_policy(
        &self,
        call: Call,
        request: PutResourcePolicyRequest,
    ) -> Result<PutResourcePolicyResponse, Error> {
        let PutResourcePolicyRequest {
            resource_arn,
            policy,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        resource_policy::pattern(&call.account()?, &resource_arn)?;
        let asks = asks("countersign:PutResourcePolicy", &resource_arn);
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            etag::resource_policy(view, account, &resource_arn, &etag)?;
            let findings = resource_policy::put(view, plan, account, &resource_arn, &policy)?;
            let findings = convert::findings(findings);
            let etag = etag::of(&policy);
            Ok(PutResourcePolicyResponse { revision: String::new(), findings, etag })
        })
        .await
    }

    pub async fn get_resource_policy(
        &self,
        call: Call,
        request: GetResourcePolicyRequest,
    ) -> Result<GetResourcePolicyResponse, Error> {
        let GetResourcePolicyRequest { resource_arn } = request;
        resource_policy::pattern(&call.account()?, &resource_arn)?;
        let asks = asks("countersign:GetResourcePolicy", &resource_arn);
        let record = self
            .read(&call, &asks, |view, permit| {
                resource_policy::find(view, permit.account(), &resource_arn)
            })
            .await?;
        let ResourcePolicyRecord { resource_arn, policy, .. } = record;
        let etag = etag::of(&policy);
        Ok(GetResourcePolicyResponse { resource_arn, policy, etag })
    }

    pub async fn delete_resource_policy(
        &self,
        call: Call,
        request: DeleteResourcePolicyRequest,
    ) -> Result<DeleteResourcePolicyResponse, Error> {
        let DeleteResourcePolicyRequest { resource_arn, validate_only: _, request_id: _, etag } =
            request;
        resource_policy::pattern(&call.account()?, &resource_arn)?;
        let asks = asks("countersign:DeleteResourcePolicy", &resource_arn);
        self.write(&call, &asks, |view, plan, permit| {
            etag::resource_policy(view, permit.account(), &resource_arn, &etag)?;
            resource_policy::delete(view, plan, permit.account(), &resource_arn)?;
            Ok(DeleteResourcePolicyResponse::default())
        })
        .await
    }
}
