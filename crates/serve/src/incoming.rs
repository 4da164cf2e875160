//! Connections as they come: a socket, plain or inside TLS, and who is at the other end of it.
//!
//! A handshake waits for its client, so each runs by itself, and none holds up another.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::Sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{
    cores::{Counted, Handed},
    listener::Listener,
    tls::{self, Protocol, Tls},
};

/// A client that takes longer to shake hands is let go.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// So many shake hands at once; more wait in the socket's own queue.
const MAX_HANDSHAKES: usize = 4096;
/// After the system has refused a connection (no file descriptors, mostly).
const REFUSED: Duration = Duration::from_millis(50);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    tcp: TcpConnectInfo,
    spiffe_id: Option<Arc<str>>,
    certificate: Option<Arc<str>>,
}

impl Peer {
    /// The addresses of the connection.
    #[must_use]
    pub fn tcp(&self) -> &TcpConnectInfo {
        &self.tcp
    }

    /// The SPIFFE id of its certificate, which one of our authorities signed. None without one.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<&str> {
        self.spiffe_id.as_deref()
    }

    /// Its certificate, which one of our authorities signed, as tokens are bound to it (`x5t#S256`, RFC 8705 section 3.1): the SHA-256 of
    /// the DER, base64url without padding. From the TLS session alone, never from a header (ATTACKS 80).
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<str>> {
        self.certificate.as_ref()
    }

    #[cfg(test)]
    pub(crate) fn with_spiffe_id(id: &str) -> Self {
        let tcp = TcpConnectInfo { local_addr: None, remote_addr: None };
        Self { tcp, spiffe_id: Some(id.into()), certificate: None }
    }
}

/// A connection that is ready to be served.
#[derive(Debug)]
pub struct Connection {
    stream: Transport,
    peer: Peer,
    _counted: Option<Counted>,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn plain(stream: TcpStream, counted: Option<Counted>) -> Self {
        let peer = Peer { tcp: stream.connect_info(), spiffe_id: None, certificate: None };
        Self { stream: Transport::Plain(stream), peer, _counted: counted }
    }

    fn encrypted(stream: TlsStream<TcpStream>, counted: Option<Counted>) -> Self {
        let (socket, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let peer = Peer {
            tcp: socket.connect_info(),
            spiffe_id: certificate.and_then(|certificate| tls::id_in(certificate)),
            certificate: certificate.map(|certificate| thumbprint(certificate)),
        };
        Self { stream: Transport::Tls(Box::new(stream)), peer, _counted: counted }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Where connections come from.
enum Source {
    Socket(TcpListener),
    /// From whoever has the socket; none any more when that one is gone.
    Handed(mpsc::Receiver<Handed>),
}

/// The connections of a listener, without end.
pub struct Incoming {
    source: Source,
    tls: Option<Tls>,
    protocol: Protocol,
    handshakes: JoinSet<Option<Connection>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Those of `listener`, each of which will speak `protocol`.
    #[must_use]
    pub fn new(listener: Listener, protocol: Protocol) -> Self {
        let Listener { socket, tls, .. } = listener;
        Self::from(Source::Socket(socket), tls, protocol)
    }

    /// Those that are handed over.
    pub(crate) fn handed(
        handed: mpsc::Receiver<Handed>,
        tls: Option<Tls>,
        protocol: Protocol,
    ) -> Self {
        Self::from(Source::Handed(handed), tls, protocol)
    }

    fn from(source: Source, tls: Option<Tls>, protocol: Protocol) -> Self {
        Self { source, tls, protocol, handshakes: JoinSet::new(), pause: None }
    }

    /// The next one.
    pub async fn accept(&mut self) -> (Connection, Option<SocketAddr>) {
        let connection = poll_fn(|context| self.poll_accept(context)).await;
        let remote = connection.peer.tcp.remote_addr;
        (connection, remote)
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.source {
            Source::Socket(socket) => socket.local_addr(),
            Source::Handed(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Connection> {
        loop {
            // An empty set is ready with nothing; it is asked again when a handshake has been added.
            while let Poll::Ready(Some(shaken)) = self.handshakes.poll_join_next(context) {
                if let Ok(Some(connection)) = shaken {
                    return Poll::Ready(connection);
                }
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            if self.handshakes.len() >= MAX_HANDSHAKES {
                return Poll::Pending;
            }
            match ready!(self.source.poll_next(context)) {
                Ok((stream, counted)) => {
                    // Nagle's algorithm against delayed acknowledgements would cost 40 ms a call.
                    let _ = stream.set_nodelay(true);
                    match &self.tls {
                        None => return Poll::Ready(Connection::plain(stream, counted)),
                        Some(tls) => {
                            let acceptor = TlsAcceptor::from(tls.server(self.protocol));
                            self.handshakes.spawn(shake_hands(acceptor, stream, counted));
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.pause = Some(Box::pin(tokio::time::sleep(REFUSED)));
                }
            }
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(context).map(|connection| Some(Ok(connection)))
    }
}

impl Source {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, Option<Counted>)>> {
        match self {
            Self::Socket(socket) => {
                socket.poll_accept(context).map(|accepted| Ok((accepted?.0, None)))
            }
            Self::Handed(handed) => match ready!(handed.poll_recv(context)) {
                Some(Handed { stream, counted }) => {
                    Poll::Ready(TcpStream::from_std(stream).map(|stream| (stream, Some(counted))))
                }
                // Whoever reads this ends by another word.
                None => Poll::Pending,
            },
        }
    }
}

fn thumbprint(certificate: &[u8]) -> Arc<str> {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate)).into()
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    counted: Option<Counted>,
) -> Option<Connection> {
    let remote = stream.peer_addr().ok();
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection::encrypted(stream, counted)),
        Ok(Err(error)) => {
            tracing::info!(?remote, %error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::info!(?remote, "a TLS handshake took longer than {}s", HANDSHAKE.as_secs());
            None
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
