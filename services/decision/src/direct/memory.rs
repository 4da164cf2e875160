//! What one core remembers between questions, each thing with all that it depends on; policies stand in [`super::policies`].
//!
//! * Callers and sessions, by the whole text of their tokens. What was checked of them holds at the view and in the second in which it
//!   was checked, and is checked again at another; nothing else goes into those checks.
//!
//! All of it is bounded, and all of it can be forgotten: then the general way answers.

use std::{hint::black_box, sync::Arc};

use countersign_evaluator::{
    ContextValue, Principal, SessionFacts, Subject, always_allows,
    snapshot::{Mark, RoleEntry, UserEntry},
};
use countersign_policy::{action::Action, arn::AccountId, principal::IamArn};
use countersign_replica::{Revision, View, World};
use countersign_serve::{authn::bearer, identity::METADATA_KEY};
use countersign_token::{Expected, MAX_LEEWAY_SECONDS, SignedToken};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{
    answer::Rendered,
    message,
    policies::Policies,
    remembered::{Place, Remembered, Sought},
};
use crate::{
    check::{AUTHORIZE, AUTHORIZE_PRINCIPAL},
    decider::Decider,
    session::{self, OWN_AUDIENCE, Session},
};

/// What the processor takes from memory at once, in bytes.
const LINE: usize = 64;

/// Where a question is answered: at which view, and when.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub view: &'a View,
    /// Seconds since 1970.
    pub now: i64,
}

impl Moment<'_> {
    fn stamp(self) -> Stamp {
        Stamp { serial: self.view.serial(), now: self.now }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    serial: u64,
    now: i64,
}

/// A token that was good.
struct Good {
    signed: SignedToken,
    revision: Revision,
    checked: Stamp,
}

impl Good {
    /// Whether the token is good for `audience` at this moment: what [`session::open`] asks, but for its waiting.
    fn is_good(&self, decider: &Decider, audience: &str, moment: Moment<'_>) -> bool {
        let expected = Expected { issuer: decider.issuer(), audience, leeway: MAX_LEEWAY_SECONDS };
        let Moment { view, now } = moment;
        let has_arrived = view.revision().store_id == self.revision.store_id
            && view.revision().number >= self.revision.number;
        has_arrived
            && self.signed.check(now, &expected, view.world().keys()).is_ok()
            && session::not_revoked(&self.signed, view).is_ok()
    }
}

/// A session that asks.
pub struct Caller {
    good: Good,
    pub session: Arc<Session>,
    /// Whose it is.
    pub account: AccountId,
    /// Whether its policies allow it to ask about everything in its account; and about principals by name.
    may: (bool, bool),
}

impl Caller {
    /// As the door and the callers' own policies have it. None where the caller may not ask everything: then each question is looked at.
    fn new(decider: &Decider, signed: SignedToken, moment: Moment<'_>) -> Option<Self> {
        let (session, revision) =
            session::of_signed(decider, &signed, OWN_AUDIENCE, moment.now, moment.view)?;
        let session = Arc::new(session);
        let account = session.facts.account;
        let may = rights(moment.view.world(), &session)?;
        let good = Good { signed, revision, checked: moment.stamp() };
        Some(Self { good, session, account, may })
    }

    /// The same at another moment. False when it is nobody's any more.
    fn renew(&mut self, decider: &Decider, moment: Moment<'_>) -> bool {
        let stamp = moment.stamp();
        if self.good.checked == stamp {
            return true;
        }
        if !self.good.is_good(decider, OWN_AUDIENCE, moment) {
            return false;
        }
        if self.good.checked.serial != stamp.serial {
            let Some(may) = rights(moment.view.world(), &self.session) else { return false };
            self.may = may;
        }
        self.good.checked = stamp;
        true
    }

    /// Whether it may ask anything about sessions, or also about principals by name.
    pub fn may_ask(&self, by_name: bool) -> bool {
        let (authorize, by_principal) = self.may;
        authorize && (by_principal || !by_name)
    }

    /// Its own token, for a stream that outlives the moment.
    pub fn signed(&self) -> &SignedToken {
        &self.good.signed
    }
}

/// What a caller's policies allow it always. None when its session is over.
fn rights(world: &World, session: &Session) -> Option<(bool, bool)> {
    let snapshot = world.snapshot();
    let subject = snapshot.session_subject(&session.facts).ok()?;
    let has = |action: &str| -> Option<bool> {
        let action: Action = action.parse().ok()?;
        let mut policies = subject.policy_set();
        let account = Some(session.facts.account);
        snapshot.add_guardrails(&mut policies, &subject.principal, &action, account);
        Some(always_allows(&policies, &action))
    };
    Some((has(AUTHORIZE)?, has(AUTHORIZE_PRINCIPAL)?))
}

