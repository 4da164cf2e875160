//! A second opinion: the condition-free part of IAM's language, translated to Cedar, on random worlds.
//!
//! Each policy (identity, boundary, session, each control policy) becomes a Cedar policy set of its own. Cedar denies where one of
//! its policies forbids, and where none permits; so a request is allowed if every set allows it, and explicitly denied if a set
//! that has something to say forbids. Worlds hold no pattern on whose meaning IAM's own pages disagree (a wildcard in a resource's
//! type), and no `?`, which Cedar's `like` does not have. `COUNTERSIGN_CASES` says how many requests; 20,000 by default.

use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as Cedar, Entities, EntityUid, PolicySet as CedarPolicies,
    Request as CedarRequest, RestrictedExpression,
};
use countersign_benches::engines::ours::{attached, principal};
use countersign_benches::rng::SplitMix64;
use countersign_evaluator::{
    Context as Keys, Decision, PolicySet, PolicyType, Request, Resource, compiled, reference,
};

const SERVICES: [&str; 3] = ["order", "cart", "Stock"];
const NAMES: [&str; 6] = ["GetOrder", "ListOrders", "getorders", "PutOrder", "Tag", "GetTag"];
const NAME_PATTERNS: [&str; 8] =
    ["*", "Get*", "*Order", "*Or*", "GetOrder", "TAG", "P*r", "G*t*r*"];
const PARTS: [(&str, &[&str], &[&str]); 5] = [
    ("partition", &["aws", "cs"], &["aws", "*", "c*"]),
    ("service", &["order", "stock"], &["order", "*", "*o*"]),
    ("region", &["", "eu-1", "eu-2"], &["", "*", "eu-*", "eu-1"]),
    ("account", &["111122223333"], &["111122223333", "*", "1111*3333"]),
    (
        "path",
        &["item/a", "item/b/c", "item/ab:c", "box/a/a", "lone", "item/*"],
        &["*", "item/*", "item/a*", "item/*/c", "box/*a", "lone", "item/*b*c", "item/${*}"],
    ),
];

struct Statement {
    denies: bool,
    not_action: bool,
    /// Service and name, or `*` alone.
    actions: Vec<Option<(&'static str, &'static str)>>,
    not_resource: bool,
    /// Five parts, or `*` alone.
    resources: Vec<Option<[&'static str; 5]>>,
}

fn statement(rng: &mut SplitMix64) -> Statement {
    let actions = (0..=rng.below(3))
        .map(|_| (!rng.once_in(8)).then(|| (*rng.pick(&SERVICES), *rng.pick(&NAME_PATTERNS))));
    let actions = actions.collect();
    let resources = (0..=rng.below(3))
        .map(|_| (!rng.once_in(4)).then(|| PARTS.map(|(_, _, patterns)| *rng.pick(patterns))));
    let resources = resources.collect();
    Statement {
        denies: rng.once_in(4),
        not_action: rng.once_in(6),
        actions,
        not_resource: rng.once_in(6),
        resources,
    }
}

fn iam(statements: &[Statement]) -> String {
    let one = |s: &Statement| {
        let quoted = |texts: Vec<String>| format!("[\"{}\"]", texts.join("\",\""));
        let actions = s.actions.iter().map(|action| {
            action.map_or("*".to_owned(), |(service, name)| format!("{service}:{name}"))
        });
        let resources = s.resources.iter().map(|resource| {
            resource.map_or("*".to_owned(), |parts| format!("arn:{}", parts.join(":")))
        });
        format!(
            r#"{{"Effect":"{}","{}Action":{},"{}Resource":{}}}"#,
            if s.denies { "Deny" } else { "Allow" },
            if s.not_action { "Not" } else { "" },
            quoted(actions.collect()),
            if s.not_resource { "Not" } else { "" },
            quoted(resources.collect()),
        )
    };
    let all: Vec<String> = statements.iter().map(one).collect();
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, all.join(","))
}

fn cedar(statements: &[Statement]) -> CedarPolicies {
    let one = |s: &Statement| {
        let actions = s.actions.iter().map(|action| match action {
            None => "true".to_owned(),
            Some((service, name)) => format!(
                "(context.svc == \"{}\" && context.name like \"{}\")",
                service.to_lowercase(),
                name.to_lowercase()
            ),
        });
        let resources = s.resources.iter().map(|resource| match resource {
            None => "true".to_owned(),
            Some(patterns) => {
                let parts = PARTS.iter().zip(patterns).map(|((key, _, _), pattern)| {
                    format!("context.{key} like \"{}\"", pattern.replace("${*}", "\\*"))
                });
                format!("({})", parts.collect::<Vec<_>>().join(" && "))
            }
        });
        let either = |negated: bool, all: Vec<String>| {
            format!("{}({})", if negated { "!" } else { "" }, all.join(" || "))
        };
        format!(
            "{}(principal, action, resource) when {{ {} && {} }};",
            if s.denies { "forbid" } else { "permit" },
            either(s.not_action, actions.collect()),
            either(s.not_resource, resources.collect())
        )
    };
    CedarPolicies::from_str(&statements.iter().map(one).collect::<String>()).unwrap()
}

