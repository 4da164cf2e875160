//! How messages are read off the wire: as prost does it, except that a request with a field that this version does not know is refused by
//! name. Of an answer it is dropped: a client may be older than the service that it asks, and never the other way round.

use std::{collections::HashMap, marker::PhantomData};

use prost::{Message, Name, bytes::Buf};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt};

use crate::known::{NotKnown, check_known, is_request};

/// The codec of the contract's services.
#[derive(Clone, Debug)]
pub struct Strict<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Strict<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Strict<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(Default::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// The reading half of [`Strict`].
#[derive(Clone, Debug)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        if is_request::<U>() {
            check_known::<U>(&bytes)?;
        }
        U::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

impl From<NotKnown> for Status {
    /// In the one shape of every error: `ErrorInfo`, and which field it is.
    fn from(error: NotKnown) -> Self {
        let message = error.to_string();
        let mut details = ErrorDetails::new();
        details.set_error_info("ValidationError", "countersign", HashMap::<String, String>::new());
        if let NotKnown::Field { path, number, .. } = &error {
            details.add_bad_request_violation(format!("{path}{number}"), message.clone());
        }
        Self::with_error_details(Code::InvalidArgument, message, details)
    }
}
