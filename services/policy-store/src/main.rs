//! `countersign-policy-store`: the policy store as a process of its own.

use std::process::ExitCode;

use countersign_policy_store::{self as policy_store, Error, SERVICE_NAME, settings};
use countersign_serve::{
    program::{Ended, Process, Program},
    tls::Part,
};

fn main() -> ExitCode {
    let program = Program {
        name: "countersign-policy-store",
        about: "Countersign's policy store: users, roles, policies and keys, and who may change them",
        part: Part::PolicyStore,
        service_name: SERVICE_NAME,
        settings: settings::TABLE,
        mode: Some(settings::INIT),
    };
    program.run(settings::configure, async |config, process| {
        let Process { grpc, shutdown, .. } = process;
        match grpc {
            Some(listener) => policy_store::serve(config, listener, shutdown).await,
            None => policy_store::init(config).await,
        }
        .map_err(ended)
    })
}

fn ended(error: Error) -> Ended {
    match error {
        Error::Serve(error) => Ended::failed(error),
        error => Ended::store(error),
    }
}
