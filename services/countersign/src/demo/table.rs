//! The table that grows as the demo goes: a heading for each use case, a line for each step.

use std::{io::Write, time::Duration};

/// Writes lines and counts them. What cannot be written (a closed pipe) is still counted.
#[derive(Debug)]
pub struct Table<W> {
    out: W,
    colour: bool,
    steps: usize,
    failed: Vec<String>,
    heading: String,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Steps that were taken.
    pub steps: usize,
    /// Those that came out otherwise, with their headings and what they came to.
    pub failed: Vec<String>,
}

impl Summary {
    /// Whether there were steps, and all came out as they should.
    #[must_use]
    pub fn good(&self) -> bool {
        self.steps > 0 && self.failed.is_empty()
    }
}

const GREEN: &str = "32";
const RED: &str = "31";
const BOLD: &str = "1";
const DIM: &str = "2";

impl<W: Write> Table<W> {
    /// An empty one.
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour, steps: 0, failed: Vec::new(), heading: String::new() }
    }

    /// A line between.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// Begins a part.
    pub fn heading(&mut self, text: &str) {
        text.clone_into(&mut self.heading);
        let shown = self.paint(BOLD, text);
        self.line(&format!("\n{shown}"));
    }

    /// A step that was taken: what it came to, or what was wrong with that.
    pub fn step(&mut self, name: &str, outcome: &Result<String, String>, took: Duration) {
        self.steps += 1;
        let (mark, colour, detail) = match outcome {
            Ok(detail) => ("✓", GREEN, detail),
            Err(detail) => ("✗", RED, detail),
        };
        let mark = self.paint(colour, mark);
        let took = self.paint(DIM, &format!("{:>5} ms", took.as_millis()));
        // Details may hold a remote's words: one line, whatever they are.
        let detail = detail.replace(char::is_control, " ");
        self.line(&format!("  {mark} {name:<40} {took}  {detail}"));
        if outcome.is_err() {
            self.failed.push(format!("{}: {name}: {detail}", self.heading));
        }
    }

    /// More about the step before.
    pub fn note(&mut self, text: &str) {
        let text = text.replace(char::is_control, " ");
        let shown = self.paint(DIM, &format!("{:<54}{text}", ""));
        self.line(&shown);
    }

    /// The last line, and what differed.
    pub fn summary(&mut self, took: Duration) -> Summary {
        let Self { steps, failed, .. } = self;
        let summary = Summary { steps: *steps, failed: failed.clone() };
        let seconds = took.as_secs_f64();
        if summary.good() {
            let text = format!("{} steps, all as expected, {seconds:.1} s", summary.steps);
            let shown = self.paint(GREEN, &text);
            self.line(&format!("\n{shown}"));
            return summary;
        }
        let text = format!(
            "{} steps, {} otherwise than expected, {seconds:.1} s",
            summary.steps,
            summary.failed.len()
        );
        let shown = self.paint(RED, &text);
        self.line(&format!("\n{shown}"));
        for failed in &summary.failed {
            self.line(&format!("  {failed}"));
        }
        summary
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(colour: bool, outcome: Result<&str, &str>) -> (String, Summary) {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, colour);
        table.heading("1  EC2");
        let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
        table.step("create role", &outcome, Duration::from_millis(7));
        let summary = table.summary(Duration::from_millis(1_250));
        (String::from_utf8(out).unwrap(), summary)
    }

    #[test]
    fn a_good_one() {
        let (text, summary) = table(false, Ok("fine"));
        assert_eq!(
            text,
            "\n1  EC2\n  ✓ create role                                  7 ms  fine\n\n1 steps, all as expected, 1.2 s\n"
        );
        assert!(summary.good());
    }

    #[test]
    fn a_bad_one_says_what_differed() {
        let (text, summary) = table(false, Err("ALLOW, expected\nDENY \u{1b}[2J"));
        assert!(text.contains("✗ create role"), "{text}");
        assert!(text.ends_with("1 steps, 1 otherwise than expected, 1.2 s\n  1  EC2: create role: ALLOW, expected DENY  [2J\n"), "{text}");
        assert!(!summary.good());
    }

    #[test]
    fn colour_only_where_wanted() {
        assert!(table(true, Ok("fine")).0.contains("\u{1b}[32m✓\u{1b}[0m"));
        assert!(!table(false, Ok("fine")).0.contains('\u{1b}'));
    }

    #[test]
    fn no_steps_are_no_success() {
        assert!(!Table::new(Vec::new(), false).summary(Duration::ZERO).good());
    }
}
