//! All RPCs of the contract, from its descriptors, and a call of any of them: so that a new RPC is in the tests without a word.

use bytes::{Buf, BufMut};
use countersign_proto::FILE_DESCRIPTOR_SET;
use countersign_serve::grpc::channel;
use http::uri::PathAndQuery;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    service::Interceptor,
};

use crate::Bearer;

/// One RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// Such as `countersign.decision.v1.DecisionService`.
    pub service: String,
    /// Such as `Authorize`.
    pub method: String,
}

impl Rpc {
    /// `/<service>/<method>`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}/{}", self.service, self.method)
    }
}

/// Every RPC of every service of the contract.
#[must_use]
pub fn rpcs() -> Vec<Rpc> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors").file;
    let mut found = Vec::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                let service = format!("{}.{}", file.package(), service.name());
                found.push(Rpc { service, method: method.name().to_owned() });
            }
        }
    }
    found
}

/// No RPC takes as long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Calls `rpc` at `origin` with one empty message, and gives how many bytes came back first.
///
/// # Errors
/// The refusal.
pub async fn call_empty(origin: &str, rpc: &Rpc, bearer: &Bearer) -> Result<usize, Status> {
    let channel = channel(origin).expect("an origin");
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = rpc.path().parse().expect("a path");
    let (metadata, extensions, ()) = bearer.clone().call(Request::new(()))?.into_parts();
    let request = Request::from_parts(metadata, extensions, Vec::new());
    // As a stream: so it serves both kinds of RPC.
    let called = async {
        let answer = client.server_streaming(request, path, Bytes).await?;
        let first = answer.into_inner().message().await?;
        Ok(first.map_or(0, |bytes| bytes.len()))
    };
    let late = || Status::unknown(format!("{} does not answer", rpc.path()));
    tokio::time::timeout(PATIENCE, called).await.unwrap_or_else(|_| Err(late()))
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).to_vec()))
    }
}
