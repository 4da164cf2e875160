//! Sockets, bound before anything else starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::tls::Tls;

/// A socket, and what is spoken on it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Tls>,
    /// Whether strangers may ask what there is to call (gRPC reflection).
    pub(crate) is_described: bool,
}

impl From<TcpListener> for Listener {
    /// In clear.
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None, is_described: true }
    }
}

impl Listener {
    /// Without reflection, by which strangers learn the names of services and methods.
    #[must_use]
    pub fn undescribed(self) -> Self {
        Self { is_described: false, ..self }
    }

    /// The address that the socket took.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// `https://`, or `http://` in clear, and the address that the socket took; who listens everywhere is at `localhost`.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn origin(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = self.local_addr()?;
        if address.ip().is_unspecified() {
            return Ok(format!("{scheme}://localhost:{}", address.port()));
        }
        Ok(format!("{scheme}://{address}"))
    }
}

/// Binds `address` for what is spoken in clear. Port 0 takes any free one.
///
/// # Errors
/// Beyond loopback, since without TLS a bearer token would cross the network in the clear; and when the address is taken or
/// not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback { address });
    }
    bind_any(address).await
}

/// Binds `address` for TLS, or, without `tls`, in clear on loopback; `in_clear` says that the operator wants it in clear beyond loopback
/// too, on a network where something else encrypts.
///
/// # Errors
/// As [`bind`].
pub async fn bind_with(
    address: SocketAddr,
    tls: Option<Tls>,
    in_clear: bool,
) -> Result<Listener, BindError> {
    let socket = match tls {
        None if !in_clear => bind(address).await?,
        Some(_) | None => bind_any(address).await?,
    };
    Ok(Listener { socket, tls, is_described: true })
}

async fn bind_any(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::Io { address, source })
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without TLS, loopback alone.
    #[error(
        "refusing to listen on `{address}` in clear: beyond loopback only with TLS (a certificate and its key); or use 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The system said no.
    #[error("cannot listen on `{address}`: {source}; choose another port, or 0 for any free one")]
    Io {
        /// What was asked for.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_alone_in_clear() {
        for (address, bound) in [
            ("127.0.0.1:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.0.2.1:0", false),
            ("[::ffff:127.0.0.1]:0", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(bind(address).await.is_ok(), bound, "{address}");
            assert_eq!(bind_with(address, None, false).await.is_ok(), bound, "{address}");
        }
        let anywhere = "0.0.0.0:0".parse().unwrap();
        assert!(bind_with(anywhere, None, true).await.is_ok());
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
