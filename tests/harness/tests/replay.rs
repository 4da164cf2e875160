//! FAULTS F16: the same proof again, on one gateway and across two, one after the other and at the same instant: one token, and no more.
//! `COUNTERSIGN_FAULTS=full` tries 2,000 proofs where CI tries 40. It prints its counts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign::proof::Form;
use countersign_gateway::{Config, Instances, JwtIssuers, Listeners, RateLimits, Rates, Rotation};
use countersign_harness::{Ask, System, reason};
use countersign_proto::token::v1::{
    ExchangeRequest, token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_serve::{
    Listener, ServiceCredential, ServiceIdentities, ServiceName, Tls,
    dial::{self, Trust},
    grpc::serving_on,
    listener::bind_with,
    shutdown,
    telemetry::Metrics,
    tls::{ClientCertificates, Part, TlsFiles, TlsSettings, trusting},
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

/// At the same instant, of each proof, at each gateway.
const AT_ONCE: usize = 3;

fn proofs() -> usize {
    let is_full = std::env::var("COUNTERSIGN_FAULTS").is_ok_and(|size| size == "full");
    if is_full { 2_000 } else { 40 }
}

fn plenty() -> RateLimits {
    let rate = "100000:200000".parse().unwrap();
    let rates = Rates { each: rate, all: rate };
    RateLimits { exchanges: rates, http: rates, ..RateLimits::default() }
}

/// Another gateway beside the one of `system`: the same issuer, the same store, a memory of its own.
async fn second(system: &System) -> (String, shutdown::Trigger) {
    let folder = system.running.admin_token_path.parent().unwrap().join("tls");
    let own = folder.join(Part::Gateway.to_string());
    let domain = "countersign.local".parse().unwrap();
    let tls = Tls::load(TlsSettings {
        files: TlsFiles {
            certificate: own.join("tls.crt"),
            key: own.join("tls.key"),
            ca: Some(own.join("ca.crt")),
        },
        identity: Some((domain, Part::Gateway)),
        names: Vec::new(),
        clients: ClientCertificates::Optional,
    })
    .unwrap();
    let listen = async || -> Listener {
        bind_with("127.0.0.1:0".parse().unwrap(), Some(tls.clone()), false).await.unwrap()
    };
    let listeners = Listeners { grpc: listen().await, http: listen().await };
    let origin = listeners.grpc.origin().unwrap();
    let config = Config {
        issuer: system.running.issuer.clone(),
        region: system.running.region.clone(),
        partition: "aws".to_owned(),
        policy_store: system.running.endpoints.policy_store.clone(),
        decision: system.running.endpoints.decision.clone(),
        credential: ServiceCredential::certificate(tls),
        identities: ServiceIdentities::default()
            .accept_certificate(ServiceName::Decision, &"countersign.local".parse().unwrap()),
        sts_endpoints: Vec::new(),
        jwt_issuers: JwtIssuers::default(),
        instances: Instances::default(),
        limits: plenty(),
        rotation: Rotation::default(),
        operator_account: None,
        audit_dir: None,
        name: "second".to_owned(),
        metrics: Metrics::default(),
    };
    let (trigger, shutdown) = shutdown::channel();
    tokio::spawn(countersign_gateway::serve(config, listeners, shutdown));
    (origin, trigger)
}

async fn exchange(channel: Channel, request: ExchangeRequest) -> String {
    match TokenExchangeServiceClient::new(channel).exchange(request).await {
        Ok(_) => "granted".to_owned(),
        Err(status) => {
            // Whoever could not be judged may come again; nobody here should have to.
            assert_ne!(status.code(), Code::Internal, "{status:?}");
            reason(&status)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_one_proof_is_one_token_at_two_gateways() {
    let system = System::with(|options| {
        options.tls = Some(Vec::new());
        options.limits = plenty();
    })
    .await;
    let ca = system.running.admin_token_path.parent().unwrap().join("tls/ca.crt");
    let trust = Trust::Name(Arc::new(trusting(&ca).unwrap()));
    let (other, _trigger) = second(&system).await;
    let gateways: Vec<Channel> = [&system.running.endpoints.gateway, &other]
        .map(|origin| dial::channel(origin, trust.clone()).unwrap())
        .into();
    let patience = Duration::from_secs(20);
    let service = countersign_gateway::SERVICE_NAME;
    serving_on(gateways.last().unwrap().clone(), service, patience).await.unwrap();

    let root = system.root();
    let role = "arn:aws:iam::123456789012:role/CountersignAdministrator";
    let (mut at_once, mut later) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..proofs() {
        // Each has a session of its own, and so another signature.
        let ask = Ask::new(role, format!("f16-{number}"), "orders");
        let form = if number % 2 == 0 { Form::Headers } else { Form::Presigned };
        let request = system.request_at(&system.own_sts(), &root, &ask, form);
        let mut tasks = JoinSet::new();
        for gateway in gateways.iter().cycle().take(AT_ONCE * gateways.len()) {
            tasks.spawn(exchange(gateway.clone(), request.clone()));
        }
        let outcomes = tasks.join_all().await;
        let granted = outcomes.iter().filter(|outcome| *outcome == "granted").count();
        assert_eq!(granted, 1, "proof {number}: {outcomes:?}");
        for outcome in outcomes {
            *at_once.entry(outcome).or_insert(0_usize) += 1;
        }
        for gateway in &gateways {
            let outcome = exchange(gateway.clone(), request.clone()).await;
            *later.entry(outcome).or_insert(0_usize) += 1;
        }
    }
    println!(
        "F16: {} proofs, each {} times at once at two gateways: {at_once:?}; then once more at each: {later:?}",
        proofs(),
        AT_ONCE * gateways.len(),
    );
    assert_eq!(at_once.get("granted"), Some(&proofs()));
    assert_eq!(later.keys().collect::<Vec<_>>(), ["ProofAlreadyUsed"]);
    assert_eq!(at_once.keys().collect::<Vec<_>>(), ["ProofAlreadyUsed", "granted"]);
    system.shutdown().await;
}
