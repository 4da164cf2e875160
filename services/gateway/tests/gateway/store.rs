//! A policy store in memory, as far as a gateway needs one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use countersign_proto::policy::v1::{
    AccessKeyRecord, ConsumeProofRequest, ConsumeProofResponse, DeriveSigningKeyRequest,
    DeriveSigningKeyResponse, ListSigningKeysRequest, ListSigningKeysResponse, PinPrincipalRequest,
    PinPrincipalResponse, PublishSigningKeyRequest, PublishSigningKeyResponse, Record,
    RecordUsesRequest, RecordUsesResponse, RevokeTokenRequest, RevokeTokenResponse,
    SigningKeyRecord, SigningKeyStatus, Use, WatchChange, WatchHeartbeat, WatchRequest,
    WatchResponse, WatchSnapshotChunk, record, watch_request, watch_response,
};
use countersign_serve::{Fault, ServiceIdentities, ServiceName};
use countersign_sigv4::{SecretKey, derive};
use countersign_token::{PublicKey, SigningKey};
use http::Request;
use prost_types::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, body::Body};

use crate::{
    rpc::{self, Answer, Rpcs},
    system::now,
};

pub const STORE_ID: &str = "teststore";
/// The revision of every spent proof.
pub const CONSUMED_AT: &str = "teststore:9";

