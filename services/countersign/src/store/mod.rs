//! `countersign store`: what a policy store holds, into a file and out of it. `countersign_policy_store::transfer` does the carrying;
//! this knows the data folder, and says how far it is.

mod args;
mod progress;

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use countersign_policy_store::{
    Place,
    transfer::{
        self, Checked, Contents, Origin, Pace, Phase, Start, TransferError, copy_store, is_in_use,
        open_store,
    },
    write_private,
};

pub use args::{BackupArgs, ExportArgs, ImportArgs, RestoreArgs, StoreCommand, VerifyArgs};
use progress::Display;

use crate::{cli::StoreArgs, exit::Exit, up::SEALING_KEY};

/// Why it did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// Carrying it.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Arguments that contradict each other, or name nothing.
    #[error("{0}")]
    Arguments(String),
    /// No key for the secrets.
    #[error(
        "there is no sealing key at `{}`: give the one of the store that was backed up, with --sealing-key", .0.display()
    )]
    NoSealingKey(PathBuf),
    /// Two keys.
    #[error(
        "`{}` and `{}` are different sealing keys: leave --sealing-key away, or restore into another data folder",
        there.display(),
        given.display()
    )]
    OtherSealingKey {
        /// The data folder's.
        there: PathBuf,
        /// The one given.
        given: PathBuf,
    },
    /// A file of the data folder.
    #[error("cannot {what} `{}`: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// `countersign store …`.
pub async fn run(command: StoreCommand) -> Exit {
    let mut display = Display::new();
    let mut progress =
        |phase: Phase, done: u64, total: Option<u64>| display.show(phase, done, total);
    let report = match command {
        StoreCommand::Backup(args) => backup(&args, &mut progress).await,
        StoreCommand::Restore(args) => restore(&args, &mut progress).await,
        StoreCommand::Export(args) => {
            let at = match At::named(args.store) {
                Ok(at) => at,
                Err(error) => return Exit::bad_input(error),
            };
            export(&at, args.sealing_key.as_deref(), &args.file, &mut progress).await
        }
        StoreCommand::Import(args) => {
            let at = match At::named(args.store) {
                Ok(at) => at,
                Err(error) => return Exit::bad_input(error),
            };
            import_checked(&args.file, &args.sealing_key, &at, args.resume, &mut progress).await
        }
        StoreCommand::Verify(args) => verify(&args, &mut progress),
    };
    match report {
        Ok(report) => {
            print!("{report}");
            Exit::Done
        }
        Err(StoreCommandError::Arguments(error)) => Exit::bad_input(error),
        Err(error) => Exit::failed(error),
    }
}

/// The store of a data folder, into a file.
///
/// # Errors
/// See [`StoreCommandError`].
pub async fn backup(
    args: &BackupArgs,
    progress: transfer::Progress<'_>,
) -> Result<String, StoreCommandError> {
    let key = sealing_key_of(&args.data_dir);
    let kept = match (key.exists(), std::env::var_os(SEALING_KEY)) {
        (true, _) => format!("`{}`", key.display()),
        (false, Some(_)) => SEALING_KEY.to_owned(),
        (false, None) => return Err(StoreCommandError::NoSealingKey(key)),
    };
    let at = At::of(args.store.clone(), &args.data_dir)?;
    // One of the environment is not compared with the secrets here; `verify` takes a file.
    let key = key.exists().then_some(key);
    let report = export(&at, key.as_deref(), &args.file, progress).await?;
    Ok(format!(
        "{report}The sealing key is not in it, and nothing opens the access keys without it: keep a copy of {kept} elsewhere.\n"
    ))
}

/// A data folder's store, from a file.
///
/// # Errors
/// See [`StoreCommandError`]. Nothing is made before the whole file was checked against the sealing key.
pub async fn restore(
    args: &RestoreArgs,
    progress: transfer::Progress<'_>,
) -> Result<String, StoreCommandError> {
    let at = At::of(args.store.clone(), &args.data_dir)?;
    let there = sealing_key_of(&args.data_dir);
    let key = args.sealing_key.as_ref().unwrap_or(&there);
    if !key.exists() {
        return Err(StoreCommandError::NoSealingKey(key.clone()));
    }
    let checked = transfer::check(&args.file, Some(key), progress)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&args.data_dir).map_err(|error| {
        StoreCommandError::File { what: "make", path: args.data_dir.clone(), error }
    })?;
    keep_sealing_key(key, &there)?;
    let report = import(&checked, &at, args.resume, progress).await?;
    Ok(format!(
        "{report}Whatever was deleted, detached or revoked after the backup is back: deploy/RUNBOOK.md says what to look through.\n"
    ))
}

