//! Which version of Countersign a store is for.
//!
//! Each record says its own form ([`layout::FORMAT`]), and one of a later form is not read. That is found out one record at a time; so the
//! store as a whole says the newest form that is in it, too, and a version that is too old for it does not begin.

use countersign_store::{Store, StoreError};
use prost::Message;

use crate::{
    error::Error,
    layout::{self, FORMAT},
    view::{Plan, View},
};

/// The newest form of records in a store.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Form {
    #[prost(uint32, tag = "1")]
    pub number: u32,
}

/// A later version of Countersign wrote the store.
#[derive(Debug, thiserror::Error)]
#[error(
    "a later version of Countersign wrote the store: its records are of form {found}, and this version reads forms up to {FORMAT}. Run that \
     version, or a later one; or restore a backup that was made before it ran (deploy/RUNBOOK.md). Nothing was changed"
)]
pub struct LaterForm {
    found: u32,
}

/// Holds the store to the forms that this version reads: its mark, and the first record of each kind, which a store without a mark has
/// as well.
pub async fn check(store: &dyn Store) -> Result<Result<(), LaterForm>, StoreError> {
    let mark = store.get(layout::form().as_bytes()).await?;
    let said = mark.iter().filter_map(|entry| layout::decode(&layout::form(), &entry.value).ok());
    let mut newest = said.map(|form: Form| form.number).max().unwrap_or_default();
    let prefixes = layout::KINDS.into_iter().filter_map(layout::prefix);
    let mut first = Vec::from_iter(mark);
    for prefix in prefixes.chain([layout::UNWATCHED]) {
        first.extend(store.range(prefix.as_bytes(), None, 1).await?);
    }
    let forms = first.iter().filter_map(|entry| entry.value.first().copied());
    newest = forms.map(u32::from).chain([newest]).max().unwrap_or_default();
    if newest > u32::from(FORMAT) { Ok(Err(LaterForm { found: newest })) } else { Ok(Ok(())) }
}

/// Says which form the store is of from now on.
pub fn put(view: &View, plan: &mut Plan) -> Result<(), Error> {
    let form = Form { number: FORMAT.into() };
    if view.find(&layout::form())? != Some(form) {
        plan.put(&layout::form(), &form);
    }
    Ok(())
}
