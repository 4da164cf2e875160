//! Workload "orders": `orders [--short] [--write] [--shapes A,B] [--sizes N,M] [--engines TEXT,TEXT] [--rounds N] [--millis N]
//! [--check-seconds N] [--parts orders,world,memory]`. Prints Markdown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use countersign_benches::engines::{CANDIDATES, Candidate, cedar, hash, ours};
use countersign_benches::report::{count, microseconds, table, three_digits};
use countersign_benches::timing::{Figure, Runner, cores};
use countersign_benches::workload::{REQUESTS, Shape, Workload};
use countersign_benches::world::{self, World};

struct Options {
    is_short: bool,
    writes: bool,
    shapes: Vec<Shape>,
    sizes: Vec<usize>,
    /// Engines whose name holds one of these.
    engines: Vec<String>,
    rounds: usize,
    round: Duration,
    check: Duration,
    /// Of `orders`, `world` and `memory`.
    parts: Vec<String>,
}

impl Options {
    fn from_arguments(arguments: &[String]) -> Result<Self, String> {
        let is_short = arguments.iter().any(|argument| argument == "--short");
        let mut options = Self {
            is_short,
            writes: false,
            shapes: Shape::ALL.to_vec(),
            sizes: if is_short {
                vec![10, 100]
            } else {
                vec![10, 100, 1_000, 10_000, 100_000, 1_000_000]
            },
            engines: vec![String::new()],
            rounds: if is_short { 3 } else { 7 },
            round: Duration::from_millis(if is_short { 10 } else { 120 }),
            check: Duration::from_secs(if is_short { 3 } else { 6 }),
            parts: ["orders", "world", "memory"].map(str::to_owned).to_vec(),
        };
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("`{flag}` needs a value"));
            match flag.as_str() {
                "--short" => {}
                "--write" => options.writes = true,
                "--shapes" => options.shapes = list(value()?)?,
                "--sizes" => options.sizes = list(value()?)?,
                "--engines" => options.engines = list(value()?)?,
                "--parts" => options.parts = list(value()?)?,
                "--rounds" => options.rounds = number(value()?)?,
                "--millis" => options.round = Duration::from_millis(number(value()?)? as u64),
                "--check-seconds" => options.check = Duration::from_secs(number(value()?)? as u64),
                unknown => return Err(format!("unknown argument `{unknown}`")),
            }
        }
        Ok(options)
    }

    fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|own| own == part)
    }

    fn wants(&self, name: &str) -> bool {
        self.engines.iter().any(|text| name.contains(text.as_str()))
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.replace('_', "").parse().map_err(|_| format!("`{text}` is no number"))
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String> {
    let one = |item: &str| item.parse().map_err(|_| format!("`{item}` is not expected here"));
    text.split(',').map(one).collect()
}

/// Medians and more, by engine, shape and N.
type Figures = BTreeMap<(&'static str, String, usize), Figure>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Options::from_arguments(&arguments).and_then(|options| run(&options, &arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("orders: {words}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, arguments: &[String]) -> Result<(), String> {
    let mut figures = Figures::new();
    let mut text = String::new();
    for shape in options.shapes.iter().filter(|_| options.has("orders")) {
        text +=
            &format!("## {shape}\n\nMicroseconds a decision: median (least–most) of rounds.\n\n");
        text += &one_shape(*shape, options, &mut figures)?;
    }
    if options.has("world") {
        text += "## A realistic world\n\n";
        text += &realistic(options, &mut figures)?;
    }
    if options.has("memory") {
        text += "## Building and memory\n\n";
        text += &footprint(options);
    }
    text += "## Bars\n\n";
    let growth = if options.has("orders") { growth(options) } else { None };
    text += &bars(&figures, growth);
    println!("{text}");
    if options.writes {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let kept = written.find(MEASURED_ELSEWHERE).map_or("", |from| &written[from..]);
        std::fs::write(&path, heading(arguments) + &text + "\n" + kept)
            .map_err(|error| format!("`{}`: {error}", path.display()))?;
    }
    Ok(())
}

/// Where the page goes on with what another program measured, which is kept.
const MEASURED_ELSEWHERE: &str = "# The worst documents";

fn heading(arguments: &[String]) -> String {
    let cores = cores().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "# Benchmarks\n\nThe last output of\n\n```sh\ncd crates/evaluator/benches && \
         taskset -c 1 cargo run --release --bin orders -- {}\n```\n\non core {cores} of a machine that others used too: compare \
         ratios, which are of one process whose engines took turns, and not the numbers. Countersign is timed from text; the \
         others have their requests prepared, unless the row says otherwise. Before anything was timed all engines answered \
         every request alike; where an engine is too slow to be asked all of them, the row says how many.\n\n",
        arguments.join(" ")
    )
}

