//! The compiled engine against the reference: the same verdict on generated worlds, and whatever the order of statements.
//!
//! `COUNTERSIGN_CASES` says how many cases; `COUNTERSIGN_SEED` where they begin.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod generated;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use countersign_evaluator::compiled::{
    self, CompiledAttached, CompiledSet, Layer, MAX_DETERMINING, Outcome, Policies, Program, Query,
    Value,
};
use countersign_evaluator::simulate::Case;
use countersign_evaluator::{
    Attached, ContextValue, Decision, PolicySet, PolicyType, Reason, Request, ResourceArn,
    reference,
};
use generated::{Rng, World, request};

#[expect(
    clippy::disallowed_methods,
    reason = "the number of cases is chosen from outside; nothing is decided by it"
)]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A set as [`compiled::evaluate`] takes it.
struct Owned {
    identity: CompiledSet,
    boundary: Option<CompiledSet>,
    session: Option<CompiledSet>,
    narrowings: Vec<CompiledSet>,
    resource: Option<(Attached, Program)>,
    scps: Vec<CompiledSet>,
    rcps: Vec<Vec<(Attached, Program)>>,
    missing: bool,
}

fn with_program(attached: &Attached) -> (Attached, Program) {
    (attached.clone(), Program::new(Arc::clone(&attached.document)))
}

fn compiled_attached((attached, program): &(Attached, Program)) -> CompiledAttached<'_> {
    CompiledAttached {
        policy_type: attached.policy_type,
        policy: &program.policy,
        resolved: attached.resolved.as_deref(),
    }
}

impl Owned {
    fn new(set: &PolicySet) -> Self {
        let compiled = |list: &[Attached]| {
            CompiledSet::new(list.iter().map(|a| with_program(a).1.policy).collect())
        };
        Self {
            identity: compiled(&set.identity),
            boundary: set.boundary.as_deref().map(compiled),
            session: set.session.as_deref().map(compiled),
            narrowings: set.narrowings.iter().map(|one| compiled(one)).collect(),
            resource: set.resource.as_ref().map(with_program),
            scps: set.scps.iter().map(|level| compiled(level)).collect(),
            rcps: set.rcps.iter().map(|level| level.iter().map(with_program).collect()).collect(),
            missing: !set.missing.is_empty(),
        }
    }

