//! Pinned principals: an external name is the unique id that it had when it was first used. Made again at AWS under the same name,
//! it is somebody else.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::PinnedPrincipalRecord;

use crate::{
    error::Error,
    layout,
    view::{Plan, View},
};

/// An external principal, as AWS answered.
pub struct Pin<'a> {
    pub partition: &'a str,
    pub account_id: &'a str,
    pub principal_name: &'a str,
    pub unique_id: &'a str,
}

/// Pins the unique id at first use; true if this did it.
pub fn pin(view: &View, plan: &mut Plan, pin: &Pin<'_>) -> Result<bool, Error> {
    if pin.partition != "aws" {
        return Err(Error::validation("partition", "`aws` is expected"));
    }
    let account: AccountId = pin
        .account_id
        .parse()
        .map_err(|_| Error::validation("account_id", "twelve digits are expected"))?;
    if view.find(&layout::account(account.as_str()))?.is_some() {
        return Err(Error::validation(
            "account_id",
            "the account is local; its principals are not pinned",
        ));
    }
    let named = ["user/", "role/"]
        .iter()
        .any(|kind| pin.principal_name.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
    if !named || pin.principal_name.len() > 600 {
        return Err(Error::validation(
            "principal_name",
            "`user/<path><name>` or `role/<name>` is expected",
        ));
    }
    let shaped = (4..=128).contains(&pin.unique_id.len())
        && pin.unique_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !shaped {
        return Err(Error::validation(
            "unique_id",
            "4 to 128 letters and digits are expected, such as AIDA… or AROA…",
        ));
    }
    let key = layout::pinned(pin.partition, &account, pin.principal_name);
    match view.find(&key)? {
        Some(known) if known.unique_id == pin.unique_id => Ok(false),
        Some(known) => Err(Error::PrincipalIdChanged {
            principal: format!("{account} {}", pin.principal_name),
            pinned: known.unique_id,
        }),
        None => {
            let record = PinnedPrincipalRecord {
                partition: pin.partition.to_owned(),
                account_id: account.to_string(),
                principal_name: pin.principal_name.to_owned(),
                unique_id: pin.unique_id.to_owned(),
                create_date: Some(view.now()),
            };
            plan.put(&key, &record);
            Ok(true)
        }
    }
}
