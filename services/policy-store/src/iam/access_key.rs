//! Access keys of users: two at most, each active or not. Secrets come here sealed, and are never read here.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{AccessKeyRecord, AccessKeyState};

use super::{quota, user};
use crate::{
    error::Error,
    layout::{self, SealedSecret},
    view::{Plan, View},
};

/// Adds a key whose secret is sealed already.
pub fn create(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    user_name: &str,
    access_key_id: &str,
    sealed: &[u8],
) -> Result<AccessKeyRecord, Error> {
    let mut user = user::find(view, account, user_name)?;
    if user.access_key_ids.len() >= quota::ACCESS_KEYS {
        let what = format!("access keys of user `{}`; delete one first", user.user_name);
        return Err(Error::LimitExceeded { what, limit: quota::ACCESS_KEYS });
    }
    let key = layout::access_key(access_key_id);
    if view.find(&key)?.is_some() {
        // Drawn at random from 32^16: it does not happen, and must not pass if it does.
        return Err(Error::exists("access key", access_key_id));
    }
    let record = AccessKeyRecord {
        access_key_id: access_key_id.to_owned(),
        account_id: account.to_string(),
        user_name: user.user_name.clone(),
        user_id: user.user_id.clone(),
        state: AccessKeyState::Active.into(),
        create_date: Some(view.now()),
    };
    user.access_key_ids.push(access_key_id.to_owned());
    plan.put(&layout::user(account, user_name), &user);
    plan.put(&key, &record);
    plan.put(&layout::secret(access_key_id), &SealedSecret { sealed: sealed.to_vec() });
    Ok(record)
}

/// A user's key.
fn find(
    view: &View,
    account: &AccountId,
    user_name: &str,
    access_key_id: &str,
) -> Result<AccessKeyRecord, Error> {
    let user = user::find(view, account, user_name)?;
    let shown = access_key_id.chars().take(40).collect::<String>().escape_default().to_string();
    let missing = || Error::no_such("access key", shown.clone());
    if !user.access_key_ids.iter().any(|id| id == access_key_id) {
        return Err(missing());
    }
    view.find(&layout::access_key(access_key_id))?.ok_or_else(missing)
}

/// An access key of the account, whoever of it has it.
pub fn owner(
    view: &View,
    account: &AccountId,
    access_key_id: &str,
) -> Result<Option<AccessKeyRecord>, Error> {
    let length = access_key_id.len();
    if !(16..=128).contains(&length) || !access_key_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let rule = "an access key's id is expected: 16 to 128 letters and digits, such as AKIA…";
        return Err(Error::validation("access_key_id", rule));
    }
    let found = view.find(&layout::access_key(access_key_id))?;
    Ok(found.filter(|record| record.account_id == account.as_str()))
}

/// The keys of a user.
pub fn list(
    view: &View,
    account: &AccountId,
    user_name: &str,
) -> Result<Vec<AccessKeyRecord>, Error> {
    let user = user::find(view, account, user_name)?;
    let mut keys = Vec::new();
    for id in &user.access_key_ids {
        keys.extend(view.find(&layout::access_key(id))?);
    }
    Ok(keys)
}

/// Makes a key active, or not.
pub fn update(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    user_name: &str,
    access_key_id: &str,
    state: AccessKeyState,
) -> Result<(), Error> {
    let record = find(view, account, user_name, access_key_id)?;
    plan.put(
        &layout::access_key(access_key_id),
        &AccessKeyRecord { state: state.into(), ..record },
    );
    Ok(())
}

/// Deletes a key, and its secret.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    user_name: &str,
    access_key_id: &str,
) -> Result<(), Error> {
    find(view, account, user_name, access_key_id)?;
    let mut user = user::find(view, account, user_name)?;
    user.access_key_ids.retain(|id| id != access_key_id);
    plan.put(&layout::user(account, user_name), &user);
    plan.delete(&layout::access_key(access_key_id));
    plan.delete(&layout::secret(access_key_id));
    plan.delete(&layout::last_use(access_key_id));
    Ok(())
}
