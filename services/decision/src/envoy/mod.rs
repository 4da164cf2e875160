//! Envoy asks here, and Istio: `envoy.service.auth.v3.Authorization/Check`, on the same port, behind the same door.
//!
//! The mapping file says which action on which resource a request is; the subject is who shows the token in its `authorization`
//! header, with a DPoP proof if it is bound to a key, or whom the peer's SPIFFE id stands for. The question is then Authorize's, rights of the asking Envoy included.
//!
//! Whatever is unclear is denied: no rule, a path that two readers may read differently, two tokens.

mod mapping;
mod path;

use std::{collections::HashMap, sync::Arc};

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeResponse, ContextValue, ProofOfPossession,
        authorize_request::Subject, context_value,
    },
    envoy::v3::{
        CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption,
        HttpStatus, OkHttpResponse, RpcStatus, address, attribute_context::HttpRequest,
        authorization_server::Authorization, check_response::HttpResponse,
    },
};
use countersign_serve::Fault;
use countersign_token::DpopError;
use tonic::{Code, Request, Response, Status};

pub use mapping::{Mapping, MappingError};

use crate::{authn::Call, check, convert, decider::Decider, error::Refusal, grpc::unwrap};
use mapping::Mapped;
use path::Segments;

/// Headers that the service behind gets, in place of any that the request brought.
const PRINCIPAL: &str = "x-countersign-principal";
const DECISION: &str = "x-countersign-decision-id";

/// The service.
pub struct Envoy {
    decider: Decider,
    mapping: Option<Arc<Mapping>>,
}

impl Envoy {
    /// Without a mapping every request is refused, with the way to give one.
    pub fn new(decider: Decider, mapping: Option<Arc<Mapping>>) -> Self {
        Self { decider, mapping }
    }
}

#[tonic::async_trait]
impl Authorization for Envoy {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let (call, message) = unwrap(request)?;
        let mapping = self.mapping.as_deref().ok_or_else(|| {
            let message = "no mapping file was given: start with `--envoy-mapping FILE`";
            Status::from(Fault::new(Code::FailedPrecondition, "NoMapping", message))
        })?;
        let answer = match question(mapping, message) {
            Ok(question) => decide(&self.decider, &call, question).await?,
            Err(denial) => denial.into(),
        };
        Ok(Response::new(answer))
    }
}

/// Why a request does not get as far as a policy, or not past one.
struct Denial {
    status: i32,
    message: String,
    decision_id: Option<String>,
}

impl Denial {
    /// The request is wrong.
    fn bad_request(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), decision_id: None }
    }

    /// Nobody is shown (RFC 6750 section 3).
    fn unauthorized(message: impl Into<String>) -> Self {
        Self { status: 401, message: message.into(), decision_id: None }
    }

    /// Somebody is, and may not.
    fn forbidden(message: impl Into<String>, decision_id: Option<String>) -> Self {
        Self { status: 403, message: message.into(), decision_id }
    }
}

/// What is asked about a request, if anything is.
#[cfg(test)]
pub(crate) fn asked(mapping: &Mapping, request: CheckRequest) -> Option<AuthorizeRequest> {
    question(mapping, request).ok()
}

/// What is asked about a request.
fn question(mapping: &Mapping, request: CheckRequest) -> Result<AuthorizeRequest, Denial> {
    let attributes = request.attributes.unwrap_or_default();
    let source = attributes.source.unwrap_or_default();
    let http = attributes
        .request
        .and_then(|request| request.http)
        .ok_or_else(|| Denial::bad_request("the request has no HTTP part"))?;
    let path = Segments::of(&http.path).map_err(|error| Denial::bad_request(error.to_string()))?;
    let header = |name: &str| http.headers.get(name).cloned();
    let mapped = mapping
        .map(&http.method, &http.host, &path, header)
        .ok_or_else(|| Denial::forbidden("no rule of the mapping fits the request", None))?;
    let (subject, proof_of_possession) = match token(&http)? {
        Some((token, possession)) => (Subject::Token(token), possession),
        None => match mapping.spiffe(&source.principal) {
            Some(principal) => (Subject::PrincipalArn(principal.to_owned()), None),
            None => return Err(Denial::unauthorized("a bearer token is needed")),
        },
    };
    let audience = match &subject {
        Subject::Token(_) => mapping.audience.clone(),
        Subject::PrincipalArn(_) => String::new(),
    };
    let address = match source.address.and_then(|address| address.address) {
        Some(address::Address::SocketAddress(socket)) => socket.address,
        None => String::new(),
    };
    let Mapped { action, resource, resource_account, context } = mapped;
    let mut keys: HashMap<String, ContextValue> = HashMap::new();
    let seen = [
        ("aws:SourceIp", address),
        ("aws:UserAgent", http.headers.get("user-agent").cloned().unwrap_or_default()),
        ("aws:Referer", http.headers.get("referer").cloned().unwrap_or_default()),
    ];
    let seen = seen.into_iter().filter(|(_, value)| !value.is_empty());
    let seen = seen.map(|(key, value)| (key.to_owned(), value));
    for (key, value) in seen.chain(context) {
        // The mapping's own word stands over what is seen.
        keys.retain(|other, _| !other.eq_ignore_ascii_case(&key));
        keys.insert(key, ContextValue { kind: Some(context_value::Kind::Value(value)) });
    }
    Ok(AuthorizeRequest {
        subject: Some(subject),
        audience,
        action,
        resource,
        resource_account,
        context: keys,
        proof_of_possession,
        ..Default::default()
    })
}

