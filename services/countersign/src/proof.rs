//! A workload's side of an exchange: the ExchangeRequest, bound to a proof that its credentials sign.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_proto::token::v1::ExchangeRequest;
use countersign_sigv4::{Credentials, ProofRequest, SignError, Url, UrlError};
use countersign_token::{Binding, BoundRequest};
use serde::Serialize;

use crate::{
    cli::ProofArgs,
    credentials::{self, CredentialsError},
    endpoints::{Endpoints, EndpointsError},
    exit::Exit,
};

/// The kind of proof that is made here.
pub const STS_PROOF: &str = "urn:countersign:proof:sts-get-caller-identity";

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The role to assume.
    pub role_arn: String,
    /// A name for the session.
    pub role_session_name: String,
    /// The service that the token is for.
    pub audience: String,
    /// 0 stands for the default.
    pub duration_seconds: i32,
    /// Empty when there is none.
    pub external_id: String,
    /// Action patterns; empty when there are none.
    pub scope: String,
    /// A session policy; empty when there is none.
    pub policy: String,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// Empty when there is none.
    pub source_identity: String,
    /// The key that the token is bound to; empty when it is to none.
    pub client_key_thumbprint: String,
    /// Who alone may act for the session; empty where the policies say who may.
    pub may_act: String,
}

impl Ask {
    /// A session of the role, for one audience, of the default length.
    pub fn new(
        role_arn: impl Into<String>,
        role_session_name: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        Self {
            role_arn: role_arn.into(),
            role_session_name: role_session_name.into(),
            audience: audience.into(),
            ..Self::default()
        }
    }

    /// With a length in seconds.
    #[must_use]
    pub fn lasting(mut self, duration_seconds: i32) -> Self {
        self.duration_seconds = duration_seconds;
        self
    }

    /// With an external id.
    #[must_use]
    pub fn with_external_id(mut self, external_id: impl Into<String>) -> Self {
        self.external_id = external_id.into();
        self
    }

    /// What the proof must be bound to (DESIGN.md section 3).
    #[must_use]
    pub fn binding(&self) -> Binding {
        let Self {
            role_arn,
            role_session_name,
            audience,
            duration_seconds,
            external_id,
            scope,
            policy,
            policy_arns,
            source_identity,
            client_key_thumbprint,
            may_act,
        } = self.clone();
        Binding::of_subject(&BoundRequest {
            subject_token_type: STS_PROOF.to_owned(),
            role_arn,
            role_session_name,
            audience,
            duration_seconds,
            external_id,
            scope,
            policy,
            policy_arns,
            source_identity,
            client_key_thumbprint,
            may_act,
            ..BoundRequest::default()
        })
    }
}

impl Ask {
    /// The request for it, with what is shown.
    pub(crate) fn shown(&self, subject_token: String, subject_token_type: &str) -> ExchangeRequest {
        let Self {
            role_arn,
            role_session_name,
            audience,
            duration_seconds,
            external_id,
            scope,
            policy,
            policy_arns,
            source_identity,
            client_key_thumbprint,
            may_act,
        } = self.clone();
        ExchangeRequest {
            scope,
            policy,
            policy_arns,
            source_identity,
            client_key_thumbprint,
            may_act,
            subject_token,
            subject_token_type: subject_token_type.to_owned(),
            role_arn,
            role_session_name,
            audience,
            duration_seconds,
            external_id,
            ..ExchangeRequest::default()
        }
    }
}

/// Who is asked to vouch, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The gateway's own name, which the proof is made for.
    pub issuer: String,
    /// The STS that knows the credentials, as an origin without a slash at the end.
    pub sts_origin: String,
    /// That STS's region.
    pub sts_region: String,
}

impl Place {
    /// Countersign's own STS, which answers at the issuer.
    pub fn own(issuer: impl Into<String>, region: impl Into<String>) -> Self {
        let issuer = issuer.into();
        Self { sts_origin: issuer.clone(), issuer, sts_region: region.into() }
    }
}

/// The two forms of a signed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A POST whose signature is in a header.
    Headers,
    /// A GET whose signature is in the query.
    Presigned,
}

/// Signs a proof for `ask`. `now` is in seconds since 1970.
///
/// # Errors
/// When the place or the access key cannot be signed for.
pub fn exchange_request(
    ask: &Ask,
    place: &Place,
    credentials: &Credentials,
    form: Form,
    now: i64,
) -> Result<ExchangeRequest, SignError> {
    let binding = ask.binding();
    let proof = ProofRequest {
        origin: &place.sts_origin,
        region: &place.sts_region,
        audience: &place.issuer,
        binding: binding.as_str(),
        challenge: None,
    };
    let subject_token = match form {
        Form::Headers => proof.sign_post(credentials, now)?,
        Form::Presigned => proof.sign_presigned(credentials, now)?,
    };
    Ok(ask.shown(subject_token, STS_PROOF))
}

