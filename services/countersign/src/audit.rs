//! `countersign audit`: the audit trail's files, verified and shown.

use std::{
    collections::VecDeque,
    io::{self, Write},
    thread,
    time::Duration,
};

use countersign_policy_store::audit::trail::{self, Tail};
use serde_json::Value;

use crate::{
    cli::{Format, TailArgs, VerifyArgs},
    exit::Exit,
};

/// While it follows, the files are looked at so often.
const PAUSE: Duration = Duration::from_millis(250);

/// Prints where the chain ends, or the first place where it does not hold.
pub fn run(args: &VerifyArgs) -> Exit {
    match trail::verify(&args.folder) {
        Ok(head) => {
            println!(
                "{} events, an unbroken chain; the last has the hash {}",
                head.sequence, head.hash
            );
            Exit::Done
        }
        Err(error) => Exit::failed(error),
    }
}

/// Prints the newest events, and goes on with those that come if it is to follow.
pub fn tail(args: &TailArgs) -> Exit {
    match show(args, &mut io::stdout().lock()) {
        Ok(()) => Exit::Done,
        // Whoever read has had enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => Exit::failed(format_args!("{}: {error}", args.folder.display())),
    }
}

fn show(args: &TailArgs, out: &mut dyn Write) -> io::Result<()> {
    let mut tail = Tail::new(&args.folder);
    let mut newest = VecDeque::new();
    while let Some(line) = tail.next_line()? {
        newest.extend(shown(args, &line)?);
        if newest.len() > args.lines {
            newest.pop_front();
        }
    }
    for line in newest {
        writeln!(out, "{line}")?;
    }
    if !args.follow {
        return out.flush();
    }
    loop {
        out.flush()?;
        thread::sleep(PAUSE);
        while let Some(line) = tail.next_line()? {
            if let Some(line) = shown(args, &line)? {
                writeln!(out, "{line}")?;
            }
        }
    }
}

/// A line of the trail as it is to be shown, if it is wanted.
fn shown(args: &TailArgs, line: &str) -> io::Result<Option<String>> {
    let line: Value = serde_json::from_str(line)?;
    let event = line.get("event").unwrap_or(&Value::Null);
    if !is_wanted(args, event) {
        return Ok(None);
    }
    Ok(Some(match args.output {
        Format::Json => event.to_string(),
        Format::Text => text_of(event),
    }))
}

fn is_wanted(args: &TailArgs, event: &Value) -> bool {
    let names = args.event_name.as_deref().is_none_or(|name| text(event, "/eventName") == name);
    let callers = args.principal.as_deref().is_none_or(|principal| {
        let arn = text(event, "/userIdentity/arn");
        let session = arn.rsplit('/').next().unwrap_or_default();
        let others =
            ["/userIdentity/invokedBy", "/userIdentity/sessionContext/sessionIssuer/userName"];
        arn == principal
            || session == principal
            || others.iter().any(|at| text(event, at) == principal)
    });
    names && callers && (!args.refused || !text(event, "/errorCode").is_empty())
}

/// When, who, what, on what; and why not.
fn text_of(event: &Value) -> String {
    let who = match text(event, "/userIdentity/arn") {
        "" => text(event, "/userIdentity/invokedBy"),
        arn => arn,
    };
    let resources = event.get("resources").and_then(Value::as_array).into_iter().flatten();
    let on: Vec<&str> = resources.map(|resource| text(resource, "/ARN")).collect();
    let mut shown = format!(
        "{}  {}  {who}  {}",
        text(event, "/eventTime"),
        text(event, "/eventName"),
        on.join(",")
    );
    let code = text(event, "/errorCode");
    if !code.is_empty() {
        shown.push_str(&format!("  {code}: {}", text(event, "/errorMessage")));
    }
    // What people chose stands in it: nothing of it may move a terminal's cursor.
    shown.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LINES: [&str; 3] = [
        r#"{"event":{"eventTime":"T1","eventName":"CreateRole","userIdentity":{"arn":"arn:aws:sts::1:assumed-role/Admin/ann","sessionContext":{"sessionIssuer":{"userName":"Admin"}}},"resources":[{"ARN":"arn:r"}]}}"#,
        r#"{"event":{"eventTime":"T2","eventName":"RevokeToken","userIdentity":{"invokedBy":"gateway"},"resources":[]}}"#,
        r#"{"event":{"eventTime":"T3","eventName":"CreateRole","userIdentity":{"arn":"arn:aws:sts::1:assumed-role/Dev/bob","sessionContext":{"sessionIssuer":{"userName":"Dev"}}},"resources":[{"ARN":"arn:a"},{"ARN":"arn:b"}],"errorCode":"AccessDenied","errorMessage":"no\u001b[2J"}}"#,
    ];

    fn check(change: impl Fn(&mut TailArgs), expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("audit-1.jsonl"), format!("{}\n{}\n", LINES[0], LINES[1]))
            .unwrap();
        fs::write(folder.path().join("audit-3.jsonl"), format!("{}\n{{\"half", LINES[2])).unwrap();
        let mut args = TailArgs {
            folder: folder.path().to_owned(),
            follow: false,
            lines: 10,
            output: Format::Text,
            event_name: None,
            principal: None,
            refused: false,
        };
        change(&mut args);
        let mut out = Vec::new();
        show(&args, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn events_are_filtered_and_shown() {
        let one = "T1  CreateRole  arn:aws:sts::1:assumed-role/Admin/ann  arn:r";
        let two = "T2  RevokeToken  gateway";
        let three = "T3  CreateRole  arn:aws:sts::1:assumed-role/Dev/bob  arn:a,arn:b  AccessDenied: no\u{fffd}[2J";
        check(|_| {}, &[one, two, three]);
        check(|args| args.lines = 2, &[two, three]);
        check(|args| args.lines = 0, &[]);
        check(|args| args.event_name = Some("CreateRole".into()), &[one, three]);
        check(|args| args.refused = true, &[three]);
        for principal in ["ann", "Admin", "arn:aws:sts::1:assumed-role/Admin/ann"] {
            check(|args| args.principal = Some(principal.into()), &[one]);
        }
        check(|args| args.principal = Some("gateway".into()), &[two]);
        check(|args| args.principal = Some("nobody".into()), &[]);
        let json = r#"{"eventName":"RevokeToken","eventTime":"T2","resources":[],"userIdentity":{"invokedBy":"gateway"}}"#;
        check(
            |args| {
                args.output = Format::Json;
                args.event_name = Some("RevokeToken".into());
            },
            &[json],
        );
    }
}
