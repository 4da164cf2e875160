//! H2: what one small request can cost, and that it is refused when that is too much.

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, ContextValue, StringSet, authorize_request::Subject, context_value::Kind,
    },
    policy::v1::{ManagedPolicyRecord, record::Record},
};

use super::*;
use crate::samples::{self, NOW, OURS, caller, world};

const ORDER: &str = "arn:aws:orders:eu-west-1:111122223333:order/42";
/// Of a resource policy, less what stands around a condition.
const ROOM: usize = 20_250;

/// A question whose cost grows with a number, which is at most 999.
type Family = (&'static str, Box<dyn Fn(usize) -> AuthorizeRequest>);

fn request(document: String, context: Vec<(&str, Kind)>) -> AuthorizeRequest {
    let entry = |(key, kind): (&str, Kind)| (key.to_owned(), ContextValue { kind: Some(kind) });
    AuthorizeRequest {
        subject: Some(Subject::PrincipalArn(format!("arn:aws:iam::{OURS}:user/dave"))),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        context: context.into_iter().map(entry).collect(),
        resource_policy_document: document,
        ..Default::default()
    }
}

fn statement(resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"orders:*","Resource":{resource},"Condition":{condition}}}}}"#
    )
}

fn condition(operator: &str, wanted: &str) -> String {
    statement("\"*\"", &format!(r#"{{"ForAllValues:{operator}":{{"k:s":[{wanted}]}}}}"#))
}

/// As many of `unit` as there is room for.
fn fill(room: usize, unit: &str, separator: &str) -> String {
    vec![unit; room / (unit.len() + separator.len())].join(separator)
}

/// As many different values as there is room for.
fn numbered(prefix: &str) -> String {
    let count = ROOM / (prefix.len() + 7);
    (0..count).map(|n| format!("\"{prefix}{n:04}\"")).collect::<Vec<_>>().join(",")
}

/// A set of `count` values of `text`, no longer than all may be.
fn set(text: &str, count: usize) -> Kind {
    let count = count.min(16_300 / text.len());
    Kind::Values(StringSet { items: vec![text.to_owned(); count] })
}

fn families() -> Vec<Family> {
    let long = "a".repeat(4000);
    let sets = |name, document: String, value: &'static str| -> Family {
        (name, Box::new(move |n| request(document.clone(), vec![("k:s", set(value, n))])))
    };
    let variables = |name, operator, start: &str, value: &'static str| -> Family {
        let wanted = format!("\"{start}{}\"", fill(ROOM, "${k:v}", ""));
        let document = condition(operator, &wanted);
        let long = long.clone();
        let context = move |n| vec![("k:v", Kind::Value(long.clone())), ("k:s", set(value, n))];
        (name, Box::new(move |n| request(document.clone(), context(n))))
    };
    let long_values = |name, wanted: &str| -> Family {
        let (document, long) = (condition("StringNotLike", wanted), long.clone());
        (name, Box::new(move |n| request(document.clone(), vec![("k:s", set(&long, n))])))
    };
    let quoted = |text: &str| fill(ROOM, &format!("\"{text}\""), ",");
    let (short, over) = ("*aaaaaaaaaaaaaaab*", "*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab*");
    let longest = format!("\"*{}b*\"", "a".repeat(3990));
    let varied = |unit: usize, long: usize| {
        let resources =
            fill(ROOM, &format!("\"arn:aws:orders:*:*:{}\"", "${k:v}".repeat(unit)), ",");
        let document = statement(&format!("[{resources}]"), "{}");
        request(document, vec![("k:v", Kind::Value("a".repeat(long)))])
    };
    let many = |text: &str| {
        format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, fill(ROOM, text, ","))
    };
    let whatever = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringLike":{"k:s":"*b"}}}"#;
    let allowing = r#"{"Effect":"Allow","Principal":"*","Action":"a:*b*c","Resource":"*"}"#;
    let asked = many(whatever);
    let resources =
        fill(ROOM, r#""arn:aws:orders:eu-west-1:111122223333:*aaaaaaaaaaaaaaab*""#, ",");
    let resources = statement(&format!("[{resources}]"), "{}");
    let actions = numbered("orders:*a*a*");
    let actions = statement("\"*\"", "{}").replace("\"orders:*\"", &format!("[{actions}]"));
    let far = format!("{ORDER}{}", "a".repeat(1900));
    vec![
        variables("variables", "StringNotLike", "", "aaaaaaaa"),
        variables("variables after a star", "StringNotLike", "*", "aaaaaaaa"),
        variables("variables of ARNs", "ArnNotLike", "a:a:a:a:a:", "a:a:a:a:a:a"),
        variables("variables, equal", "StringNotEqualsIgnoreCase", "", "aaaaaaaa"),
        ("variables of resources", Box::new(move |n| varied(30, n * 4))),
        ("longer variables of resources", Box::new(move |n| varied(3000, n * 4))),
        sets("pairs", condition("StringNotEquals", &numbered("")), "aaaaaaaaaaaaaaa"),
        sets(
            "pairs without case",
            condition("StringNotEqualsIgnoreCase", &numbered("")),
            "ääääääää",
        ),
        sets(
            "pairs of dates",
            condition("DateNotEquals", &quoted("2020-01-01T00:00:00Z")),
            "2020-01-01T00:00:01Z",
        ),
        sets("pairs of numbers", condition("NumericNotEquals", &numbered("1")), "0.1234567890123"),
        sets("pairs of addresses", condition("NotIpAddress", &quoted("::/0")), "11.0.0.1"),
        sets(
            "pairs of bytes",
            condition("ForAnyValue:BinaryEquals", &quoted("AAAA")).replace("ForAllValues:", ""),
            "AAAAAAAAAAAAAAAA",
        ),
        sets("pairs of ARNs", condition("ArnNotLike", &quoted("a:a:a:a:a:*b")), "a:a:a:a:a:aaaaa"),
        sets("short pieces", condition("StringNotLike", &quoted(short)), "aaaaaaaaaaaaaaaa"),
        sets("long pieces", condition("StringNotLike", &quoted(over)), "aaaaaaaaaaaaaaaa"),
        sets(
            "stars",
            condition("StringNotLike", &format!("\"{}\"", fill(ROOM, "*a", ""))),
            "aaaaaaaaaaaaaaaa",
        ),
        long_values("short pieces in long values", &quoted(short)),
        long_values("long pieces in long values", &quoted(over)),
        long_values("longest pieces", &[longest.as_str(); 5].join(",")),
        (
            "sets shown",
            Box::new(move |n| request(asked.clone(), vec![("k:s", set(&long.clone(), n))])),
        ),
        (
            "resources",
            Box::new(move |_| AuthorizeRequest {
                resource: far.clone(),
                ..request(resources.clone(), vec![])
            }),
        ),
        (
            "actions",
            Box::new(move |_| AuthorizeRequest {
                action: format!("orders:{}", "a".repeat(249)),
                ..request(actions.clone(), vec![])
            }),
        ),
        sets("statements", many(allowing), "x"),
        sets("errors", many("{}"), "x"),
        sets("more errors", statement(&format!("[{}]", fill(ROOM, "1", ",")), "{}"), "x"),
        sets("white space", statement("\"*\"", "{}") + &" ".repeat(100_000), "x"),
        sets("nested", "[".repeat(ROOM), "x"),
    ]
}