/// A session that is asked about.
pub struct Known {
    good: Good,
    audience: Box<str>,
    pub session: Session,
    /// Its role as it was when the rest was made of it.
    role: Arc<RoleEntry>,
    pub principal: Principal,
    pub keys: Keys,
    pub ready: Arc<Rendered>,
    mark: Mark,
}

impl Known {
    /// Asks memory for what a decision about it reads.
    pub fn fetch(&self) {
        self.keys.fetch();
        self.ready.fetch();
        black_box((self.audience.as_bytes().first(), self.session.arn.as_bytes().first()));
    }

    fn new(
        decider: &Decider,
        signed: SignedToken,
        audience: &str,
        moment: Moment<'_>,
        policies: &mut Policies,
    ) -> Option<Self> {
        let (session, revision) =
            session::of_signed(decider, &signed, audience, moment.now, moment.view)?;
        let world = moment.view.world();
        // What is made ready is the role's. A session policy, or a narrowing, is of this one token, and is weighed the general way.
        let SessionFacts { session_policies, narrowings, .. } = &session.facts;
        if !session_policies.is_empty() || !narrowings.is_empty() {
            return None;
        }
        let subject = world.snapshot().session_subject(&session.facts).ok()?;
        let role = world.snapshot().role(session.facts.account, &session.facts.role_name)?;
        let ready = policies.of_role(world, role)?;
        let keys = Keys::new(&subject)?;
        Some(Self {
            good: Good { signed, revision, checked: moment.stamp() },
            audience: audience.into(),
            role: Arc::clone(role),
            principal: subject.principal,
            keys,
            ready,
            mark: world.snapshot().policies_mark().clone(),
            session,
        })
    }

    /// The same at another moment. False when it must be made anew, by the general way or here.
    fn renew(
        &mut self,
        decider: &Decider,
        audience: &str,
        moment: Moment<'_>,
        policies: &mut Policies,
    ) -> bool {
        if *self.audience != *audience {
            return false;
        }
        let stamp = moment.stamp();
        if self.good.checked == stamp {
            return true;
        }
        if !self.good.is_good(decider, audience, moment) {
            return false;
        }
        let world = moment.view.world();
        let facts = &self.session.facts;
        // The same record: the role is there, with the same unique id, the same tags, and the same sessions revoked.
        let role = world.snapshot().role(facts.account, &facts.role_name);
        if !role.is_some_and(|role| Arc::ptr_eq(role, &self.role)) {
            return false;
        }
        if self.mark != *world.snapshot().policies_mark() {
            let Some(ready) = policies.of_role(world, &self.role) else { return false };
            self.ready = ready;
            self.mark = world.snapshot().policies_mark().clone();
        }
        self.good.checked = stamp;
        true
    }
}

/// A user or a role that is asked about by its ARN.
pub struct Named {
    pub account: AccountId,
    pub name: Box<str>,
    pub principal: Principal,
    pub keys: Keys,
    pub ready: Arc<Rendered>,
    mark: Mark,
    /// The record that the rest was made of.
    entry: Entry,
    /// Of the last view at which that was its record.
    serial: u64,
}

enum Entry {
    User(Arc<UserEntry>),
    Role(Arc<RoleEntry>),
}

impl Entry {
    /// Of exactly this ARN: another path is another principal.
    fn of(arn: &IamArn, world: &World) -> Option<Self> {
        match arn {
            IamArn::User { account, name, .. } => {
                let user = world.snapshot().user(*account, name)?;
                (user.arn() == *arn).then(|| Self::User(Arc::clone(user)))
            }
            IamArn::Role { account, name, .. } => {
                let role = world.snapshot().role(*account, name)?;
                (role.arn() == *arn).then(|| Self::Role(Arc::clone(role)))
            }
            IamArn::Root { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => None,
        }
    }

    /// Whether the world has this very record.
    fn is_held(&self, world: &World) -> bool {
        match self {
            Self::User(user) => world
                .snapshot()
                .user(user.account, &user.name)
                .is_some_and(|held| Arc::ptr_eq(held, user)),
            Self::Role(role) => world
                .snapshot()
                .role(role.account, &role.name)
                .is_some_and(|held| Arc::ptr_eq(held, role)),
        }
    }

    fn subject(&self, world: &World) -> Option<Subject> {
        match self {
            Self::User(user) => world.snapshot().user_subject(&user.arn()).ok(),
            Self::Role(role) => world.snapshot().role_subject(&role.arn()).ok(),
        }
    }

    fn ready(&self, world: &World, policies: &mut Policies) -> Option<Arc<Rendered>> {
        match self {
            Self::User(user) => policies.of_user(world, user),
            Self::Role(role) => policies.of_role(world, role),
        }
    }
}

impl Named {
    /// Asks memory for what a decision about it reads.
    pub fn fetch(&self) {
        self.keys.fetch();
        self.ready.fetch();
    }

