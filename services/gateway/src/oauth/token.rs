//! `POST /oauth2/token`: RFC 8693, which becomes the same verb as `Exchange`.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use countersign_proto::token::v1::{AssumedRoleUser, ExchangeResponse};
use serde_json::{Value, json};

use super::{
    DEADLINE, Face, MAX_BODY_BYTES,
    fault::{OAuthFault, no_store},
    form::{self, Form},
};
use crate::{beside::Beside, http::ClientCertificate};

/// Its path; `htu` of a DPoP proof is the issuer and this.
pub const PATH: &str = "/oauth2/token";

/// Answers one exchange.
pub async fn exchange(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    match answer(&face, Some(peer.ip()), request).await {
        Ok(body) => (no_store(), Json(body)).into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn answer(
    face: &Face,
    source: Option<IpAddr>,
    request: Request,
) -> Result<Value, OAuthFault> {
    // The subject token is the credential; of another one nobody would know that it did nothing.
    if request.headers().contains_key(AUTHORIZATION) {
        let message = "no `authorization` header here: the `subject_token` is the credential";
        return Err(OAuthFault::invalid_request(message));
    }
    let certificate = request.extensions().get::<ClientCertificate>().map(|it| it.0.clone());
    let (headers, form) = read(request).await?;
    let request = form::exchange_request(form)?;
    let uri = || format!("{}{PATH}", face.exchange.issuer);
    let beside = Beside::of(&headers, uri, certificate);
    let beside = beside.map_err(|refusal| OAuthFault::from(&refusal))?;
    let outcome = face.exchange.exchange_beside(request, &beside, source).await;
    outcome.map(rendered).map_err(|refusal| OAuthFault::from(&refusal))
}

/// A form that was posted, and its headers.
///
/// # Errors
/// For anything else.
pub async fn read(request: Request) -> Result<(HeaderMap, Form), OAuthFault> {
    let (parts, body) = request.into_parts();
    if parts.uri.query().is_some() {
        // RFC 6749 section 2.3.1, and for the same reason: what is in a URL is in logs.
        return Err(OAuthFault::invalid_request("parameters belong into the body, not the URL"));
    }
    if !is_form(&parts.headers) {
        let message = "`content-type` must be `application/x-www-form-urlencoded`";
        return Err(OAuthFault::invalid_request(message));
    }
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES);
    let body = tokio::time::timeout(DEADLINE, body).await.map_err(|_| OAuthFault::too_slow())?;
    let body = body.map_err(|_| OAuthFault::too_large())?;
    Ok((parts.headers, Form::parse(&body)?))
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else { return false };
    let Ok(text) = one.to_str() else { return false };
    let text = text.to_ascii_lowercase();
    let (essence, parameters) = text.split_once(';').unwrap_or((&text, ""));
    essence.trim() == "application/x-www-form-urlencoded"
        && matches!(parameters.trim(), "" | "charset=utf-8" | "charset=\"utf-8\"")
}

/// RFC 8693 section 2.2.1, and the session's two names, as STS has them.
fn rendered(response: ExchangeResponse) -> Value {
    let ExchangeResponse {
        access_token,
        issued_token_type,
        token_type,
        expires_in,
        scope,
        assumed_role_user,
    } = response;
    let AssumedRoleUser { arn, assumed_role_id } = assumed_role_user.unwrap_or_default();
    let mut body = json!({
        "access_token": access_token,
        "issued_token_type": issued_token_type,
        "token_type": token_type,
        "expires_in": expires_in,
        "assumed_role_user": { "arn": arn, "assumed_role_id": assumed_role_id },
    });
    if let (false, Some(members)) = (scope.is_empty(), body.as_object_mut()) {
        members.insert("scope".to_owned(), Value::from(scope));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        fn check(types: &[&str], good: bool) {
            let mut headers = HeaderMap::new();
            for one in types {
                headers.append(CONTENT_TYPE, one.parse().unwrap());
            }
            assert_eq!(is_form(&headers), good, "{types:?}");
        }
        let form = "application/x-www-form-urlencoded";
        check(&[form], true);
        check(&["Application/X-WWW-Form-Urlencoded; charset=UTF-8"], true);
        check(&[], false);
        check(&["application/json"], false);
        check(&[form, form], false);
        check(&["application/x-www-form-urlencoded; charset=latin-1"], false);
    }
}
