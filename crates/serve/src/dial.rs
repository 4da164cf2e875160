//! Calling another part of Countersign: one channel over all addresses that the part has, inside TLS where they say `https`.
//!
//! A channel is connected when it is first used, and again when its connection breaks, each time at the next address. A server that is
//! gone without a word is noticed by the pings of HTTP/2.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::tls::{Part, Tls};

/// From the first packet to the end of the handshake, at one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Pings are sent so often, also while nothing else is, and answered within the same time.
const PING: Duration = Duration::from_secs(5);

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address.
    #[error(
        "`{0}` is no address of a service: give `https://HOST:PORT`, or several, with commas between them"
    )]
    Origin(String),
    /// In clear over a network.
    #[error("`{0}` would be called in clear, which only loopback may: give its `https` address")]
    Clear(String),
    /// Nobody to believe.
    #[error(
        "`{0}` is called by TLS, and there is no certificate authority to believe: give one (`ca`)"
    )]
    NoAuthority(String),
    /// The library refuses.
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// How a server is known.
#[derive(Clone)]
pub enum Trust {
    /// Only plain connections.
    Nobody,
    /// As this part, by certificates that are read again when they change.
    Part(Part, Tls),
    /// By its host's name.
    Name(Arc<ClientConfig>),
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    encrypted: bool,
}

impl Address {
    fn parse(text: &str) -> Result<Self, DialError> {
        let malformed = || DialError::Origin(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| malformed())?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
        if !is_bare || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(malformed());
        }
        let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, encrypted })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Whether a service can be called at the addresses `origins`, with commas between them.
///
/// # Errors
/// When an address is none, would be called in clear beyond loopback, or has nobody to vouch for it.
pub fn check(origins: &str, trust: &Trust) -> Result<(), DialError> {
    addresses(origins, trust).map(|_| ())
}

fn addresses(origins: &str, trust: &Trust) -> Result<Vec<Address>, DialError> {
    let addresses: Vec<Address> =
        origins.split(',').map(Address::parse).collect::<Result<_, _>>()?;
    for address in &addresses {
        match (trust, address.encrypted) {
            (Trust::Nobody, true) => return Err(DialError::NoAuthority(origins.to_owned())),
            (_, false) if !address.is_loopback() => {
                return Err(DialError::Clear(origins.to_owned()));
            }
            (Trust::Nobody, false) | (Trust::Part(..) | Trust::Name(_), _) => {}
        }
    }
    Ok(addresses)
}

/// A channel to a service with the addresses `origins`, with commas between them.
///
/// # Errors
/// As [`check`].
pub fn channel(origins: &str, trust: Trust) -> Result<Channel, DialError> {
    let addresses = addresses(origins, &trust)?;
    let Some(first) = addresses.first() else {
        return Err(DialError::Origin(origins.to_owned()));
    };
    // TLS is ours, below: what tonic sees is a plain connection, with the first address's name in each request.
    let host =
        if first.host.contains(':') { format!("[{}]", first.host) } else { first.host.clone() };
    let endpoint = Endpoint::from_shared(format!("http://{host}:{}", first.port))
        .map_err(|_| DialError::Origin(origins.to_owned()))?
        .connect_timeout(CONNECT * u32::try_from(addresses.len()).unwrap_or(1))
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true);
    // Processes begin at different addresses, so that each gets its share.
    let random = RandomState::new().build_hasher().finish();
    let next = AtomicUsize::new(usize::try_from(random % 1024).unwrap_or_default());
    let dialer = Arc::new(Dialer { addresses, trust, next });
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.connect().await }
    })))
}

struct Dialer {
    addresses: Vec<Address>,
    trust: Trust,
    next: AtomicUsize,
}

impl Dialer {
    /// At the first address that answers, beginning with the one after the last that was tried.
    async fn connect(&self) -> io::Result<TokioIo<Socket>> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for _ in &self.addresses {
            let number = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len().max(1);
            let Some(address) = self.addresses.get(number) else { continue };
            match tokio::time::timeout(CONNECT, self.connect_to(address)).await {
                Ok(Ok(socket)) => return Ok(TokioIo::new(socket)),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
            tracing::debug!(host = address.host, port = address.port, error = %last, "no connection");
        }
        Err(last)
    }

    async fn connect_to(&self, address: &Address) -> io::Result<Socket> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        // Nagle's algorithm against delayed acknowledgements would cost 40 ms a call.
        let _ = stream.set_nodelay(true);
        let config = match (&self.trust, address.encrypted) {
            (_, false) => return Ok(Socket::Plain(stream)),
            (Trust::Nobody, true) => return Err(io::ErrorKind::Unsupported.into()),
            (Trust::Part(part, tls), true) => {
                Arc::new(tls.client(*part).map_err(io::Error::other)?)
            }
            (Trust::Name(config), true) => config.clone(),
        };
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Socket::Tls(Box::new(stream)))
    }
}

/// The client's end of a connection.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

mod socket {
    //! What a socket does, its stream does.

    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Socket;

    impl AsyncRead for Socket {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
                Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            }
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
                Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            }
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            }
        }

        fn is_write_vectored(&self) -> bool {
            match self {
                Self::Plain(stream) => stream.is_write_vectored(),
                Self::Tls(stream) => stream.is_write_vectored(),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_flush(context),
                Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
                Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<(&str, u16, bool)>| {
            let found = Address::parse(text).ok();
            let found =
                found.as_ref().map(|found| (found.host.as_str(), found.port, found.encrypted));
            assert_eq!(found, expected, "{text}");
        };
        check("http://127.0.0.1:7401", Some(("127.0.0.1", 7401, false)));
        check("https://store.example.org:7401", Some(("store.example.org", 7401, true)));
        check("https://store.example.org/", Some(("store.example.org", 443, true)));
        check("http://[::1]:7401", Some(("::1", 7401, false)));
        check("store.example.org:7401", None);
        check("ftp://store", None);
        check("https://store/path", None);
        check("https://me@store", None);
        check("", None);
    }

    #[tokio::test]
    async fn nobody_is_called_in_clear_over_a_network() {
        let check = |origins: &str, expected: &str| {
            let refused = channel(origins, Trust::Nobody).map(|_| ()).map_err(|e| e.to_string());
            match refused {
                Ok(()) => assert_eq!(expected, "", "{origins}"),
                Err(error) => {
                    assert!(!expected.is_empty() && error.contains(expected), "{origins}: {error}")
                }
            }
        };
        check("http://127.0.0.1:1", "");
        check("http://localhost:1,http://[::1]:2", "");
        check("http://10.0.0.1:1", "in clear");
        check("http://127.0.0.1:1,http://store:1", "in clear");
        check("http://localhost.example.org:1", "in clear");
        check("https://store:1", "no certificate authority");
        check("store:1", "is no address");
        check("", "is no address");
        check("http://127.0.0.1:1,", "is no address");
    }
}
