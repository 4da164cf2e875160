//! The administrator's bearer token: exchanged for the root's access key as any workload exchanges its own, written to `admin.token`,
//! and renewed before it expires.

use std::{io, path::PathBuf, time::Duration};

use countersign_policy::arn::AccountId;
use countersign_policy_store::{ADMINISTRATOR, write_private};
use countersign_proto::token::v1::token_exchange_service_client::TokenExchangeServiceClient;
use countersign_sigv4::SignError;
use tonic::{Status, transport::Channel};

use crate::{
    credentials::{self, CredentialsError},
    proof::{self, Ask, Form, Place},
};

/// How long a token is asked for.
const SECONDS: i32 = 900;
/// A renewal that failed is tried again after a second, then ever later, but at least so often.
const SLOWEST_RETRY: Duration = Duration::from_secs(30);

/// Who renews the token, and where it is put.
pub struct Administrator {
    pub account: AccountId,
    /// To the gateway's gRPC port.
    pub gateway: Channel,
    pub place: Place,
    /// Read anew each time: the operator may replace the key.
    pub root_credentials: PathBuf,
    pub token_file: PathBuf,
}

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The root's access key cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The proof cannot be signed.
    #[error("cannot sign the proof: {0}")]
    Sign(#[from] SignError),
    /// The gateway refused.
    #[error("the gateway refused the exchange: {}", .0.message())]
    Refused(Box<Status>),
    /// The file cannot be written.
    #[error("cannot write `{}`: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

impl Administrator {
    /// Exchanges once, and writes the token. Returns how long it is good.
    pub async fn renew(&self) -> Result<Duration, AdminError> {
        let role = format!("arn:aws:iam::{}:role/{ADMINISTRATOR}", self.account);
        // `countersign` is the audience of Countersign's own RPCs.
        let ask = Ask::new(role, "countersign-up", "countersign").lasting(SECONDS);
        let root = credentials::read(&self.root_credentials)?;
        let request =
            proof::exchange_request(&ask, &self.place, &root, Form::Headers, proof::now())?;
        let answer = TokenExchangeServiceClient::new(self.gateway.clone())
            .exchange(request)
            .await
            .map_err(|status| AdminError::Refused(Box::new(status)))?
            .into_inner();
        write_private(&self.token_file, answer.access_token.as_bytes())
            .map_err(|error| AdminError::Write { path: self.token_file.clone(), error })?;
        Ok(Duration::from_secs(u64::try_from(answer.expires_in).unwrap_or_default()))
    }

    /// Renews for ever, once two thirds of a token's life are over.
    pub async fn keep_renewed(self, mut good_for: Duration) {
        loop {
            tokio::time::sleep(good_for * 2 / 3).await;
            good_for = self.renew_at_last().await;
        }
    }

    async fn renew_at_last(&self) -> Duration {
        let mut pause = Duration::from_secs(1);
        loop {
            match self.renew().await {
                Ok(good_for) => return good_for.max(pause),
                Err(error) => tracing::warn!(%error, "admin.token is not renewed; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SLOWEST_RETRY);
        }
    }
}
