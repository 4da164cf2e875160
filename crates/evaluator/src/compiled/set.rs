//! The policies of one type that one principal has.
//!
//! Policies are shared with all who have them. A set of many policies also has an index of its own over all their statements.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use super::index::Index;
use super::program::{CompiledPolicy, Op, Span, Statement};
use super::request::Prepared;
use super::signature::Signature;
use super::statement::{Applies, Role, applies};

/// Fewer policies are asked one by one.
const MANY_POLICIES: usize = 32;

/// So many lie in the set itself: an identity's ten managed policies, and two inline ones.
const FEW_POLICIES: usize = FIRST_OF_MORE as usize;
const FIRST_OF_MORE: u32 = 12;

/// A union of policies, in their order.
///
/// The signatures of the first policies lie side by side in the set: most policies have nothing to say to most requests, and are
/// passed over without being looked for in memory.
#[derive(Debug)]
pub struct CompiledSet {
    signatures: [Signature; FEW_POLICIES],
    few: [Option<Arc<CompiledPolicy>>; FEW_POLICIES],
    /// Those after the few.
    more: Box<[Member]>,
    combined: Option<Box<Combined>>,
}

#[derive(Debug)]
struct Member {
    signature: Signature,
    policy: Arc<CompiledPolicy>,
}

#[derive(Debug)]
struct Combined {
    index: Index,
    /// One of each statement.
    units: Box<[Known]>,
    /// Statements that are equal to a unit, by its place; in order.
    repeats: Box<[(u32, Unit)]>,
}

/// A statement, with what decides about it near at hand.
#[derive(Debug)]
struct Known {
    signature: Signature,
    policy: Arc<CompiledPolicy>,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    policy: u32,
    statement: u32,
}

impl Default for CompiledSet {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl CompiledSet {
    #[must_use]
    pub fn new(policies: Vec<Arc<CompiledPolicy>>) -> Self {
        let combined =
            (policies.len() >= MANY_POLICIES).then(|| Box::new(Combined::new(&policies)));
        let (mut signatures, mut few) = ([Signature::NOTHING; FEW_POLICIES], [const { None }; _]);
        let mut policies = policies.into_iter();
        let slots = signatures.iter_mut().zip(&mut few);
        for ((signature, slot), policy) in slots.zip(policies.by_ref()) {
            *signature = policy.signature();
            *slot = Some(policy);
        }
        let more =
            policies.map(|policy| Member { signature: policy.signature(), policy }).collect();
        Self { signatures, few, more, combined }
    }

    /// The policies, in the order in which [`super::StatementRef::policy`] counts them.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<CompiledPolicy>> {
        self.few.iter().flatten().chain(self.more.iter().map(|member| &member.policy))
    }

    /// Asks memory for all of the set at once, while the request is being prepared. What is read is not used.
    pub(crate) fn fetch(&self) {
        let [a, _, _, _, b, _, _, _, c, ..] = &self.signatures;
        let [first, _, _, _, _, _, last, ..] = &self.few;
        let known = (first.is_some(), last.is_some(), self.combined.is_some());
        black_box((a.actions, b.actions, c.actions, known));
    }

    /// Asks memory for the first policies themselves: for whoever has the time until they arrive.
    pub(crate) fn fetch_policies(&self) {
        self.few.iter().flatten().for_each(|policy| policy.approach());
    }

    /// Calls `visit` with the place of every statement that applies: its policy's, and its own.
    pub(crate) fn visit(
        &self,
        request: &Prepared<'_>,
        role: &Role<'_>,
        mut visit: impl FnMut(u32, u32, Applies),
    ) {
        if let Some(combined) = &self.combined
            && combined.visit(request, role, &mut visit).is_ok()
        {
            return;
        }
        // All are asked before any is looked at, so that the processor need not guess.
        let asked = (0_u32..).zip(&self.signatures);
        let mut concerned = asked.fold(0_u32, |all, (place, own)| {
            all | u32::from(own.may_concern(&request.signature)) << place
        });
        let mut coming = concerned;
        while coming != 0 {
            if let Some(Some(policy)) = self.few.get(coming.trailing_zeros() as usize) {
                policy.fetch();
            }
            coming &= coming - 1;
        }
        while concerned != 0 {
            let place = concerned.trailing_zeros();
            concerned &= concerned - 1;
            if let Some(Some(policy)) = self.few.get(place as usize) {
                visit_policy(policy, request, role, |statement, found| {
                    visit(place, statement, found);
                });
            }
        }
        for (place, member) in (FIRST_OF_MORE..).zip(&self.more) {
            if member.signature.may_concern(&request.signature) {
                visit_policy(&member.policy, request, role, |statement, found| {
                    visit(place, statement, found);
                });
            }
        }
    }
}