/// The one token of a request, as a bearer shows it, or with a proof of the key that it is bound to (RFC 9449 section 7.1), made for this
/// request. Envoy joins several headers of a name by commas; of two tokens one would have to be ignored.
fn token(http: &HttpRequest) -> Result<Option<(String, Option<ProofOfPossession>)>, Denial> {
    let Some(value) = http.headers.get("authorization") else { return Ok(None) };
    let (scheme, token) = value.split_once(' ').unwrap_or_default();
    let is_one = |text: &str| !text.is_empty() && !text.contains([',', ' ']);
    if !is_one(token) {
        return Err(no_token());
    }
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(Some((token.to_owned(), None))),
        "dpop" => match http.headers.get("dpop").filter(|proof| is_one(proof)) {
            Some(proof) => Ok(Some((token.to_owned(), Some(possession(http, proof))))),
            None => Err(Denial::unauthorized(
                "`authorization: DPoP` comes with one proof in the header `dpop` (RFC 9449 section 7.1)",
            )),
        },
        _ => Err(no_token()),
    }
}

fn no_token() -> Denial {
    Denial::unauthorized("`authorization` is not one bearer token (RFC 6750), nor one of DPoP's")
}

/// What the proof must have been made for is what Envoy received.
fn possession(http: &HttpRequest, proof: &str) -> ProofOfPossession {
    let scheme = if http.scheme.is_empty() { "https" } else { &http.scheme };
    ProofOfPossession {
        dpop_proof: proof.to_owned(),
        method: http.method.clone(),
        uri: format!("{scheme}://{}{}", http.host, http.path),
        client_certificate_thumbprint: String::new(),
    }
}

async fn decide(
    decider: &Decider,
    call: &Call,
    request: AuthorizeRequest,
) -> Result<CheckResponse, Status> {
    let asked = match convert::authorize_question(request) {
        Ok(question) => check::authorize_and_see(decider, call, question).await,
        Err(refusal) => Err(refusal),
    };
    match asked {
        Ok((answer, _)) if answer.allowed => Ok(allowed(&answer)),
        Ok((answer, may_see_why)) => {
            let AuthorizeResponse { message, decision_id, .. } = answer;
            let told = if may_see_why { message } else { "not authorized".to_owned() };
            Ok(Denial::forbidden(told, Some(decision_id)).into())
        }
        Err(Refusal::SubjectToken(error)) => {
            Ok(Denial::unauthorized(format!("the token is refused: {error}")).into())
        }
        Err(Refusal::Possession(error)) if error != DpopError::Busy => {
            Ok(Denial::unauthorized(format!("the token is refused: {error}")).into())
        }
        Err(Refusal::SubjectTokenRevoked) => {
            Ok(Denial::unauthorized("the token is refused: it was revoked").into())
        }
        // What the request's path made of the resource is nothing that can be asked about.
        Err(error @ (Refusal::Invalid { .. } | Refusal::Document { .. })) => {
            Ok(Denial::bad_request(error.to_string()).into())
        }
        Err(refusal) => {
            tracing::warn!(error = %refusal, "Envoy's question was refused");
            Err(refusal.into())
        }
    }
}

fn header(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value: value.to_owned() }),
        append: Some(false),
    }
}

fn allowed(answer: &AuthorizeResponse) -> CheckResponse {
    let headers =
        vec![header(PRINCIPAL, &answer.principal_arn), header(DECISION, &answer.decision_id)];
    CheckResponse {
        status: Some(RpcStatus { code: Code::Ok.into(), message: String::new() }),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers,
            headers_to_remove: Vec::new(),
        })),
    }
}

impl From<Denial> for CheckResponse {
    fn from(denial: Denial) -> Self {
        let Denial { status, message, decision_id } = denial;
        let mut headers = vec![header("content-type", "application/json")];
        if status == 401 {
            headers.push(header("www-authenticate", "Bearer, DPoP algs=\"ES256\""));
        }
        let mut body = serde_json::json!({ "message": &message });
        if let (Some(id), Some(body)) = (decision_id, body.as_object_mut()) {
            headers.push(header(DECISION, &id));
            body.insert("decision_id".to_owned(), id.into());
        }
        let code = match status {
            401 => Code::Unauthenticated,
            400 => Code::InvalidArgument,
            _ => Code::PermissionDenied,
        };
        Self {
            status: Some(RpcStatus { code: code.into(), message }),
            http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
                status: Some(HttpStatus { code: status }),
                headers,
                body: format!("{body}\n"),
            })),
        }
    }
}
