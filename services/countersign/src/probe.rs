//! `countersign probe`: the gRPC health protocol, for those who look after processes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use countersign_serve::{
    dial::{self, Trust},
    grpc::serving_on,
    tls::trusting,
};

use crate::exit::Exit;

/// `countersign probe`.
#[derive(Args, Debug)]
pub struct ProbeArgs {
    /// Where the service is: `http://127.0.0.1:7402`, or `https://HOST:PORT` with --ca
    #[arg(value_name = "URL")]
    pub origin: String,
    /// The authority of the service's certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The service to ask about, by its full name; without, the whole server
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service: String,
    /// How long to go on asking
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub patience: u16,
}

/// Asks, and says what was heard.
pub async fn run(args: ProbeArgs) -> Exit {
    let trust = match args.ca.as_deref().map(trusting).transpose() {
        Ok(Some(config)) => Trust::Name(Arc::new(config)),
        Ok(None) => Trust::Nobody,
        Err(error) => return Exit::bad_input(error),
    };
    let channel = match dial::channel(&args.origin, trust) {
        Ok(channel) => channel,
        Err(error) => return Exit::bad_input(error),
    };
    match serving_on(channel, &args.service, Duration::from_secs(args.patience.into())).await {
        Ok(()) => {
            println!("SERVING");
            Exit::Done
        }
        Err(last) => Exit::failed(format_args!("{}: {last}", args.origin)),
    }
}