/// Calls `visit` with the place of every statement that applies, in order.
pub(crate) fn visit_policy(
    policy: &CompiledPolicy,
    request: &Prepared<'_>,
    role: &Role<'_>,
    mut visit: impl FnMut(u32, Applies),
) {
    let mut ask = |place: u32, statement: &Statement| {
        if let Some(found) = applies(policy, statement, request, role) {
            visit(place, found);
        }
    };
    if let Some(index) = &policy.index {
        let statement = |unit: u32| policy.statements().get(unit as usize);
        let may_concern = |unit| {
            statement(unit)
                .is_some_and(|statement| statement.signature.may_concern(&request.signature))
        };
        let visited = index.visit(request, may_concern, |unit| {
            if let Some(statement) = statement(unit) {
                ask(unit, statement);
            }
        });
        if visited.is_ok() {
            return;
        }
    }
    for (place, statement) in (0..).zip(policy.statements()) {
        ask(place, statement);
    }
}

impl Combined {
    fn new(policies: &[Arc<CompiledPolicy>]) -> Self {
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        let (mut units, mut repeats) = (Vec::new(), Vec::new());
        for (place, policy) in (0..).zip(policies) {
            for (statement, own) in (0..).zip(policy.statements()) {
                let unit = Unit { policy: place, statement };
                let next = u32::try_from(units.len()).unwrap_or(u32::MAX);
                let first = *known.entry(identity(policy, own)).or_insert(next);
                if first == next {
                    let policy = Arc::clone(policy);
                    units.push(Known { signature: own.signature, policy, unit });
                } else {
                    repeats.push((first, unit))
                }
            }
        }
        repeats.sort_unstable();
        let found =
            units.iter().filter_map(|known: &Known| Some((&*known.policy, known.statement()?)));
        let index = Index::new(found);
        Self { index, units: units.into_boxed_slice(), repeats: repeats.into_boxed_slice() }
    }

    fn visit(
        &self,
        request: &Prepared<'_>,
        role: &Role<'_>,
        visit: &mut impl FnMut(u32, u32, Applies),
    ) -> Result<(), super::index::Overflow> {
        let unit = |place: u32| self.units.get(place as usize);
        let may_concern = |place| {
            unit(place).is_some_and(|known| known.signature.may_concern(&request.signature))
        };
        self.index.visit(request, may_concern, |place| {
            let Some(known) = unit(place) else { return };
            let Some(found) = known.applies(request, role) else { return };
            let unit = known.unit;
            visit(unit.policy, unit.statement, found);
            let first = self.repeats.partition_point(|(other, _)| *other < place);
            let equal = self.repeats.iter().skip(first).take_while(|(other, _)| *other == place);
            for (_, unit) in equal {
                visit(unit.policy, unit.statement, found);
            }
        })
    }
}

impl Known {
    fn statement(&self) -> Option<&Statement> {
        self.policy.statements().get(self.unit.statement as usize)
    }

    fn applies(&self, request: &Prepared<'_>, role: &Role<'_>) -> Option<Applies> {
        applies(&self.policy, self.statement()?, request, role)
    }
}

/// What a statement says, spelt out: two that say the same have the same. A statement with principals is only equal to itself,
/// as other policies may have resolved them otherwise.
fn identity(policy: &CompiledPolicy, statement: &Statement) -> Vec<u8> {
    let mut bytes = format!(
        "{:?} {} {:?}",
        statement.effect,
        statement.flags,
        policy.principals(statement).map(|_| (std::ptr::from_ref(policy), statement)),
    )
    .into_bytes();
    let mut text = |span: Span| {
        bytes.extend_from_slice(&span.len.to_le_bytes());
        bytes.extend_from_slice(policy.bytes(span));
    };
    let mut steps = Vec::new();
    let own = policy.slice(statement.actions, statement.end);
    for op in own {
        // The step without its places in the policy, which are the policy's own.
        let shape = match op {
            Op::Literal(span) | Op::Number(span) | Op::ArnPrefix(span) => {
                text(*span);
                std::mem::discriminant(op)
            }
            Op::Variable { default, key } => {
                text(*key);
                if let Some(default) = policy.default_of(*default) {
                    let len = u32::try_from(default.len()).unwrap_or(u32::MAX);
                    text(Span { start: 0, len: 0 });
                    steps.push(format!("default {len} {default:?}"));
                }
                std::mem::discriminant(op)
            }
            Op::Key { key, .. } => {
                text(*key);
                std::mem::discriminant(op)
            }
            Op::One
            | Op::Many
            | Op::Glob { .. }
            | Op::AnyResource
            | Op::Unclear
            | Op::ArnParts(_)
            | Op::Condition { .. }
            | Op::Bool(_)
            | Op::NetworkV4 { .. } => {
                steps.push(format!("{op:?}"));
                std::mem::discriminant(op)
            }
            Op::Date(place) => {
                let date =
                    policy.extras.as_ref().and_then(|extras| extras.dates.get(*place as usize));
                steps.push(format!("{date:?}"));
                std::mem::discriminant(op)
            }
            Op::Network(place) => {
                let network =
                    policy.extras.as_ref().and_then(|extras| extras.networks.get(*place as usize));
                steps.push(format!("{network:?}"));
                std::mem::discriminant(op)
            }
        };
        steps.push(format!("{shape:?}"));
    }
    bytes.extend_from_slice(steps.join(" ").as_bytes());
    bytes.extend_from_slice(&statement.literal_actions.to_le_bytes());
    bytes
}
