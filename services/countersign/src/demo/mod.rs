//! `countersign demo`: everything in a temporary folder on free ports, then five use cases as a user would go through them, over the
//! public gRPC interface alone. Each step knows what it must come to, and says whether it did.

mod cases;
mod steps;
mod story;
mod table;

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Instant,
};

use countersign_serve::{shutdown::signal, telemetry};

use crate::{
    cli::DemoArgs,
    exit::Exit,
    up::{self, Running, UpOptions},
};

pub use table::{Summary, Table};

/// The account of AWS's own examples.
pub const ACCOUNT: &str = "123456789012";

/// `countersign demo`.
pub async fn run(args: DemoArgs) -> Exit {
    if let Err(error) = telemetry::start(args.logs.filter(), args.logs.log_format.into()) {
        return Exit::bad_input(error);
    }
    let folder = match tempfile::Builder::new().prefix("countersign-demo-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return Exit::failed(format_args!("cannot make a temporary folder: {error}")),
    };
    let exit = whole(folder.path(), args.keep).await;
    if let Err(error) = folder.close() {
        return Exit::failed(format_args!("cannot remove the temporary folder: {error}"));
    }
    exit
}

async fn whole(folder: &Path, keep: bool) -> Exit {
    let begun = Instant::now();
    let mut table = Table::new(io::stdout(), in_colour());
    let told = tokio::select! {
        told = start_and_tell(folder, &mut table) => told,
        () = signal() => return Exit::failed("interrupted"),
    };
    let running = match told {
        Ok(running) => running,
        Err(error) => return Exit::failed(error),
    };
    let summary = table.summary(begun.elapsed());
    let ended = if keep {
        println!("\n{}", up::welcome(&running));
        up::until_told(running).await
    } else {
        running.shutdown().await;
        Exit::Done
    };
    if !summary.good() {
        return Exit::Failed;
    }
    if !keep {
        print!("{WHAT_NEXT}");
    }
    ended
}

async fn start_and_tell<W: io::Write>(
    folder: &Path,
    table: &mut Table<W>,
) -> Result<Running, String> {
    let begun = Instant::now();
    let account = ACCOUNT.parse().map_err(|error| format!("{error}"))?;
    let running = up::start(UpOptions::on_free_ports(account, folder)).await;
    let running = running.map_err(|error| error.to_string())?;
    table.line(&format!(
        "Countersign is up in {} ms: policy store, decision service and token gateway, in {}",
        begun.elapsed().as_millis(),
        folder.display()
    ));
    match tell(&running, table).await {
        Ok(()) => Ok(running),
        Err(error) => {
            running.shutdown().await;
            Err(error)
        }
    }
}

const WHAT_NEXT: &str = "
What to try next:
  countersign demo --keep    the same, left running, with lines to paste
  countersign up             one of your own, in ./countersign-data
  README.md                  the five-minute tour
";

/// Goes through the use cases with a system that runs.
///
/// # Errors
/// When the system cannot be called at all. A step that comes out otherwise is in the table.
pub async fn tell<W: io::Write>(running: &Running, table: &mut Table<W>) -> Result<(), String> {
    story::tell(running, table).await
}

/// On a terminal, unless NO_COLOR is set (no-color.org).
fn in_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
