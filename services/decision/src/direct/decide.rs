//! One plain question, or many: who asks and about whom from memory, everything else from one view.
//!
//! `None` everywhere means that the general way answers: it knows every rule, and says what is wrong. So an answer is given here only
//! where the general way would give the very same.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand;
use countersign_evaluator::{
    Determining, Principal,
    compiled::{Query, Value},
    ready::Ready,
};
use countersign_policy::arn::AccountId;
use countersign_replica::View;
use http::HeaderMap;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    answer::{self, Answer, Rendered},
    body::frame,
    memory::{Caller, Keys, Memory, Moment, Whom},
    message::{self, Asked, Check, Pairs, Subject},
};
use crate::{
    check::Judgement,
    convert,
    decider::{self, Decider},
    log::Line,
};

/// In characters; what may be more is asked by the general way, which gives others their turn.
const MOST_WORK: u64 = 2_000_000;
/// Of a batch, as the general way has it.
const MAX_CHECKS: usize = 1000;
/// Keys that are neither the principal's nor the question's.
const OF_THE_MOMENT: usize = 3;
/// Names of decisions that are drawn at once.
const NAMES: usize = 64;

/// Answers plain questions. One for each core: what it remembers is its own.
pub struct Direct {
    decider: Decider,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    pens: Pens,
}

/// Questions of a stream that are looked up together.
pub const TOGETHER: usize = 32;

/// What answers are written with.
#[derive(Default)]
struct Pens {
    scratch: String,
    /// The revision of a view, by its serial.
    revision: Option<(u64, String)>,
    /// A second, as policies read it: `2026-06-15T02:00:00Z`, and as a number.
    time: Option<(i64, String, String)>,
    random: Vec<u64>,
}

impl Pens {
    fn prepare(&mut self, moment: Moment<'_>) -> Option<()> {
        let Moment { view, now } = moment;
        if self.revision.as_ref().is_none_or(|(serial, _)| *serial != view.serial()) {
            self.revision = Some((view.serial(), view.revision().to_string()));
        }
        if self.time.as_ref().is_none_or(|(second, ..)| *second != now) {
            let date = OffsetDateTime::from_unix_timestamp(now).ok()?.format(&Rfc3339).ok()?;
            self.time = Some((now, date, now.to_string()));
        }
        Some(())
    }

    /// As [`decider::decision_id`], of which many are drawn at once.
    fn decision_id(&mut self) -> Option<DecisionId> {
        if self.random.is_empty() {
            let mut bytes = [0_u8; NAMES * 8];
            rand::fill(&mut bytes).ok()?;
            self.random =
                bytes.as_chunks::<8>().0.iter().map(|own| u64::from_be_bytes(*own)).collect();
        }
        self.random.pop().map(DecisionId::new)
    }
}

/// A decision's name: `d-` and 16 hexadecimal digits.
struct DecisionId([u8; 18]);

impl DecisionId {
    fn new(number: u64) -> Self {
        let mut name = *b"d-0000000000000000";
        for (place, digit) in name.iter_mut().rev().take(16).enumerate() {
            let value = u8::try_from(number >> (4 * place) & 15).unwrap_or_default();
            *digit = if value < 10 { b'0' + value } else { b'a' - 10 + value };
        }
        Self(name)
    }

    fn as_str(&self) -> &str {
        // INVARIANT: ASCII alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The subject of one question or of many.
struct Who<'a> {
    principal: &'a Principal,
    account: AccountId,
    arn: &'a str,
    keys: &'a Keys,
    ready: &'a Rendered,
    noun: (&'a str, &'a str),
}

impl Direct {
    pub fn new(decider: Decider) -> Self {
        Self { decider, state: Mutex::default() }
    }

    pub fn decider(&self) -> &Decider {
        &self.decider
    }

    /// Answers an AuthorizeRequest with an AuthorizeResponse, appended to `out`.
    pub fn authorize(&self, headers: &HeaderMap, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (asked, check) = message::question(bytes)?;
        self.with(headers, |asking| asking.about(asked, None, |turn| turn.answer(&check, out)))
    }

