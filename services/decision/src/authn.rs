//! Who calls: a part of Countersign, by its service identity, or a role session, by its bearer token.

use std::{net::IpAddr, sync::Arc, time::Instant};

use countersign_serve::{
    Fault, ServiceIdentities, ServiceName,
    authn::{Authenticate, Credential, credential, missing_credentials},
    incoming::Peer,
};
use countersign_token::SignedToken;
use http::{HeaderMap, Uri};

use crate::{
    check,
    convert::Possession,
    decider::{self, Decider},
    session::{self, Came, OWN_AUDIENCE, Opened, Presented, Session},
};

/// Who calls.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A part of Countersign.
    Service(ServiceName),
    /// A role session: a principal like any other, whose own policies say what it may ask.
    Session(Arc<Session>),
    /// Nobody, where the operator lets callers without credentials ask.
    Anonymous,
}

/// Who has passed the door.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who calls.
    pub caller: Caller,
    /// Until when it can wait for revisions; the door's own waiting counts.
    pub deadline: Instant,
    /// The session's token, for calls that outlive it.
    pub signed: Option<SignedToken>,
}

/// A call that has passed the door.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// From where. A caller's own policies may ask; an address that is not known fits none of them.
    pub source: Option<IpAddr>,
    /// Until when it can wait for revisions; the door's own waiting counts.
    pub deadline: Instant,
}

/// The door.
#[derive(Clone)]
pub struct Door {
    decider: Decider,
    identities: Arc<ServiceIdentities>,
    anonymous_callers: bool,
}

impl Door {
    /// Lets in whom `identities` and the replica's keys show.
    pub fn new(decider: Decider, identities: ServiceIdentities, anonymous_callers: bool) -> Self {
        Self { decider, identities: Arc::new(identities), anonymous_callers }
    }
}

impl Authenticate for Door {
    type Caller = Admitted;

    // No RPC is open to strangers, so the path does not matter.
    async fn authenticate(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Admitted, Fault> {
        let deadline = self.decider.deadline(headers);
        let (caller, signed) = self.caller(uri, headers, peer, deadline).await?;
        Ok(Admitted { caller, deadline, signed })
    }
}

impl Door {
    async fn caller(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        deadline: Instant,
    ) -> Result<(Caller, Option<SignedToken>), Fault> {
        let service = self.identities.identify(headers, peer);
        let service = service
            .map_err(|error| Fault::unauthenticated("InvalidServiceIdentity", error.to_string()))?;
        match (service, credential(headers)?) {
            (Some(service), None) => Ok((Caller::Service(service), None)),
            (None, Some(shown)) => {
                let possession = Possession::of_caller(shown, uri, peer);
                self.session(shown, &possession, deadline).await
            }
            // Of two identities one would have to be ignored.
            (Some(_), Some(_)) => Err(Fault::unauthenticated(
                "InvalidToken",
                "a service identity and a bearer token at once; send one of them",
            )),
            (None, None) if self.anonymous_callers => Ok((Caller::Anonymous, None)),
            (None, None) => Err(missing_credentials()),
        }
    }

    async fn session(
        &self,
        shown: Credential<'_>,
        possession: &Possession,
        deadline: Instant,
    ) -> Result<(Caller, Option<SignedToken>), Fault> {
        let presented = Presented {
            token: shown.token,
            audience: Some(OWN_AUDIENCE),
            possession,
            came: Came::ToAsker,
        };
        let opened = session::open(&self.decider, presented, decider::now(), deadline).await;
        let Opened { view, session, signed } = opened.map_err(session::NoSession::of_caller)?;
        // A session whose role is gone, or was made again, is over for every RPC, also for those that need no permission.
        check::session_subject(view.world(), &session)?;
        Ok((Caller::Session(Arc::new(session)), Some(signed)))
    }
}
