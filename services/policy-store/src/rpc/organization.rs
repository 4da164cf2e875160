//! Organizations: units, accounts in them, and guardrails. The operator's account's alone.

use countersign_evaluator::snapshot::{FULL_ACCESS, ROOT};
use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert::{self, Paging},
    error::Error,
    iam::{etag, guardrail, organization},
    layout, view,
};

impl PolicyStore {
    pub async fn create_organizational_unit(
        &self,
        call: Call,
        request: CreateOrganizationalUnitRequest,
    ) -> Result<CreateOrganizationalUnitResponse, Error> {
        let CreateOrganizationalUnitRequest { parent_id, name, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("organizations:CreateOrganizationalUnit", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            let record = organization::create(view, plan, &parent_id, &name)?;
            let unit = organization::shown(permit.account().as_str(), record);
            Ok(CreateOrganizationalUnitResponse {
                organizational_unit: Some(unit),
                revision: String::new(),
            })
        })
        .await
    }

    pub async fn update_organizational_unit(
        &self,
        call: Call,
        request: UpdateOrganizationalUnitRequest,
    ) -> Result<UpdateOrganizationalUnitResponse, Error> {
        let UpdateOrganizationalUnitRequest {
            organizational_unit_id,
            name,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("organizations:UpdateOrganizationalUnit", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            let record = organization::rename(view, plan, &organizational_unit_id, &name)?;
            let unit = organization::shown(permit.account().as_str(), record);
            Ok(UpdateOrganizationalUnitResponse {
                organizational_unit: Some(unit),
                revision: String::new(),
            })
        })
        .await
    }

    pub async fn delete_organizational_unit(
        &self,
        call: Call,
        request: DeleteOrganizationalUnitRequest,
    ) -> Result<DeleteOrganizationalUnitResponse, Error> {
        let DeleteOrganizationalUnitRequest {
            organizational_unit_id,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("organizations:DeleteOrganizationalUnit", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            organization::delete(view, plan, &organizational_unit_id)?;
            Ok(DeleteOrganizationalUnitResponse::default())
        })
        .await
    }

    /// In the order of their ids.
    pub async fn list_organizational_units_for_parent(
        &self,
        call: Call,
        request: ListOrganizationalUnitsForParentRequest,
    ) -> Result<ListOrganizationalUnitsForParentResponse, Error> {
        let ListOrganizationalUnitsForParentRequest { parent_id, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("organizations:ListOrganizationalUnitsForParent", On::Anything)];
        let (operator, parent) = self
            .read(&call, &asks, |view, permit| {
                permit.of_operator_account(view)?;
                let parent = organization::parent(view, "ParentNotFound", &parent_id)?;
                Ok((*permit.account(), parent.id))
            })
            .await?;
        let mut answer = ListOrganizationalUnitsForParentResponse::default();
        let (ids, is_truncated) = self.ids(&layout::children(&parent), &paging).await?;
        answer.is_truncated = is_truncated;
        for id in ids {
            if is_truncated {
                answer.marker.clone_from(&id);
            }
            // Accounts stand below a unit as well.
            let unit = self.look(|view| organization::find(view, &id)).await?;
            let shown = unit.map(|unit| organization::shown(operator.as_str(), unit));
            answer.organizational_units.extend(shown);
        }
        Ok(answer)
    }

    /// The last parts of the keys under a prefix, a page of them; whether there are more.
    async fn ids(&self, prefix: &str, paging: &Paging) -> Result<(Vec<String>, bool), Error> {
        let after = format!("{prefix}{}", paging.marker);
        let after = (!paging.marker.is_empty()).then_some(after.as_bytes());
        let entries = self.store.range(prefix.as_bytes(), after, paging.limit + 1).await?;
        let is_truncated = entries.len() > paging.limit;
        let ids = entries.iter().take(paging.limit).filter_map(|entry| {
            let rest = entry.key.get(prefix.len()..)?;
            Some(String::from_utf8_lossy(rest).into_owned())
        });
        Ok((ids.collect(), is_truncated))
    }

    pub async fn move_account(
        &self,
        call: Call,
        request: MoveAccountRequest,
    ) -> Result<MoveAccountResponse, Error> {
        let MoveAccountRequest {
            account_id,
            source_parent_id,
            destination_parent_id,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("organizations:MoveAccount", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            let (from, to) = (&source_parent_id, &destination_parent_id);
            organization::move_account(view, plan, &account_id, from, to)?;
            Ok(MoveAccountResponse::default())
        })
        .await
    }