    /// Answers a BatchAuthorizeRequest with a BatchAuthorizeResponse, appended to `out`.
    pub fn batch(&self, headers: &HeaderMap, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let batch = message::batch(bytes)?;
        let all = |turn: &mut Turn<'_>| {
            let mut count = 0;
            for check in batch.checks() {
                count += 1;
                if count > MAX_CHECKS {
                    return None;
                }
                let check = check?;
                let mut done = None;
                answer::nested(out, 1, |out| done = turn.answer(&check, out));
                done?;
            }
            // A batch of nothing is refused.
            (count > 0).then_some(())
        };
        self.with(headers, |asking| asking.about(batch.asked, None, all))
    }

    /// Answers AuthorizeStreamRequests that arrived together, at one moment, as a batch is answered: each answer is appended to `out`, its
    /// length before it, until one question is not answered here. Says how many were. Of more than [`TOGETHER`], the first are answered.
    pub fn stream(&self, headers: &HeaderMap, questions: &[&[u8]], out: &mut Vec<u8>) -> usize {
        let mut count = 0;
        self.with(headers, |asking| {
            let mut sought = [None; TOGETHER];
            asking.seek(questions, &mut sought);
            for (question, whom) in questions.iter().zip(sought) {
                let at = out.len();
                let answered = frame(out, |out| {
                    let (id, question) = message::streamed(question)?;
                    let (asked, check) = message::question(question)?;
                    answer::text(out, 1, id);
                    let mut done = None;
                    answer::nested(out, 2, |out| {
                        done = asking.about(asked, whom, |turn| turn.answer(&check, out));
                    });
                    done
                });
                if answered.is_none() {
                    out.truncate(at);
                    break;
                }
                count += 1;
            }
            Some(())
        });
        count
    }

    /// The caller as a stream needs it, where it may come this way.
    pub fn streamer(&self, headers: &HeaderMap, source: IpAddr) -> Option<crate::stream::Asker> {
        let view = self.decider.replica().now().ok()?;
        let moment = Moment { view: &view, now: decider::now() };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = state.memory.caller(&self.decider, headers, moment)?;
        let call = crate::authn::Call {
            caller: crate::authn::Caller::Session(Arc::clone(&caller.session)),
            source: Some(source),
            deadline: self.decider.deadline(headers),
        };
        let patience = self.decider.patience();
        Some(crate::stream::Asker { call, signed: Some(caller.signed().clone()), patience })
    }

    /// Finds who asks, and when.
    fn with(
        &self,
        headers: &HeaderMap,
        answer: impl FnOnce(&mut Asking<'_>) -> Option<()>,
    ) -> Option<()> {
        // What is told of each decision, the general way tells.
        if tracing::enabled!(tracing::Level::DEBUG) {
            return None;
        }
        let view = self.decider.replica().now().ok()?;
        let moment = Moment { view: &view, now: decider::now() };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { memory, pens } = &mut *state;
        pens.prepare(moment)?;
        let caller = memory.caller(&self.decider, headers, moment)?;
        let Caller { session, account, .. } = caller;
        let (session, account) = (Arc::clone(session), *account);
        let may_ask = [false, true].map(|by_name| caller.may_ask(by_name));
        let (decider, age) = (&self.decider, self.decider.replica().age());
        let caller = &session.arn;
        answer(&mut Asking { decider, moment, age, caller, account, may_ask, memory, pens })
    }
}

/// A caller who asks, at one moment.
struct Asking<'a> {
    decider: &'a Decider,
    moment: Moment<'a>,
    age: Duration,
    caller: &'a str,
    account: AccountId,
    /// About sessions, and about principals by name.
    may_ask: [bool; 2],
    memory: &'a mut Memory,
    pens: &'a mut Pens,
}

