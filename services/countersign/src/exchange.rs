//! `countersign exchange`: credentials in, a token out, for shells and scripts; and a file that keeps the token while it is good.

use std::{fmt, fs, io, path::Path, sync::Arc, time::Duration};

use countersign_policy_store::write_private;
use countersign_proto::token::v1::{
    AssumedRoleUser, ExchangeResponse, token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_serve::{
    dial::{self, DialError, Trust},
    tls::trusting,
};
use countersign_sigv4::Credentials;
use countersign_token::dpop::ClientKey;
use serde::{Deserialize, Serialize};
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    cli::{ExchangeArgs, Format},
    credentials::{self, CredentialsError},
    endpoints::Endpoints,
    exit::Exit,
    instance::{self, InstanceError},
    proof::{self, Ask, Form, Place, ProofError, exchange_request},
};

/// A kept token must last for so many seconds more, so that it is still good where it arrives.
const LEFT: i64 = 60;
/// Longer than a gateway gives itself.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A token, and what it was asked for with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    access_token: String,
    token_type: String,
    /// Seconds since 1970.
    expires_at: i64,
    scope: String,
    assumed_role_user: Session,
    /// Who issued it.
    issuer: String,
    /// Of the request that it is the answer to.
    binding: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    arn: String,
    assumed_role_id: String,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({}, until {}, redacted)", self.assumed_role_user.arn, self.expires_at)
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// No instance's document, or no key.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The gateway cannot be called.
    #[error("the gateway: {0}")]
    Dial(#[from] DialError),
    /// The authority's certificate is none.
    #[error("{0}")]
    Authority(String),
    /// Nothing says where the gateway is.
    #[error(
        "give --gateway beside --issuer: the gateway's gRPC port, such as `https://tokens.example.com:7403`"
    )]
    NoGateway,
    /// The gateway said no, or nothing.
    #[error("{origin}: {reason}: {message}")]
    Refused {
        /// Which.
        origin: String,
        /// `ErrorInfo.reason`, or the code.
        reason: String,
        /// Its words.
        message: String,
    },
    /// The token cannot be kept.
    #[error("cannot write `{path}`: {error}")]
    Cache {
        /// The file.
        path: String,
        /// The system's word.
        error: io::Error,
    },
}

impl ExchangeError {
    fn exit(self) -> Exit {
        match self {
            Self::Proof(_)
            | Self::Instance(_)
            | Self::Dial(_)
            | Self::Authority(_)
            | Self::NoGateway => Exit::bad_input(self),
            Self::Refused { .. } | Self::Cache { .. } => Exit::failed(self),
        }
    }
}

/// `ErrorInfo.reason` of a proof that came before.
const USED: &str = "ProofAlreadyUsed";
/// After which a signature is another one.
const SECOND: Duration = Duration::from_millis(1100);

/// Exchanges, and prints what came of it.
pub async fn run(args: ExchangeArgs) -> Exit {
    match token(&args, proof::now()).await {
        Ok(kept) => {
            println!("{}", kept.shown(args.output, proof::now()));
            Exit::Done
        }
        Err(error) => error.exit(),
    }
}

/// A token for what the arguments ask for: a kept one that is still good, or a new one.
///
/// # Errors
/// See [`ExchangeError`].
pub async fn token(args: &ExchangeArgs, now: i64) -> Result<Kept, ExchangeError> {
    let (mut ask, place) = (Ask::of(&args.proof)?, Place::of(&args.proof)?);
    let key = args.key.as_deref().map(instance::key).transpose()?;
    if let Some(key) = &key {
        key.thumbprint().clone_into(&mut ask.client_key_thumbprint);
    }
    // A kept token is not taken for one that was had by another kind of proof.
    let binding = match &key {
        Some(_) => format!("instance:{}", ask.binding()),
        None => ask.binding().to_string(),
    };
    let kept = args.cache.as_deref().and_then(Kept::read);
    if let Some(kept) = kept.filter(|kept| kept.answers(&place.issuer, &binding, now)) {
        return Ok(kept);
    }
    let (origin, channel) = gateway(args)?;
    let client = TokenExchangeServiceClient::new(channel);
    let (response, now) = match &key {
        Some(key) => by_instance(args, &ask, key, &origin, client).await?,
        None => by_proof(args, &ask, &place, &origin, client).await?,
    };
    let kept = Kept::of(response, place.issuer, binding, now);
    if let Some(path) = &args.cache {
        kept.write(path)?;
    }
    Ok(kept)
}

type Gateway = TokenExchangeServiceClient<Channel>;

/// What was answered, and when it was asked.
type Answer = Result<(ExchangeResponse, i64), ExchangeError>;

