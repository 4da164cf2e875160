//! What is asked.

use std::fmt;
use std::str::FromStr;

use countersign_policy::action::Action;
use countersign_policy::arn::{AccountId, Arn, InvalidArn};

use crate::context::Context;
use crate::principal::Principal;

/// The resource asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceArn {
    /// `*`, for actions that name no resource.
    Any,
    Arn(Arn),
}

impl FromStr for ResourceArn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" { Ok(ResourceArn::Any) } else { text.parse().map(ResourceArn::Arn) }
    }
}

impl fmt::Display for ResourceArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResourceArn::Any => f.write_str("*"),
            ResourceArn::Arn(arn) => arn.fmt(f),
        }
    }
}

/// A resource and the account that owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub arn: ResourceArn,
    /// Needed for ARNs without an account; for `*` it is the principal's own where absent.
    pub account: Option<AccountId>,
}

/// Whose resource it is, seen from the principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    SameAccount,
    CrossAccount,
    /// The ARN says one account, the request another.
    Contradiction,
}

/// One question. The context is complete: principal keys and time are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub principal: Principal,
    pub action: Action,
    pub resource: Resource,
    pub context: Context,
}

impl Request {
    pub(crate) fn ownership(&self) -> Ownership {
        let from_arn = match &self.resource.arn {
            ResourceArn::Any => None,
            ResourceArn::Arn(arn) => arn.account_id(),
        };
        let owner = match (self.resource.account, from_arn, &self.resource.arn) {
            (Some(given), Some(own), _) if given != own => return Ownership::Contradiction,
            (Some(owner), _, _) | (None, Some(owner), _) => Some(owner),
            (None, None, ResourceArn::Any) => self.principal.account(),
            // Nobody knows the owner; cross-account asks for more.
            (None, None, ResourceArn::Arn(_)) => None,
        };
        if owner.is_some() && owner == self.principal.account() {
            Ownership::SameAccount
        } else {
            Ownership::CrossAccount
        }
    }
}
