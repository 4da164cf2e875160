//! An audit trail in files: events as JSON lines, chained by digests, one chain a process (DESIGN.md section 10).
//!
//! A line is `{"sequence":n,"previous":"…","hash":"…","revision":"…","event":{…}}`; its hash is the SHA-256 of `previous`, a line feed,
//! `revision`, a line feed, and the event's own text. Any edit, any line taken out or put in between breaks the chain at that line. What
//! was cut off at the end shows beside the sequence and hash that were kept elsewhere.
//!
//! The files are their process's to write and nobody's to change; a new one begins each day, or at 64 MB. What an event says is the business
//! of who writes it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A file is ended at this size.
const LARGEST: u64 = 64 << 20;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line<'a> {
    /// From 1, without gaps.
    pub sequence: u64,
    /// The hash of the line before; 64 zeros for the first.
    pub previous: String,
    /// Of this line.
    pub hash: String,
    /// Of the write that it is of; 0 where it is of none.
    pub revision: u64,
    /// One JSON text.
    #[serde(borrow)]
    pub event: &'a RawValue,
}

/// Where a chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of the last line; 0 before the first.
    pub sequence: u64,
    /// Of the last line.
    pub hash: String,
    /// Of the last line.
    pub revision: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self { sequence: 0, hash: "0".repeat(64), revision: 0 }
    }
}

fn hash_of(previous: &str, revision: u64, event: &str) -> String {
    let text = format!("{previous}\n{revision}\n{event}");
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A trail that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A line is not what it was.
    #[error("{path}:{line}: {what}")]
    Line {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// Follows the chain through all files of a folder; the head that it ends at.
///
/// # Errors
/// The first place where it does not hold.
pub fn verify(folder: &Path) -> Result<Head, Broken> {
    let mut head = Head::default();
    for path in files(folder).map_err(|error| unreadable(folder, error))? {
        let shown = path.display().to_string();
        let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        for (index, text) in BufReader::new(file).lines().enumerate() {
            let text = text.map_err(|error| unreadable(&path, error))?;
            let broken = |what: String| Broken::Line { path: shown.clone(), line: index + 1, what };
            head = next(&head, &text).map_err(broken)?;
        }
    }
    Ok(head)
}

fn unreadable(path: &Path, error: io::Error) -> Broken {
    Broken::Unreadable { path: path.display().to_string(), error }
}

fn next(head: &Head, text: &str) -> Result<Head, String> {
    let line: Line<'_> =
        serde_json::from_str(text).map_err(|error| format!("is no line of a trail: {error}"))?;
    if line.sequence != head.sequence + 1 {
        return Err(format!("is number {}, after number {}", line.sequence, head.sequence));
    }
    if line.previous != head.hash {
        return Err("does not follow the line before: one was changed, or taken out".to_owned());
    }
    if line.hash != hash_of(&line.previous, line.revision, line.event.get()) {
        return Err("was changed: its hash is of something else".to_owned());
    }
    // What is between the fields is not under the hash, so only one spelling is taken.
    if serde_json::to_string(&line).ok().as_deref() != Some(text) {
        return Err("is not spelled as it was written".to_owned());
    }
    Ok(Head { sequence: line.sequence, hash: line.hash, revision: line.revision })
}

/// In the order in which they were begun.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads the lines of a trail that is being written, from its beginning on.
pub struct Tail {
    folder: PathBuf,
    current: Option<(PathBuf, BufReader<File>)>,
    /// What was read of a line that is not written to its end.
    begun: Vec<u8>,
}

impl Tail {
    /// Of the files in `folder`, which may come later.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), current: None, begun: Vec::new() }
    }

    /// The next line, as it stands; `None` when there is none yet.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some((_, file)) = &mut self.current {
                file.read_until(b'\n', &mut self.begun)?;
                if self.begun.last() == Some(&b'\n') {
                    self.begun.pop();
                    let line = String::from_utf8(std::mem::take(&mut self.begun));
                    return line.map(Some).map_err(io::Error::other);
                }
            }
            let Some(path) = self.next_file()? else { return Ok(None) };
            self.begun.clear();
            self.current = Some((path.clone(), BufReader::new(File::open(path)?)));
        }
    }

    /// The file after the present one; nothing is written to a file once there is one after it.
    fn next_file(&self) -> io::Result<Option<PathBuf>> {
        let present = self.current.as_ref().map(|(path, _)| path);
        Ok(files(&self.folder)?
            .into_iter()
            .find(|path| present.is_none_or(|present| path > present)))
    }
}

/// Writes a trail. Nobody else writes into its folder.
pub struct Chain {
    folder: PathBuf,
    /// What the files' names begin with.
    prefix: &'static str,
    head: Head,
    open: Option<Open>,
}

struct Open {
    file: File,
    size: u64,
    day: i64,
}

impl Chain {
    /// Goes on where the files end. A line that was cut off while it was written is taken away: nobody was told that it is there.
    ///
    /// # Errors
    /// When the folder cannot be used, or what is in it is no trail.
    pub fn open(folder: &Path, prefix: &'static str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut head = Head::default();
        for path in files(folder)?.iter().rev() {
            if let Some(last) = last_line(path)? {
                let Line { sequence, hash, revision, .. } =
                    serde_json::from_str(&last).map_err(|error| {
                        let path = path.display();
                        io::Error::other(format!("`{path}` ends with no line of a trail: {error}"))
                    })?;
                head = Head { sequence, hash, revision };
                break;
            }
        }
        Ok(Self { folder: folder.to_owned(), prefix, head, open: None })
    }

