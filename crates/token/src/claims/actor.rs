//! Who acts for a session, and who may (RFC 8693 sections 4.1 and 4.4).
//!
//! Knows what the two claims say. Declines to know what policies say of it: `may_act` only narrows.

use serde::{Deserialize, Serialize};

use super::{Claims, is_arn_segment};

/// Who acts for a session: another session of Countersign's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The session's ARN.
    pub sub: String,
    /// Its unique form, `ROLE_ID:SESSION`.
    pub client_id: String,
    /// Who acted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

impl Actor {
    /// How many have acted.
    pub fn depth(&self) -> usize {
        std::iter::successors(Some(self), |actor| actor.act.as_deref()).count()
    }

    pub(super) fn is_well_formed(&self) -> bool {
        self.depth() <= MAX_ACTORS
            && std::iter::successors(Some(self), |actor| actor.act.as_deref())
                .all(|actor| !actor.sub.is_empty() && !actor.client_id.is_empty())
    }
}

/// Who may act for a session: a session of the same issuer, by its ARN or by its unique form, or by both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MayAct {
    /// The actor's issuer: names are of nobody without it.
    pub iss: String,
    /// The session's ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Its unique form, `ROLE_ID:SESSION`, which a role that is made again under the same name does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

impl MayAct {
    /// From the request's `may_act`, of a session of `iss`: an ARN, or a unique form.
    ///
    /// # Errors
    /// None when it is neither.
    pub fn parse(iss: &str, text: &str) -> Option<MayAct> {
        let iss = iss.to_owned();
        let name = || Some(text.to_owned());
        match text.split(':').collect::<Vec<_>>().as_slice() {
            ["arn", _, "sts", "", _, path] if is_assumed_role(path) => {
                Some(MayAct { iss, sub: name(), client_id: None })
            }
            [role_id, session] if is_arn_segment(role_id) && is_arn_segment(session) => {
                Some(MayAct { iss, sub: None, client_id: name() })
            }
            _ => None,
        }
    }

    /// The same as text: the ARN, where there is one.
    pub fn name(&self) -> &str {
        self.sub.as_deref().or(self.client_id.as_deref()).unwrap_or_default()
    }

    /// Whether `actor` is the one: all that is said of it holds.
    pub(super) fn is(&self, actor: &Claims) -> bool {
        let MayAct { iss, sub, client_id } = self;
        *iss == actor.iss
            && sub.as_ref().is_none_or(|sub| *sub == actor.sub)
            && client_id.as_ref().is_none_or(|client_id| *client_id == actor.client_id)
            && self.is_well_formed()
    }

    pub(super) fn is_well_formed(&self) -> bool {
        let names = [&self.sub, &self.client_id];
        !self.iss.is_empty()
            && names.iter().any(|name| name.is_some())
            && names.iter().all(|name| name.as_deref() != Some(""))
    }
}

/// `assumed-role/ROLE/SESSION`
fn is_assumed_role(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["assumed-role", role, session] => !role.is_empty() && !session.is_empty(),
        _ => false,
    }
}

/// How many may act for a session, one after the other.
pub const MAX_ACTORS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    // ATTACKS 76; RFC 8693 section 4.4.
    #[test]
    fn who_may_exchange_a_token() {
        let actor = samples::claims();
        let check = |change: fn(&mut MayAct), by: Option<&Claims>, expected: bool| {
            let (iss, sub, client_id) =
                (actor.iss.clone(), actor.sub.clone(), actor.client_id.clone());
            let mut may_act = MayAct { iss, sub: Some(sub), client_id: Some(client_id) };
            change(&mut may_act);
            let subject = Claims { may_act: Some(may_act.clone()), ..samples::claims() };
            assert_eq!(subject.may_be_exchanged_by(by), expected, "{may_act:?}");
        };
        check(|_| {}, Some(&actor), true);
        check(|_| {}, None, false);
        check(|m| m.sub = None, Some(&actor), true);
        check(|m| m.client_id = None, Some(&actor), true);
        // All that is said must hold, and something must be said.
        check(|m| m.sub = Some("arn:x".into()), Some(&actor), false);
        check(|m| m.client_id = Some("AROAEXAMPLE:alice".into()), Some(&actor), false);
        check(|m| m.iss = "https://other.example".into(), Some(&actor), false);
        check(|m| (m.sub, m.client_id) = (None, None), Some(&actor), false);
        let free = samples::claims();
        assert!(free.may_be_exchanged_by(None) && free.may_be_exchanged_by(Some(&actor)));
    }

    #[test]
    fn names_of_those_who_may_act() {
        let check = |text: &str, expected: Option<(Option<&str>, Option<&str>)>| {
            let found = MayAct::parse("i", text);
            let found = found.as_ref().map(|it| (it.sub.as_deref(), it.client_id.as_deref()));
            assert_eq!(found, expected, "{text}");
        };
        let arn = "arn:aws:sts::111122223333:assumed-role/Reader/a@b";
        check(arn, Some((Some(arn), None)));
        check("AROAEXAMPLE:a@b", Some((None, Some("AROAEXAMPLE:a@b"))));
        for bad in [
            "",
            "a",
            ":",
            "a:",
            ":a",
            "a:b:c",
            "AROAEXAMPLE:a/b",
            "arn:aws:iam::111122223333:role/Reader",
            "arn:aws:sts::111122223333:assumed-role/Reader",
            "arn:aws:sts::111122223333:assumed-role/Reader/",
            "arn:aws:sts::111122223333:assumed-role//a",
            "arn:aws:sts::111122223333:assumed-role/p/Reader/a",
            "arn:aws:sts:us-east-1:111122223333:assumed-role/Reader/a",
            "arn:aws:sts::111122223333:federated-user/a",
        ] {
            check(bad, None);
        }
    }
}
