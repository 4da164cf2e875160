//! Yes, no, and "nobody can say".
//!
//! Where AWS's documentation and the field disagree, or a value cannot be read, the answer is [`Truth::Unknown`]; it travels by
//! Kleene's rules up to the statement, and there a Deny counts it as yes and an Allow as no. So the safer reading is chosen in
//! one place, whichever way a condition is negated.

use countersign_policy::document::Effect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Truth::False, _) | (_, Truth::False) => Truth::False,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::True, Truth::True) => Truth::True,
        }
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Truth::True, _) | (_, Truth::True) => Truth::True,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::False, Truth::False) => Truth::False,
        }
    }

    /// Whether a statement with this effect applies. An Allow that cannot be evaluated does not allow; a Deny that cannot be
    /// evaluated denies.
    #[must_use]
    pub fn applies(self, effect: Effect) -> bool {
        match (self, effect) {
            (Truth::True, Effect::Allow | Effect::Deny) | (Truth::Unknown, Effect::Deny) => true,
            (Truth::False, Effect::Allow | Effect::Deny) | (Truth::Unknown, Effect::Allow) => false,
        }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Truth::True } else { Truth::False }
    }
}

/// True for no elements.
pub(crate) fn all(values: impl IntoIterator<Item = Truth>) -> Truth {
    values.into_iter().fold(Truth::True, Truth::and)
}

/// False for no elements.
pub(crate) fn any(values: impl IntoIterator<Item = Truth>) -> Truth {
    values.into_iter().fold(Truth::False, Truth::or)
}
