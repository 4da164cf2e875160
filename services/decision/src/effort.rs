//! How much work a question may be: far above what one that means well can need.

use countersign_evaluator::{PolicySet, Request, effort::cost};

use crate::error::Refusal;

/// In characters, of which one takes some ten nanoseconds.
const MAX: u64 = 8_000_000;

/// All questions of one batch together.
const MAX_OF_A_BATCH: u64 = 10 * MAX;
/// After so much, others have their turn.
const TURN: u64 = 500_000;

/// Whether the question may be decided, and explained if that was asked.
pub fn affordable(
    request: &Request,
    policies: &PolicySet,
    is_explained: bool,
) -> Result<(), Refusal> {
    if cost(request, policies, is_explained) <= MAX {
        return Ok(());
    }
    Err(Refusal::invalid(
        "context",
        "comparing it with the policies would take too long; send fewer or shorter values",
    ))
}

/// What is left for the questions of a batch.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    turn: u64,
}

impl Budget {
    /// Enough for a thousand questions that mean well.
    pub fn of_a_batch() -> Self {
        Self { left: MAX_OF_A_BATCH, turn: TURN }
    }

    /// Takes off what the question costs. True when others should have their turn.
    pub fn spend(&mut self, request: &Request, policies: &PolicySet) -> Result<bool, Refusal> {
        let cost = cost(request, policies, false);
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            Refusal::invalid(
                "context",
                "the batch as a whole would take too long from here on; send the rest in another call",
            )
        })?;
        let is_over = cost >= self.turn;
        self.turn = if is_over { TURN } else { self.turn - cost };
        Ok(is_over)
    }
}

/// What is left for one page of principals, each of which is looked at as long as an explanation takes.
#[derive(Debug)]
pub struct Page {
    left: u64,
    turn: u64,
}

/// What the next principal of a page costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toll {
    /// Little.
    Small,
    /// Others should have their turn first.
    Large,
    /// The page ends before it.
    NextPage,
    /// More than any question may.
    Never,
}

impl Page {
    /// A whole page.
    pub fn new() -> Self {
        Self { left: MAX_OF_A_BATCH, turn: TURN }
    }

    /// Takes off what looking at this principal costs.
    pub fn spend(&mut self, request: &Request, policies: &PolicySet) -> Toll {
        let cost = cost(request, policies, true);
        if cost > MAX {
            return Toll::Never;
        }
        let Some(left) = self.left.checked_sub(cost) else { return Toll::NextPage };
        self.left = left;
        if cost >= self.turn {
            self.turn = TURN;
            return Toll::Large;
        }
        self.turn -= cost;
        Toll::Small
    }
}