/// One policy in both languages.
struct Both {
    iam: String,
    cedar: CedarPolicies,
}

fn both(rng: &mut SplitMix64) -> Both {
    let statements: Vec<Statement> = (0..=rng.below(4)).map(|_| statement(rng)).collect();
    Both { iam: iam(&statements), cedar: cedar(&statements) }
}

struct World {
    identity: Both,
    boundary: Option<Both>,
    session: Option<Both>,
    scps: Vec<Both>,
}

impl World {
    fn new(rng: &mut SplitMix64) -> Self {
        Self {
            identity: both(rng),
            boundary: rng.once_in(2).then(|| both(rng)),
            session: rng.once_in(3).then(|| both(rng)),
            scps: (0..rng.below(3)).map(|_| both(rng)).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Both> {
        let limits = self.boundary.iter().chain(&self.session).chain(&self.scps);
        std::iter::once(&self.identity).chain(limits)
    }

    fn policy_set(&self) -> PolicySet {
        let one = |policy_type, both: &Both| vec![attached(policy_type, "p", &both.iam)];
        PolicySet {
            identity: one(PolicyType::Identity, &self.identity),
            boundary: self.boundary.as_ref().map(|both| one(PolicyType::Boundary, both)),
            session: self.session.as_ref().map(|both| one(PolicyType::Session, both)),
            scps: self.scps.iter().map(|both| one(PolicyType::Scp, both)).collect(),
            ..PolicySet::default()
        }
    }
}

struct Question {
    service: &'static str,
    name: &'static str,
    parts: [&'static str; 5],
}

impl Question {
    fn new(rng: &mut SplitMix64) -> Self {
        Self {
            service: *rng.pick::<&str>(&SERVICES),
            name: *rng.pick::<&str>(&NAMES),
            parts: PARTS.map(|(_, texts, _)| *rng.pick(texts)),
        }
    }

    fn iam(&self) -> Request {
        Request {
            principal: principal("alice"),
            action: format!("{}:{}", self.service, self.name).parse().unwrap(),
            resource: Resource {
                arn: format!("arn:{}", self.parts.join(":")).parse().unwrap(),
                account: None,
            },
            context: Keys::new(),
        }
    }

    fn cedar(&self) -> CedarRequest {
        let uid = |text: &str| EntityUid::from_str(text).unwrap();
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let parts =
            PARTS.iter().zip(self.parts).map(|((key, _, _), part)| ((*key).to_owned(), text(part)));
        let action = [
            ("svc".to_owned(), text(&self.service.to_lowercase())),
            ("name".to_owned(), text(&self.name.to_lowercase())),
        ];
        let context = Context::from_pairs(parts.chain(action)).unwrap();
        let (who, what, on) = ("User::\"alice\"", "Action::\"a\"", "Thing::\"t\"");
        CedarRequest::new(uid(who), uid(what), uid(on), context, None).unwrap()
    }
}

fn by_cedar(world: &World, question: &Question) -> Decision {
    let (authorizer, entities, request) = (Authorizer::new(), Entities::empty(), question.cedar());
    let (mut forbidden, mut permitted) = (false, true);
    for both in world.all() {
        let response = authorizer.is_authorized(&request, &both.cedar, &entities);
        assert_eq!(response.diagnostics().errors().count(), 0);
        permitted &= response.decision() == Cedar::Allow;
        forbidden |=
            response.decision() == Cedar::Deny && response.diagnostics().reason().next().is_some();
    }
    match (forbidden, permitted) {
        (true, _) => Decision::ExplicitDeny,
        (false, true) => Decision::Allow,
        (false, false) => Decision::ImplicitDeny,
    }
}

#[test]
fn cedar_gives_the_same_answers() {
    let cases: usize = std::env::var("COUNTERSIGN_CASES")
        .map_or(20_000, |text| text.parse().expect("COUNTERSIGN_CASES is a number"));
    let mut rng = SplitMix64::new(0xCEDA2);
    let mut seen = [0; 3];
    let questions = 8;
    for _ in 0..cases.div_ceil(questions) {
        let world = World::new(&mut rng);
        let policies = world.policy_set();
        for _ in 0..questions {
            let question = Question::new(&mut rng);
            let (request, expected) = (question.iam(), by_cedar(&world, &question));
            let told = || {
                let texts: Vec<&str> = world.all().map(|both| both.iam.as_str()).collect();
                format!("{} on {}: {texts:#?}", request.action, request.resource.arn)
            };
            assert_eq!(reference::decide(&request, &policies).decision, expected, "{}", told());
            assert_eq!(compiled::decide(&request, &policies).decision, expected, "{}", told());
            seen[expected as usize] += 1;
        }
    }
    // Neither answer is there by chance alone.
    assert!(seen.iter().all(|count| count * 25 > cases), "{seen:?} of {cases}");
    println!(
        "{cases} requests: allow {}, explicit deny {}, implicit deny {}",
        seen[0], seen[1], seen[2]
    );
}