/// Seconds since 1970, by this machine's clock.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// No credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No issuer.
    #[error("{0}; or give --issuer")]
    Endpoints(#[from] EndpointsError),
    /// The STS endpoint is no origin.
    #[error("`{text}` must be an http or https origin with a slash at the end, such as `https://sts.eu-west-1.amazonaws.com/`{}", because(.error))]
    StsEndpoint {
        /// What was given.
        text: String,
        /// What is wrong with it, if it is no URL at all.
        error: Option<UrlError>,
    },
    /// The session policy cannot be read.
    #[error("cannot read the session policy `{path}`: {error}")]
    Policy {
        /// The file.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// It cannot be signed.
    #[error("cannot sign: {0}")]
    Sign(#[from] SignError),
}

fn because(error: &Option<UrlError>) -> String {
    error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

/// `countersign proof`.
pub fn run(args: &ProofArgs) -> Exit {
    match request(args, now()) {
        Ok(request) => {
            println!("{}", json(&request));
            Exit::Done
        }
        Err(error) => Exit::bad_input(error),
    }
}

fn request(args: &ProofArgs, now: i64) -> Result<ExchangeRequest, ProofError> {
    let ask = Ask::of(args)?;
    let credentials = credentials::find(args.credentials.as_deref())?;
    let place = Place::of(args)?;
    let form = if args.presigned { Form::Presigned } else { Form::Headers };
    Ok(exchange_request(&ask, &place, &credentials, form, now)?)
}

impl Ask {
    /// What the arguments ask for.
    ///
    /// # Errors
    /// When the policy's file cannot be read.
    pub fn of(args: &ProofArgs) -> Result<Self, ProofError> {
        let policy = match &args.policy {
            None => String::new(),
            Some(path) => fs::read_to_string(path)
                .map_err(|error| ProofError::Policy { path: path.display().to_string(), error })?,
        };
        Ok(Self {
            role_arn: args.role_arn.clone(),
            role_session_name: args.role_session_name.clone(),
            audience: args.audience.clone(),
            duration_seconds: args.duration_seconds.unwrap_or_default(),
            external_id: args.external_id.clone().unwrap_or_default(),
            scope: args.scope.clone().unwrap_or_default(),
            policy,
            policy_arns: args.policy_arns.clone(),
            source_identity: args.source_identity.clone().unwrap_or_default(),
            client_key_thumbprint: args.client_key_thumbprint.clone().unwrap_or_default(),
            may_act: args.may_act.clone().unwrap_or_default(),
        })
    }
}

impl Place {
    /// Who vouches, by the arguments.
    ///
    /// # Errors
    /// When the issuer is not known, or the STS endpoint is no origin.
    pub fn of(args: &ProofArgs) -> Result<Self, ProofError> {
        let issuer = match &args.issuer {
            Some(issuer) => issuer.trim_end_matches('/').to_owned(),
            None => issuer_of(&args.data_dir)?,
        };
        let sts_origin = match &args.sts_endpoint {
            Some(text) => sts_origin(text)?,
            None => issuer.clone(),
        };
        Ok(Self { issuer, sts_origin, sts_region: args.sts_region.clone() })
    }
}

/// Without `--issuer`, `up` is its HTTP port's origin.
fn issuer_of(data_dir: &Path) -> Result<String, EndpointsError> {
    Endpoints::read(data_dir).map(|endpoints| endpoints.http)
}

fn sts_origin(text: &str) -> Result<String, ProofError> {
    let malformed = |error| ProofError::StsEndpoint { text: text.to_owned(), error };
    let url = Url::parse(text).map_err(|error| malformed(Some(error)))?;
    if matches!(url.path(), "" | "/") && url.query().is_none() {
        Ok(url.origin())
    } else {
        Err(malformed(None))
    }
}

/// Under the proto names, as grpcurl reads them; empty fields left out.
#[must_use]
pub fn json(request: &ExchangeRequest) -> String {
    #[derive(Serialize)]
    struct Shown<'a> {
        subject_token: &'a str,
        subject_token_type: &'a str,
        role_arn: &'a str,
        role_session_name: &'a str,
        audience: &'a str,
        #[serde(skip_serializing_if = "is_zero")]
        duration_seconds: i32,
        #[serde(skip_serializing_if = "str::is_empty")]
        external_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        scope: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        policy: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        policy_arns: &'a [String],
        #[serde(skip_serializing_if = "str::is_empty")]
        source_identity: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        client_key_thumbprint: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        may_act: &'a str,
    }
    fn is_zero(number: &i32) -> bool {
        *number == 0
    }
    let shown = Shown {
        subject_token: &request.subject_token,
        subject_token_type: &request.subject_token_type,
        role_arn: &request.role_arn,
        role_session_name: &request.role_session_name,
        audience: &request.audience,
        duration_seconds: request.duration_seconds,
        external_id: &request.external_id,
        scope: &request.scope,
        policy: &request.policy,
        policy_arns: &request.policy_arns,
        source_identity: &request.source_identity,
        client_key_thumbprint: &request.client_key_thumbprint,
        may_act: &request.may_act,
    };
    // Texts and a number always serialize.
    serde_json::to_string_pretty(&shown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use countersign_sigv4::{StsProof, key::SecretKey};

    use super::*;

    fn credentials() -> Credentials {
        Credentials::new("AKIDEXAMPLE", SecretKey::new("the-secret"), None)
    }

    fn ask() -> Ask {
        Ask::new("arn:aws:iam::000000000000:role/R", "s", "orders").lasting(900)
    }

    #[test]
    fn the_binding_is_the_one_of_the_design() {
        assert_eq!(ask().binding().as_str(), "opp2PDZFHzmH9OVKG_LCZKNIRdU6pOq3R6Gw3w6zIOo");
    }

    /// Read back as the gateway does: whatever stands in the request is bound.
    #[test]
    fn a_proof_is_bound_to_its_request() {
        let place = Place::own("http://127.0.0.1:7400", "us-east-1");
        for form in [Form::Headers, Form::Presigned] {
            let more = Ask {
                scope: "orders:Get*".into(),
                policy: "{}".into(),
                policy_arns: vec!["b".into(), "a".into()],
                source_identity: "alice".into(),
                client_key_thumbprint: "t".into(),
                may_act: "AROAACTOR:a".into(),
                ..ask()
            };
            let partner = ask().with_external_id("partner-7");
            for ask in [ask(), partner, Ask::new("r", "é\u{2028}", "a"), more] {
                let request =
                    exchange_request(&ask, &place, &credentials(), form, 1_440_938_160).unwrap();
                let proof = StsProof::parse(&request.subject_token).unwrap();
                let bound = BoundRequest {
                    subject_token_type: request.subject_token_type.clone(),
                    role_arn: request.role_arn.clone(),
                    role_session_name: request.role_session_name.clone(),
                    audience: request.audience.clone(),
                    duration_seconds: request.duration_seconds,
                    external_id: request.external_id.clone(),
                    scope: request.scope.clone(),
                    policy: request.policy.clone(),
                    policy_arns: request.policy_arns.clone(),
                    source_identity: request.source_identity.clone(),
                    client_key_thumbprint: request.client_key_thumbprint.clone(),
                    may_act: request.may_act.clone(),
                    ..BoundRequest::default()
                };
                assert_eq!(proof.binding(), Binding::of_subject(&bound).as_str());
                assert_eq!(proof.audience(), "http://127.0.0.1:7400");
                assert_eq!(proof.origin(), "http://127.0.0.1:7400");
                assert_eq!(proof.expires().is_some(), form == Form::Presigned);
                // Nothing else is set, so nothing else had to be bound.
                let rest = ExchangeRequest {
                    subject_token: String::new(),
                    subject_token_type: String::new(),
                    role_arn: String::new(),
                    role_session_name: String::new(),
                    audience: String::new(),
                    duration_seconds: 0,
                    external_id: String::new(),
                    scope: String::new(),
                    policy: String::new(),
                    policy_arns: Vec::new(),
                    source_identity: String::new(),
                    client_key_thumbprint: String::new(),
                    may_act: String::new(),
                    ..request
                };
                assert_eq!(rest, ExchangeRequest::default());
            }
        }
    }

    #[test]
    fn the_output_is_json_under_proto_names_and_holds_no_secret() {
        let place = Place::own("http://127.0.0.1:7400", "us-east-1");
        let request = exchange_request(&ask(), &place, &credentials(), Form::Headers, 0).unwrap();
        let text = json(&request);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "audience",
                "duration_seconds",
                "role_arn",
                "role_session_name",
                "subject_token",
                "subject_token_type"
            ]
        );
        assert_eq!(value["duration_seconds"], 900);
        let envelope = URL_SAFE_NO_PAD.decode(value["subject_token"].as_str().unwrap()).unwrap();
        let envelope = String::from_utf8(envelope).unwrap();
        assert!(!text.contains("the-secret") && !envelope.contains("the-secret"), "{envelope}");
    }

    #[test]
    fn sts_endpoints() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(sts_origin(text).ok().as_deref(), expected, "{text}");
        };
        check("https://sts.amazonaws.com/", Some("https://sts.amazonaws.com"));
        check("https://sts.amazonaws.com", Some("https://sts.amazonaws.com"));
        check("http://127.0.0.1:5000/", Some("http://127.0.0.1:5000"));
        check("http://127.0.0.1:5000/sts", None);
        check("http://127.0.0.1:5000/?a", None);
        check("sts.amazonaws.com", None);
    }
}
