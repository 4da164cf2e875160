//! Nobody enters without credentials, over the network and TLS as they are here: every RPC of the contract is called without any.

use std::process::Command;

use countersign_e2e::program::{run, venv};
use countersign_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::cluster::{DECISIONS, Files, GATEWAYS, STORES};

/// Where a service is served, and the path of each of its methods.
fn methods() -> Vec<(u16, String)> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors").file;
    let mut found = Vec::new();
    for file in &files {
        for service in &file.service {
            let port = match service.name() {
                "PolicyStoreService" => STORES[0],
                "DecisionService" | "Authorization" => DECISIONS[0],
                "TokenExchangeService" => GATEWAYS[0],
                other => panic!("`{other}` is served by nobody"),
            };
            let path = |method: &str| format!("{}.{}/{method}", file.package(), service.name());
            found.extend(service.method.iter().map(|method| (port, path(method.name()))));
        }
    }
    found
}

#[test]
fn every_rpc_refuses_a_caller_without_credentials() {
    let files = Files::copied();
    let ca = files.ca().display().to_string();
    let call = |trust: &[&str], port: u16, method: &str| {
        let mut command = Command::new(venv("grpcurl"));
        command.args(trust).args(["-max-time", "20", "-d", "{}"]);
        run(command.arg(format!("localhost:{port}")).arg(method), "")
    };
    let all = methods();
    assert!(all.len() > 100, "{}", all.len());
    for (port, method) in &all {
        let refused = call(&["-cacert", &ca], *port, method);
        assert!(refused.stderr.contains("Unauthenticated"), "{method}: {}", refused.stderr);
    }
    for port in [STORES, DECISIONS, GATEWAYS].concat() {
        let health = call(&["-cacert", &ca], port, "grpc.health.v1.Health/Check");
        assert!(health.stdout.contains("\"SERVING\""), "{port}: {}", health.stderr);
        // In clear nobody is heard at all.
        let clear = call(&["-plaintext"], port, "grpc.health.v1.Health/Check");
        assert!(!clear.status.success(), "{port}: {}", clear.stdout);
    }
}
