//! Carrying a store in a file: round trip, damage, cut-off, the wrong key.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use countersign_policy_store::{
    Place,
    transfer::{
        self, Checked, Pace, Start, TransferError, check, export, import, make_store, open_store,
    },
};
use countersign_proto::policy::v1::*;
use countersign_store::{
    Change, CommitError, Entry, Precondition, Revision, Store, StoreError, StoreFuture, StoreId,
    Write,
};
use prost::Message;

use crate::support::{ACCOUNT, TestStore, new_user};

const MANY: usize = 10_000;
/// The form of the records that these tests write past the service.
const FORM: u8 = 2;

/// A stopped service with one access key, and `MANY` users written past it.
async fn filled() -> TestStore {
    // In its folder, wherever the other tests keep theirs.
    let mut store = TestStore::prepared(tempfile::tempdir().unwrap(), Place::DataFolder);
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("alice")).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    iam.create_access_key(request).await.unwrap();
    store.stop().await;
    let users: Vec<Write> = (0..MANY).map(user).collect();
    let engine = opened(&store.path().join("store")).await.unwrap();
    for writes in users.chunks(100) {
        engine.commit(Vec::new(), writes.to_vec()).await.unwrap();
    }
    store
}

fn user(number: usize) -> Write {
    let record = UserRecord {
        account_id: ACCOUNT.into(),
        path: "/".into(),
        user_name: format!("U{number:05}"),
        user_id: format!("AIDA{number:017}"),
        ..Default::default()
    };
    let value = [vec![FORM], record.encode_to_vec()].concat();
    Write::Put { key: format!("user/{ACCOUNT}/u{number:05}").into(), value: value.into() }
}

async fn opened(folder: &Path) -> Result<Arc<dyn Store>, TransferError> {
    open_store(&Place::Sled(folder.into()), folder).await
}

async fn made(folder: &Path) -> Result<Arc<dyn Store>, TransferError> {
    make_store(&Place::Sled(folder.into()), folder).await
}

fn key_of(folder: &Path) -> PathBuf {
    folder.join("sealing.key")
}

async fn exported(store: &TestStore, file: &Path) -> Checked {
    let engine = opened(&store.path().join("store")).await.unwrap();
    let key = key_of(store.path());
    let (_, contents) =
        export(engine.as_ref(), Pace::Alone, Some(&key), file, &mut |_, _, _| {}).await.unwrap();
    let checked = checked(file, &key).unwrap();
    assert_eq!(*checked.contents(), contents);
    checked
}

fn checked(file: &Path, key: &Path) -> Result<Checked, TransferError> {
    check(file, Some(key), &mut |_, _, _| {})
}

async fn imported(
    engine: &Arc<dyn Store>,
    checked: &Checked,
    start: Start,
) -> Result<(), TransferError> {
    import(engine, checked, start, &mut |_, _, _| {}).await.map(drop)
}

/// The service, on the store in another folder.
async fn serve_from(store: &mut TestStore, folder: tempfile::TempDir) -> Result<(), String> {
    fs::copy(key_of(store.path()), key_of(folder.path())).unwrap();
    store.folder = folder;
    store.run(ACCOUNT).await
}

#[tokio::test]
async fn what_comes_out_is_what_went_in_and_another_store() {
    let mut store = filled().await;
    let file = store.path().join("all.cse");
    let whole = exported(&store, &file).await;
    assert_eq!(whole.contents().counts["user"], MANY as u64 + 1);
    assert_eq!(whole.contents().counts["x/secret"], 2);
    let bytes = fs::read(&file).unwrap();
    let key = fs::read(key_of(store.path())).unwrap();
    assert!(!bytes.windows(key.len()).any(|window| window == key), "the sealing key is in it");
    assert!(!file.with_extension("cse.partial").exists());

    let folder = tempfile::tempdir().unwrap();
    let engine = made(&folder.path().join("store")).await.unwrap();
    imported(&engine, &whole, Start::Fresh).await.unwrap();
    assert_ne!(engine.id().to_string(), whole.origin().store_id);
    // All of it again, from the copy.
    let again = folder.path().join("again.cse");
    let (_, contents) =
        export(engine.as_ref(), Pace::AmongOthers, None, &again, &mut |_, _, _| {}).await.unwrap();
    assert_eq!(contents, *whole.contents());
    drop(engine);

    serve_from(&mut store, folder).await.unwrap();
    // A session of the old store is of a revision that the new one cannot know.
    let request = || GetUserRequest { user_name: "u00007".into() };
    assert!(store.admin().await.get_user(request()).await.is_err());
    store.publish_key().await;
    let found = store.admin().await.get_user(request()).await.unwrap().into_inner();
    assert_eq!(found.user.unwrap().user_name, "U00007");
}

