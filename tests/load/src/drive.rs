//! How questions are asked: so many streams that each ask again once they are answered (closed), or at a rate that does not wait for
//! answers (open), whose times count from when a question was to be asked.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{
    Failed,
    wire::{ByStream, Event, Target, Wire},
};

/// What is asked, in order and then again: gRPC messages, each with its length.
pub type Messages = [Vec<u8>];

/// Nanoseconds that can be told from more: a minute.
const LONGEST: u64 = 60_000_000_000;

/// What was seen.
pub struct Outcome {
    pub answered: u64,
    /// Ended without an answer.
    pub failed: u64,
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
}

impl Outcome {
    fn new() -> Result<Self, Failed> {
        let latency =
            Histogram::new_with_bounds(1, LONGEST, 3).map_err(Failed::of("a histogram"))?;
        Ok(Self { answered: 0, failed: 0, elapsed: Duration::ZERO, latency })
    }

    fn count(&mut self, is_answered: bool, took: Duration) {
        if is_answered {
            self.answered += 1;
        } else {
            self.failed += 1;
        }
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Answers a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of a few millions")]
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }

    /// Of a hundred.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_percentile(percent))
    }
}

/// How long, and how much of it before it counts.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub warm: Duration,
    pub measured: Duration,
}

/// Asks on `streams` streams of one connection, each again once it is answered. `mark` is called when it begins to count, and
/// when that is over.
///
/// # Errors
/// When the connection breaks.
pub async fn closed(
    target: &Target,
    messages: &Messages,
    streams: usize,
    span: Span,
    mark: impl FnMut(),
) -> Result<Outcome, Failed> {
    let mut wire = Wire::connect(target).await.map_err(Failed::of("a connection"))?;
    let mut next = messages.iter().cycle();
    let mut asked = ByStream::default();
    let mut ask = |wire: &mut Wire, asked: &mut ByStream<Instant>| {
        if let Some(message) = next.next() {
            let stream = wire.open(message, true);
            asked.insert(stream, Instant::now());
        }
    };
    for _ in 0..streams {
        ask(&mut wire, &mut asked);
    }
    let mut outcome = Outcome::new()?;
    let mut phase = Phase::new(span, mark);
    let mut events = Vec::new();
    while !asked.is_empty() {
        wire.turn(phase.next(), &mut events).await.map_err(Failed::of("the connection"))?;
        let now = Instant::now();
        phase.turn(now, &mut outcome);
        for event in events.drain(..) {
            let Event::Ended(stream, is_answered) = event else { continue };
            let Some(began) = asked.remove(&stream) else { continue };
            if phase.counts() {
                outcome.count(is_answered, now - began);
            }
            if !phase.is_over() {
                ask(&mut wire, &mut asked);
            }
        }
    }
    Ok(outcome)
}

/// Asks on `streams` streams that stay open, `depth` questions at once on each.
///
/// # Errors
/// When the connection breaks, or a stream ends.
pub async fn streaming(
    target: &Target,
    messages: &Messages,
    (streams, depth): (usize, usize),
    span: Span,
    mark: impl FnMut(),
) -> Result<Outcome, Failed> {
    let mut wire = Wire::connect(target).await.map_err(Failed::of("a connection"))?;
    let mut next = messages.iter().cycle();
    let mut asked: ByStream<VecDeque<Instant>> = ByStream::default();
    for _ in 0..streams {
        let Some(first) = next.next() else { break };
        let stream = wire.open(first, false);
        let mut times = VecDeque::from([Instant::now()]);
        for message in next.by_ref().take(depth - 1) {
            wire.send(stream, message, false);
            times.push_back(Instant::now());
        }
        asked.insert(stream, times);
    }
    let mut outcome = Outcome::new()?;
    let mut phase = Phase::new(span, mark);
    let mut events = Vec::new();
    while !phase.is_over() {
        wire.turn(phase.next(), &mut events).await.map_err(Failed::of("the connection"))?;
        let now = Instant::now();
        phase.turn(now, &mut outcome);
        for event in events.drain(..) {
            let Event::Message(stream, _) = event else {
                return Err(Failed::because("a stream ended"));
            };
            let Some(times) = asked.get_mut(&stream) else { continue };
            if let (Some(began), true) = (times.pop_front(), phase.counts()) {
                outcome.count(true, now - began);
            }
            if let Some(message) = next.next() {
                wire.send(stream, message, false);
                times.push_back(now);
            }
        }
    }
    Ok(outcome)
}

