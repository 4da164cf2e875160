//! Nobody enters without credentials, loopback or not: every RPC of the contract, found in its descriptors, is called without any.

#![expect(clippy::panic, reason = "a test that cannot go on stops here")]

use countersign_harness::{Bearer, Rpc, System, call_empty, reason, rpcs};
use tonic::Code;

fn origin<'a>(system: &'a System, rpc: &Rpc) -> &'a str {
    let endpoints = &system.running.endpoints;
    match rpc.service.as_str() {
        "countersign.policy.v1.PolicyStoreService" => &endpoints.policy_store,
        "countersign.decision.v1.DecisionService" | "envoy.service.auth.v3.Authorization" => {
            &endpoints.decision
        }
        "countersign.token.v1.TokenExchangeService" => &endpoints.gateway,
        other => panic!("`{other}` is served by nobody"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_a_caller_without_credentials() {
    let system = System::start().await;
    let all = rpcs();
    assert!(all.len() > 100, "{}", all.len());
    let stranger = Bearer::new("eyJhbGciOiJub25lIn0.e30.").unwrap();
    for rpc in &all {
        let refused = call_empty(origin(&system, rpc), rpc, &Bearer::nobody()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{}: {refused:?}", rpc.path());
        assert_eq!(reason(&refused), "MissingAuthenticationToken", "{}", rpc.path());
        let refused = call_empty(origin(&system, rpc), rpc, &stranger).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{}: {refused:?}", rpc.path());
    }
    system.shutdown().await;
}

/// An exchange's credential is its proof, which is not there.
fn is_exchange(rpc: &Rpc) -> bool {
    matches!(rpc.method.as_str(), "Exchange" | "ExchangeWithChallenge")
}

/// The administrator is let in everywhere: so what is asserted above is about credentials, and not about broken services.
#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_knows_the_administrator() {
    let system = System::start().await;
    for rpc in rpcs().iter().filter(|rpc| !is_exchange(rpc)) {
        let answer = call_empty(origin(&system, rpc), rpc, &system.admin).await;
        let code = answer.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok);
        assert_ne!(code, Code::Unauthenticated, "{}", rpc.path());
        assert_ne!(code, Code::Unknown, "{}: {answer:?}", rpc.path());
        assert_ne!(code, Code::Internal, "{}: {answer:?}", rpc.path());
    }
    system.shutdown().await;
}