#[tokio::test]
async fn one_wrong_byte_is_found_and_its_chunk_named() {
    let store = filled().await;
    let file = store.path().join("all.cse");
    exported(&store, &file).await;
    let good = fs::read(&file).unwrap();
    let chunks = chunks(&good);
    assert!(chunks.len() > 4, "{chunks:?}");
    let last = chunks.len() - 1;
    let key = key_of(store.path());
    let check = |what: &str, bytes: &[u8], expected: Option<u64>| {
        let damaged = store.path().join("damaged.cse");
        fs::write(&damaged, bytes).unwrap();
        let error = checked(&damaged, &key).expect_err(what);
        match (&error, expected) {
            (TransferError::Damaged { chunk, .. }, Some(expected)) => {
                assert_eq!(*chunk, expected, "{what}: {error}");
            }
            (TransferError::NotAnExport(_), None) => {}
            _ => panic!("{what}: {error}"),
        }
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    check("the first line", &flipped(3), None);
    for chunk in [0, 1, 2, last] {
        let (start, length) = chunks[chunk];
        for (what, at) in [("length", 3), ("high length", 0), ("digest", 4), ("content", 36)] {
            let what = format!("{what} of {chunk}");
            check(&what, &flipped(start + at), Some(chunk as u64));
        }
        check("the last byte", &flipped(start + length - 1), Some(chunk as u64));
    }
    let (end, _) = chunks[last];
    check("without its end", &good[..end], Some(last as u64));
    check("cut within a chunk", &good[..chunks[2].0 + 40], Some(2));
    check("with more behind it", &[good.as_slice(), b"x"].concat(), Some(last as u64 + 1));
    let (second, third) = (chunks[2].0, chunks[3].0);
    check("a chunk left out", &[&good[..second], &good[third..]].concat(), Some(2));
    check("a chunk twice", &[&good[..third], &good[second..]].concat(), Some(3));
    check("empty", b"", None);
}

/// Where each chunk begins, and how long it is.
fn chunks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut chunks = Vec::new();
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + 36;
        chunks.push((at, length));
        at += length;
    }
    chunks
}

/// A store that takes so many commits, and then none.
struct Failing {
    inner: Arc<dyn Store>,
    commits: AtomicUsize,
}

impl Store for Failing {
    fn id(&self) -> &StoreId {
        self.inner.id()
    }
    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Entry>> {
        self.inner.get(key)
    }
    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        self.inner.range(prefix, after, limit)
    }
    fn snapshot<'a>(&'a self, prefixes: &'a [&'a [u8]]) -> StoreFuture<'a, (u64, Vec<Entry>)> {
        self.inner.snapshot(prefixes)
    }
    fn commit(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> StoreFuture<'_, Revision, CommitError> {
        let left = self
            .commits
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => self.inner.commit(preconditions, writes),
            Err(_) => Box::pin(async {
                Err(StoreError::Unavailable("as the test wants it".into()).into())
            }),
        }
    }
    fn head(&self) -> StoreFuture<'_, u64> {
        self.inner.head()
    }
    fn changes_since(&self, after: u64, limit: usize) -> StoreFuture<'_, Vec<Change>> {
        self.inner.changes_since(after, limit)
    }
    fn watch_head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.watch_head()
    }
}

#[tokio::test]
async fn a_half_done_import_is_no_store_until_it_is_resumed() {
    let mut store = filled().await;
    let file = store.path().join("all.cse");
    let whole = exported(&store, &file).await;
    // Another export, of the same store a little later.
    let engine = opened(&store.path().join("store")).await.unwrap();
    engine.commit(Vec::new(), vec![user(MANY)]).await.unwrap();
    drop(engine);
    let other = exported(&store, &store.path().join("other.cse")).await;

    // After the mark alone, in the middle, and just before the mark would be taken away: a commit takes at most 128 entries.
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    let mut start = Start::Fresh;
    for commits in [1, 20, 30] {
        let inner = made(&place).await.unwrap();
        let failing: Arc<dyn Store> = Arc::new(Failing { inner, commits: commits.into() });
        let error = imported(&failing, &whole, start).await.expect_err("it was cut off");
        assert!(matches!(error, TransferError::Store(StoreError::Unavailable(_))), "{error}");
        start = Start::Resume;
    }
    let engine = opened(&place).await.unwrap();
    for (what, outcome) in [
        ("begun again", imported(&engine, &whole, Start::Fresh).await),
        ("another file", imported(&engine, &other, Start::Resume).await),
        (
            "exported",
            export(engine.as_ref(), Pace::Alone, None, &folder.path().join("x"), &mut |_, _, _| {})
                .await
                .map(drop),
        ),
    ] {
        assert!(matches!(outcome, Err(TransferError::HalfDone { .. })), "{what}: {outcome:?}");
    }
    drop(engine);
    let original = std::mem::replace(&mut store.folder, tempfile::tempdir().unwrap());
    fs::copy(key_of(original.path()), key_of(folder.path())).unwrap();
    store.folder = folder;
    let refused = store.run(ACCOUNT).await.unwrap_err();
    assert!(refused.contains("half-done import"), "{refused}");

    let engine = opened(&place).await.unwrap();
    imported(&engine, &whole, Start::Resume).await.unwrap();
    let again = imported(&engine, &whole, Start::Resume).await;
    assert!(matches!(again, Err(TransferError::NothingToResume)), "{again:?}");
    drop(engine);
    store.run(ACCOUNT).await.unwrap();
}

