//! How far it is: one line that changes on a terminal, a line now and then elsewhere. On standard error.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use countersign_policy_store::transfer::Phase;

/// How far it is.
pub struct Display {
    terminal: bool,
    phase: Option<Phase>,
    began: Instant,
    shown: Option<Instant>,
}

impl Display {
    /// On standard error.
    #[must_use]
    pub fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        Self { terminal, phase: None, began: Instant::now(), shown: None }
    }

    /// Shows it if it is time, or the phase is done.
    pub fn show(&mut self, phase: Phase, done: u64, total: Option<u64>) {
        let now = Instant::now();
        if self.phase != Some(phase) {
            *self = Self { phase: Some(phase), began: now, shown: Some(now), ..*self };
        }
        let ended = total == Some(done);
        let pause = Duration::from_millis(if self.terminal { 200 } else { 5_000 });
        if !ended && self.shown.is_some_and(|shown| now.duration_since(shown) < pause) {
            return;
        }
        self.shown = Some(now);
        let line = line(phase, done, total, now.duration_since(self.began));
        let (before, after) = match (self.terminal, ended) {
            (true, false) => ("\r\x1b[K", ""),
            (true, true) => ("\r\x1b[K", "\n"),
            (false, _) => ("", "\n"),
        };
        // Nobody who looks: nothing to show.
        let _ = write!(io::stderr(), "{before}{line}{after}");
    }
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

fn line(phase: Phase, done: u64, total: Option<u64>, time: Duration) -> String {
    let what = match phase {
        Phase::Exporting => "exporting",
        Phase::Checking => "checking the file",
        Phase::Importing => "importing",
        Phase::Verifying => "reading back",
    };
    let share = match total {
        Some(total) if total > 0 => {
            format!(" of {total} ({} %)", u128::from(done) * 100 / u128::from(total))
        }
        Some(_) | None => String::new(),
    };
    // To the millisecond, so that what took less than a second has a rate.
    let rate = u128::from(done) * 1_000 / time.as_millis().max(1);
    format!("{what}: {done}{share} entries, {rate}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |phase, done, total, milliseconds, expected: &str| {
            assert_eq!(line(phase, done, total, Duration::from_millis(milliseconds)), expected);
        };
        check(Phase::Exporting, 500, None, 500, "exporting: 500 entries, 1000/s");
        check(Phase::Importing, 1, Some(3), 1_000, "importing: 1 of 3 (33 %) entries, 1/s");
        check(Phase::Verifying, 0, Some(0), 0, "reading back: 0 entries, 0/s");
        check(
            Phase::Checking,
            u64::MAX,
            Some(u64::MAX),
            1_000,
            "checking the file: 18446744073709551615 of 18446744073709551615 (100 %) entries, 18446744073709551615/s",
        );
    }
}