/// Dave, who has as much as a user may have, and each of it asks for a long value.
fn laden() -> World {
    let mut world = world();
    let document = |room| {
        let wanted = fill(room, "${k:v}", "");
        samples::document(&[&format!(
            r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{"ForAllValues:StringNotLike":{{"k:s":"{wanted}"}}}}}}"#
        )])
    };
    let mut dave = samples::user(OURS, "dave", &[]);
    for n in 0..10 {
        let arn = format!("arn:aws:iam::{OURS}:policy/P{n}");
        dave.attached_policy_arns.push(arn.clone());
        let policy = ManagedPolicyRecord {
            account_id: OURS.into(),
            policy_name: format!("P{n}"),
            arn,
            default_version_id: "v1".into(),
            document: document(6000),
            ..Default::default()
        };
        samples::put(&mut world, &format!("p/{n}"), Record::ManagedPolicy(policy));
    }
    samples::put(&mut world, "u/dave", Record::User(dave));
    world
}

enum Outcome {
    /// Before any policy was compared.
    Refused(String),
    Ready,
}

fn ask(world: &World, request: AuthorizeRequest, depth: Depth) -> Outcome {
    let call = Call {
        caller: caller(OURS, "Service"),
        source: Some("10.0.0.1".parse().unwrap()),
        deadline: std::time::Instant::now(),
    };
    let who = Who::Principal(format!("arn:aws:iam::{OURS}:user/dave").parse().unwrap());
    let matter = convert::authorize_question(request)
        .and_then(|question| consider(world, &call, &who, question.check, depth, NOW));
    match matter {
        Err(refusal) => Outcome::Refused(tonic::Status::from(refusal).message().to_owned()),
        Ok(Matter::Open(_)) => Outcome::Ready,
        Ok(Matter::Settled(judgement)) => panic!("{judgement:?}"),
    }
}

#[test]
fn h2_what_would_take_too_long_is_refused() {
    let families = families();
    let check = |world: &World, name: &str, n: usize, expected: bool| {
        let (_, question) = families.iter().find(|(found, _)| *found == name).unwrap();
        for depth in [Depth::Answer, Depth::Explanation] {
            match ask(world, question(n), depth) {
                Outcome::Refused(said) => {
                    assert!(expected, "{name} {n}: {said}");
                    assert!(said.starts_with("context: comparing it with the policies"), "{said}");
                }
                Outcome::Ready => assert!(!expected, "{name} {n} {depth:?}"),
            }
        }
    };
    for name in ["variables", "variables after a star", "variables of ARNs", "pairs"] {
        check(&world(), name, 999, true);
    }
    check(&laden(), "variables", 1, true);
    // What means well: twenty tags against thousands of values.
    check(&world(), "pairs", 20, false);
    check(&world(), "resources", 1, false);
    check(&world(), "actions", 1, false);
}