    fn new(text: &str, view: &View, policies: &mut Policies) -> Option<Self> {
        let world = view.world();
        let arn: IamArn = text.parse().ok()?;
        // Other partitions' principals are refused.
        if !text.starts_with("arn:aws:") {
            return None;
        }
        let entry = Entry::of(&arn, world)?;
        let subject = entry.subject(world)?;
        let name = match &entry {
            Entry::User(user) => (*user.name).into(),
            Entry::Role(role) => role.name.as_str().into(),
        };
        Some(Self {
            account: arn.account(),
            name,
            keys: Keys::new(&subject)?,
            principal: subject.principal,
            ready: entry.ready(world, policies)?,
            mark: world.snapshot().policies_mark().clone(),
            entry,
            serial: view.serial(),
        })
    }

    /// The same at another view. False when it must be made anew.
    fn renew(&mut self, view: &View, policies: &mut Policies) -> bool {
        if self.serial == view.serial() {
            return true;
        }
        let world = view.world();
        if !self.entry.is_held(world) {
            return false;
        }
        if self.mark != *world.snapshot().policies_mark() {
            let Some(ready) = self.entry.ready(world, policies) else { return false };
            self.ready = ready;
            self.mark = world.snapshot().policies_mark().clone();
        }
        self.serial = view.serial();
        true
    }

    /// `user `, or `role `.
    pub fn kind(&self) -> &'static str {
        match &self.entry {
            Entry::User(_) => "user ",
            Entry::Role(_) => "role ",
        }
    }
}

/// A principal's condition keys and their single values, side by side in memory: all of them are looked at in every decision.
pub struct Keys {
    texts: Box<str>,
    /// Where each key, and each value after it, ends.
    ends: Box<[u16]>,
}

impl Keys {
    /// None for a set of values, and for more than there is room for: a principal has at most 50 tags.
    fn new(subject: &Subject) -> Option<Self> {
        let (mut texts, mut ends) = (String::new(), Vec::new());
        for (key, value) in subject.keys.iter() {
            let ContextValue::One(value) = value else { return None };
            for text in [key, value] {
                texts.push_str(text);
                ends.push(u16::try_from(texts.len()).ok()?);
            }
        }
        Some(Self { texts: texts.into(), ends: ends.into() })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Asks memory for all of them.
    fn fetch(&self) {
        black_box(self.ends.first());
        for byte in self.texts.as_bytes().iter().step_by(LINE) {
            black_box(*byte);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut from = 0;
        self.ends.as_chunks::<2>().0.iter().filter_map(move |[key, value]| {
            let (middle, end) = (usize::from(*key), usize::from(*value));
            let pair = (self.texts.get(from..middle)?, self.texts.get(middle..end)?);
            from = end;
            Some(pair)
        })
    }
}

/// Whether they are one value, without looking at it.
fn is_same(held: &HeaderValue, shown: &HeaderValue) -> bool {
    std::ptr::eq(held.as_bytes(), shown.as_bytes())
}

/// Whom a question is about, and where that is looked for.
#[derive(Clone, Copy)]
pub enum Whom<'a> {
    Token(Sought<'a>),
    Principal(Sought<'a>),
}

impl Whom<'_> {
    /// Whether it is this one: the very text, in its place.
    pub fn is(&self, subject: message::Subject<'_>) -> bool {
        match (self, subject) {
            (Self::Token(sought), message::Subject::Token(text))
            | (Self::Principal(sought), message::Subject::Principal(text)) => {
                std::ptr::eq(sought.text, text)
            }
            (Self::Token(_), message::Subject::Principal(_))
            | (Self::Principal(_), message::Subject::Token(_)) => false,
        }
    }
}

/// All of it.
#[derive(Default)]
pub struct Memory {
    pub policies: Policies,
    callers: Remembered<Caller>,
    sessions: Remembered<Known>,
    named: Remembered<Named>,
    /// The caller who asked last. The value is held, so that another one cannot stand at its place in memory.
    /// INVARIANT: nobody was put among the callers since, so that the place is still this caller's.
    last: Option<(HeaderValue, Place)>,
}

impl Memory {
    /// The caller of this token, where its signature was seen before and nothing has changed for the worse.
    pub fn caller(
        &mut self,
        decider: &Decider,
        headers: &HeaderMap,
        moment: Moment<'_>,
    ) -> Option<&Caller> {
        // One of two identities would have to be ignored.
        if headers.contains_key(METADATA_KEY) {
            return None;
        }
        let shown = headers.get(AUTHORIZATION)?;
        let is_alone = headers.get_all(AUTHORIZATION).iter().nth(1).is_none();
        let callers = &mut self.callers;
        // Of a connection's calls, the server hands out one and the same value.
        let last = self.last.as_ref().filter(|(value, _)| is_alone && is_same(value, shown));
        if let Some(place) = last.map(|(_, place)| *place)
            && callers.get_mut(place).is_some_and(|caller| caller.renew(decider, moment))
        {
            return callers.get(place);
        }
        self.last = None;
        let token = bearer(headers).ok()??;
        let sought = callers.seek(token);
        let found = callers.find(sought);
        let stands = found
            .and_then(|place| callers.get_mut(place))
            .is_some_and(|caller| caller.renew(decider, moment));
        let place = match found {
            Some(place) if stands => place,
            Some(_) | None => {
                if let Some(place) = found {
                    callers.forget(place);
                }
                let signed = decider.signatures().recall(token)?;
                callers.put(sought, Caller::new(decider, signed, moment)?)?
            }
        };
        self.last = Some((shown.clone(), place));
        callers.get(place)
    }

    /// Begins to look for a subject: asks memory for the place where it would be.
    pub fn seek<'a>(&self, subject: message::Subject<'a>) -> Whom<'a> {
        match subject {
            message::Subject::Token(text) => Whom::Token(self.sessions.seek(text)),
            message::Subject::Principal(text) => Whom::Principal(self.named.seek(text)),
        }
    }