async fn by_proof(
    args: &ExchangeArgs,
    ask: &Ask,
    place: &Place,
    origin: &str,
    mut client: Gateway,
) -> Answer {
    let credentials = find(args).await.map_err(ProofError::from)?;
    let form = if args.proof.presigned { Form::Presigned } else { Form::Headers };
    let mut is_first = true;
    loop {
        // Finding credentials may have taken a while, and a proof lasts a minute.
        let now = proof::now();
        let request =
            exchange_request(ask, place, &credentials, form, now).map_err(ProofError::from)?;
        let mut request = Request::new(request);
        request.set_timeout(TIMEOUT);
        match client.exchange(request).await.map_err(|status| refused(origin, &status)) {
            Ok(response) => return Ok((response.into_inner(), now)),
            // A signature says the second: who asked the same in this one has made the same proof.
            Err(ExchangeError::Refused { reason, .. }) if is_first && reason == USED => {
                is_first = false;
                tokio::time::sleep(SECOND).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn by_instance(
    args: &ExchangeArgs,
    ask: &Ask,
    key: &ClientKey,
    origin: &str,
    mut client: Gateway,
) -> Answer {
    let document = instance::document(&args.metadata_endpoint).await?;
    let now = proof::now();
    let mut request = Request::new(ask.shown(document, instance::INSTANCE));
    request.set_timeout(TIMEOUT);
    let possession = instance::possession(key, origin, now)?;
    if let Ok(possession) = possession.parse() {
        request.metadata_mut().insert("dpop", possession);
    }
    let response = client.exchange(request).await.map_err(|status| refused(origin, &status))?;
    Ok((response.into_inner(), now))
}

fn gateway(args: &ExchangeArgs) -> Result<(String, Channel), ExchangeError> {
    let origin = match (&args.gateway, &args.proof.issuer) {
        (Some(origin), _) => origin.trim_end_matches('/').to_owned(),
        (None, Some(_)) => return Err(ExchangeError::NoGateway),
        (None, None) => Endpoints::read(&args.proof.data_dir).map_err(ProofError::from)?.gateway,
    };
    let trust = match args.ca.as_deref().map(trusting).transpose() {
        Ok(Some(config)) => Trust::Name(Arc::new(config)),
        Ok(None) => Trust::Nobody,
        Err(error) => return Err(ExchangeError::Authority(error.to_string())),
    };
    let channel = dial::channel(&origin, trust)?;
    Ok((origin, channel))
}

#[cfg(not(feature = "aws"))]
async fn find(args: &ExchangeArgs) -> Result<Credentials, CredentialsError> {
    credentials::find(args.proof.credentials.as_deref())
}

#[cfg(feature = "aws")]
async fn find(args: &ExchangeArgs) -> Result<Credentials, CredentialsError> {
    match &args.proof.credentials {
        Some(path) => credentials::read(path),
        None => credentials::aws::find(&args.proof.sts_region).await,
    }
}

fn refused(origin: &str, status: &Status) -> ExchangeError {
    let reason = status.get_details_error_info().map(|info| info.reason);
    ExchangeError::Refused {
        origin: origin.to_owned(),
        reason: reason.unwrap_or_else(|| format!("{:?}", status.code())),
        message: status.message().to_owned(),
    }
}

impl Kept {
    /// The token.
    #[must_use]
    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    fn of(response: ExchangeResponse, issuer: String, binding: String, now: i64) -> Self {
        let ExchangeResponse {
            access_token,
            issued_token_type: _,
            token_type,
            expires_in,
            scope,
            assumed_role_user,
        } = response;
        let AssumedRoleUser { arn, assumed_role_id } = assumed_role_user.unwrap_or_default();
        Self {
            access_token,
            token_type,
            expires_at: now.saturating_add(expires_in.into()),
            scope,
            assumed_role_user: Session { arn, assumed_role_id },
            issuer,
            binding,
        }
    }

    /// Whatever is wrong with the file, a new token is as good.
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    /// Mode 0600, whole or not at all.
    fn write(&self, path: &Path) -> Result<(), ExchangeError> {
        let text = serde_json::to_string(self).map_err(io::Error::other);
        let written = text.and_then(|text| write_private(path, format!("{text}\n").as_bytes()));
        written.map_err(|error| ExchangeError::Cache { path: path.display().to_string(), error })
    }

    /// Whether it is what would be asked for, and lasts.
    fn answers(&self, issuer: &str, binding: &str, now: i64) -> bool {
        self.issuer == issuer
            && self.binding == binding
            && self.expires_at.saturating_sub(now) >= LEFT
    }

    fn shown(&self, output: Format, now: i64) -> String {
        match output {
            Format::Text => self.access_token.clone(),
            Format::Json => {
                let shown = serde_json::json!({
                    "access_token": self.access_token,
                    "token_type": self.token_type,
                    "expires_at": self.expires_at,
                    "expires_in": self.expires_at.saturating_sub(now),
                    "scope": self.scope,
                    "assumed_role_user": self.assumed_role_user,
                });
                // Texts and numbers always serialize.
                serde_json::to_string_pretty(&shown).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let response = ExchangeResponse {
            access_token: "the-secret".into(),
            token_type: "Bearer".into(),
            expires_in: 900,
            ..Default::default()
        };
        Kept::of(response, "http://127.0.0.1:7400".into(), "b".into(), 1000)
    }

    #[test]
    fn a_kept_token_answers_the_same_question_while_it_lasts() {
        fn check(issuer: &str, binding: &str, now: i64, expected: bool) {
            let issuer = format!("http://127.0.0.1:{issuer}");
            assert_eq!(kept().answers(&issuer, binding, now), expected, "{issuer} {binding} {now}");
        }
        check("7400", "b", 1000, true);
        check("7400", "b", 1840, true);
        check("7400", "b", 1841, false);
        check("7400", "c", 1000, false);
        check("7401", "b", 1000, false);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_kept_is_private_and_read_back() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert_eq!(Kept::read(&path), None);
        kept().write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Kept::read(&path), Some(kept()));
        fs::write(&path, "{}").unwrap();
        assert_eq!(Kept::read(&path), None);
        let nowhere = kept().write(&folder.path().join("no/such/folder")).unwrap_err();
        assert!(nowhere.to_string().contains("cannot write"), "{nowhere}");
    }

    #[test]
    fn output() {
        assert_eq!(kept().shown(Format::Text, 1100), "the-secret");
        let shown: serde_json::Value =
            serde_json::from_str(&kept().shown(Format::Json, 1100)).unwrap();
        assert_eq!((&shown["expires_in"], &shown["expires_at"]), (&800.into(), &1900.into()));
        assert!(shown.get("binding").is_none());
        assert!(!format!("{:?}", kept()).contains("the-secret"));
    }
}
