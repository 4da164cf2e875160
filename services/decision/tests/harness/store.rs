//! A policy store that knows Watch alone, and does as the test says.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use countersign_proto::policy::v1::{
    Record, WatchChange, WatchHeartbeat, WatchRequest, WatchResponse, WatchSnapshotChunk,
    watch_response::Event,
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Response, Status, Streaming, body::Body, server::NamedService, transport::Server};
use tower::Service;

type Events = ReceiverStream<Result<WatchResponse, Status>>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    held: Arc<Mutex<Held>>,
    /// What followers are told; `None` ends their streams.
    events: broadcast::Sender<Option<Event>>,
    open: watch::Sender<bool>,
}

struct Held {
    store_id: String,
    number: u64,
    records: BTreeMap<String, Record>,
}

impl Held {
    fn revision(&self) -> String {
        format!("{}:{}", self.store_id, self.number)
    }
}

impl Store {
    pub fn new(records: Vec<Record>) -> Self {
        let records = records.into_iter().map(|record| (record.key.clone(), record)).collect();
        let held = Held { store_id: "aaaa".into(), number: 10, records };
        Self {
            held: Arc::new(Mutex::new(held)),
            events: broadcast::channel(64).0,
            open: watch::channel(false).0,
        }
    }

    /// From now on followers are answered.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub fn revision(&self) -> String {
        self.held.lock().unwrap().revision()
    }

    /// The revision that the next commit will have.
    pub fn next_revision(&self) -> String {
        let held = self.held.lock().unwrap();
        format!("{}:{}", held.store_id, held.number + 1)
    }

    pub fn put(&self, record: Record) -> String {
        self.commit(vec![record], Vec::new())
    }

    pub fn delete(&self, key: &str) -> String {
        self.commit(Vec::new(), vec![key.to_owned()])
    }

    fn commit(&self, put: Vec<Record>, deleted: Vec<String>) -> String {
        let mut held = self.held.lock().unwrap();
        held.number += 1;
        for key in &deleted {
            held.records.remove(key).expect("there is something to delete");
        }
        for record in &put {
            held.records.insert(record.key.clone(), record.clone());
        }
        let revision = held.revision();
        let _ = self.events.send(Some(Event::Change(WatchChange {
            revision: revision.clone(),
            put,
            deleted,
        })));
        revision
    }

    /// As after an import: the same records, another store, and everybody begins again.
    pub fn import(&self) -> String {
        let mut held = self.held.lock().unwrap();
        held.store_id = "bbbb".into();
        held.number = 3;
        let _ = self.events.send(None);
        held.revision()
    }

    /// Is away from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
        let _ = self.events.send(None);
    }

    pub async fn serve(self, listener: TcpListener) {
        Server::builder()
            .add_service(self)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    }

    async fn follow(self, responses: mpsc::Sender<Result<WatchResponse, Status>>) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        let (snapshot, mut events) = {
            let held = self.held.lock().unwrap();
            let snapshot = WatchSnapshotChunk {
                revision: held.revision(),
                first: true,
                last: true,
                records: held.records.values().cloned().collect(),
            };
            (snapshot, self.events.subscribe())
        };
        let mut event = Event::SnapshotChunk(snapshot);
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        while responses.send(Ok(WatchResponse { event: Some(event) })).await.is_ok() {
            event = loop {
                tokio::select! {
                    event = events.recv() => match event.unwrap() {
                        Some(event) => break event,
                        None => return,
                    },
                    _ = beat.tick() => if let Some(event) = self.heartbeat(&events) { break event },
                }
            };
        }
    }

    /// None while a change is under way: a heartbeat promises that all changes up to it were sent.
    fn heartbeat(&self, events: &broadcast::Receiver<Option<Event>>) -> Option<Event> {
        let held = self.held.lock().unwrap();
        let beat = WatchHeartbeat { revision: held.revision(), digest: None };
        events.is_empty().then_some(Event::Heartbeat(beat))
    }
}

impl NamedService for Store {
    const NAME: &'static str = "countersign.policy.v1.PolicyStoreService";
}

impl Service<http::Request<Body>> for Store {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        assert_eq!(request.uri().path(), "/countersign.policy.v1.PolicyStoreService/Watch");
        let store = self.clone();
        let watch = tower::service_fn(move |_: tonic::Request<Streaming<WatchRequest>>| {
            let store = store.clone();
            async move {
                let (sender, receiver) = mpsc::channel(16);
                tokio::spawn(store.follow(sender));
                Ok::<Response<Events>, Status>(Response::new(ReceiverStream::new(receiver)))
            }
        });
        Box::pin(async move {
            let codec: tonic_prost::ProstCodec<WatchResponse, WatchRequest> =
                tonic_prost::ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).streaming(watch, request).await)
        })
    }
}