impl Asking<'_> {
    /// Looks for everybody that the questions are about, step by step: what one step asks memory for arrives while the others' are
    /// asked for. Nothing is decided by it.
    fn seek<'a>(&self, questions: &[&'a [u8]], sought: &mut [Option<Whom<'a>>]) {
        for (question, whom) in questions.iter().zip(&mut *sought) {
            *whom = message::whom(question).map(|subject| self.memory.seek(subject));
        }
        let sought = || sought.iter().take(questions.len()).flatten();
        sought().for_each(|whom| self.memory.approach(*whom));
        sought().for_each(|whom| self.memory.fetch(*whom));
        sought().for_each(|whom| self.memory.fetch_policies(*whom));
    }

    /// Finds about whom it is; `whom` is the question's own, if it was looked for.
    fn about(
        &mut self,
        asked: Asked<'_>,
        whom: Option<Whom<'_>>,
        answer: impl FnOnce(&mut Turn<'_>) -> Option<()>,
    ) -> Option<()> {
        let Self { decider, moment, age, caller, account, may_ask, memory, pens } = self;
        let (decider, moment, age, caller) = (*decider, *moment, *age, *caller);
        let [may_sessions, may_names] = *may_ask;
        let may = match asked.subject {
            Subject::Token(_) => may_sessions,
            Subject::Principal(_) => may_names,
        };
        if !may {
            return None;
        }
        let turn = |who: &Who<'_>| {
            // Another account's principals are asked about by fewer.
            if who.account != *account {
                return None;
            }
            answer(&mut Turn { decider, moment, who, caller, age, pens, work: 0 })
        };
        // What was looked for is only taken where it is this very text.
        let whom = whom.filter(|whom| whom.is(asked.subject));
        let is_near = whom.is_some();
        match whom.unwrap_or_else(|| memory.seek(asked.subject)) {
            Whom::Token(sought) => {
                let known = memory.session(decider, sought, asked.audience, moment)?;
                if !is_near {
                    known.fetch();
                }
                turn(&Who {
                    principal: &known.principal,
                    account: known.session.facts.account,
                    arn: &known.session.arn,
                    keys: &known.keys,
                    ready: &known.ready,
                    noun: ("role ", &known.session.facts.role_name),
                })
            }
            Whom::Principal(sought) => {
                let named = memory.named(sought, moment.view)?;
                if !is_near {
                    named.fetch();
                }
                turn(&Who {
                    principal: &named.principal,
                    account: named.account,
                    arn: sought.text,
                    keys: &named.keys,
                    ready: &named.ready,
                    noun: (named.kind(), &named.name),
                })
            }
        }
    }
}

/// The answers to one request.
struct Turn<'a> {
    decider: &'a Decider,
    moment: Moment<'a>,
    who: &'a Who<'a>,
    caller: &'a str,
    age: Duration,
    pens: &'a mut Pens,
    work: u64,
}

impl Turn<'_> {
    /// Appends the answer to one question.
    fn answer(&mut self, check: &Check<'_>, out: &mut Vec<u8>) -> Option<()> {
        let Check { action, resource, context } = check;
        is_plain(action, resource, context, self.who.account)?;
        let world = self.moment.view.world();
        if world.snapshot().resource_policy(self.who.account, resource).is_some() {
            return None;
        }
        let (_, date, seconds) = self.pens.time.as_ref()?;
        let own = self.who.keys.iter().map(|(key, value)| (key, Value::One(value)));
        let count = self.who.keys.len() + OF_THE_MOMENT + context.len();
        let mut keys: Vec<(&str, Value<'_>)> = Vec::with_capacity(count);
        keys.extend(own);
        keys.push(("aws:CurrentTime", Value::One(date)));
        keys.push(("aws:EpochTime", Value::One(seconds)));
        keys.push(("aws:ResourceAccount", Value::One(self.who.account.as_str())));
        keys.extend(context.values());
        self.work = self.work.saturating_add(work(self.who.ready.ready(), action, resource, &keys));
        if self.work > MOST_WORK {
            return None;
        }
        let query = Query {
            principal: self.who.principal,
            action,
            resource,
            resource_account: Some(self.who.account),
            context: &keys,
        };
        let outcome = self.who.ready.ready().evaluate(&query).ok()?;
        let decision_id = self.pens.decision_id()?;
        let Pens { scratch, revision, .. } = &mut *self.pens;
        let (_, revision) = revision.as_ref()?;
        let answer = Answer {
            outcome: &outcome,
            policies: self.who.ready,
            noun: self.who.noun,
            action,
            resource,
            principal: self.who.arn,
            revision,
            age: self.age,
            decision_id: decision_id.as_str(),
        };
        answer.write(out, scratch);
        self.decider.made(outcome.decision, decision_id.as_str(), || {
            line(&answer, self.caller, self.moment.view)
        });
        Some(())
    }
}

