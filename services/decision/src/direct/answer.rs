//! Answers, written as bytes: what prost makes of an AuthorizeResponse, byte for byte.

use std::time::Duration;

use countersign_evaluator::{
    Attached, Decision, PolicyType, Reason,
    compiled::{LayerRef, Outcome, StatementRef},
    ready::Ready,
};
use countersign_policy::document::Statement;

use crate::{
    convert,
    sentence::{By, Sentence, named},
};

/// Statements that are rendered beforehand, of one principal's policies.
const RENDERED: usize = 64;

/// Policies that are ready, and what is said of the statements of the principal's own: most answers name one of them.
pub struct Rendered {
    ready: Ready,
    /// By the place of the policy, and of the statement in it.
    identity: Vec<Vec<Said>>,
}

/// A statement as an answer has it.
struct Said {
    /// The field of the answer.
    field: Box<[u8]>,
    /// `statement number 0 of policy arn:…`
    by: Box<str>,
}

impl Rendered {
    pub fn new(ready: Ready) -> Self {
        let of = |attached: &Attached| -> Vec<Said> {
            attached.document.statements().iter().map(|own| Said::new(attached, own)).collect()
        };
        let policies = &ready.set().identity;
        let statements: usize =
            policies.iter().map(|attached| attached.document.statements().len()).sum();
        let identity =
            if statements > RENDERED { Vec::new() } else { policies.iter().map(of).collect() };
        Self { ready, identity }
    }

    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    fn said(&self, found: StatementRef) -> Option<&Said> {
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        match found.layer {
            LayerRef::Identity => {
                self.identity.get(place(found.policy))?.get(place(found.statement))
            }
            LayerRef::Boundary
            | LayerRef::Session
            | LayerRef::Narrowing(_)
            | LayerRef::Resource
            | LayerRef::Scp(_)
            | LayerRef::Rcp(_) => None,
        }
    }
}

impl Said {
    fn new(attached: &Attached, own: &Statement) -> Self {
        let mut field = Vec::new();
        nested(&mut field, 5, |out| statement(out, attached, own));
        let mut text = String::new();
        by(attached, own).say(&mut |piece| text.push_str(piece));
        Self { field: field.into(), by: text.into() }
    }
}

fn by<'a>(attached: &'a Attached, own: &'a Statement) -> By<'a> {
    By {
        policy_type: attached.policy_type,
        policy: &attached.name,
        sid: own.sid.as_ref().map(|sid| sid.value.as_str()),
        index: own.index,
    }
}

/// What is said of one decision.
pub struct Answer<'a> {
    pub outcome: &'a Outcome,
    pub policies: &'a Rendered,
    pub noun: (&'a str, &'a str),
    pub action: &'a str,
    pub resource: &'a str,
    pub principal: &'a str,
    pub revision: &'a str,
    pub age: Duration,
    pub decision_id: &'a str,
}

impl Answer<'_> {
    /// Appends the message; `scratch` is anything.
    pub fn write(&self, out: &mut Vec<u8>, scratch: &mut String) {
        let Outcome { decision, reason, determining } = self.outcome;
        number(out, 1, enumeration(i32::from(convert::decision(*decision))));
        number(out, 2, u64::from(*decision == Decision::Allow));
        number(out, 3, enumeration(i32::from(convert::reason(*reason))));
        scratch.clear();
        self.say(scratch);
        text(out, 4, scratch);
        for found in determining.iter() {
            if let Some(said) = self.policies.said(found) {
                out.extend_from_slice(&said.field);
            } else if let Some((attached, own)) = self.policies.ready.statement(found) {
                nested(out, 5, |out| statement(out, attached, own));
            }
        }
        number(out, 6, size(determining.count()));
        text(out, 7, self.principal);
        text(out, 8, self.revision);
        nested(out, 9, |out| {
            number(out, 1, self.age.as_secs());
            number(out, 2, u64::from(self.age.subsec_nanos()));
        });
        text(out, 10, self.decision_id);
    }

    /// Appends the sentence.
    pub fn say(&self, text: &mut String) {
        let Self { outcome, policies, noun, action, resource, .. } = self;
        let reason = outcome.reason;
        let found = named(reason, || outcome.determining.iter(), |found| found.policy_type);
        let said = found.filter(|found| found.policy_type == PolicyType::Identity);
        if let Some(said) = said.and_then(|found| policies.said(found)) {
            let verb = match reason {
                Reason::AllowedByIdentityPolicy => Some("allowed by "),
                Reason::DeniedByIdentityPolicy => Some("denied by "),
                _ => None,
            };
            if let Some(verb) = verb {
                text.push_str(verb);
                text.push_str(&said.by);
                return;
            }
        }
        let statement = found.and_then(|found| policies.ready.statement(found));
        let by = statement.map(|(attached, own)| by(attached, own));
        let sentence = Sentence { reason, who: *noun, action, resource, by };
        sentence.say(&mut |piece| text.push_str(piece));
    }
}

fn statement(out: &mut Vec<u8>, attached: &Attached, own: &Statement) {
    number(out, 1, enumeration(i32::from(convert::policy_type(attached.policy_type))));
    text(out, 2, &attached.name);
    text(out, 3, attached.version_id.as_deref().unwrap_or_default());
    text(out, 4, own.sid.as_ref().map(|sid| sid.value.as_str()).unwrap_or_default());
    number(out, 5, size(own.index));
    text(out, 6, &own.pointer);
}

fn enumeration(value: i32) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// Nothing is written of what is empty, as proto3 has it.
fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        varint(out, value);
    }
}

pub(super) fn text(out: &mut Vec<u8>, field: u8, value: &str) {
    if !value.is_empty() {
        out.push(field << 3 | 2);
        varint(out, size(value.len()));
        out.extend_from_slice(value.as_bytes());
    }
}

/// A message within a message: its length stands before it, and is known after it.
pub(super) fn nested(out: &mut Vec<u8>, field: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(field << 3 | 2);
    let at = out.len();
    content(out);
    let length = size(out.len() - at);
    let mut prefix = [0; 10];
    let mut count = 0;
    let mut rest = length;
    for slot in &mut prefix {
        count += 1;
        let low = u8::try_from(rest & 0x7F).unwrap_or_default();
        rest >>= 7;
        *slot = if rest == 0 { low } else { low | 0x80 };
        if rest == 0 {
            break;
        }
    }
    out.splice(at..at, prefix.into_iter().take(count));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}
