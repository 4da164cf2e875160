//! What every engine is to the benchmark: built from a workload, then asked its requests by number.

use std::fmt;

/// An engine that has its policies, and its own form of every request.
pub trait Engine {
    /// Whether request `index` is allowed.
    ///
    /// # Errors
    /// [`Stopped`] where the engine gives up.
    fn decide(&mut self, index: usize) -> Result<bool, Stopped>;
}

/// The engine gave up, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped(pub String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
