//! The one binary people type: arguments in, an exit status out.

use std::process::ExitCode;

use clap::Parser;
use countersign::{
    audit, certificates,
    cli::{AuditCommand, Cli, Command, PolicyCommand},
    demo, exchange,
    exit::Exit,
    policy_check, probe, proof, simulate, store, up,
};

fn main() -> ExitCode {
    countersign_serve::memory::keep_or_say("countersign");
    let exit = match Cli::parse().command {
        Command::Up(args) => on_runtime(up::run(*args)),
        Command::Demo(args) => on_runtime(demo::run(args)),
        Command::Simulate(args) => simulate::run(&args),
        Command::Policy(PolicyCommand::Check(args)) => policy_check::run(&args),
        Command::Audit(AuditCommand::Verify(args)) => audit::run(&args),
        Command::Audit(AuditCommand::Tail(args)) => audit::tail(&args),
        Command::Store(command) => on_runtime(store::run(*command)),
        Command::Proof(args) => proof::run(&args),
        Command::Exchange(args) => on_runtime(exchange::run(*args)),
        Command::Certificates(args) => certificates::run(&args),
        Command::Probe(args) => on_runtime(probe::run(args)),
    };
    exit.into()
}

fn on_runtime(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // Everything was drained, or is to end at once: no task is waited for.
            runtime.shutdown_background();
            exit
        }
        Err(error) => Exit::failed(format_args!("cannot start: {error}")),
    }
}
