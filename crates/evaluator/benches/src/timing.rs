//! Rounds in which engines take turns, so that whatever slows the machine for a while slows all of them.

use std::time::{Duration, Instant};

use crate::engine::{Engine, Stopped};

/// An engine that is being timed.
pub struct Runner {
    pub name: &'static str,
    engine: Box<dyn Engine>,
    /// Nanoseconds a decision, one a round.
    rounds: Vec<f64>,
    next: usize,
    stopped: Option<String>,
    /// How many requests were compared with the answer that is expected.
    pub compared: usize,
    pub build: Duration,
}

/// Nanoseconds a decision, over rounds.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Runner {
    pub fn build(name: &'static str, build: impl FnOnce() -> Box<dyn Engine>) -> Self {
        let start = Instant::now();
        let engine = build();
        Self {
            name,
            engine,
            rounds: Vec::new(),
            next: 0,
            stopped: None,
            compared: 0,
            build: start.elapsed(),
        }
    }

    /// Compares the answers with those expected, in order, for as long as `limit`: an engine that needs a third of a second for a
    /// decision is not asked all of them.
    ///
    /// # Errors
    /// The number of the first request that it answers otherwise.
    pub fn compare(&mut self, expected: &[bool], limit: Duration) -> Result<(), usize> {
        let start = Instant::now();
        for (index, expected) in expected.iter().enumerate() {
            match self.engine.decide(index) {
                Ok(found) if found == *expected => self.compared += 1,
                Ok(_) => return Err(index),
                Err(Stopped(words)) => {
                    self.stopped = Some(words);
                    return Ok(());
                }
            }
            if start.elapsed() > limit {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One round: decisions for at least `long`, and at least one.
    pub fn round(&mut self, requests: usize, long: Duration) {
        if self.stopped.is_some() {
            return;
        }
        let start = Instant::now();
        let mut count = 0_u32;
        loop {
            // Some at a time, so that the clock costs nothing.
            for _ in 0..batch(&self.rounds) {
                self.next = (self.next + 1) % requests;
                if let Err(Stopped(words)) = std::hint::black_box(self.engine.decide(self.next)) {
                    self.stopped = Some(words);
                    return;
                }
                count += 1;
            }
            let elapsed = start.elapsed();
            if elapsed >= long {
                self.rounds.push(elapsed.as_nanos() as f64 / f64::from(count));
                return;
            }
        }
    }

    pub fn figure(&self) -> Result<Figure, String> {
        if let Some(words) = &self.stopped {
            return Err(words.clone());
        }
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.get(sorted.len() / 2), sorted.first(), sorted.last()) {
            (Some(median), Some(min), Some(max)) => {
                Ok(Figure { median: *median, min: *min, max: *max })
            }
            (_, _, _) => Err("not timed".to_owned()),
        }
    }
}

/// About 20 microseconds' worth of decisions.
fn batch(rounds: &[f64]) -> usize {
    rounds.last().map_or(1, |ns| ((20_000.0 / ns) as usize).clamp(1, 64))
}

/// Which cores this process may run on, as the kernel lists them; none known where there is no such list.
pub fn cores() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
