//! The RPCs: unwraps a request, calls one verb, wraps the answer. The door has been passed before anything here runs.

use std::net::IpAddr;

use countersign_proto::decision::v1::{
    AuthorizeAssumeRoleRequest, AuthorizeAssumeRoleResponse, AuthorizeExchangeRequest,
    AuthorizeExchangeResponse, AuthorizeRequest, AuthorizeResponse, AuthorizeStreamRequest,
    BatchAuthorizeRequest, BatchAuthorizeResponse, ExplainRequest, ExplainResponse,
    FilterResourcesRequest, FilterResourcesResponse, GetStatusRequest, GetStatusResponse,
    WhoCanRequest, WhoCanResponse, decision_service_server::DecisionService,
};
use countersign_serve::{ServiceName, authn::missing_credentials};
use tonic::{Request, Response, Status, Streaming, transport::server::TcpConnectInfo};

use crate::{
    assume_role,
    authn::{Admitted, Call, Caller},
    check, convert,
    decider::Decider,
    exchange, status,
    stream::{self, Asker},
    who_can,
};

/// The service.
pub struct Decisions {
    decider: Decider,
}

impl Decisions {
    /// Answers with `decider`.
    pub fn new(decider: Decider) -> Self {
        Self { decider }
    }
}

/// The call, and its message. What has not passed the door is no call.
pub fn unwrap<T>(request: Request<T>) -> Result<(Call, T), Status> {
    let (_, extensions, message) = request.into_parts();
    let admitted = extensions.get::<Admitted>().cloned().ok_or_else(missing_credentials)?;
    let Admitted { caller, deadline, signed: _ } = admitted;
    let source = extensions.get::<TcpConnectInfo>().and_then(source);
    Ok((Call { caller, source, deadline }, message))
}

/// Where a connection comes from. An IPv4 caller of a dual-stack socket is still an IPv4 caller.
pub fn source(connection: &TcpConnectInfo) -> Option<IpAddr> {
    connection.remote_addr().map(|address| address.ip().to_canonical())
}

#[tonic::async_trait]
impl DecisionService for Decisions {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let (call, message) = unwrap(request)?;
        let question = match call.caller {
            Caller::Service(ServiceName::Gateway) => convert::gateways_question(message)?,
            Caller::Service(ServiceName::Decision) | Caller::Session(_) | Caller::Anonymous => {
                convert::authorize_question(message)?
            }
        };
        let answer = check::authorize(&self.decider, &call, question).await?;
        Ok(Response::new(answer))
    }

    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let (call, message) = unwrap(request)?;
        let batch = convert::batch_question(message)?;
        Ok(Response::new(check::many::batch(&self.decider, &call, batch).await?))
    }

    type AuthorizeStreamStream = stream::Answers;

    async fn authorize_stream(
        &self,
        request: Request<Streaming<AuthorizeStreamRequest>>,
    ) -> Result<Response<Self::AuthorizeStreamStream>, Status> {
        let signed = request.extensions().get::<Admitted>().and_then(|one| one.signed.clone());
        let (call, questions) = unwrap(request)?;
        let patience = self.decider.patience();
        let answers =
            stream::answers(self.decider.clone(), Asker { call, signed, patience }, questions);
        Ok(Response::new(answers))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let (call, message) = unwrap(request)?;
        let question = convert::explain_question(message)?;
        let answer = check::explain(&self.decider, &call, question).await?;
        Ok(Response::new(answer))
    }

    async fn authorize_assume_role(
        &self,
        request: Request<AuthorizeAssumeRoleRequest>,
    ) -> Result<Response<AuthorizeAssumeRoleResponse>, Status> {
        let (call, message) = unwrap(request)?;
        assume_role::gateways_alone(&call.caller, "countersign:AuthorizeAssumeRole")?;
        let question = convert::assume_role_question(message)?;
        let answer = assume_role::authorize(&self.decider, question, call.deadline).await?;
        Ok(Response::new(answer))
    }

    async fn authorize_exchange(
        &self,
        request: Request<AuthorizeExchangeRequest>,
    ) -> Result<Response<AuthorizeExchangeResponse>, Status> {
        let (call, message) = unwrap(request)?;
        assume_role::gateways_alone(&call.caller, "countersign:AuthorizeExchange")?;
        let question = convert::exchange_question(message)?;
        let answer = exchange::authorize(&self.decider, question, call.deadline).await?;
        Ok(Response::new(answer))
    }

    async fn who_can(
        &self,
        request: Request<WhoCanRequest>,
    ) -> Result<Response<WhoCanResponse>, Status> {
        let (call, message) = unwrap(request)?;
        let question = convert::who_can_question(message)?;
        Ok(Response::new(who_can::who_can(&self.decider, &call, question).await?))
    }

    async fn filter_resources(
        &self,
        request: Request<FilterResourcesRequest>,
    ) -> Result<Response<FilterResourcesResponse>, Status> {
        let (call, message) = unwrap(request)?;
        let (batch, resources) = convert::filter_question(message)?;
        let answer = check::many::filter(&self.decider, &call, batch, resources).await?;
        Ok(Response::new(answer))
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let (call, GetStatusRequest {}) = unwrap(request)?;
        Ok(Response::new(status::status(&self.decider, &call)?))
    }
}
