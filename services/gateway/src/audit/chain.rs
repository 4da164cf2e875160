//! The trail's files: JSON lines chained by digests, in the form of the policy store's own trail, so that `countersign audit verify` reads
//! both.
//!
//! A line is `{"sequence":n,"previous":"…","hash":"…","revision":0,"event":{…}}`; its hash is the SHA-256 of `previous`, a line feed, the
//! revision (an exchange is no write of the store's, so it is 0), a line feed, and the event's own text.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_sigv4::encoding::hex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A file is ended at this size.
const LARGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    sequence: u64,
    previous: String,
    hash: String,
    revision: u64,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// The chain of one process. Nobody else writes into its folder.
pub(super) struct Chain {
    folder: PathBuf,
    sequence: u64,
    hash: String,
    open: Option<Open>,
}

struct Open {
    file: File,
    size: u64,
    day: i64,
}

impl Chain {
    /// Goes on where the files end. A line that was cut off while it was written is taken away: nobody was answered for it.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut chain =
            Self { folder: folder.to_owned(), sequence: 0, hash: "0".repeat(64), open: None };
        let mut paths: Vec<_> = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort();
        for path in paths.iter().rev() {
            if let Some(last) = last_line(path)? {
                let line: Line<'_> = serde_json::from_str(&last).map_err(|error| {
                    io::Error::other(format!(
                        "`{}` ends with no line of a trail: {error}",
                        path.display()
                    ))
                })?;
                (chain.sequence, chain.hash) = (line.sequence, line.hash);
                break;
            }
        }
        Ok(chain)
    }

    /// Writes `events`, each a JSON text on one line, and syncs them. `now` is in seconds since 1970.
    pub(super) fn append(&mut self, events: &[&str], now: i64) -> io::Result<()> {
        let (mut sequence, mut hash) = (self.sequence, self.hash.clone());
        let mut text = String::new();
        for event in events {
            let raw: &RawValue = serde_json::from_str(event).map_err(io::Error::other)?;
            let previous = hash;
            hash = hex(digest(&SHA256, format!("{previous}\n0\n{event}").as_bytes()).as_ref());
            sequence += 1;
            let line = Line { sequence, previous, hash: hash.clone(), revision: 0, event: raw };
            text.push_str(&serde_json::to_string(&line).map_err(io::Error::other)?);
            text.push('\n');
        }
        let open = self.file(now)?;
        let at = open.size;
        let written = open.file.write_all(text.as_bytes()).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // Half of it may be there: the next attempt begins where this one did.
            open.file.set_len(at)?;
            open.file.seek(SeekFrom::Start(at))?;
            return Err(error);
        }
        open.size += u64::try_from(text.len()).unwrap_or_default();
        (self.sequence, self.hash) = (sequence, hash);
        Ok(())
    }

    fn file(&mut self, now: i64) -> io::Result<&mut Open> {
        let day = now.div_euclid(86_400);
        let fits = self.open.as_ref().is_some_and(|open| open.day == day && open.size < LARGEST);
        if !fits {
            // Numbered by its first line, so that names are in order and never met twice.
            let path = self.folder.join(format!("exchanges-{:020}.jsonl", self.sequence + 1));
            // Begun before, and nothing was written, if it is there already.
            let file =
                OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path)?;
            File::open(&self.folder)?.sync_all()?;
            let size = file.metadata()?.len();
            self.open = Some(Open { file, size, day });
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("there is no file"))
    }
}

/// The last whole line of a file; what follows it is cut off.
fn last_line(path: &Path) -> io::Result<Option<String>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        tracing::warn!(path = %path.display(), "the last line of the audit of exchanges was cut off");
        file.set_len(u64::try_from(whole).unwrap_or_default())?;
        file.sync_data()?;
    }
    Ok(text.get(..whole).and_then(|text| text.lines().last()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir()
                .join(format!("countersign-chain-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Self(folder)
        }

        fn files(&self) -> Vec<PathBuf> {
            let mut files: Vec<_> =
                fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files
        }

        fn lines(&self) -> Vec<String> {
            let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
            self.files()
                .iter()
                .flat_map(|path| read(path).lines().map(str::to_owned).collect::<Vec<_>>())
                .collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn check_chain(lines: &[String]) {
        let mut previous = "0".repeat(64);
        for (number, text) in (1..).zip(lines) {
            let line: Line<'_> = serde_json::from_str(text).unwrap();
            assert_eq!((line.sequence, &line.previous), (number, &previous), "{text}");
            previous = line.hash;
        }
    }

    #[test]
    fn it_goes_on_where_it_ended() {
        let folder = Folder::new("goes-on");
        Chain::open(&folder.0).unwrap().append(&[r#"{"a":1}"#, r#"{"a":2}"#], 0).unwrap();
        let file = folder.files().remove(0);
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str(r#"{"sequence":3,"prev"#);
        fs::write(&file, text).unwrap();
        let mut chain = Chain::open(&folder.0).unwrap();
        chain.append(&[r#"{"a":3}"#], 0).unwrap();
        // A new file a day.
        chain.append(&[r#"{"a":4}"#], 86_400).unwrap();
        let lines = folder.lines();
        assert_eq!((lines.len(), folder.files().len()), (4, 3));
        check_chain(&lines);
    }

    #[test]
    fn what_is_no_trail_is_not_gone_on_with() {
        let folder = Folder::new("no-trail");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join("x.jsonl"), "hello\n").unwrap();
        assert!(Chain::open(&folder.0).is_err());
    }
}