pub struct Store {
    identities: ServiceIdentities,
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
pub struct Inner {
    /// What the next pins are refused for.
    pub pin_refused: Option<&'static str>,
    pub pin_asked: Option<PinPrincipalRequest>,
    records: BTreeMap<String, Record>,
    log: Vec<(u64, WatchChange)>,
    acknowledged: u64,
    secrets: HashMap<String, (SecretKey, AccessKeyRecord, String)>,
    pub consumed: HashSet<String>,
    pub pins: HashMap<String, String>,
    pub uses: Vec<Use>,
    /// Tokens, by name.
    pub revoked: Vec<String>,
    /// RPCs that answer UNAVAILABLE.
    pub away: HashSet<&'static str>,
    pub lease: i64,
    pub calls: HashMap<String, usize>,
}

impl Store {
    pub fn new(identities: ServiceIdentities) -> Arc<Self> {
        let inner = Inner { lease: 3600, ..Inner::default() };
        Arc::new(Self { identities, inner: Mutex::new(inner), revision: watch::channel(1).0 })
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    pub fn calls(&self, rpc: &str) -> usize {
        self.with(|inner| inner.calls.get(rpc).copied().unwrap_or(0))
    }

    pub fn add_key(&self, secret: &str, record: AccessKeyRecord, arn: &str) {
        let id = record.access_key_id.clone();
        self.with(|inner| {
            inner
                .secrets
                .insert(id.clone(), (SecretKey::new(secret), record.clone(), arn.to_owned()));
        });
        self.put(&format!("access-key/{id}"), record::Record::AccessKey(record));
    }

    fn put(&self, key: &str, value: record::Record) -> String {
        let mut inner = self.inner.lock().unwrap();
        let number = *self.revision.borrow() + 1;
        let revision = format!("{STORE_ID}:{number}");
        let record = Record { key: key.to_owned(), record: Some(value), format: 1, version: 0 };
        inner.records.insert(key.to_owned(), record.clone());
        let change =
            WatchChange { revision: revision.clone(), put: vec![record], deleted: Vec::new() };
        inner.log.push((number, change));
        drop(inner);
        self.revision.send_replace(number);
        revision
    }

    fn publish(
        &self,
        request: &PublishSigningKeyRequest,
    ) -> Result<PublishSigningKeyResponse, Status> {
        let public = PublicKey::from_jwk(&request.jwk)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let at = |seconds: i64| Some(Timestamp { seconds: now() + seconds, nanos: 0 });
        let lease = self.with(|inner| inner.lease);
        let record = SigningKeyRecord {
            kid: public.kid().to_owned(),
            jwk: request.jwk.clone(),
            publisher: "gateway".into(),
            publish_date: at(0),
            signs_until: at(lease),
            accept_until: at(lease + 43_200),
            revoked: false,
        };
        let key = format!("signing-key/{}", record.kid);
        let revision = self.put(&key, record::Record::SigningKey(record.clone()));
        Ok(PublishSigningKeyResponse { signing_key: Some(record), revision })
    }

    /// As another gateway does it.
    pub fn publish_another(&self) {
        let jwk = SigningKey::generate().unwrap().public().to_jwk();
        self.publish(&PublishSigningKeyRequest { jwk }).unwrap();
    }

    pub fn revoke_all_keys(&self) {
        let keys: Vec<_> = self.with(|inner| inner.records.values().cloned().collect());
        for Record { key, record, format: _, version: _ } in keys {
            if let Some(record::Record::SigningKey(mut record)) = record {
                record.revoked = true;
                self.put(&key, record::Record::SigningKey(record));
            }
        }
    }

    fn list(&self) -> ListSigningKeysResponse {
        let inner = self.inner.lock().unwrap();
        let signing_keys =
            inner.log.iter().filter_map(|(number, change)| match &change.put.first()?.record {
                Some(record::Record::SigningKey(record)) => Some(SigningKeyStatus {
                    signing_key: Some(record.clone()),
                    revision: change.revision.clone(),
                    acknowledged: inner.acknowledged >= *number,
                }),
                _ => None,
            });
        ListSigningKeysResponse { signing_keys: signing_keys.collect(), ..Default::default() }
    }

    fn derive(
        &self,
        request: &DeriveSigningKeyRequest,
    ) -> Result<DeriveSigningKeyResponse, Status> {
        let inner = self.inner.lock().unwrap();
        let (secret, record, arn) = inner
            .secrets
            .get(&request.access_key_id)
            .ok_or_else(|| Fault::new(Code::NotFound, "NoSuchEntity", "no such key"))?;
        let key = derive(secret, &request.date, &request.region, &request.service_name);
        Ok(DeriveSigningKeyResponse {
            derived_key: key.as_bytes().to_vec(),
            access_key: Some(record.clone()),
            arn: arn.clone(),
        })
    }

    fn consume(&self, request: ConsumeProofRequest) -> Result<ConsumeProofResponse, Status> {
        let expire =
            request.expire_time.ok_or_else(|| Status::invalid_argument("expire_time"))?.seconds;
        if expire < now() + 800 || expire > now() + 3600 {
            return Err(Status::invalid_argument("expire_time"));
        }
        if self.with(|inner| inner.consumed.insert(request.replay_key)) {
            Ok(ConsumeProofResponse { revision: CONSUMED_AT.into() })
        } else {
            Err(Fault::new(Code::AlreadyExists, "ProofAlreadyUsed", "used").into())
        }
    }

    fn pin(&self, request: PinPrincipalRequest) -> Result<PinPrincipalResponse, Status> {
        let key =
            format!("{}:{}:{}", request.partition, request.account_id, request.principal_name);
        self.with(|inner| {
            inner.pin_asked = Some(request.clone());
            if let Some(reason) = inner.pin_refused {
                return Err(Fault::new(Code::FailedPrecondition, reason, "refused").into());
            }
            let newly_pinned = !inner.pins.contains_key(&key);
            let pinned = inner.pins.entry(key).or_insert_with(|| request.unique_id.clone());
            if *pinned == request.unique_id {
                Ok(PinPrincipalResponse { revision: format!("{STORE_ID}:9"), newly_pinned })
            } else {
                Err(Fault::new(Code::FailedPrecondition, "PrincipalIdChanged", "changed").into())
            }
        })
    }

    async fn watch(
        self: Arc<Self>,
        mut asks: Streaming<WatchRequest>,
    ) -> Result<ReceiverStream<Result<WatchResponse, Status>>, Status> {
        asks.message().await?.ok_or_else(|| Status::invalid_argument("start"))?;
        let (events, stream) = mpsc::channel(64);
        let mut revisions = self.revision.subscribe();
        let (mut sent, chunk) = {
            let number = *revisions.borrow_and_update();
            let records = self.with(|inner| inner.records.values().cloned().collect());
            let revision = format!("{STORE_ID}:{number}");
            (number, WatchSnapshotChunk { revision, first: true, last: true, records })
        };
        let store = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(ask)) = asks.message().await {
                if let Some(watch_request::Request::Ack(ack)) = ask.request {
                    let number = ack.revision.rsplit(':').next().unwrap().parse().unwrap();
                    store.with(|inner| inner.acknowledged = number);
                }
            }
        });
        tokio::spawn(async move {
            let say = |event| WatchResponse { event: Some(event) };
            if events.send(Ok(say(watch_response::Event::SnapshotChunk(chunk)))).await.is_err() {
                return;
            }
            loop {
                let changes: Vec<_> = self.with(|inner| {
                    inner.log.iter().filter(|(number, _)| *number > sent).cloned().collect()
                });
                for (number, change) in changes {
                    sent = number;
                    if events.send(Ok(say(watch_response::Event::Change(change)))).await.is_err() {
                        return;
                    }
                }
                if tokio::time::timeout(Duration::from_millis(500), revisions.changed())
                    .await
                    .is_err()
                {
                    let heartbeat =
                        WatchHeartbeat { revision: format!("{STORE_ID}:{sent}"), digest: None };
                    if events
                        .send(Ok(say(watch_response::Event::Heartbeat(heartbeat))))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}

impl Rpcs for Store {
    const NAME: &'static str = "countersign.policy.v1.PolicyStoreService";

    fn call(self: Arc<Self>, rpc: &str, request: Request<Body>) -> Answer {
        match self.identities.identify(request.headers(), None) {
            Ok(Some(ServiceName::Gateway)) => {}
            _ => return rpc::status(Status::unauthenticated("not the gateway")),
        }
        let away = self.with(|inner| {
            *inner.calls.entry(rpc.to_owned()).or_default() += 1;
            inner.away.contains(rpc)
        });
        if away {
            return rpc::status(Status::unavailable("away"));
        }
        match rpc {
            "PublishSigningKey" => rpc::unary(request, move |ask| self.publish(&ask)),
            "ListSigningKeys" => {
                rpc::unary(request, move |_: ListSigningKeysRequest| Ok(self.list()))
            }
            "DeriveSigningKey" => rpc::unary(request, move |ask| self.derive(&ask)),
            "ConsumeProof" => rpc::unary(request, move |ask| self.consume(ask)),
            "RevokeToken" => rpc::unary(request, move |ask: RevokeTokenRequest| {
                self.with(|inner| inner.revoked.push(ask.token_id));
                Ok(RevokeTokenResponse::default())
            }),
            "PinPrincipal" => rpc::unary(request, move |ask| self.pin(ask)),
            "RecordUses" => rpc::unary(request, move |ask: RecordUsesRequest| {
                self.with(|inner| inner.uses.extend(ask.uses));
                Ok(RecordUsesResponse::default())
            }),
            "Watch" => Box::pin(async move {
                let service = tower::service_fn(
                    move |asks: tonic::Request<Streaming<WatchRequest>>| {
                        let store = self.clone();
                        async move { store.watch(asks.into_inner()).await.map(tonic::Response::new) }
                    },
                );
                let codec = tonic_prost::ProstCodec::<WatchResponse, WatchRequest>::default();
                tonic::server::Grpc::new(codec).streaming(service, request).await
            }),
            other => rpc::status(Status::unimplemented(other.to_owned())),
        }
    }
}