    pub async fn create_guardrail(
        &self,
        call: Call,
        request: CreateGuardrailRequest,
    ) -> Result<CreateGuardrailResponse, Error> {
        let CreateGuardrailRequest {
            content,
            description,
            name,
            r#type,
            validate_only: _,
            request_id: _,
        } = request;
        let kind = guardrail::kind_of(r#type)?;
        let asks = [Ask::new("organizations:CreatePolicy", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            let (record, findings) =
                guardrail::create(view, plan, kind, &name, &description, &content)?;
            Ok(CreateGuardrailResponse {
                guardrail: Some(guardrail::shown(permit.account().as_str(), record)),
                revision: String::new(),
                findings: convert::findings(findings),
            })
        })
        .await
    }

    pub async fn get_guardrail(
        &self,
        call: Call,
        request: GetGuardrailRequest,
    ) -> Result<GetGuardrailResponse, Error> {
        let GetGuardrailRequest { guardrail_id } = request;
        let asks = [Ask::new("organizations:DescribePolicy", On::Anything)];
        self.read(&call, &asks, |view, permit| {
            permit.of_operator_account(view)?;
            let record = guardrail::find(view, &guardrail_id)?;
            let shown = guardrail::shown(permit.account().as_str(), record);
            Ok(GetGuardrailResponse { guardrail: Some(shown) })
        })
        .await
    }

    pub async fn update_guardrail(
        &self,
        call: Call,
        request: UpdateGuardrailRequest,
    ) -> Result<UpdateGuardrailResponse, Error> {
        let UpdateGuardrailRequest {
            guardrail_id,
            name,
            description,
            content,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("organizations:UpdatePolicy", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            etag::guardrail(view, &guardrail_id, &etag)?;
            let (name, description) = (name.as_deref(), description.as_deref());
            let (record, findings) = guardrail::update(
                view,
                plan,
                &guardrail_id,
                name,
                description,
                content.as_deref(),
            )?;
            Ok(UpdateGuardrailResponse {
                guardrail: Some(guardrail::shown(permit.account().as_str(), record)),
                revision: String::new(),
                findings: convert::findings(findings),
            })
        })
        .await
    }

    pub async fn delete_guardrail(
        &self,
        call: Call,
        request: DeleteGuardrailRequest,
    ) -> Result<DeleteGuardrailResponse, Error> {
        let DeleteGuardrailRequest { guardrail_id, validate_only: _, request_id: _, etag } =
            request;
        let asks = [Ask::new("organizations:DeletePolicy", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            etag::guardrail(view, &guardrail_id, &etag)?;
            guardrail::delete(view, plan, &guardrail_id)?;
            Ok(DeleteGuardrailResponse::default())
        })
        .await
    }

    /// The built-in one comes first.
    pub async fn list_guardrails(
        &self,
        call: Call,
        request: ListGuardrailsRequest,
    ) -> Result<ListGuardrailsResponse, Error> {
        let ListGuardrailsRequest { filter, marker, max_items } = request;
        let kind = if filter == 0 { None } else { Some(guardrail::kind_of(filter)?) };
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("organizations:ListPolicies", On::Anything)];
        let operator = self
            .read(&call, &asks, |view, permit| {
                permit.of_operator_account(view)?;
                Ok(*permit.account())
            })
            .await?;
        let mut guardrails = Vec::new();
        let is_first = paging.marker.is_empty();
        if is_first && kind.is_none_or(|kind| kind == GuardrailKind::ServiceControlPolicy) {
            guardrails.push(guardrail::built_in(operator.as_str()));
        }
        let left = paging.limit.saturating_sub(guardrails.len()).max(1);
        let keep = |record: &GuardrailRecord| kind.is_none_or(|kind| record.kind() == kind);
        let store = self.store.as_ref();
        let page = view::page(store, layout::GUARDRAILS, &paging.marker, left, keep).await?;
        let listed = |record| guardrail::listed(operator.as_str(), record);
        guardrails.extend(page.records.into_iter().map(listed));
        Ok(ListGuardrailsResponse {
            guardrails,
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    pub async fn attach_guardrail(
        &self,
        call: Call,
        request: AttachGuardrailRequest,
    ) -> Result<AttachGuardrailResponse, Error> {
        let AttachGuardrailRequest { guardrail_id, target_id, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("organizations:AttachPolicy", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            organization::attach(view, plan, &guardrail_id, &target_id)?;
            Ok(AttachGuardrailResponse::default())
        })
        .await
    }

    pub async fn detach_guardrail(
        &self,
        call: Call,
        request: DetachGuardrailRequest,
    ) -> Result<DetachGuardrailResponse, Error> {
        let DetachGuardrailRequest { guardrail_id, target_id, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("organizations:DetachPolicy", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            organization::detach(view, plan, &guardrail_id, &target_id)?;
            Ok(DetachGuardrailResponse::default())
        })
        .await
    }

    /// In the order of their ids. What has `p-FullAWSAccess` is everything that it was not detached from, and that is not listed.
    pub async fn list_targets_for_guardrail(
        &self,
        call: Call,
        request: ListTargetsForGuardrailRequest,
    ) -> Result<ListTargetsForGuardrailResponse, Error> {
        let ListTargetsForGuardrailRequest { guardrail_id, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("organizations:ListTargetsForPolicy", On::Anything)];
        let operator = self
            .read(&call, &asks, |view, permit| {
                permit.of_operator_account(view)?;
                guardrail::find(view, &guardrail_id)?;
                Ok(*permit.account())
            })
            .await?;
        if guardrail_id == FULL_ACCESS {
            let message = "p-FullAWSAccess is attached to everything that it was not detached from, and is not listed";
            return Err(Error::validation("guardrail_id", message));
        }
        let mut answer = ListTargetsForGuardrailResponse::default();
        let (ids, is_truncated) = self.ids(&layout::targets(&guardrail_id), &paging).await?;
        answer.is_truncated = is_truncated;
        for id in ids {
            if is_truncated {
                answer.marker.clone_from(&id);
            }
            let target = self.look(|view| organization::Target::find(view, &id)).await?;
            answer.targets.push(match target {
                organization::Target::Account(account) => GuardrailTargetSummary {
                    target_id: id.clone(),
                    arn: format!("arn:aws:organizations::{operator}:account/{id}"),
                    name: account.account_name,
                    r#type: TargetType::Account.into(),
                },
                organization::Target::Unit(unit) => GuardrailTargetSummary {
                    target_id: id.clone(),
                    arn: organization::arn(operator.as_str(), &id),
                    name: unit.name,
                    r#type: if id == ROOT {
                        TargetType::Root.into()
                    } else {
                        TargetType::OrganizationalUnit.into()
                    },
                },
            });
        }
        Ok(answer)
    }
}
