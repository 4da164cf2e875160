//! The load program: arguments in, tables out.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use countersign_load::{
    Failed, PATIENCE,
    cerbos::{self, CerbosArgs},
    drive::Span,
    measure::{self, Bench, CLIENT_CORE, Figures, Rpc},
    orders::Orders,
    picture::{Line, svg},
    process::{self, Process},
    report::{count, median, megabytes, microseconds, table},
    serve::{self, DecisionArgs, EchoArgs},
    telemetry,
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
    /// Against Cerbos with the same checks, which `tests/load/cerbos` fetches: checks a second, CPU a check, memory.
    Cerbos(CerbosArgs),
    /// Telemetry on against off: decisions a second, and CPU a decision.
    Telemetry(TelemetryArgs),
    /// Everything that BENCHMARKS.md of the decision service has, in some minutes: rates, growth, memory, starts, and the picture.
    All(AllArgs),
    /// Starts alone: from the store, and from the kept snapshot, with the store there and away.
    Starts(StartsArgs),
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
struct TelemetryArgs {
    /// Users in the store.
    #[arg(long, default_value_t = 100_000)]
    principals: usize,
    /// What counts of each round.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Of each server in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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
struct AllArgs {
    /// Where BENCHMARKS.md and latency.svg are written.
    #[arg(long, default_value = "services/decision")]
    folder: PathBuf,
    /// Of each server in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The most users.
    #[arg(long, default_value_t = 1_000_000)]
    most: usize,
}

#[derive(clap::Args)]
struct StartsArgs {
    /// Users in the store.
    #[arg(long, default_value_t = 1_000_000)]
    principals: usize,
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
        Command::Picture(args) => on_runtime(picture(args.principals, &args.out)),
        Command::Cerbos(args) => on_runtime(async {
            process::pin(CLIENT_CORE)?;
            println!("{}", cerbos::compared(&args, span(args.seconds)).await?);
            Ok(())
        }),
        Command::Telemetry(TelemetryArgs { principals, seconds, rounds }) => on_runtime(async {
            process::pin(CLIENT_CORE)?;
            println!("{}", telemetry::compared(principals, rounds, span(seconds)).await?);
            Ok(())
        }),
        Command::All(args) => on_runtime(all(args)),
        Command::Starts(StartsArgs { principals }) => {
            kept(principals).map(|told| println!("{told}"))
        }
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
    println!("{}", compared(&bench, &ROWS, rounds, seconds).await?);
    let (resident, highest) = bench.decision.memory();
    println!(
        "{} principals: first answer {:.1} s after the start; {} resident, {} at most",
        whole(principals),
        bench.started_in.as_secs_f64(),
        megabytes(resident),
        megabytes(highest)
    );
    Ok(())
}

/// Both servers in turn, as a table.
async fn compared(
    bench: &Bench,
    what: &[(Rpc, usize)],
    rounds: usize,
    seconds: f64,
) -> Result<String, Failed> {
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (rpc, streams) in what {
        let (mut echo, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            echo.push(bench.closed(&bench.echo, *rpc, *streams, span(seconds)).await?);
            ours.push(bench.closed(&bench.decision, *rpc, *streams, span(seconds)).await?);
        }
        let (Some(echo), Some(ours)) = (median(&echo), median(&ours)) else { continue };
        rows.push(row(*rpc, *streams, &echo, &ours));
        bars.extend(bars_of(*rpc, *streams, &echo, &ours));
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
    Ok(format!("{}\n{}\n", table(&head, &rows), bars.join("\n")))
}

/// What issue 5 asks for, and whether it is so in this run.
fn bars_of(rpc: Rpc, streams: usize, echo: &Figures, ours: &Figures) -> Vec<String> {
    let cpu = ours.cpu.as_secs_f64() / echo.cpu.as_secs_f64();
    let late = ours.p99.as_secs_f64() / echo.p99.as_secs_f64();
    let rate = ours.rate / echo.rate;
    let at_most = |what: &str, figure: f64, bar: f64| {
        (what.to_owned(), figure, "at most", bar, figure <= bar)
    };
    let at_least = |what: &str, figure: f64, bar: f64| {
        (what.to_owned(), figure, "at least", bar, figure >= bar)
    };
    let bars = match (rpc, streams) {
        (Rpc::Arn, 64) => vec![at_most("CPU", cpu, 1.2), at_most("p99", late, 1.3)],
        (Rpc::Token, 64) => vec![at_most("CPU", cpu, 1.3), at_most("p99", late, 1.3)],
        (Rpc::Batch | Rpc::Stream, _) => vec![at_least("rate", rate, 0.75)],
        (Rpc::Arn | Rpc::Token, _) => Vec::new(),
    };
    let line = |(what, figure, side, bar, holds): (String, f64, &str, f64, bool)| {
        let holds = if holds { "holds" } else { "missed" };
        format!("* {}: {what} {figure:.2} times the echo's; {side} {bar}: {holds}", rpc.name())
    };
    bars.into_iter().map(line).collect()
}

fn whole(number: usize) -> String {
    count(f64::from(u32::try_from(number).unwrap_or(u32::MAX)))
}

const HEAD: &str = "# Benchmarks

The last output of

```sh
cargo build --release -p countersign-load && target/release/countersign-load all
```

The server has core 0, the client core 1. Each figure is the median of rounds in which the decision service and the echo took turns. The echo
is tonic and nothing else: the same messages, headers, runtime (one thread), allocator and profile; it copies one allowed and one denied
answer in turn, which the decision service gave. Both decode a request of some 300 bytes (1.2 KB with a token) and send an answer of some
400. The store is a stand-in that speaks Watch, so that its own time is not the service's: 10,000 policies of workload \"orders\", nine or
ten a principal, and as many users as the table says. Before anything is timed, every answer of every RPC is held to the workload.
`CPU us` is the server's own time for one request (for AuthorizeStream, one question).
";

/// Everything, into the files.
async fn all(args: AllArgs) -> Result<(), Failed> {
    let AllArgs { folder, rounds, most } = args;
    process::pin(CLIENT_CORE)?;
    let mut text = HEAD.to_owned();
    let mut say = |part: String| {
        println!("{part}");
        text.push_str(&part);
        text.push('\n');
    };
    let bench = Bench::start(100_000, true).await?;
    say(format!("\n## 100,000 principals\n\n{}", compared(&bench, &ROWS, rounds, 1.5).await?));
    drop(bench);
    let mut grown = Vec::new();
    for principals in [1_000, 100_000, most] {
        grown.push(growth(principals, rounds).await?);
    }
    let head =
        ["principals", "decisions/s, 64 streams", "CPU us", "first answer", "memory", "at most"];
    say(format!(
        "## Growth\n\nAuthorize by ARN. The first answer counts from the start of the process; memory is the whole process's, resident.\n\n{}",
        table(&head, &grown)
    ));
    say(format!(
        "## Telemetry\n\nTwo decision services of one store. One sends a thousandth of its calls as traces and its metrics every second by OTLP, \
         logs JSON, and has its page of metrics read every second; the other tells nothing.\n\n{}",
        telemetry::compared(100_000, rounds, span(2.5)).await?
    ));
    let cerbos = CerbosArgs::usual(rounds);
    let told = if cerbos.program.exists() {
        cerbos::compared(&cerbos, span(cerbos.seconds)).await?
    } else {
        "Not compared in this run: `tests/load/cerbos` fetches it.\n".to_owned()
    };
    say(format!(
        "## Against Cerbos\n\nCerbos 0.55, CheckResources over gRPC, GOMAXPROCS=1, on the same core in turns: the same {} policies of workload \
         \"orders\", a principal policy for each principal, the same checks, every answer held to the workload first. Its caller shows nothing; \
         ours is authenticated.\n\n{told}",
        whole(cerbos.policies)
    ));
    say(format!("## Start from the kept snapshot\n\n{}", kept(most)?));
    std::fs::write(folder.join("BENCHMARKS.md"), &text).map_err(Failed::of("BENCHMARKS.md"))?;
    picture(100_000, &folder.join("latency.svg")).await?;
    text.push_str("## Latency against load\n\n![Authorize by ARN](latency.svg)\n");
    std::fs::write(folder.join("BENCHMARKS.md"), &text).map_err(Failed::of("BENCHMARKS.md"))
}

async fn growth(principals: usize, rounds: usize) -> Result<Vec<String>, Failed> {
    let bench = Bench::start(principals, true).await?;
    let mut seen = Vec::new();
    for _ in 0..rounds {
        seen.push(bench.closed(&bench.decision, Rpc::Arn, 64, span(1.5)).await?);
    }
    let seen = median(&seen).ok_or_else(|| Failed::because("no rounds"))?;
    let (resident, highest) = bench.decision.memory();
    Ok(vec![
        whole(principals),
        count(seen.rate),
        microseconds(seen.cpu),
        format!("{:.1} s", bench.started_in.as_secs_f64()),
        megabytes(resident),
        megabytes(highest),
    ])
}

/// Starts that find a snapshot on disk: with the store there, and with nobody at its address.
fn kept(principals: usize) -> Result<String, Failed> {
    let folder = tempfile::tempdir().map_err(Failed::of("a folder"))?;
    let orders = Arc::new(Orders::new(principals, measure::now())?);
    let core = Some(measure::SERVER_CORE);
    let (store, first) = measure::decision(&orders, core, Some(folder.path()))?;
    let file = folder.path().join("snapshot");
    let began = Instant::now();
    while !file.exists() {
        if began.elapsed() > PATIENCE {
            return Err(Failed::because("no snapshot was kept"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let written = std::fs::metadata(&file).map_err(Failed::of("the kept snapshot"))?.len();
    let mut rows = vec![started("from the store, which it keeps", &first)];
    drop(first);
    let with = measure::follower(&store.origin, core, Some(folder.path()))?;
    rows.push(started("from what was kept, the store there", &with));
    drop((with, store));
    // Nobody listens at the port of nobody.
    let without = measure::follower("http://127.0.0.1:1", core, Some(folder.path()))?;
    rows.push(started("from what was kept, the store away", &without));
    Ok(format!(
        "{} principals, {} on disk. A start without the store gives it three seconds to come, of which reading has what it takes but the last one.\n\n{}",
        whole(principals),
        megabytes(written),
        table(&["start", "first answer", "CPU", "memory", "at most"], &rows)
    ))
}

fn started(how: &str, process: &Process) -> Vec<String> {
    let (resident, highest) = process.memory();
    vec![
        how.to_owned(),
        format!("{:.1} s", process.started_in.as_secs_f64()),
        format!("{:.1} s", process.cpu().as_secs_f64()),
        megabytes(resident),
        megabytes(highest),
    ]
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

async fn picture(principals: usize, out: &Path) -> Result<(), Failed> {
    process::pin(CLIENT_CORE)?;
    let bench = Bench::start(principals, true).await?;
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
    std::fs::write(out, svg(title, &lines)).map_err(Failed::of("the picture"))
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
