//! How a command ended, as the shell sees it.

use std::{fmt::Display, process::ExitCode};

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Status 0.
    Done,
    /// Status 1: a check failed, or something went wrong on the way.
    Failed,
    /// Status 2: the input or the arguments are wrong.
    BadInput,
}

impl Exit {
    /// Status 1, and why.
    pub fn failed(why: impl Display) -> Self {
        eprintln!("countersign: {why}");
        Self::Failed
    }

    /// Status 2, and why.
    pub fn bad_input(why: impl Display) -> Self {
        eprintln!("countersign: {why}");
        Self::BadInput
    }

    /// 0, 1 or 2.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::BadInput => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
