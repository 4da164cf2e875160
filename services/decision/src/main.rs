//! `countersign-decision`: the decision service as a process of its own.

use std::process::ExitCode;

use countersign_decision::{self as decision, SERVICE_NAME, settings};
use countersign_serve::{
    program::{Ended, Process, Program},
    tls::Part,
};

fn main() -> ExitCode {
    let program = Program {
        name: "countersign-decision",
        about: "Countersign's decision service: may this principal do that, and why",
        part: Part::Decision,
        service_name: SERVICE_NAME,
        settings: settings::TABLE,
        mode: None,
    };
    program.run(settings::configure, async |config, process| {
        let Process { grpc, shutdown, .. } = process;
        decision::serve(config, grpc, shutdown).await.map_err(Ended::failed)
    })
}