    /// The second step: asks memory for what stands there. Whoever looks for many takes each step with all of them.
    pub fn approach(&self, whom: Whom<'_>) {
        match whom {
            Whom::Token(sought) => {
                let of = |(text, known): (&str, &Known)| (last(text), known.good.checked.now);
                black_box(self.sessions.likely(sought).map(of));
            }
            Whom::Principal(sought) => {
                let of = |(text, named): (&str, &Named)| (last(text), named.serial);
                black_box(self.named.likely(sought).map(of));
            }
        }
    }

    /// The third step: asks memory for what that points to.
    pub fn fetch(&self, whom: Whom<'_>) {
        match whom {
            Whom::Token(sought) => {
                if let Some((_, known)) = self.sessions.likely(sought) {
                    known.fetch();
                }
            }
            Whom::Principal(sought) => {
                if let Some((_, named)) = self.named.likely(sought) {
                    named.fetch();
                }
            }
        }
    }

    /// The last step: asks memory for the policies themselves.
    pub fn fetch_policies(&self, whom: Whom<'_>) {
        let ready = match whom {
            Whom::Token(sought) => self.sessions.likely(sought).map(|(_, known)| &known.ready),
            Whom::Principal(sought) => self.named.likely(sought).map(|(_, named)| &named.ready),
        };
        if let Some(rendered) = ready {
            rendered.ready().fetch_policies();
        }
    }

    /// The session of this token, in the same way as a caller's.
    pub fn session(
        &mut self,
        decider: &Decider,
        token: Sought<'_>,
        audience: &str,
        moment: Moment<'_>,
    ) -> Option<&Known> {
        let Self { policies, sessions, callers: _, named: _, last: _ } = self;
        if let Some(place) = sessions.find(token) {
            if sessions.get_mut(place)?.renew(decider, audience, moment, policies) {
                return sessions.get(place);
            }
            sessions.forget(place);
        }
        let signed = decider.signatures().recall(token.text)?;
        let known = Known::new(decider, signed, audience, moment, policies)?;
        let place = sessions.put(token, known)?;
        sessions.get(place)
    }

    /// The user or role of exactly this ARN.
    pub fn named(&mut self, arn: Sought<'_>, view: &View) -> Option<&Named> {
        let Self { policies, named, callers: _, sessions: _, last: _ } = self;
        if let Some(place) = named.find(arn) {
            if named.get_mut(place)?.renew(view, policies) {
                return named.get(place);
            }
            named.forget(place);
        }
        let place = named.put(arn, Named::new(arn.text, view, policies)?)?;
        named.get(place)
    }
}

fn last(text: &str) -> Option<u8> {
    text.as_bytes().last().copied()
}
