//! Sockets, bound before anything else starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// Binds `address`. Port 0 takes any free one.
///
/// # Errors
/// Beyond loopback, since without TLS a bearer token would cross the network in the clear; and when the address is taken or
/// not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback { address });
    }
    TcpListener::bind(address).await.map_err(|source| BindError::Io { address, source })
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without TLS, loopback alone.
    #[error(
        "refusing to listen on `{address}`: beyond loopback only with TLS, which is not there yet; use 127.0.0.1 or [::1]"
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
    async fn loopback_alone() {
        for (address, bound) in [
            ("127.0.0.1:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.0.2.1:0", false),
            ("[::ffff:127.0.0.1]:0", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(bind(address).await.is_ok(), bound, "{address}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