    fn evaluate(&self, request: &Request) -> Outcome {
        let scps: Vec<Layer<'_>> =
            self.scps.iter().map(|set| Layer::Set(PolicyType::Scp, set)).collect();
        let rcps: Vec<Vec<CompiledAttached<'_>>> =
            self.rcps.iter().map(|level| level.iter().map(compiled_attached).collect()).collect();
        let rcps: Vec<Layer<'_>> = rcps.iter().map(|level| Layer::Attached(level)).collect();
        let narrowings: Vec<Layer<'_>> =
            self.narrowings.iter().map(|set| Layer::Set(PolicyType::Session, set)).collect();
        let policies = Policies {
            identity: Layer::Set(PolicyType::Identity, &self.identity),
            boundary: self.boundary.as_ref().map(|set| Layer::Set(PolicyType::Boundary, set)),
            session: self.session.as_ref().map(|set| Layer::Set(PolicyType::Session, set)),
            narrowings: &narrowings,
            resource: self.resource.as_ref().map(compiled_attached),
            scps: &scps,
            rcps: &rcps,
            missing: self.missing,
        };
        let sets: Vec<Vec<&str>> = request
            .context
            .iter()
            .map(|(_, value)| match value {
                ContextValue::One(_) => Vec::new(),
                ContextValue::Many(texts) => texts.iter().map(String::as_str).collect(),
            })
            .collect();
        let context: Vec<(&str, Value<'_>)> = request
            .context
            .iter()
            .zip(&sets)
            .map(|((key, value), set)| match value {
                ContextValue::One(text) => (key, Value::One(text)),
                ContextValue::Many(_) => (key, Value::Many(set)),
            })
            .collect();
        let resource = request.resource.arn.to_string();
        let query = Query {
            principal: &request.principal,
            action: request.action.as_str(),
            resource: &resource,
            resource_account: request.resource.account,
            context: &context,
        };
        compiled::evaluate(&query, &policies).unwrap()
    }
}

#[derive(Default)]
struct Seen {
    cases: u64,
    decisions: [u64; 3],
    reasons: std::collections::HashSet<Reason>,
}

fn check(world: &World, seen: &mut Seen, rng: &mut Rng, requests: usize, seed: u64) {
    let set = world.policy_set();
    let mut with_programs = set.clone();
    with_programs.compile();
    let owned = Owned::new(&set);
    let shuffled = world.shuffled(rng).policy_set();
    for _ in 0..requests {
        let request = request(rng);
        let expected = reference::decide(&request, &set);
        let context = || format!("seed {seed}\n{request:?}\n{set:#?}");
        assert_eq!(compiled::decide(&request, &with_programs), expected, "{}", context());
        let other = reference::decide(&request, &shuffled);
        let in_short =
            |v: &countersign_evaluator::Verdict| (v.decision, v.reason, v.determining.len());
        assert_eq!(in_short(&other), in_short(&expected), "shuffled, {}", context());
        if request.context.len() <= compiled::MAX_KEYS {
            let outcome = owned.evaluate(&request);
            let count = outcome.determining.count();
            assert_eq!(
                (outcome.decision, outcome.reason, count),
                in_short(&expected),
                "{}",
                context()
            );
            let mut found: Vec<(PolicyType, usize)> = outcome
                .determining
                .iter()
                .map(|found| (found.policy_type, found.statement as usize))
                .collect();
            assert_eq!(found.len(), count.min(MAX_DETERMINING));
            let mut wanted: Vec<(PolicyType, usize)> =
                expected.determining.iter().map(|d| (d.policy_type, d.index)).collect();
            if count <= MAX_DETERMINING {
                found.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(found, wanted, "{}", context());
            } else {
                assert!(found.iter().all(|one| wanted.contains(one)), "{}", context());
            }
        }
        seen.cases += 1;
        seen.decisions[match expected.decision {
            Decision::Allow => 0,
            Decision::ExplicitDeny => 1,
            Decision::ImplicitDeny => 2,
        }] += 1;
        seen.reasons.insert(expected.reason);
    }
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.cases += other.cases;
        for (own, others) in self.decisions.iter_mut().zip(other.decisions) {
            *own += others;
        }
        self.reasons.extend(other.reasons);
    }
}

const THREADS: u64 = 2;
/// Requests to a world.
const REQUESTS: usize = 20;

/// Checks worlds until there were as many cases; worlds are told by their seeds, which the threads take in turns.
fn check_worlds(
    name: &str,
    cases: u64,
    first_seed: u64,
    world: impl Fn(&mut Rng) -> World + Sync,
) -> Seen {
    let done = AtomicU64::new(0);
    let work = |thread: u64| {
        let mut seen = Seen::default();
        let mut seed = first_seed + thread;
        while seen.cases < cases.div_ceil(THREADS) {
            let mut rng = Rng(seed);
            let world = world(&mut rng);
            check(&world, &mut seen, &mut rng, REQUESTS, seed);
            seed += THREADS;
            let total = done.fetch_add(REQUESTS as u64, Relaxed) + REQUESTS as u64;
            if total % 1_000_000 < REQUESTS as u64 {
                println!("{name}: {total} of {cases} cases");
            }
        }
        seen
    };
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        // A thread that found a difference has panicked, and says which case it was.
        threads.into_iter().for_each(|thread| seen.add(thread.join().unwrap()));
    });
    let [allowed, explicitly, implicitly] = seen.decisions;
    println!(
        "{name}: {allowed} allowed, {explicitly} explicitly denied, {implicitly} implicitly denied"
    );
    println!("{name}: {} cases, 0 differences", seen.cases);
    seen
}

