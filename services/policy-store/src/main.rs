//! `countersign-policy-store`: the policy store as a process of its own.

use std::process::ExitCode;

use countersign_policy_store::{self as policy_store, Error, SERVICE_NAME, Seeding, settings};
use countersign_serve::{
    program::{Ended, Process, Program, Told},
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
    program.run_prepared(
        settings::configure,
        async |mut config, told| {
            if told == Told::Mode {
                config.seeding = Seeding::Here;
            }
            policy_store::open(config).await.map_err(ended)
        },
        async |opened, process| {
            let Process { grpc, shutdown, .. } = process;
            policy_store::serve_opened(opened, grpc, shutdown).await.map_err(ended)
        },
    )
}

fn ended(error: Error) -> Ended {
    match error {
        Error::Serve(error) => Ended::failed(error),
        error if error.is_of_a_later_version() => Ended::Later(error.to_string()),
        error => Ended::store(error),
    }
}