    /// Where it stands.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Writes events, each a revision and a JSON text on one line, and syncs them. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When an event is no JSON, or the file fails; then nothing is written, and the same may be tried again.
    pub fn append<'a>(
        &mut self,
        events: impl IntoIterator<Item = (u64, &'a str)>,
        now: i64,
    ) -> io::Result<()> {
        let mut head = self.head.clone();
        let mut text = String::new();
        for (revision, event) in events {
            let raw: &RawValue = serde_json::from_str(event).map_err(io::Error::other)?;
            let previous = head.hash;
            let hash = hash_of(&previous, revision, event);
            head = Head { sequence: head.sequence + 1, hash: hash.clone(), revision };
            let line = Line { sequence: head.sequence, previous, hash, revision, event: raw };
            text.push_str(&serde_json::to_string(&line).map_err(io::Error::other)?);
            text.push('\n');
        }
        if text.is_empty() {
            return Ok(());
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
        self.head = head;
        Ok(())
    }

    fn file(&mut self, now: i64) -> io::Result<&mut Open> {
        let day = now.div_euclid(86_400);
        let fits = self.open.as_ref().is_some_and(|open| open.day == day && open.size < LARGEST);
        if !fits {
            // Numbered by its first line, so that names are in order and never met twice.
            let name = format!("{}-{:020}.jsonl", self.prefix, self.head.sequence + 1);
            // Begun before, and nothing was written, if it is there already.
            let mut options = OpenOptions::new();
            let options = options.create(true).append(true).read(true).mode(0o600);
            let file = options.open(self.folder.join(name))?;
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
        tracing::warn!(path = %path.display(), "the last line of an audit trail was cut off, and is taken away");
        file.set_len(u64::try_from(whole).unwrap_or_default())?;
        file.sync_data()?;
    }
    Ok(text.get(..whole).and_then(|text| text.lines().last()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path) -> Chain {
        let mut chain = Chain::open(folder, "audit").unwrap();
        for (revision, name) in [(3, "a"), (5, "b"), (9, "c")] {
            let event = format!(r#"{{"eventName":"{name}"}}"#);
            chain.append([(revision, event.as_str())], 0).unwrap();
        }
        chain
    }

    fn only_file(folder: &Path) -> PathBuf {
        let mut files = files(folder).unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    #[test]
    fn any_changed_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let head = written(folder.path()).head().clone();
        assert_eq!(verify(folder.path()).unwrap(), head);
        let path = only_file(folder.path());
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            for change in [0x01, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= change;
                fs::write(&path, &bad).unwrap();
                // The very last line feed is nothing of the last line's.
                let is_end = at + 1 == good.len();
                assert!(verify(folder.path()).is_err() || is_end, "byte {at} with {change:#x}");
            }
        }
        let text = String::from_utf8(good.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (left, line) in
            [(vec![0, 2], 2), (vec![1, 2], 1), (vec![0, 2, 1], 2), (vec![0, 1, 1], 3)]
        {
            let some: String = left.iter().map(|at| format!("{}\n", lines[*at])).collect();
            fs::write(&path, some).unwrap();
            let error = verify(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!(".jsonl:{line}: ")), "{left:?}: {error}");
        }
        // Cut off at its end the chain holds, and its head is another.
        fs::write(&path, format!("{}\n{}\n", lines[0], lines[1])).unwrap();
        assert_ne!(verify(folder.path()).unwrap(), head);
    }

    #[test]
    fn a_tail_follows_from_file_to_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(folder.path());
        assert_eq!(tail.next_line().unwrap(), None);
        let mut chain = written(folder.path());
        let read = |tail: &mut Tail| {
            let mut sequences = Vec::new();
            while let Some(text) = tail.next_line().unwrap() {
                sequences.push(serde_json::from_str::<Line<'_>>(&text).unwrap().sequence);
            }
            sequences
        };
        assert_eq!(read(&mut tail), [1, 2, 3]);
        // A new day, a new file; and a line that is half there is not read.
        chain.append([(11, "{}"), (12, "{}")], 86_400).unwrap();
        let last = files(folder.path()).unwrap().pop().unwrap();
        let whole = fs::read(&last).unwrap();
        fs::write(&last, &whole[..whole.len() - 10]).unwrap();
        assert_eq!(read(&mut tail), [4]);
        let mut file = OpenOptions::new().append(true).open(&last).unwrap();
        file.write_all(&whole[whole.len() - 10..]).unwrap();
        assert_eq!(read(&mut tail), [5]);
        assert!(read(&mut tail).is_empty());
    }

    #[test]
    fn it_goes_on_after_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let before = written(folder.path()).head().clone();
        let path = only_file(folder.path());
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str(r#"{"sequence":4,"prev"#);
        fs::write(&path, text).unwrap();
        let mut chain = Chain::open(folder.path(), "audit").unwrap();
        assert_eq!(*chain.head(), before);
        chain.append([(11, "{}")], 0).unwrap();
        assert_eq!(verify(folder.path()).unwrap().sequence, 4);
        // A new file a day.
        chain.append([(12, "{}")], 86_400).unwrap();
        assert_eq!(verify(folder.path()).unwrap().sequence, 5);
        assert!(files(folder.path()).unwrap().len() >= 2);
    }

    #[test]
    fn what_is_no_trail_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.jsonl"), "hello\n").unwrap();
        let error = Chain::open(folder.path(), "audit").err().unwrap().to_string();
        assert!(error.contains("x.jsonl"), "{error}");
    }
}