#[test]
fn compiled_is_the_reference_whatever_the_order() {
    let cases = number("COUNTERSIGN_CASES", 100_000);
    let seen = check_worlds("worlds", cases, number("COUNTERSIGN_SEED", 0), World::new);
    if cases >= 10_000 {
        // The generator reaches every reason there is, and each decision often.
        assert_eq!(seen.reasons.len(), 19, "{:?}", seen.reasons);
        assert!(seen.decisions.iter().all(|count| *count > cases / 50), "{:?}", seen.decisions);
    }
}

/// Worlds of so many policies and statements that indexes find them.
#[test]
fn indexed_sets_are_the_reference() {
    let cases = number("COUNTERSIGN_CASES", 100_000) / 50;
    let seen = check_worlds("large worlds", cases, 1 << 32, World::large);
    assert!(seen.decisions.iter().all(|count| *count > cases / 100), "{:?}", seen.decisions);
}

#[test]
fn conformance() {
    for (file, count) in [("rules.jsonl", 163), ("sample.jsonl", 1200)] {
        let path = format!("{}/../../tests/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap();
        let mut cases = 0;
        for line in text.lines() {
            let case = Case::parse(line).unwrap();
            let verdict = compiled::decide(case.request(), case.policies());
            assert_eq!(Some(verdict.decision), case.expect(), "{}", case.id());
            assert_eq!(verdict, case.decide(), "{}", case.id());
            let outcome = Owned::new(case.policies()).evaluate(case.request());
            let found = (outcome.decision, outcome.reason, outcome.determining.count());
            let expected = (verdict.decision, verdict.reason, verdict.determining.len());
            assert_eq!(found, expected, "{}", case.id());
            cases += 1;
        }
        assert_eq!(cases, count);
    }
}

#[test]
fn a_query_that_cannot_be_read_is_refused() {
    use countersign_evaluator::compiled::InvalidQuery as E;
    let arn = "arn:aws:iam::111122223333:user/alice".parse().unwrap();
    let principal = countersign_evaluator::Principal::User { arn, unique_id: None };
    let check = |action: &str, resource: &str, keys: &[&str], expected: Option<E>| {
        assert!(expected.is_none() || resource == "*" || resource.parse::<ResourceArn>().is_err());
        let context: Vec<(&str, Value<'_>)> =
            keys.iter().map(|key| (*key, Value::One("x"))).collect();
        let query = Query {
            principal: &principal,
            action,
            resource,
            resource_account: None,
            context: &context,
        };
        let found = compiled::evaluate(&query, &Policies::default());
        match expected {
            Some(expected) => assert_eq!(found, Err(expected), "{action} {resource}"),
            None => assert_eq!(found.unwrap().decision, Decision::ImplicitDeny),
        }
    };
    check("orders:Get", "*", &[], None);
    check("orders:Get", "arn:aws:s3:::b", &["a:k", "a:l"], None);
    for action in
        ["orders:Get*", "*", "", "orders:", ":Get", "orders", "a:b:c", "o rders:Get", "é:a"]
    {
        check(action, "*", &[], Some(E::Action));
    }
    check(&format!("orders:{}", "a".repeat(121)), "*", &[], None);
    check(&format!("orders:{}", "a".repeat(122)), "*", &[], Some(E::ActionTooLong));
    for resource in ["", "arn:aws:s3::b", "Arn:aws:s3:::b", "arn:aws:s3:::", "arn::s3:::b", "**"] {
        check("orders:Get", resource, &[], Some(E::Resource));
    }
    check("orders:Get", "*", &["a:k", "b:k", "A:K"], Some(E::DuplicateKey));
    let keys: Vec<String> = (0..257).map(|i| format!("a:k{i}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    check("orders:Get", "*", &keys, Some(E::TooManyKeys));
    keys.pop();
    check("orders:Get", "*", &keys, None);
    keys[7] = "A:K200";
    check("orders:Get", "*", &keys, Some(E::DuplicateKey));
}

/// Texts and patterns so long that many places are tried at a time, in and outside ASCII.
#[test]
fn long_patterns_match_as_the_model_says() {
    let mut rng = Rng(0x10_46);
    let mut found = [0; 2];
    for _ in 0..number("COUNTERSIGN_CASES", 100_000) / 50 {
        let letters: &[&str] =
            if rng.one_in(2) { &["a", "a", "b"] } else { &["a", "é", "ü", "𝄞"] };
        let value: String = (0..rng.below(40)).map(|_| rng.pick(letters)).collect();
        let (mut pattern, mut text) = (String::new(), String::new());
        for _ in 0..rng.below(120) {
            match rng.below(24) {
                0 => {
                    pattern.push('*');
                    let most = if rng.one_in(8) { 2_000 } else { 100 };
                    (0..rng.below(most)).for_each(|_| text.push_str(rng.pick(letters)));
                }
                1..4 => {
                    pattern.push('?');
                    text.push_str(rng.pick(letters));
                }
                4 => {
                    pattern.push_str("${a:v}");
                    text.push_str(&value);
                }
                _ => {
                    let letter = rng.pick(letters);
                    pattern.push_str(letter);
                    text.push_str(letter);
                }
            }
        }
        if rng.one_in(2) {
            // One letter elsewhere: most patterns then do not match, and show it late.
            let at = rng.below(text.chars().count() + 1);
            text = text.chars().take(at).chain(['b']).chain(text.chars().skip(at + 1)).collect();
        }
        found[usize::from(check_pattern(&pattern, &text, &value))] += 1;
    }
    assert!(found.iter().all(|count| *count > 100), "{found:?}");
    // What comes after stands before: the search goes on where the piece was found, far in the text.
    for letter in ["c", "é"] {
        let (piece, text) = (format!("{letter}?").repeat(10), format!("{letter}a").repeat(10));
        let far = format!("{}zz{}", "a".repeat(700), "a".repeat(800));
        assert!(!check_pattern(&format!("*{piece}*zz*"), &format!("{far}{text}a"), ""));
        assert!(check_pattern(&format!("*{piece}*zz*"), &format!("{far}{text}zz"), ""));
        assert!(!check_pattern(&format!("*{piece}*zz*"), &format!("{far}{text}z"), ""));
    }
}

/// Whether the pattern matches, which both must say alike. `${a:v}` in it is `value`.
fn check_pattern(pattern: &str, text: &str, value: &str) -> bool {
    use countersign_policy::document::Version;
    use countersign_policy::parse::parse;
    use countersign_policy::pattern::{Filled, Looked, Template};
    let arn = "arn:aws:iam::111122223333:user/alice".parse().unwrap();
    let principal = countersign_evaluator::Principal::User { arn, unique_id: None };
    let filled = Template::new(pattern, Version::V2012_10_17).pattern(|_| Looked::One(value));
    let Filled::Glob(glob) = filled else { panic!("{pattern}") };
    let expected = glob.matches(text);
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{"StringLike":{{"a:k":"{pattern}"}}}}}}]}}"#
    );
    let set = CompiledSet::new(vec![Arc::new(compiled::compile(&parse(&document).unwrap()))]);
    let context = [("a:k", Value::One(text)), ("a:v", Value::One(value))];
    let query = Query {
        principal: &principal,
        action: "orders:Get",
        resource: "*",
        resource_account: None,
        context: &context,
    };
    let identity = Layer::Set(PolicyType::Identity, &set);
    let policies = Policies { identity, ..Policies::default() };
    let outcome = compiled::evaluate(&query, &policies).unwrap();
    assert_eq!(outcome.decision == Decision::Allow, expected, "{pattern} {text} {value}");
    expected
}