fn line(answer: &Answer<'_>, caller: &str, view: &View) -> Line {
    let Answer { outcome, policies, action, resource, principal, decision_id, .. } = answer;
    let found = outcome.determining.iter();
    let found = found.filter_map(|found| policies.ready().statement(found));
    let determining = found.map(|(attached, own)| Determining {
        policy_type: attached.policy_type,
        policy: Arc::clone(&attached.name),
        version_id: attached.version_id.clone(),
        sid: own.sid.as_ref().map(|sid| sid.value.clone()),
        index: own.index,
        pointer: own.pointer.clone(),
    });
    let mut message = String::new();
    answer.say(&mut message);
    Line {
        at: SystemTime::now(),
        decision_id: (*decision_id).to_owned(),
        caller: caller.to_owned(),
        principal: (*principal).to_owned(),
        action: (*action).to_owned(),
        resource: (*resource).to_owned(),
        judgement: Judgement {
            decision: outcome.decision,
            reason: convert::reason(outcome.reason),
            message,
            determining: determining.collect(),
        },
        revision: view.revision().clone(),
    }
}

/// An upper bound of what the general way adds up.
fn work(ready: &Ready, action: &str, resource: &str, keys: &[(&str, Value<'_>)]) -> u64 {
    let of_value = |value: &Value<'_>| match value {
        Value::One(text) => text.len(),
        Value::Many(_) | Value::Strings(_) => usize::MAX,
    };
    let longest = keys.iter().map(|(_, value)| of_value(value));
    let longest = longest.chain([action.len(), resource.len()]).max().unwrap_or_default();
    ready.weight().most(u64::try_from(longest).unwrap_or(u64::MAX))
}

/// Whether everything in the question is as it must be, and simple: an action of a service of somebody's own, on a resource of `account`.
fn is_plain(action: &str, resource: &str, context: &Pairs<'_>, own: AccountId) -> Option<()> {
    let (service, name) = action.split_once(':')?;
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_service =
        !service.is_empty() && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    // Of these, resource control policies and resource policies do not speak as of others.
    let reserved = ["iam", "sts", "countersign", "organizations"];
    let is_reserved = reserved.iter().any(|other| service.eq_ignore_ascii_case(other));
    let is_action = is_service && is_word(name) && !is_reserved;
    let mut parts = resource.strip_prefix("arn:aws:")?.splitn(4, ':');
    let of_service = parts.next()?;
    let _region = parts.next()?;
    let is_owned = parts.next()? == own.as_str();
    let is_named = !parts.next()?.is_empty() && !of_service.is_empty();
    let is_printable = !resource.bytes().any(|b| b.is_ascii_control()) && resource.is_ascii();
    let is_sound = context.iter().all(|(key, _)| is_assertable(key));
    (is_action && is_owned && is_named && is_printable && is_sound).then_some(())
}

/// Keys of `aws:` that are asserted often. The others, and request tags, go the general way.
const OFTEN: [&str; 5] = [
    "aws:SourceIp",
    "aws:SecureTransport",
    "aws:UserAgent",
    "aws:SourceVpc",
    "aws:RequestedRegion",
];

/// Whether [`countersign_evaluator::assertable`] holds, and the key is a plain one.
fn is_assertable(key: &str) -> bool {
    let Some((prefix, name)) = key.split_once(':') else { return false };
    let is_own = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_sound = !prefix.is_empty() && prefix.bytes().all(is_own) && !name.is_empty();
    let is_printable = name.bytes().all(|b| b.is_ascii_graphic());
    let reserved = ["aws", "sts", "countersign"];
    let is_reserved = reserved.iter().any(|other| prefix.eq_ignore_ascii_case(other));
    OFTEN.contains(&key) || (is_sound && is_printable && !is_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_has_the_name_that_the_general_way_gives() {
        for number in [0, 9, 10, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(DecisionId::new(number).as_str(), decider::decision_name(number));
        }
    }
}