#[tokio::test]
async fn what_an_import_finds_besides_is_noticed() {
    let store = filled().await;
    let whole = exported(&store, &store.path().join("all.cse")).await;
    let folder = tempfile::tempdir().unwrap();
    let inner = made(folder.path()).await.unwrap();
    let failing: Arc<dyn Store> = Arc::new(Failing { inner, commits: 5.into() });
    imported(&failing, &whole, Start::Fresh).await.expect_err("it was cut off");
    drop(failing);
    let engine = opened(folder.path()).await.unwrap();
    engine.commit(Vec::new(), vec![user(MANY)]).await.unwrap();
    let outcome = imported(&engine, &whole, Start::Resume).await;
    assert!(matches!(outcome, Err(TransferError::NotAsWritten { .. })), "{outcome:?}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let store = filled().await;
    let file = store.path().join("all.cse");
    let whole = exported(&store, &file).await;
    let other_key = store.path().join("other.key");
    fs::write(&other_key, [7; 32]).unwrap();
    let check = |outcome: Result<(), TransferError>, expected: &str| {
        let message = outcome.expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(checked(&file, &other_key).map(drop), "is not the one that the secrets are sealed under");
    check(checked(&file, &store.path().join("gone.key")).map(drop), "gone.key");
    check(opened(&store.path().join("nowhere")).await.map(drop), "there is no store");
    assert!(!store.path().join("nowhere").exists(), "looking made it");

    let empty = made(&store.path().join("empty")).await.unwrap();
    let nothing = store.path().join("nothing.cse");
    let outcome = export(empty.as_ref(), Pace::Alone, None, &nothing, &mut |_, _, _| {}).await;
    check(outcome.map(drop), "nothing to export");
    assert!(!nothing.exists());

    let engine = opened(&store.path().join("store")).await.unwrap();
    check(imported(&engine, &whole, Start::Fresh).await, "not empty");
    check(imported(&engine, &whole, Start::Resume).await, "leave --resume away");
    check(opened(&store.path().join("store")).await.map(drop), "in use");
    let out = |key: PathBuf, file: PathBuf| {
        let engine = engine.clone();
        async move {
            export(engine.as_ref(), Pace::Alone, Some(&key), &file, &mut |_, _, _| {})
                .await
                .map(drop)
        }
    };
    check(out(key_of(store.path()), file.clone()).await, "exists");
    let new = store.path().join("new.cse");
    check(out(other_key, new.clone()).await, "is not the one");
    // What this version does not know is refused, and leaves nothing behind.
    for (key, form, expected) in [
        ("moon/1", FORM, "of no kind"),
        ("user/1/u", 99, "newer version"),
        ("x/later/1", 99, "newer version"),
    ] {
        let put = Write::Put { key: key.into(), value: vec![form].into() };
        engine.commit(Vec::new(), vec![put]).await.unwrap();
        check(out(key_of(store.path()), new.clone()).await, expected);
        engine.commit(Vec::new(), vec![Write::Delete { key: key.into() }]).await.unwrap();
    }
    assert!(!new.exists() && !store.path().join("new.cse.partial").exists());
}

/// A backup of a store that is being written to: what was acknowledged before it is in it.
#[tokio::test]
async fn a_running_store_is_copied_and_exported() {
    let mut store = TestStore::prepared(tempfile::tempdir().unwrap(), Place::DataFolder);
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("before")).await.unwrap();
    let mut writing = iam.clone();
    let going = tokio::spawn(async move {
        for number in 0..200 {
            writing.create_user(new_user(&format!("during{number}"))).await.unwrap();
        }
    });
    let (to, file) = (store.path().join("all.copy"), store.path().join("all.cse"));
    assert!(transfer::is_in_use(&opened(&store.path().join("store")).await.map(drop).unwrap_err()));
    let copy = transfer::copy_store(&Place::DataFolder, store.path(), &to).await.unwrap();
    let key = key_of(store.path());
    export(copy.as_ref(), Pace::Alone, Some(&key), &file, &mut |_, _, _| {}).await.unwrap();
    drop(copy);
    let whole = checked(&file, &key).unwrap();
    let engine = made(&store.path().join("other")).await.unwrap();
    imported(&engine, &whole, Start::Fresh).await.unwrap();
    let key = format!("user/{ACCOUNT}/before");
    assert!(engine.get(key.as_bytes()).await.unwrap().is_some());
    going.await.unwrap();
    store.stop().await;
    let nowhere = store.path().join("nowhere");
    let outcome = transfer::copy_store(&Place::DataFolder, &nowhere, &to).await.map(drop);
    assert!(outcome.unwrap_err().to_string().contains("there is no store"));
}
