//! `countersign simulate`: conformance cases in, decisions out, one line each. The evaluator does the rest.
//!
//! A line that is no case is reported and never guessed at; the others are still answered.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use countersign_evaluator::simulate::Case;
use serde::Serialize;

use crate::{cli::SimulateArgs, exit::Exit};

/// `countersign simulate`.
pub fn run(args: &SimulateArgs) -> Exit {
    let cases: Box<dyn BufRead> = if args.cases == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        match File::open(&args.cases) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => {
                return Exit::bad_input(format_args!(
                    "cannot read `{}`: {error}",
                    args.cases.display()
                ));
            }
        }
    };
    let answers = BufWriter::new(io::stdout().lock());
    match simulate(cases, answers, io::stderr().lock(), args.check) {
        Ok(tally) => {
            if args.check {
                eprintln!("{tally}");
            }
            tally.exit()
        }
        // Whoever reads our answers has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Failed,
        Err(error) => Exit::failed(format_args!("`{}`: {error}", args.cases.display())),
    }
}

/// What came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases that were decided.
    pub decided: u64,
    /// Of those, the ones that came out otherwise than expected. Counted with `--check` alone.
    pub different: u64,
    /// Lines that could not be used.
    pub malformed: u64,
}

impl Tally {
    /// A malformed line outweighs a difference.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match (self.malformed, self.different) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Failed,
            (_, _) => Exit::BadInput,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { decided, different, malformed } = self;
        write!(
            f,
            "{decided} cases decided, {different} otherwise than expected, {malformed} malformed lines"
        )
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'a str>,
}

/// Answers `cases`, line by line. With `check`, only cases whose `expect` is another decision are answered, both decisions told.
///
/// # Errors
/// When reading or writing fails.
pub fn simulate(
    mut cases: impl BufRead,
    mut answers: impl Write,
    mut errors: impl Write,
    check: bool,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        if cases.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        match answer(&bytes, check) {
            Ok(answered) => {
                tally.decided += 1;
                tally.different += u64::from(answered.different);
                if let Some(line) = answered.line {
                    writeln!(answers, "{line}")?;
                }
            }
            Err(message) => {
                tally.malformed += 1;
                // So that both come in the order of the input where they go to the same place.
                answers.flush()?;
                writeln!(errors, "line {number}: {message}")?;
            }
        }
    }
    answers.flush()?;
    Ok(tally)
}

struct Answered {
    line: Option<String>,
    different: bool,
}

fn answer(bytes: &[u8], check: bool) -> Result<Answered, String> {
    let line = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let case = Case::parse(line).map_err(|error| error.to_string())?;
    let decision = case.decide().decision;
    let shown = |expect| {
        let answer = Answer { id: case.id(), decision: decision.as_str(), expect };
        serde_json::to_string(&answer).map_err(|error| error.to_string())
    };
    if !check {
        return Ok(Answered { line: Some(shown(None)?), different: false });
    }
    // What cannot be compared was not checked.
    let expect = case.expect().ok_or_else(|| "`expect` is missing".to_owned())?;
    if expect == decision {
        return Ok(Answered { line: None, different: false });
    }
    Ok(Answered { line: Some(shown(Some(expect.as_str()))?), different: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, effect: &str, expect: &str) -> String {
        format!(
            r#"{{"id":"{id}","principal":{{"arn":"arn:aws:iam::111122223333:user/alice"}},"action":"orders:GetOrder","resource":{{"arn":"arn:aws:orders:us-east-1:111122223333:order/42","account":"111122223333"}},"context":{{}},"policies":{{"identity":[{{"name":"p","document":{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"orders:*","Resource":"*"}}]}}}}],"boundary":null,"session":null,"resource":null,"scps":[],"rcps":[]}}{expect}}}"#
        )
    }

    fn check(input: &str, with_check: bool, answers: &str, errors: &str, exit: Exit) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let tally = simulate(input.as_bytes(), &mut out, &mut err, with_check).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), answers, "{input}");
        let err = String::from_utf8(err).unwrap();
        let starts: Vec<_> =
            err.lines().map(|line| line.split_inclusive(':').next().unwrap()).collect();
        assert_eq!(starts.join(" "), errors, "{err}");
        assert_eq!(tally.exit(), exit, "{tally:?}");
    }

    #[test]
    fn answers_in_input_order() {
        let allow = case("a \\\"1\\\"", "Allow", "");
        let deny = case("b", "Deny", "");
        let answers = "{\"id\":\"a \\\"1\\\"\",\"decision\":\"ALLOW\"}\n{\"id\":\"b\",\"decision\":\"EXPLICIT_DENY\"}\n";
        check(&format!("{allow}\n{deny}\n"), false, answers, "", Exit::Done);
        // Without a newline at the end, and with the other kind.
        check(&format!("{allow}\r\n{deny}"), false, answers, "", Exit::Done);
        check("", false, "", "", Exit::Done);
    }

    #[test]
    fn a_malformed_line_is_told_and_the_rest_answered() {
        let allow = case("a", "Allow", "");
        let unknown = allow.replace("\"scps\"", "\"scp\"");
        let operator = allow.replace(
            "\"Resource\":\"*\"",
            "\"Resource\":\"*\",\"Condition\":{\"Nope\":{\"a\":\"b\"}}",
        );
        let input = format!("{{\n{allow}\n\n{unknown}\n{operator}\n{allow}\n");
        let answers = "{\"id\":\"a\",\"decision\":\"ALLOW\"}\n".repeat(2);
        check(&input, false, &answers, "line 1: line 3: line 4: line 5:", Exit::BadInput);
    }

    #[test]
    fn bytes_that_are_no_text() {
        let mut input = vec![0xff, b'\n'];
        input.extend(case("a", "Allow", "").into_bytes());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let tally = simulate(input.as_slice(), &mut out, &mut err, false).unwrap();
        assert_eq!(tally, Tally { decided: 1, different: 0, malformed: 1 });
        assert!(err.starts_with(b"line 1: not UTF-8"));
    }

    #[test]
    fn check_prints_what_differs() {
        let expect = |decision: &str| format!(r#","expect":{{"decision":"{decision}"}}"#);
        let good = case("good", "Allow", &expect("ALLOW"));
        let bad = case("bad", "Allow", &expect("IMPLICIT_DENY"));
        let without = case("without", "Allow", "");
        let difference = "{\"id\":\"bad\",\"decision\":\"ALLOW\",\"expect\":\"IMPLICIT_DENY\"}\n";
        check(&format!("{good}\n"), true, "", "", Exit::Done);
        check(&format!("{good}\n{bad}\n{good}\n"), true, difference, "", Exit::Failed);
        check(&format!("{bad}\n{without}\n"), true, difference, "line 2:", Exit::BadInput);
    }
}
