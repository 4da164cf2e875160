//! Making a new base beside the old one, on a thread of its own, while everybody goes on.
//!
//! It reads a view that does not change, and nothing that it writes counts until the writer names the new base in the root.
//! Killed at any moment, it leaves a folder that the next start removes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::SledOptions;
use super::base::{self, Seal};
use super::folder::{self, Folder};
use super::view::View;
use crate::{StoreError, StoreId};

/// A base on its way.
pub(super) struct Merge {
    /// The last commit in it.
    pub number: u64,
    thread: JoinHandle<Result<Seal, StoreError>>,
    stop: Arc<AtomicBool>,
}

impl Merge {
    /// Begins to write `view` as a base; `done` is called when it ended, however that was.
    pub fn begin(
        folder: &Arc<Folder>,
        id: &StoreId,
        view: View,
        options: &SledOptions,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (stop, number) = (Arc::new(AtomicBool::new(false)), view.head);
        let work = Work {
            folder: folder.clone(),
            path: folder.base(view.head),
            id: id.clone(),
            view,
            options: options.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-merge".into())
            .spawn(move || {
                let made = work.run();
                drop(work);
                done();
                made
            })
            .map_err(|error| StoreError::Unavailable(format!("cannot start a thread: {error}")))?;
        Ok(Self { number, thread, stop })
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end.
    pub fn finish(self) -> Result<Seal, StoreError> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(StoreError::Unavailable("making a new base panicked".into())))
    }

    /// Gives it up, and waits until it has stopped.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // What it left is removed at the next start.
        let _ = self.finish();
    }
}

struct Work {
    folder: Arc<Folder>,
    path: PathBuf,
    id: StoreId,
    view: View,
    options: SledOptions,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(&self) -> Result<Seal, StoreError> {
        let made = self.make();
        if made.is_err() {
            // The room it took is wanted; if it cannot be removed now, the next start does.
            let _ = folder::remove_folder(&self.path);
        }
        made
    }

    fn make(&self) -> Result<Seal, StoreError> {
        let cannot = |error| folder::failed("remove", &self.path, &error);
        folder::remove_folder(&self.path).map_err(cannot)?;
        self.folder.take_ballast(self.options.ballast_bytes)?;
        let (path, id, options) = (&self.path, &self.id, &self.options);
        let seal = base::write(path, id, self.view.head, &self.view.entries, options, &self.stop)?;
        let mut expected = self.view.entries.iter();
        let mut equal = true;
        base::read(path, id, &seal, options, |entry| {
            equal &= expected.next().is_some_and(|(key, held)| {
                *key == entry.key && held.version == entry.version && held.value == entry.value
            });
        })?;
        if !equal || expected.next().is_some() {
            return Err(StoreError::Corrupt(
                "a new base did not read back as it was written".into(),
            ));
        }
        Ok(seal)
    }
}
