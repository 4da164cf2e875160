//! Certificates, keys and authorities that change while calls are made.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use countersign_serve::{
    dial::{self, Trust},
    tls::Part,
};

use crate::{
    authority::{Authority, Wish, part, write},
    server::{ask, ask_over, serve},
};

const STORE: &str = "spiffe://example.org/countersign/policy-store";
const GATEWAY: &str = "spiffe://example.org/countersign/gateway";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_everything_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = format!("{}{}", old.pem, new.pem);
    let store = part(folder.path(), &old, Part::PolicyStore, &old.pem);
    let gateway = part(folder.path(), &old, Part::Gateway, &old.pem);
    let origin = serve(Some(store.clone())).await;

    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers = (0..4).map(|number| {
        let (over, calls, origin, gateway) =
            (over.clone(), calls.clone(), origin.clone(), gateway.clone());
        tokio::spawn(async move {
            let trust = Trust::Part(Part::PolicyStore, gateway);
            let kept = dial::channel(&origin, trust.clone()).unwrap();
            while !over.load(Ordering::Relaxed) {
                // Half of them keep their connection, and half make a new one each time.
                let asked = if number % 2 == 0 {
                    ask_over(kept.clone()).await
                } else {
                    ask(&origin, trust.clone()).await
                };
                assert_eq!(asked.as_deref(), Ok("gateway"));
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let more_calls = async || {
        let enough = calls.load(Ordering::Relaxed) + 40;
        while calls.load(Ordering::Relaxed) < enough
            && callers.iter().all(|task| !task.is_finished())
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    // As an operator does it: first both authorities everywhere, then new certificates, then the new authority alone.
    let steps: [(&Authority, &str); 4] =
        [(&old, &both), (&new, &both), (&new, &both), (&new, &new.pem)];
    for (authority, ca) in steps {
        for (tls, part, id) in [(&store, "policy-store", STORE), (&gateway, "gateway", GATEWAY)] {
            write(&folder.path().join(part), authority.issue(Wish::of(id)), ca);
            assert!(tls.reload().unwrap());
            assert!(!tls.reload().unwrap());
            more_calls().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) >= 8 * 40);
    // The old authority is believed no more.
    let stale = part(&folder.path().join("stale"), &old, Part::Gateway, &old.pem);
    assert!(ask(&origin, Trust::Part(Part::PolicyStore, stale)).await.is_err());
}

#[tokio::test]
async fn bad_new_files_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let store = part(folder.path(), &ours, Part::PolicyStore, &ours.pem);
    let gateway = part(folder.path(), &ours, Part::Gateway, &ours.pem);
    let origin = serve(Some(store.clone())).await;
    let place = folder.path().join("policy-store");
    let check = async |break_it: &dyn Fn(), expected: &str| {
        write(&place, ours.issue(Wish::of(STORE)), &ours.pem);
        break_it();
        let error = store.reload().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let asked = ask(&origin, Trust::Part(Part::PolicyStore, gateway.clone())).await;
        assert_eq!(asked.as_deref(), Ok("gateway"));
    };
    check(&|| fs::remove_file(place.join("tls.crt")).unwrap(), "cannot read").await;
    check(&|| fs::write(place.join("tls.key"), "").unwrap(), "no private key").await;
    let half = || {
        fs::write(place.join("tls.crt"), ours.issue(Wish::of(STORE)).0).unwrap();
    };
    check(&half, "is not the one of the certificate").await;
    let old = || {
        let wish = Wish { years: (2020, 2021), ..Wish::of(STORE) };
        write(&place, ours.issue(wish), &ours.pem);
    };
    check(&old, "expired").await;
    write(&place, ours.issue(Wish::of(STORE)), &ours.pem);
    assert!(store.reload().unwrap());
}

#[tokio::test]
async fn files_are_looked_at_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let store = part(folder.path(), &ours, Part::PolicyStore, &ours.pem);
    store.keep_fresh();
    let before = store.not_after();
    let wish = Wish { years: (2020, 3000), ..Wish::of(STORE) };
    write(&folder.path().join("policy-store"), ours.issue(wish), &ours.pem);
    let changed = async {
        while store.not_after() == before {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), changed).await.unwrap();
}