fn verify(
    args: &VerifyArgs,
    progress: transfer::Progress<'_>,
) -> Result<String, StoreCommandError> {
    let checked = transfer::check(&args.file, args.sealing_key.as_deref(), progress)?;
    let secrets = match args.sealing_key {
        Some(_) => "The sealing key opens every secret in it.\n",
        None => "Whether a sealing key opens its secrets was not asked (--sealing-key).\n",
    };
    Ok(format!("whole: {}{secrets}", told(checked.origin(), checked.contents())))
}

async fn export(
    at: &At,
    sealing_key: Option<&Path>,
    file: &Path,
    progress: transfer::Progress<'_>,
) -> Result<String, StoreCommandError> {
    let (store, copy) = match open_store(&at.place, &at.data_dir).await {
        Ok(store) => (store, None),
        // Somebody serves it: what is taken is a copy of its files, beside the file that is to be made.
        Err(error) if is_in_use(&error) => {
            let copy = Copy(with_suffix(file, ".copy"));
            (copy_store(&at.place, &at.data_dir, &copy.0).await?, Some(copy))
        }
        Err(error) => return Err(error.into()),
    };
    let pace = if at.place.shared() { Pace::AmongOthers } else { Pace::Alone };
    let (origin, contents) =
        transfer::export(store.as_ref(), pace, sealing_key, file, progress).await?;
    drop(store);
    drop(copy);
    Ok(format!("`{}`: {}", file.display(), told(&origin, &contents)))
}

/// A folder that is removed when it is done with.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("countersign: `{}` stays behind: {error}", self.0.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

async fn import_checked(
    file: &Path,
    sealing_key: &Path,
    at: &At,
    resume: bool,
    progress: transfer::Progress<'_>,
) -> Result<String, StoreCommandError> {
    let checked = transfer::check(file, Some(sealing_key), progress)?;
    import(&checked, at, resume, progress).await
}

async fn import(
    checked: &Checked,
    at: &At,
    resume: bool,
    progress: transfer::Progress<'_>,
) -> Result<String, StoreCommandError> {
    let (store, start) = if resume {
        (open_store(&at.place, &at.data_dir).await?, Start::Resume)
    } else {
        (transfer::make_store(&at.place, &at.data_dir).await?, Start::Fresh)
    };
    let contents = transfer::import(&store, checked, start, progress).await?;
    let told = told(checked.origin(), &contents);
    Ok(format!("the new store is {}: {told}", store.id()))
}

/// For people, and for whoever compares two of them.
fn told(origin: &Origin, contents: &Contents) -> String {
    let mut text = format!(
        "{} entries, {} bytes, of store {} at revision {}\nsha256 {}\n",
        contents.entries, contents.bytes, origin.store_id, origin.revision, contents.sha256
    );
    for (kind, count) in &contents.counts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{count:>10}  {kind}");
    }
    text
}

/// Where a store is.
struct At {
    place: Place,
    data_dir: PathBuf,
}

impl At {
    /// The place that the arguments name, or the data folder.
    fn of(args: StoreArgs, data_dir: &Path) -> Result<Self, StoreCommandError> {
        let place = args.place().map_err(StoreCommandError::Arguments)?;
        place.check().map_err(|error| StoreCommandError::Arguments(error.to_string()))?;
        Ok(Self { place, data_dir: data_dir.to_owned() })
    }

    /// The place that the arguments name, which they must.
    fn named(args: StoreArgs) -> Result<Self, String> {
        let place = args.place()?;
        if place == Place::DataFolder {
            return Err(
                "which store? give --store; `backup` and `restore` take a data folder's without"
                    .to_owned(),
            );
        }
        place.check().map_err(|error| error.to_string())?;
        Ok(Self { place, data_dir: PathBuf::new() })
    }
}

fn sealing_key_of(data_dir: &Path) -> PathBuf {
    data_dir.join("sealing.key")
}

/// Puts the key where the policy store looks for it; one that is there stays.
fn keep_sealing_key(key: &Path, there: &Path) -> Result<(), StoreCommandError> {
    let read = |path: &Path| {
        fs::read(path).map(zeroize::Zeroizing::new).map_err(|error| StoreCommandError::File {
            what: "read",
            path: path.to_owned(),
            error,
        })
    };
    let content = read(key)?;
    if there.exists() {
        return if *read(there)? == *content {
            Ok(())
        } else {
            Err(StoreCommandError::OtherSealingKey {
                there: there.to_owned(),
                given: key.to_owned(),
            })
        };
    }
    write_private(there, &content).map_err(|error| StoreCommandError::File {
        what: "write",
        path: there.to_owned(),
        error,
    })
}