/// So many questions may be without an answer at once; the server's own bound is 1,024 streams a connection.
const MOST_ASKED: usize = 1_000;

/// Asks `rate` questions a second, whatever comes of them. A question that must wait for its stream counts from when it was due.
///
/// # Errors
/// When the connection breaks.
pub async fn open(
    target: &Target,
    messages: &Messages,
    rate: f64,
    span: Span,
    mark: impl FnMut(),
) -> Result<Outcome, Failed> {
    let mut wire = Wire::connect(target).await.map_err(Failed::of("a connection"))?;
    let mut next = messages.iter().cycle();
    let mut asked = ByStream::default();
    let mut outcome = Outcome::new()?;
    let mut phase = Phase::new(span, mark);
    let pause = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        while due <= now && asked.len() < MOST_ASKED && !phase.is_over() {
            let Some(message) = next.next() else { break };
            asked.insert(wire.open(message, true), due);
            due += pause;
        }
        if phase.is_over() {
            return Ok(outcome);
        }
        let until = if asked.len() < MOST_ASKED { Some(due) } else { phase.next() };
        wire.turn(until, &mut events).await.map_err(Failed::of("the connection"))?;
        let now = Instant::now();
        phase.turn(now, &mut outcome);
        for event in events.drain(..) {
            let Event::Ended(stream, is_answered) = event else { continue };
            let Some(was_due) = asked.remove(&stream) else { continue };
            if phase.counts() {
                outcome.count(is_answered, now - was_due);
            }
        }
    }
}

/// Warming, then counting, then over.
struct Phase<F> {
    counts_from: Instant,
    over_at: Instant,
    mark: F,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Warming,
    Counting,
    Over,
}

impl<F: FnMut()> Phase<F> {
    fn new(span: Span, mark: F) -> Self {
        let counts_from = Instant::now() + span.warm;
        let over_at = counts_from + span.measured;
        Self { counts_from, over_at, mark, stage: Stage::Warming }
    }

    fn counts(&self) -> bool {
        self.stage == Stage::Counting
    }

    fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn next(&self) -> Option<Instant> {
        match self.stage {
            Stage::Warming => Some(self.counts_from),
            Stage::Counting => Some(self.over_at),
            Stage::Over => None,
        }
    }

    fn turn(&mut self, now: Instant, outcome: &mut Outcome) {
        if self.stage == Stage::Warming && now >= self.counts_from {
            self.stage = Stage::Counting;
            self.counts_from = now;
            (self.mark)();
        }
        if self.stage == Stage::Counting && now >= self.over_at {
            self.stage = Stage::Over;
            outcome.elapsed = now - self.counts_from;
            (self.mark)();
        }
    }
}

/// Asks each message once, on a connection of its own, `at_once` at a time: what was answered, in the order of the questions; `None`
/// where there was an error.
///
/// # Errors
/// When the connection breaks.
pub async fn once(
    target: &Target,
    messages: &Messages,
    at_once: usize,
) -> Result<Vec<Option<Vec<u8>>>, Failed> {
    let mut wire = Wire::connect(target).await.map_err(Failed::of("a connection"))?.keeping();
    let mut answers = vec![None; messages.len()];
    let mut asked = ByStream::default();
    let mut next = messages.iter().enumerate();
    let mut events = Vec::new();
    let mut left = messages.len();
    while left > 0 {
        for (place, message) in next.by_ref().take(at_once - asked.len()) {
            asked.insert(wire.open(message, true), place);
        }
        wire.turn(None, &mut events).await.map_err(Failed::of("the connection"))?;
        for event in events.drain(..) {
            match event {
                Event::Message(stream, message) => {
                    let place = asked.get(&stream).and_then(|place| answers.get_mut(*place));
                    if let Some(slot) = place {
                        *slot = Some(message);
                    }
                }
                Event::Ended(stream, _) => {
                    left -= usize::from(asked.remove(&stream).is_some());
                }
            }
        }
    }
    Ok(answers)
}
