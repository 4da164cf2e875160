//! LookupEvents: the audit trail, asked as CloudTrail is asked.

use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    audit::{self, AuditRecord},
    authz::{Ask, On},
    convert,
    error::Error,
    layout, view,
};

impl PolicyStore {
    /// The caller's account's; all of them for the operator's account. A page that keeps few of many is short, and not the last.
    pub async fn lookup_events(
        &self,
        call: Call,
        request: LookupEventsRequest,
    ) -> Result<LookupEventsResponse, Error> {
        let LookupEventsRequest { lookup_attributes, start_time, end_time, max_items, marker } =
            request;
        let paging = convert::paging(marker, max_items)?;
        let wanted =
            lookup_attributes.into_iter().map(Wanted::of).collect::<Result<Vec<_>, Error>>()?;
        if let (Some(start), Some(end)) = (&start_time, &end_time)
            && (start.seconds, start.nanos) > (end.seconds, end.nanos)
        {
            return Err(Error::validation("end_time", "is before `start_time`"));
        }
        let asks = [Ask::new("cloudtrail:LookupEvents", On::Anything)];
        let (account, sees_all) = self
            .read(&call, &asks, |view, permit| {
                Ok((*permit.account(), permit.of_operator_account(view).is_ok()))
            })
            .await?;
        // Newest first: from the end of the time asked for to its start.
        let first = end_time.map(audit::order).unwrap_or_default();
        let last = start_time.map(|start| format!("{}~", audit::order(start)));
        let after = if paging.marker.is_empty() { first } else { paging.marker };
        let keep = |record: &AuditRecord| {
            (sees_all || record.account_id == account.as_str())
                && record.event_time.is_some_and(|time| {
                    last.as_ref().is_none_or(|last| audit::order(time).as_str() <= last.as_str())
                })
                && wanted.iter().all(|wanted| wanted.is_met(record))
        };
        let store = self.store.as_ref();
        let page = view::page(store, layout::AUDIT, &after, paging.limit, keep).await?;
        // Past the start of the time there is nothing more to find.
        let marker = page
            .marker
            .filter(|marker| last.as_ref().is_none_or(|last| marker.as_str() <= last.as_str()));
        Ok(LookupEventsResponse {
            events: page.records.into_iter().map(event).collect(),
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }
}

fn event(record: AuditRecord) -> AuditEvent {
    let AuditRecord {
        event_id,
        event_name,
        event_time,
        event_source,
        account_id: _,
        username,
        principal_arn: _,
        resources,
        event,
        process: _,
    } = record;
    let resources = resources.into_iter().map(|arn| AuditEventResource {
        resource_type: kind_of(&arn).to_owned(),
        resource_name: arn,
    });
    AuditEvent {
        event_id,
        event_name,
        read_only: false,
        access_key_id: String::new(),
        event_time,
        event_source,
        username,
        resources: resources.collect(),
        cloud_trail_event: event,
    }
}

/// CloudFormation's name for what an ARN names, as CloudTrail has it; empty where there is none.
fn kind_of(arn: &str) -> &'static str {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    match (arn.split(':').nth(2), resource.split('/').next()) {
        (Some("iam"), Some("user")) => "AWS::IAM::User",
        (Some("iam"), Some("role")) => "AWS::IAM::Role",
        (Some("iam"), Some("group")) => "AWS::IAM::Group",
        (Some("iam"), Some("policy")) => "AWS::IAM::ManagedPolicy",
        _ => "",
    }
}

/// What an event must have.
struct Wanted {
    key: LookupAttributeKey,
    value: String,
}

impl Wanted {
    fn of(attribute: LookupAttribute) -> Result<Self, Error> {
        let key = LookupAttributeKey::try_from(attribute.attribute_key)
            .ok()
            .filter(|key| *key != LookupAttributeKey::Unspecified)
            .ok_or_else(|| Error::validation("lookup_attributes", "`attribute_key` is missing"))?;
        let value = attribute.attribute_value;
        if value.is_empty() || value.chars().count() > 2_000 {
            let rule = "`attribute_value`: 1 to 2,000 characters are expected";
            return Err(Error::validation("lookup_attributes", rule));
        }
        Ok(Self { key, value })
    }

    fn is_met(&self, record: &AuditRecord) -> bool {
        let value = self.value.as_str();
        match self.key {
            LookupAttributeKey::Unspecified => false,
            LookupAttributeKey::EventId => record.event_id == value,
            LookupAttributeKey::EventName => record.event_name == value,
            LookupAttributeKey::ReadOnly => value == "false",
            // By the session's name, or by the whole ARN.
            LookupAttributeKey::Username => {
                record.username == value || record.principal_arn == value
            }
            LookupAttributeKey::ResourceType => {
                record.resources.iter().any(|arn| kind_of(arn) == value)
            }
            LookupAttributeKey::ResourceName => record
                .resources
                .iter()
                .any(|arn| arn == value || arn.rsplit(['/', ':']).next() == Some(value)),
            LookupAttributeKey::EventSource => record.event_source == value,
            // Callers come with tokens, which no access key signs.
            LookupAttributeKey::AccessKeyId => false,
        }
    }
}
