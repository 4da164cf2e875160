//! `countersign policy check`: what a reviewer would say of policy documents, by file, line and column. The policy crate says it.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use countersign_policy::{
    findings::{self, DocumentKind, Finding, Severity},
    json::{self, Node},
};
use serde::Serialize;

use crate::{
    cli::{CheckArgs, Format, Kind},
    exit::Exit,
};

/// `countersign policy check`.
pub fn run(args: &CheckArgs) -> Exit {
    let mut read_all = true;
    let mut reports = Vec::new();
    for path in &args.files {
        match read(path) {
            Ok(text) => reports.push(report(shown(path), &text, args.kind)),
            Err(error) => {
                read_all = false;
                let _ = Exit::bad_input(format_args!("cannot read `{}`: {error}", path.display()));
            }
        }
    }
    let written = match args.output {
        Format::Text => write_text(&reports, io::stdout().lock()),
        Format::Json => write_json(&reports, io::stdout().lock()),
    };
    match (written, read_all, reports.iter().any(Report::has_errors)) {
        (Err(error), _, _) => Exit::failed(error),
        (Ok(()), false, _) => Exit::BadInput,
        (Ok(()), true, true) => Exit::Failed,
        (Ok(()), true, false) => Exit::Done,
    }
}

fn read(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// What there is to say of one file.
struct Report {
    file: String,
    findings: Vec<Finding>,
    hint: Option<&'static str>,
}

impl Report {
    fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

fn report(file: String, text: &str, kind: Kind) -> Report {
    let findings = match findings::check(text, kind.into()) {
        Ok(checked) => checked.warnings,
        Err(malformed) => malformed.findings,
    };
    let hint = (!DocumentKind::from(kind).has_principals() && names_principals(text)).then_some(
        "it names principals: for a role's trust policy give --kind trust, for a resource's own policy --kind resource",
    );
    Report { file, findings, hint }
}

/// Nothing is guessed from it but a hint.
fn names_principals(text: &str) -> bool {
    let Ok(document) = json::read(text, json::MAX_DEPTH) else { return false };
    let Node::Object(members) = document.node else { return false };
    let names = |node: &Node| match node {
        Node::Object(members) => {
            members.iter().any(|member| matches!(member.key.as_str(), "Principal" | "NotPrincipal"))
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Array(_) => false,
    };
    members.iter().filter(|member| member.key == "Statement").any(|member| {
        match &member.value.node {
            Node::Array(statements) => statements.iter().any(|statement| names(&statement.node)),
            node => names(node),
        }
    })
}

fn write_text(reports: &[Report], mut out: impl Write) -> io::Result<()> {
    for Report { file, findings, hint } in reports {
        for finding in findings {
            let Finding { severity, code, line, column, pointer: _, message, fix } = finding;
            let severity = severity.as_str();
            let fix = fix.as_ref().map(|fix| format!(" ({fix})")).unwrap_or_default();
            writeln!(out, "{file}:{line}:{column}: {severity}: {message}{fix} [{code}]")?;
        }
        if let Some(hint) = hint {
            writeln!(out, "{file}: hint: {hint}")?;
        }
    }
    for report in reports {
        let warnings = report.findings.len() - report.count(Severity::Error);
        match (report.count(Severity::Error), warnings) {
            (0, 0) => writeln!(out, "{}: ok", report.file)?,
            (0, warnings) => writeln!(out, "{}: ok, {warnings} to look at", report.file)?,
            (errors, 0) => writeln!(out, "{}: {errors} errors", report.file)?,
            (errors, warnings) => {
                writeln!(out, "{}: {errors} errors, {warnings} to look at", report.file)?
            }
        }
    }
    out.flush()
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    file: &'a str,
    severity: &'a str,
    code: &'a str,
    line: u32,
    column: u32,
    pointer: &'a str,
    message: &'a str,
    fix: Option<&'a str>,
}

fn write_json(reports: &[Report], mut out: impl Write) -> io::Result<()> {
    let all: Vec<_> = reports
        .iter()
        .flat_map(|report| report.findings.iter().map(|finding| (report.file.as_str(), finding)))
        .map(|(file, finding)| {
            let Finding { severity, code, line, column, pointer, message, fix } = finding;
            let severity = severity.as_str();
            JsonFinding {
                file,
                severity,
                code,
                line: *line,
                column: *column,
                pointer,
                message,
                fix: fix.as_deref(),
            }
        })
        .collect();
    serde_json::to_writer_pretty(&mut out, &all)?;
    writeln!(out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const GOOD: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::my-bucket/*"}]}"#;
    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    const BROKEN: &str = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [{\"Effect\": \"Alow\", \"Action\": \"s3:GetObject\", \"Resource\": \"*\"}]\n}";

    fn check(text: &str, kind: Kind, expected: &[&str]) {
        let mut out = Vec::new();
        write_text(&[report("p.json".into(), text, kind)], &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().count(), expected.len(), "{out}");
        for (line, expected) in out.lines().zip(expected) {
            assert!(line.contains(expected), "{out}");
        }
    }

    #[test]
    fn what_is_said_of_documents() {
        check(GOOD, Kind::Managed, &["p.json: ok"]);
        check(TRUST, Kind::Trust, &["p.json: ok"]);
        check(BROKEN, Kind::Managed, &["p.json:3:", "p.json: 1 errors"]);
        check("{", Kind::Managed, &["p.json:1:", "p.json: 1 errors"]);
    }

    #[test]
    fn a_document_with_principals_gets_a_hint() {
        assert!(report("t".into(), TRUST, Kind::Managed).hint.is_some());
        assert!(report("t".into(), TRUST, Kind::Managed).has_errors());
        assert!(report("t".into(), TRUST, Kind::Trust).hint.is_none());
        assert!(report("t".into(), GOOD, Kind::Managed).hint.is_none());
        assert!(report("t".into(), "{", Kind::Managed).hint.is_none());
    }

    #[test]
    fn findings_as_json() {
        let mut out = Vec::new();
        let reports =
            [report("a".into(), GOOD, Kind::Managed), report("b".into(), BROKEN, Kind::Managed)];
        write_json(&reports, &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let first = value.as_array().unwrap().first().unwrap();
        assert_eq!(
            (first["file"].as_str(), first["severity"].as_str()),
            (Some("b"), Some("error"))
        );
        assert_eq!(first["line"], 3);
    }

    fn check_file(path: PathBuf, kind: Kind) -> Exit {
        run(&CheckArgs { files: vec![path], kind, output: Format::Text })
    }

    #[test]
    fn exit_statuses() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        assert_eq!(check_file(file("good", GOOD), Kind::Managed), Exit::Done);
        assert_eq!(check_file(file("broken", BROKEN), Kind::Managed), Exit::Failed);
        assert_eq!(check_file(file("trust", TRUST), Kind::Managed), Exit::Failed);
        assert_eq!(check_file(folder.path().join("absent"), Kind::Managed), Exit::BadInput);
    }
}
