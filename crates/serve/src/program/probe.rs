//! Asking a process about its health, as a stranger would: over its own port, inside TLS where the port has it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tonic::transport::Channel;

use crate::{
    dial::{self, DialError, Trust},
    grpc::serving_on,
    tls::{Part, Tls},
};

/// Whom to ask, and about what.
#[derive(Clone)]
pub struct Probe {
    origin: String,
    trust: Trust,
    service_name: &'static str,
}

impl Probe {
    /// A process of this machine that listens on `address` inside TLS as `part`.
    #[must_use]
    pub fn encrypted(
        address: SocketAddr,
        part: Part,
        tls: Tls,
        service_name: &'static str,
    ) -> Self {
        let origin = format!("https://{}", reachable(address));
        Self { origin, trust: Trust::Part(part, tls), service_name }
    }

    /// The same in clear.
    #[must_use]
    pub fn plain(address: SocketAddr, service_name: &'static str) -> Self {
        let origin = format!("http://{}", reachable(address));
        Self { origin, trust: Trust::Nobody, service_name }
    }

    /// Waits for SERVING.
    ///
    /// # Errors
    /// The last word, when it was not SERVING within `patience`.
    pub async fn ask(&self, patience: Duration) -> Result<(), String> {
        let channel = self.channel().map_err(|error| error.to_string())?;
        let asked = serving_on(channel, self.service_name, patience);
        match tokio::time::timeout(patience + Duration::from_secs(1), asked).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer".to_owned()),
        }
    }

    fn channel(&self) -> Result<Channel, DialError> {
        dial::channel(&self.origin, self.trust.clone())
    }
}

/// Who listens everywhere listens on loopback too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}
