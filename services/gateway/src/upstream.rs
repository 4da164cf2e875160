//! The HTTP client that speaks to STS and to issuers of web identities: HTTP/1.1 alone, Mozilla's roots alone for AWS's own hosts, no
//! redirects, no proxies, one short deadline, a bounded answer. AWS's own host names must not lead to a private address; where the
//! operator points, they may.
//!
//! It carries what the proof's parser has rebuilt, and judges nothing.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use countersign_serve::{Tls, telemetry::client_span};
use countersign_sigv4::OutgoingRequest;
use http::{
    HeaderName, HeaderValue, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::RootCertStore;
use tokio::sync::Semaphore;
use tower::Service;
use tracing::Instrument;

use crate::endpoints::{Endpoint, Network};

/// From the first byte sent to the last one read (ATTACKS 43).
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// So many questions at once; more are turned away rather than queued.
const MAX_IN_FLIGHT: usize = 256;

type Https<R> = Client<HttpsConnector<HttpConnector<R>>, Full<Bytes>>;

/// The client.
pub struct Upstream {
    public: Https<PublicResolver>,
    operator: Https<GaiResolver>,
    in_flight: Semaphore,
}

/// What STS answered, unread.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type; empty when there is none.
    pub content_type: String,
    /// At most [`MAX_ANSWER_BYTES`].
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was sent: too many questions are open.
    #[error("{MAX_IN_FLIGHT} questions are open already")]
    Busy,
    /// STS could not be reached, or stopped in the middle.
    #[error("{0}")]
    Transport(String),
    /// It took too long.
    #[error("no answer within {}s", DEADLINE.as_secs())]
    TimedOut,
    /// The answer is longer than an answer of STS can be.
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// The answer's headers contradict each other.
    #[error("the answer has more than one content type, or none that can be read")]
    ContentType,
    /// What was to be sent is no request. It was rebuilt from checked parts, so this is a defect here.
    #[error("the rebuilt request is malformed: {0}")]
    Request(String),
}

impl Upstream {
    /// A client, with no connections yet. Where the operator points, the authorities of `own` are believed too: our own STS may have a
    /// certificate of theirs.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn unconnected(own: Option<&Tls>) -> Result<Self, rustls::Error> {
        // `enforce_http(false)` lets `https` through to the TLS layer above.
        let mut public = HttpConnector::new_with_resolver(PublicResolver(GaiResolver::new()));
        public.enforce_http(false);
        let mut operator = HttpConnector::new();
        operator.enforce_http(false);
        public.set_connect_timeout(Some(DEADLINE));
        operator.set_connect_timeout(Some(DEADLINE));
        // Neither reads the environment: hyper has no proxies unless it is given one (ATTACKS 9).
        let public = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_only()
            .enable_http1()
            .wrap_connector(public);
        let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let https = match own {
            Some(tls) => HttpsConnectorBuilder::new().with_tls_config(tls.https_client(roots)?),
            None => HttpsConnectorBuilder::new().with_webpki_roots(),
        };
        let operator = https.https_or_http().enable_http1().wrap_connector(operator);
        Ok(Self {
            public: builder().build(public),
            operator: builder().build(operator),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        })
    }

    /// Sends `request` to `endpoint`, whose origin is ours, and reads the whole answer.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        request: OutgoingRequest,
    ) -> Result<Answer, NoAnswer> {
        let request = build(&endpoint.origin, request)?;
        self.ask(endpoint.network, request, "sts/GetCallerIdentity").await
    }

    /// Reads the document at `url`, which the operator has led to, by GET and as JSON.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn get(&self, network: Network, url: &str) -> Result<Answer, NoAnswer> {
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|_| NoAnswer::Request("the url does not parse".to_owned()))?;
        self.ask(network, request, "issuer/keys").await
    }

    async fn ask(
        &self,
        network: Network,
        request: Request<Full<Bytes>>,
        name: &'static str,
    ) -> Result<Answer, NoAnswer> {
        let _permit = self.in_flight.try_acquire().map_err(|_| NoAnswer::Busy)?;
        let exchange = async {
            let sent = match network {
                Network::Public => self.public.request(request),
                Network::Operator => self.operator.request(request),
            };
            let (parts, body) =
                sent.await.map_err(|error| NoAnswer::Transport(causes(&error)))?.into_parts();
            let content_type = content_type(&parts.headers)?;
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    NoAnswer::TooLong
                } else {
                    NoAnswer::Transport(error.to_string())
                }
            })?;
            Ok(Answer { status: parts.status.as_u16(), content_type, body: body.to_bytes() })
        };
        let exchange = exchange.instrument(client_span(name));
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or(Err(NoAnswer::TimedOut))
    }
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(16)
        .http1_max_headers(64)
        .http1_max_buf_size(MAX_ANSWER_BYTES);
    builder
}

fn build(origin: &str, request: OutgoingRequest) -> Result<Request<Full<Bytes>>, NoAnswer> {
    let malformed = |error: &dyn std::fmt::Display| NoAnswer::Request(error.to_string());
    let OutgoingRequest { method, path_and_query, headers, body } = request;
    let uri: Uri = format!("{origin}{path_and_query}")
        .parse()
        .map_err(|_| malformed(&"the url does not parse"))?;
    let mut built = Request::builder()
        .method(method)
        .uri(uri)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| malformed(&error))?;
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|error| malformed(&error))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| malformed(&"a header value"))?;
        value.set_sensitive(true);
        built.headers_mut().append(name, value);
    }
    Ok(built)
}

fn content_type(headers: &http::HeaderMap) -> Result<String, NoAnswer> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(NoAnswer::ContentType);
    }
    match first {
        None => Ok(String::new()),
        Some(value) => value.to_str().map(str::to_owned).map_err(|_| NoAnswer::ContentType),
    }
}

/// An error and what caused it. None of them names the URL, whose query may be a credential (ATTACKS 83).
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Resolves AWS's own names, and leaves out every address that is not on the public internet: whoever can poison a name must not
/// thereby reach a metadata service or a neighbour (ATTACKS 8).
#[derive(Clone)]
struct PublicResolver(GaiResolver);

impl Service<Name> for PublicResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.0.call(name);
        Box::pin(async move {
            let public: Vec<_> =
                resolving.await?.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(io::Error::other("the name leads to no public address"));
            }
            Ok(public.into_iter())
        })
    }
}

/// Whether an address is on the public internet (IANA's special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a >= 240
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    // 64:ff9b::/96 is IPv4 behind a translator (RFC 6052).
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [g0, g1] = g.to_be_bytes();
        let [h0, h1] = h.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(g0, g1, h0, h1));
    }
    let global_unicast = a & 0xe000 == 0x2000;
    let special = match a {
        0x2001 => b < 0x200 || b == 0xdb8,
        0x2002 => true,
        0x3fff => b < 0x1000,
        _ => false,
    };
    global_unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    // ATTACKS 8.
    #[test]
    fn public_addresses() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        };
        for public in [
            "52.94.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "2600:1f18::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
        ] {
            check(public, true);
        }
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
        ] {
            check(private, false);
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused() {
        let mut resolver = PublicResolver(GaiResolver::new());
        let error = resolver.call("localhost".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("no public address"), "{error}");
    }
}
