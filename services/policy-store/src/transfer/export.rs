//! A store, as it stood at one revision, into a file.

use std::path::Path;

use countersign_store::{Entry, Snapshot, Store};

use super::{
    Contents, Origin, Phase, Progress, TransferError, file::Writer, mark, reading::Examiner,
};
use crate::layout;

/// Entries read at a time.
const PAGE: usize = 512;

/// Whether others may write meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nobody else has the store: it is read page by page, and a write that comes in between ends the export.
    Alone,
    /// Others go on: it is read page by page, all of one revision.
    AmongOthers,
}

/// Writes everything that `store` holds into the new file at `path`. With a sealing key, every secret is opened with it first, so that a
/// backup whose key is another's is noticed on the day it is made.
///
/// # Errors
/// See [`TransferError`]; there is then no file at `path`.
pub async fn export(
    store: &dyn Store,
    pace: Pace,
    sealing_key: Option<&Path>,
    path: &Path,
    progress: Progress<'_>,
) -> Result<(Origin, Contents), TransferError> {
    mark::refuse_half_done(store).await?;
    let examiner = Examiner::new(sealing_key)?;
    let (revision, snapshot) = match pace {
        Pace::Alone => (store.head().await?, None),
        Pace::AmongOthers => {
            let snapshot = store.open_snapshot(vec![Vec::new()]).await?;
            (snapshot.number(), Some(snapshot))
        }
    };
    let origin = Origin { store_id: store.id().to_string(), revision, record_form: layout::FORMAT };
    let mut writer = Writer::create(path, &origin)?;
    match snapshot {
        Some(snapshot) => add_snapshot(snapshot, &mut writer, &examiner, progress).await?,
        None => add_pages(store, &mut writer, &examiner, progress).await?,
    }
    if pace == Pace::Alone {
        refuse_moved(store, revision).await?;
    }
    if writer.entries() == 0 {
        return Err(TransferError::Empty);
    }
    progress(Phase::Exporting, writer.entries(), Some(writer.entries()));
    Ok((origin, writer.finish()?))
}

async fn add_snapshot(
    mut snapshot: Box<dyn Snapshot>,
    writer: &mut Writer,
    examiner: &Examiner,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    loop {
        let page = snapshot.next(PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        add(writer, examiner, &page)?;
        progress(Phase::Exporting, writer.entries(), None);
    }
}

async fn add_pages(
    store: &dyn Store,
    writer: &mut Writer,
    examiner: &Examiner,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut after = None;
    loop {
        let page = store.range(b"", after.as_deref(), PAGE).await?;
        add(writer, examiner, &page)?;
        progress(Phase::Exporting, writer.entries(), None);
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            Some(_) | None => return Ok(()),
        }
    }
}

fn add(writer: &mut Writer, examiner: &Examiner, entries: &[Entry]) -> Result<(), TransferError> {
    for entry in entries {
        examiner.examine(&entry.key, &entry.value)?;
        writer.add(&entry.key, &entry.value)?;
    }
    Ok(())
}

/// Turns back when the store is no longer at `before`.
pub async fn refuse_moved(store: &dyn Store, before: u64) -> Result<(), TransferError> {
    let after = store.head().await?;
    if after == before { Ok(()) } else { Err(TransferError::Moved { before, after }) }
}
