//! The load program: arguments in, tables out.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use countersign_load::{
    Failed,
    drive::Span,
    measure::{Bench, CLIENT_CORE, Figures, Rpc},
    picture::{Line, svg},
    process,
    report::{count, median, megabytes, microseconds, table},
    serve::{self, DecisionArgs, EchoArgs},
};

/// Drives a decision service with workload "orders", and a bare echo beside it.
#[derive(Parser)]
#[command(name = "countersign-load")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rates, latencies and the server's CPU a request, against the echo.
    Rates(RatesArgs),
    /// Latency against load, as a picture.
    Picture(PictureArgs),
    /// One server alone, for a profiler: prints the process's id, and asks until the time is over.
    Hold(HoldArgs),
    /// A server process (started by this program itself).
    #[command(hide = true)]
    ServeDecision(DecisionArgs),
    /// A server process (started by this program itself).
    #[command(hide = true)]
    ServeEcho(EchoArgs),
}

#[derive(clap::Args)]
struct RatesArgs {
    /// Users in the store.
    #[arg(long, default_value_t = 100_000)]
    principals: usize,
    /// What counts of each round.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Of each server in turn; what is shown is the median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Whether all cores are used, as they come.
    #[arg(long)]
    unpinned: bool,
    /// A small store, one short round each: what is asked and answered is held to the workload, and the times mean nothing.
    #[arg(long)]
    quick: bool,
}

#[derive(clap::Args)]
struct PictureArgs {
    /// Users in the store.
    #[arg(long, default_value_t = 100_000)]
    principals: usize,
    /// The SVG.
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args)]
struct HoldArgs {
    /// Users in the store.
    #[arg(long, default_value_t = 10_000)]
    principals: usize,
    /// `arn`, `token`, `batch` or `stream`.
    #[arg(long, default_value = "arn")]
    rpc: String,
    /// The echo, not the decision service.
    #[arg(long)]
    echo: bool,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Rates(args) => on_runtime(rates(args)),
        Command::Picture(args) => on_runtime(picture(args)),
        Command::Hold(args) => on_runtime(hold(args)),
        Command::ServeDecision(args) => serve::decision(args),
        Command::ServeEcho(args) => serve::echo(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failed::of("a runtime"))?.block_on(work)
}

fn span(seconds: f64) -> Span {
    let measured = Duration::from_secs_f64(seconds);
    Span { warm: (measured / 4).min(Duration::from_millis(500)), measured }
}

/// What is asked, on how many streams.
const ROWS: [(Rpc, usize); 7] = [
    (Rpc::Arn, 64),
    (Rpc::Token, 64),
    (Rpc::Batch, 16),
    (Rpc::Stream, 4),
    (Rpc::Arn, 8),
    (Rpc::Arn, 1),
    (Rpc::Token, 1),
];

async fn rates(args: RatesArgs) -> Result<(), Failed> {
    let RatesArgs { principals, seconds, rounds, unpinned, quick } = args;
    let (principals, seconds, rounds, pinned) =
        if quick { (200, 0.05, 1, false) } else { (principals, seconds, rounds, !unpinned) };
    if pinned {
        process::pin(CLIENT_CORE)?;
    }
    let bench = Bench::start(principals, pinned).await?;
    let mut rows = Vec::new();
    for (rpc, streams) in ROWS {
        let (mut echo, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            echo.push(bench.closed(&bench.echo, rpc, streams, span(seconds)).await?);
            ours.push(bench.closed(&bench.decision, rpc, streams, span(seconds)).await?);
        }
        let (Some(echo), Some(ours)) = (median(&echo), median(&ours)) else { continue };
        rows.push(row(rpc, streams, &echo, &ours));
    }
    let head = [
        "what",
        "streams",
        "CPU us: echo",
        "decision",
        "ratio",
        "decisions/s: echo",
        "decision",
        "ratio",
        "p50 us: echo",
        "decision",
        "p99 us: echo",
        "decision",
        "core: echo",
        "decision",
    ];
    println!("{}", table(&head, &rows));
    let (resident, highest) = bench.decision.memory();
    println!(
        "{} principals: first answer {:.1} s after the start; {} resident, {} at most",
        count(f64::from(u32::try_from(principals).unwrap_or(u32::MAX))),
        bench.started_in.as_secs_f64(),
        megabytes(resident),
        megabytes(highest)
    );
    Ok(())
}

fn row(rpc: Rpc, streams: usize, echo: &Figures, ours: &Figures) -> Vec<String> {
    let ratio = |a: f64, b: f64| format!("{:.2}", a / b);
    vec![
        rpc.name().to_owned(),
        streams.to_string(),
        microseconds(echo.cpu),
        microseconds(ours.cpu),
        ratio(ours.cpu.as_secs_f64(), echo.cpu.as_secs_f64()),
        count(echo.rate),
        count(ours.rate),
        ratio(ours.rate, echo.rate),
        microseconds(echo.p50),
        microseconds(ours.p50),
        microseconds(echo.p99),
        microseconds(ours.p99),
        format!("{:.0} %", echo.busy * 100.0),
        format!("{:.0} %", ours.busy * 100.0),
    ]
}

async fn picture(args: PictureArgs) -> Result<(), Failed> {
    process::pin(CLIENT_CORE)?;
    let bench = Bench::start(args.principals, true).await?;
    let mut lines = Vec::new();
    for (name, server, dashed) in
        [("decision service", &bench.decision, false), ("bare echo", &bench.echo, true)]
    {
        let peak = bench.closed(server, Rpc::Arn, 64, span(1.0)).await?.rate;
        let kinds =
            [("p50", 50.0, "#2b6cb0"), ("p99", 99.0, "#c05621"), ("p99.9", 99.9, "#6b46c1")];
        let mut own = kinds.map(|(kind, _, colour)| Line {
            name: format!("{kind}, {name}"),
            colour,
            dashed,
            points: Vec::new(),
        });
        for part in [0.05, 0.2, 0.4, 0.6, 0.75, 0.85, 0.95] {
            let outcome = bench.open(server, Rpc::Arn, peak * part, span(1.5)).await?;
            for ((_, percent, _), line) in kinds.iter().zip(&mut own) {
                line.points.push((outcome.rate(), outcome.percentile(*percent)));
            }
        }
        lines.extend(own);
    }
    let title = "Authorize by ARN: latency against load, one core";
    std::fs::write(&args.out, svg(title, &lines)).map_err(Failed::of("the picture"))
}

async fn hold(args: HoldArgs) -> Result<(), Failed> {
    let rpc = match args.rpc.as_str() {
        "arn" => Rpc::Arn,
        "token" => Rpc::Token,
        "batch" => Rpc::Batch,
        "stream" => Rpc::Stream,
        other => {
            return Err(Failed::because(format!(
                "`{other}`: expected arn, token, batch or stream"
            )));
        }
    };
    process::pin(CLIENT_CORE)?;
    let bench = Bench::start(args.principals, true).await?;
    let server = if args.echo { &bench.echo } else { &bench.decision };
    println!("process {}", server.id());
    let streams = ROWS.iter().find(|(own, _)| *own == rpc).map_or(1, |(_, streams)| *streams);
    let figures = bench.closed(server, rpc, streams, span(args.seconds)).await?;
    println!("{} us a request, {}/s", microseconds(figures.cpu), count(figures.rate));
    Ok(())
}