fn one_shape(shape: Shape, options: &Options, figures: &mut Figures) -> Result<String, String> {
    let wanted: Vec<&Candidate> =
        CANDIDATES.iter().filter(|candidate| options.wants(candidate.name)).collect();
    let mut cells: Vec<Vec<String>> =
        wanted.iter().map(|candidate| vec![candidate.name.to_owned()]).collect();
    for n in &options.sizes {
        let runners = one_size(shape, *n, &wanted, options)?;
        for (row, candidate) in cells.iter_mut().zip(&wanted) {
            let runner = runners.iter().find(|runner| runner.name == candidate.name);
            row.push(runner.map_or_else(|| "–".to_owned(), cell));
            if let Some(figure) = runner.and_then(|runner| runner.figure().ok()) {
                figures.insert((candidate.name, shape.to_string(), *n), figure);
            }
        }
    }
    cells.retain(|row| row.iter().skip(1).any(|cell| cell != "–"));
    let mut head = vec!["engine".to_owned()];
    head.extend(options.sizes.iter().map(|n| format!("N={}", count(*n))));
    Ok(table(&head, &cells) + "\n")
}

fn cell(runner: &Runner) -> String {
    let figure = match runner.figure() {
        Ok(figure) => microseconds(figure),
        Err(words) if words.contains("instruction limit") => {
            "stops at its instruction limit".to_owned()
        }
        Err(words) => words,
    };
    match runner.compared {
        4_096 | 0 => figure,
        some => format!("{figure}, {some} compared"),
    }
}

fn one_size(
    shape: Shape,
    n: usize,
    wanted: &[&Candidate],
    options: &Options,
) -> Result<Vec<Runner>, String> {
    let takes = |candidate: &&&Candidate| candidate.takes(shape, n);
    if !wanted.iter().any(|candidate| candidate.takes(shape, n)) {
        return Ok(Vec::new());
    }
    let start = Instant::now();
    let workload = Workload::new(shape, n);
    let mut runners: Vec<Runner> = wanted
        .iter()
        .filter(takes)
        .map(|candidate| Runner::build(candidate.name, || (candidate.build)(&workload)))
        .collect();
    let expected: Vec<bool> = workload.queries.iter().map(|query| query.is_allowed).collect();
    for runner in &mut runners {
        runner.compare(&expected, options.check).map_err(|index| {
            format!("{} disagrees, {shape} {n}: {:?}", runner.name, workload.queries[index])
        })?;
    }
    for _ in 0..options.rounds {
        runners.iter_mut().for_each(|runner| runner.round(expected.len(), options.round));
    }
    eprintln!("{shape} {n}: done in {} s", start.elapsed().as_secs());
    Ok(runners)
}

