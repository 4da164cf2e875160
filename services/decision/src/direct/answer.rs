//! Answers, written as bytes: what prost makes of an AuthorizeResponse, byte for byte.

use std::{hint::black_box, time::Duration};

use countersign_evaluator::{
    Attached, Decision, Reason,
    compiled::{LayerRef, Outcome, StatementRef},
    ready::Ready,
};
use countersign_policy::document::{Effect, Statement};

use crate::{
    convert,
    sentence::{By, Sentence, named},
};

/// Statements that are rendered beforehand, of one principal's policies.
const RENDERED: usize = 64;

/// Policies that are ready, and what is said of the statements of the principal's own: most answers name one of them.
pub struct Rendered {
    ready: Ready,
    /// For each policy, where its statements begin in what follows here, and where the last one's end; then [`STEPS`] numbers for each
    /// statement, its places in `said`. Empty where nothing is rendered.
    places: Box<[u32]>,
    /// For each statement, what is said where it alone allowed or denied, and then the statement itself: fields of an answer.
    said: Box<[u8]>,
}

/// Numbers of a statement: where its first field begins, where its second does, and where that ends.
const STEPS: usize = 3;

/// A statement as an answer has it, whole fields.
struct Said<'a> {
    message: &'a [u8],
    statement: &'a [u8],
}

impl Rendered {
    pub fn new(ready: Ready) -> Self {
        let policies = &ready.set().identity;
        let statements: usize =
            policies.iter().map(|attached| attached.document.statements().len()).sum();
        let (places, said) = match statements {
            ..=RENDERED => rendered(policies).unwrap_or_default(),
            _ => Default::default(),
        };
        Self { ready, places: places.into(), said: said.into() }
    }

    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Asks memory for what a decision reads.
    pub fn fetch(&self) {
        self.ready.fetch();
        for place in self.places.iter().step_by(16) {
            black_box(*place);
        }
    }

    fn said(&self, found: StatementRef) -> Option<Said<'_>> {
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        match found.layer {
            LayerRef::Identity => {
                let at = |place: usize| self.places.get(place).copied();
                let policy = place(found.policy);
                let (from, end) = (place(at(policy)?), place(at(policy.checked_add(1)?)?));
                let own = from.checked_add(place(found.statement).checked_mul(STEPS)?)?;
                if own >= end {
                    return None;
                }
                let [from, middle, end] = *self.places.get(own..)?.first_chunk::<STEPS>()?;
                Some(Said {
                    message: self.said.get(place(from)..place(middle))?,
                    statement: self.said.get(place(middle)..place(end))?,
                })
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

/// [`Rendered::places`] and [`Rendered::said`].
fn rendered(policies: &[Attached]) -> Option<(Vec<u32>, Vec<u8>)> {
    let (mut starts, mut places, mut said) = (Vec::new(), Vec::new(), Vec::new());
    let short = |number: usize| u32::try_from(number).ok();
    let first = policies.len() + 1;
    for attached in policies {
        starts.push(short(first + places.len())?);
        for own in attached.document.statements() {
            places.push(short(said.len())?);
            // INVARIANT: what an identity policy's statement is named for is its effect.
            let mut message = String::from(match own.effect {
                Effect::Allow => "allowed by ",
                Effect::Deny => "denied by ",
            });
            by(attached, own).say(&mut |piece| message.push_str(piece));
            text(&mut said, 4, &message);
            places.push(short(said.len())?);
            nested(&mut said, 5, |out| statement(out, attached, own));
            places.push(short(said.len())?);
        }
    }
    starts.push(short(first + places.len())?);
    starts.append(&mut places);
    Some((starts, said))
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
        if let Some(said) = self.said() {
            out.extend_from_slice(said.message);
        } else {
            scratch.clear();
            self.say(scratch);
            text(out, 4, scratch);
        }
        for found in determining.iter() {
            if let Some(said) = self.policies.said(found) {
                out.extend_from_slice(said.statement);
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

    /// The statement that the sentence names, where the sentence is that and nothing else.
    fn said(&self) -> Option<Said<'_>> {
        let Outcome { reason, determining, .. } = self.outcome;
        match reason {
            Reason::AllowedByIdentityPolicy | Reason::DeniedByIdentityPolicy => {
                let found = named(*reason, || determining.iter(), |found| found.policy_type)?;
                self.policies.said(found)
            }
            Reason::AllowedByResourcePolicy
            | Reason::AllowedByTrustPolicy
            | Reason::AllowedAsAccountRoot
            | Reason::DeniedByResourcePolicy
            | Reason::DeniedByTrustPolicy
            | Reason::DeniedByBoundary
            | Reason::DeniedBySessionPolicy
            | Reason::DeniedByScp
            | Reason::DeniedByRcp
            | Reason::NoIdentityAllow
            | Reason::NoResourceAllow
            | Reason::NoTrustAllow
            | Reason::NotAllowedByBoundary
            | Reason::NotAllowedBySession
            | Reason::NotAllowedByScp
            | Reason::ExternalPrincipal
            | Reason::CannotEvaluate => None,
        }
    }

    /// Appends the sentence.
    pub fn say(&self, text: &mut String) {
        let Self { outcome, policies, noun, action, resource, .. } = self;
        let reason = outcome.reason;
        let found = named(reason, || outcome.determining.iter(), |found| found.policy_type);
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
    out.push(0);
    content(out);
    let end = out.len();
    let length = end - at - 1;
    // Of a short one, the length takes the one byte that was kept for it; before others, room is made.
    let more = usize::try_from(length.max(1).ilog2() / 7).unwrap_or_default();
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(at + 1..end, at + 1 + more);
    }
    let mut rest = length;
    for slot in out.iter_mut().skip(at).take(more + 1) {
        let low = u8::try_from(rest & 0x7F).unwrap_or_default();
        rest >>= 7;
        *slot = if rest == 0 { low } else { low | 0x80 };
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}
