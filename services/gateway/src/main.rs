//! `countersign-gateway`: the token gateway as a process of its own.

use std::process::ExitCode;

use countersign_gateway::{self as gateway, Listeners, SERVICE_NAME, settings};
use countersign_serve::{
    program::{Ended, Process, Program},
    tls::Part,
};

fn main() -> ExitCode {
    let program = Program {
        name: "countersign-gateway",
        about: "Countersign's token gateway: something AWS signed in, a scoped token out",
        part: Part::Gateway,
        service_name: SERVICE_NAME,
        settings: settings::TABLE,
        mode: None,
    };
    program.run(settings::configure, async |(config, http), process| {
        let Process { grpc, common, shutdown } = process;
        let listeners = Listeners { grpc, http: common.bind(http).await? };
        gateway::rotate_on_signal(config.rotation.demand());
        gateway::serve(config, listeners, shutdown).await.map_err(Ended::failed)
    })
}