fn realistic(options: &Options, figures: &mut Figures) -> Result<String, String> {
    let world = World::new();
    let (requests, longest) = (world.requests(), world.longest());
    let mut runners = vec![
        Runner::build(world::COMPILED, || world.compiled()),
        Runner::build(world::REFERENCE, || world.reference()),
        Runner::build(world::CEDAR, || world.cedar()),
        Runner::build(world::CEDAR_FROM_TEXT, || World::new().cedar_from_text()),
    ];
    // The first request of each pair is made to be allowed, the second one not to be.
    let expected: Vec<bool> = (0..requests).map(|k| k % 2 == 0).collect();
    for runner in &mut runners {
        runner
            .compare(&expected, options.check)
            .map_err(|index| format!("{} disagrees, realistic: request {index}", runner.name))?;
    }
    for _ in 0..options.rounds {
        runners.iter_mut().for_each(|runner| runner.round(requests, options.round));
    }
    let mut rows = Vec::new();
    for runner in &runners {
        if let Ok(figure) = runner.figure() {
            figures.insert((runner.name, "realistic".to_owned(), 0), figure);
        }
        rows.push(vec![runner.name.to_owned(), cell(runner)]);
    }
    let head = ["engine", "us a decision"].map(str::to_owned);
    Ok(format!(
        "Ten policies of ten statements (the longest has {} characters), five conditions each. Countersign also weighs a \
         permissions boundary, control policies at two levels and a session policy; Cedar the ten policies alone.\n\n{}\n",
        count(longest),
        table(&head, &rows)
    ))
}

/// By the program beside this one.
fn footprint(options: &Options) -> String {
    let beside = std::env::current_exe().map(|path| path.with_file_name("footprint"));
    let mut command = match beside {
        Ok(path) if path.exists() => Command::new(path),
        Ok(_) | Err(_) => return "Not measured: build the program `footprint` too.\n\n".to_owned(),
    };
    if options.is_short {
        command.arg("--short");
    }
    match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("Not measured: {error}\n\n"),
    }
}

/// The same engine with few and with many statements, in turns: a busy machine slows both.
fn growth(options: &Options) -> Option<(usize, f64)> {
    let n = if options.is_short { 1_000 } else { 100_000 };
    let mut runners: Vec<Runner> = [10, n]
        .into_iter()
        .map(|n| {
            let workload = Workload::new(Shape::WideRandom, n);
            Runner::build(ours::COMPILED, || ours::compiled(&workload))
        })
        .collect();
    for _ in 0..options.rounds {
        runners.iter_mut().for_each(|runner| runner.round(REQUESTS, options.round));
    }
    let medians: Vec<f64> =
        runners.iter().filter_map(|runner| runner.figure().ok()).map(|f| f.median).collect();
    match medians.as_slice() {
        [few, many] => Some((n, many / few)),
        _ => None,
    }
}

/// What must hold of the engine that production runs.
fn bars(figures: &Figures, growth: Option<(usize, f64)>) -> String {
    let median = |name: &'static str, shape: &str, n: usize| {
        figures.get(&(name, shape.to_owned(), n)).map(|figure| figure.median)
    };
    let mut rows = Vec::new();
    let mut row = |what: String, above: Option<f64>, below: Option<f64>, bar: &str| {
        if let (Some(above), Some(below)) = (above, below) {
            rows.push(vec![what, three_digits(above / below), bar.to_owned()]);
        }
    };
    let of = |n| median(ours::COMPILED, "sharded", n);
    for n in [10, 100, 1_000, 10_000, 100_000] {
        let what = format!("sharded, N={}: {} / ours", count(n), cedar::SLICED);
        row(what, median(cedar::SLICED, "sharded", n), of(n), "at least 50");
    }
    for n in [100_000, 1_000_000] {
        let what = format!("sharded, N={}: ours / {}", count(n), hash::NAME);
        row(what, of(n), median(hash::NAME, "sharded", n), "at most 6");
    }
    if let Some((n, ratio)) = growth {
        let what = format!("wide-random: N={} / N=10, timed in turns", count(n));
        row(what, Some(ratio), Some(1.0), "at most 5");
    }
    let what = format!("realistic: {} / ours, all policies", world::CEDAR);
    let of = |name| median(name, "realistic", 0);
    row(what, of(world::CEDAR), of(world::COMPILED), "at least 15");
    table(&["Countersign (compiled)", "ratio", "bar"].map(str::to_owned), &rows)
}
