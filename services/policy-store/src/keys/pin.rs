//! Pinned principals: an external name is the unique id that it had when it was first used. Made again at AWS under the same name,
//! it is somebody else.
//!
//! An EC2 instance has no unique id that is not in its document, which everybody on it can read. What it is pinned to is the key that it
//! first came with; and its documents, which say when it was started, never go back.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::PinnedPrincipalRecord;
use prost_types::Timestamp;

use crate::{
    error::Error,
    layout,
    view::{Plan, View},
};

/// How far the clock that a document's date is of may run ahead, in seconds.
const AHEAD: i64 = 300;

/// An external principal, as AWS answered.
pub struct Pin<'a> {
    pub partition: &'a str,
    pub account_id: &'a str,
    pub principal_name: &'a str,
    pub unique_id: &'a str,
    pub launch_time: Option<Timestamp>,
    /// 0 for whenever.
    pub first_use_within_seconds: i32,
}

/// Pins the unique id at first use; true if this did it.
pub fn pin(view: &View, plan: &mut Plan, pin: &Pin<'_>) -> Result<bool, Error> {
    let account = external(view, pin.partition, pin.account_id)?;
    let launched = match kind(pin.principal_name)? {
        Kind::Principal => {
            unique_id(pin.unique_id)?;
            no_instance(pin)?;
            None
        }
        Kind::Instance => {
            thumbprint(pin.unique_id)?;
            Some(launched(view, pin)?)
        }
    };
    let key = layout::pinned(pin.partition, &account, pin.principal_name);
    let named = || format!("{account} {}", pin.principal_name);
    match view.find(&key)? {
        Some(known) if known.unique_id != pin.unique_id => {
            Err(Error::PrincipalIdChanged { principal: named(), pinned: known.unique_id })
        }
        Some(known) => {
            let newest = known.launch_time.map_or(0, |time| time.seconds);
            match launched {
                Some(launched) if launched < newest => {
                    let message = format!("{}: it has shown a newer document", named());
                    return Err(Error::Named { reason: "DocumentSuperseded", message });
                }
                Some(launched) if launched > newest => {
                    plan.put(
                        &key,
                        &PinnedPrincipalRecord { launch_time: pin.launch_time, ..known },
                    );
                }
                Some(_) | None => {}
            }
            Ok(false)
        }
        None => {
            if let Some(launched) = launched {
                soon_enough(view, launched, pin.first_use_within_seconds, &named)?;
            }
            let record = PinnedPrincipalRecord {
                partition: pin.partition.to_owned(),
                account_id: account.to_string(),
                principal_name: pin.principal_name.to_owned(),
                unique_id: pin.unique_id.to_owned(),
                create_date: Some(view.now()),
                launch_time: pin.launch_time,
            };
            plan.put(&key, &record);
            Ok(true)
        }
    }
}

/// Forgets a pin.
pub fn unpin(
    view: &View,
    plan: &mut Plan,
    partition: &str,
    account_id: &str,
    principal_name: &str,
) -> Result<(), Error> {
    let account = external(view, partition, account_id)?;
    kind(principal_name)?;
    let key = layout::pinned(partition, &account, principal_name);
    if view.find(&key)?.is_none() {
        return Err(Error::no_such("pinned principal", format!("{account} {principal_name}")));
    }
    plan.delete(&key);
    Ok(())
}

fn external(view: &View, partition: &str, account_id: &str) -> Result<AccountId, Error> {
    if partition != "aws" {
        return Err(Error::validation("partition", "`aws` is expected"));
    }
    let account: AccountId = account_id
        .parse()
        .map_err(|_| Error::validation("account_id", "twelve digits are expected"))?;
    if view.find(&layout::account(account.as_str()))?.is_some() {
        return Err(Error::validation(
            "account_id",
            "the account is local; its principals are not pinned",
        ));
    }
    Ok(account)
}

enum Kind {
    Principal,
    Instance,
}

fn kind(name: &str) -> Result<Kind, Error> {
    let named = ["user/", "role/"]
        .iter()
        .any(|kind| name.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
    if named && name.len() <= 600 {
        return Ok(Kind::Principal);
    }
    if name.strip_prefix("instance/").is_some_and(is_instance_id) {
        return Ok(Kind::Instance);
    }
    let expected = "`user/<path><name>`, `role/<name>` or `instance/i-<8 or 17 hexadecimal digits>` is expected";
    Err(Error::validation("principal_name", expected))
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html>
pub fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn unique_id(text: &str) -> Result<(), Error> {
    let shaped =
        (4..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if shaped {
        return Ok(());
    }
    Err(Error::validation(
        "unique_id",
        "4 to 128 letters and digits are expected, such as AIDA… or AROA…",
    ))
}

fn no_instance(pin: &Pin<'_>) -> Result<(), Error> {
    let field = match (pin.launch_time, pin.first_use_within_seconds) {
        (None, 0) => return Ok(()),
        (Some(_), _) => "launch_time",
        (None, _) => "first_use_within_seconds",
    };
    Err(Error::validation(field, "only of an instance"))
}

/// RFC 7638, with SHA-256.
fn thumbprint(text: &str) -> Result<(), Error> {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() == 43 && text.bytes().all(is_base64url) {
        return Ok(());
    }
    Err(Error::validation(
        "unique_id",
        "a key's thumbprint is expected, 43 characters of base64url",
    ))
}

fn launched(view: &View, pin: &Pin<'_>) -> Result<i64, Error> {
    if pin.first_use_within_seconds < 0 {
        return Err(Error::validation("first_use_within_seconds", "must not be negative"));
    }
    let launched = pin
        .launch_time
        .map(|time| time.seconds)
        .filter(|launched| (1..=view.now().seconds.saturating_add(AHEAD)).contains(launched));
    launched.ok_or_else(|| Error::validation("launch_time", "a time that is past is expected"))
}

/// A document that was copied off an instance long ago, and that nobody has used yet, opens nothing (ATTACKS 57).
fn soon_enough(
    view: &View,
    launched: i64,
    within: i32,
    named: &dyn Fn() -> String,
) -> Result<(), Error> {
    let age = view.now().seconds.saturating_sub(launched);
    if within == 0 || age <= i64::from(within) {
        return Ok(());
    }
    let message = format!(
        "{}: it was started {age} seconds ago, and may come for the first time within {within}",
        named()
    );
    Err(Error::Named { reason: "FirstUseTooLate", message })
}
