//! FAULTS.md, F7, over real gRPC: whichever way a question is asked, the answer is the same. Roles whose policies chance made; each question
//! by principal and by token, alone, in a batch and on a stream, as Envoy asks it, and to the simulator.
//! `COUNTERSIGN_RPC_CASES` for another number of questions; `COUNTERSIGN_SEED` for another world.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use countersign_harness::System;
use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeStreamRequest, BatchAuthorizeRequest, Check, ContextValue,
        Decision, authorize_request::Subject, authorize_stream_response::Result as Outcome,
        batch_authorize_request::Subject as BatchSubject, context_value,
    },
    envoy::v3::{
        Address, AttributeContext, CheckRequest, SocketAddress, address,
        attribute_context::{HttpRequest, Peer, Request as Inner},
        authorization_client::AuthorizationClient,
    },
    policy::v1::{
        AttachRolePolicyRequest, ContextEntry, ContextKeyType, CreatePolicyRequest,
        CreateRoleRequest, PolicyEvaluationDecisionType, PutRolePolicyRequest,
        SimulatePrincipalPolicyRequest,
    },
    token::v1::ExchangeRequest,
};
use tokio_stream::StreamExt;

const ACCOUNT: &str = "123456789012";
const QUESTIONS: usize = 24;
const MAPPING: &str = r#"
audience = "orders"

[[rule]]
method = "GET"
path = "/orders/{id}"
action = "orders:GetOrder"
resource = "arn:aws:orders:eu-west-1:123456789012:order/{id}"
[rule.context]
"orders:Team" = "{header:x-team}"

[[rule]]
method = "PUT"
path = "/orders/{id}"
action = "orders:PutOrder"
resource = "arn:aws:orders:eu-west-1:123456789012:order/{id}"
[rule.context]
"orders:Team" = "{header:x-team}"

[[rule]]
method = "DELETE"
path = "/orders/{id}"
action = "orders:DeleteOrder"
resource = "arn:aws:orders:eu-west-1:123456789012:order/{id}"
[rule.context]
"orders:Team" = "{header:x-team}"
"#;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list.get(self.below(list.len())).copied().unwrap()
    }

    fn statement(&mut self) -> String {
        let effect = if self.below(4) == 0 { "Deny" } else { "Allow" };
        let not = |rng: &mut Self| if rng.below(6) == 0 { "Not" } else { "" };
        let (not_action, not_resource) = (not(self), not(self));
        let action =
            self.of(&["orders:GetOrder", "orders:Get*", "orders:*", "*", "orders:?utOrder"]);
        let order = "arn:aws:orders:*:123456789012:order/";
        let resource = match self.of(&["*", "*", "1?", "*2", "42", "${aws:PrincipalAccount}"]) {
            "*" => "*".to_owned(),
            rest => format!("{order}{rest}"),
        };
        let condition = self.of(&[
            "",
            "",
            "",
            r#","Condition":{"StringEquals":{"orders:Team":"red"}}"#,
            r#","Condition":{"StringLike":{"ORDERS:team":["b*","gr??n"]}}"#,
            r#","Condition":{"StringNotEqualsIfExists":{"orders:Team":"red"}}"#,
            r#","Condition":{"Null":{"orders:Team":"true"}}"#,
            r#","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/25"}}"#,
            r#","Condition":{"NotIpAddress":{"aws:SourceIp":"192.0.2.7"},"StringEquals":{"orders:Team":["red","blue"]}}"#,
            r#","Condition":{"StringEquals":{"aws:PrincipalAccount":"123456789012"}}"#,
            r#","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/R*1"}}"#,
        ]);
        format!(
            r#"{{"Effect":"{effect}","{not_action}Action":"{action}","{not_resource}Resource":"{resource}"{condition}}}"#
        )
    }

    fn policy(&mut self) -> String {
        let count = 1 + self.below(3);
        let statements: Vec<String> = (0..count).map(|_| self.statement()).collect();
        format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
    }

    fn question(&mut self) -> Question {
        Question {
            verb: self.of(&["GET", "PUT", "DELETE"]),
            order: self.of(&["1", "12", "42", "7", "123456789012", "2"]),
            team: self.of(&["", "red", "blue", "green"]),
            source_ip: self.of(&["192.0.2.7", "192.0.2.200", "203.0.113.9"]),
        }
    }
}

#[derive(Debug)]
struct Question {
    verb: &'static str,
    order: &'static str,
    /// Empty for none.
    team: &'static str,
    source_ip: &'static str,
}

impl Question {
    fn action(&self) -> String {
        let verb = match self.verb {
            "GET" => "Get",
            "PUT" => "Put",
            _ => "Delete",
        };
        format!("orders:{verb}Order")
    }

    fn resource(&self) -> String {
        format!("arn:aws:orders:eu-west-1:{ACCOUNT}:order/{}", self.order)
    }

    fn keys(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let keys = [("aws:SourceIp", self.source_ip), ("orders:Team", self.team)];
        keys.into_iter().filter(|(_, value)| !value.is_empty())
    }

    fn check(&self) -> Check {
        let value =
            |text: &str| ContextValue { kind: Some(context_value::Kind::Value(text.to_owned())) };
        Check {
            action: self.action(),
            resource: self.resource(),
            context: self.keys().map(|(key, text)| (key.to_owned(), value(text))).collect(),
            ..Default::default()
        }
    }

    fn authorize(&self, subject: Subject) -> AuthorizeRequest {
        let Check { action, resource, context, .. } = self.check();
        let audience = audience(&subject);
        AuthorizeRequest {
            subject: Some(subject),
            audience,
            action,
            resource,
            context,
            ..Default::default()
        }
    }

    fn simulate(&self, role_arn: &str) -> SimulatePrincipalPolicyRequest {
        let entry = |(key, text): (&str, &str)| ContextEntry {
            context_key_name: key.to_owned(),
            context_key_values: vec![text.to_owned()],
            context_key_type: match key {
                "aws:SourceIp" => ContextKeyType::Ip.into(),
                _ => ContextKeyType::String.into(),
            },
        };
        SimulatePrincipalPolicyRequest {
            policy_source_arn: role_arn.to_owned(),
            action_names: vec![self.action()],
            resource_arns: vec![self.resource()],
            context_entries: self.keys().map(entry).collect(),
            ..Default::default()
        }
    }

    fn envoy(&self, token: &str) -> CheckRequest {
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
        if !self.team.is_empty() {
            headers.push(("x-team".to_owned(), self.team.to_owned()));
        }
        let http = HttpRequest {
            method: self.verb.to_owned(),
            path: format!("/orders/{}", self.order),
            host: "shop.example.com".to_owned(),
            headers: headers.into_iter().collect(),
            ..Default::default()
        };
        let socket = SocketAddress { address: self.source_ip.to_owned() };
        let address = Address { address: Some(address::Address::SocketAddress(socket)) };
        let peer = Peer { address: Some(address), ..Default::default() };
        let request = Some(Inner { http: Some(http) });
        let attributes = AttributeContext { source: Some(peer), request };
        CheckRequest { attributes: Some(attributes) }
    }
}

fn audience(subject: &Subject) -> String {
    match subject {
        Subject::Token(_) => "orders".to_owned(),
        Subject::PrincipalArn(_) => String::new(),
    }
}

/// A role with policies of every kind, a session of it, and the revision of all that.
struct Role {
    arn: String,
    token: String,
    revision: String,
}

async fn role(system: &System, managed: &[String], number: usize, rng: &mut Rng) -> Role {
    let mut store = system.policy_store();
    let role_name = format!("R{number}");
    let pick = |rng: &mut Rng| managed.get(rng.below(managed.len())).cloned().unwrap();
    let boundary = if rng.below(3) == 0 { pick(rng) } else { String::new() };
    let request = CreateRoleRequest {
        role_name: role_name.clone(),
        permissions_boundary: boundary,
        assume_role_policy_document: format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}]}}"#
        ),
        ..Default::default()
    };
    let made = store.create_role(request).await.unwrap().into_inner();
    let (arn, mut revision) = (made.role.unwrap().arn, made.revision);
    for policy in 0..1 + rng.below(2) {
        let request = PutRolePolicyRequest {
            role_name: role_name.clone(),
            policy_name: format!("p{policy}"),
            policy_document: rng.policy(),
            ..Default::default()
        };
        revision = store.put_role_policy(request).await.unwrap().into_inner().revision;
    }
    for _ in 0..rng.below(3) {
        let request = AttachRolePolicyRequest {
            role_name: role_name.clone(),
            policy_arn: pick(rng),
            ..Default::default()
        };
        revision = store.attach_role_policy(request).await.unwrap().into_inner().revision;
    }
    let admin = std::fs::read_to_string(&system.running.admin_token_path).unwrap();
    let request = ExchangeRequest {
        subject_token: admin.trim().to_owned(),
        subject_token_type: "urn:ietf:params:oauth:token-type:access_token".to_owned(),
        role_arn: arn.clone(),
        role_session_name: "agree".to_owned(),
        audience: "orders".to_owned(),
        ..Default::default()
    };
    let token = system.gateway().exchange(request).await.unwrap().into_inner().access_token;
    Role { arn, token, revision }
}

/// Alone, in one batch, and on one stream.
async fn asked(system: &System, subject: &Subject, questions: &[Question]) -> [Vec<i32>; 3] {
    let mut decision = system.decision();
    let mut alone = Vec::new();
    for question in questions {
        let answer = decision.authorize(question.authorize(subject.clone())).await.unwrap();
        alone.push(answer.into_inner().decision);
    }
    let batch = BatchAuthorizeRequest {
        subject: Some(match subject.clone() {
            Subject::Token(token) => BatchSubject::Token(token),
            Subject::PrincipalArn(arn) => BatchSubject::PrincipalArn(arn),
        }),
        audience: audience(subject),
        checks: questions.iter().map(Question::check).collect(),
        ..Default::default()
    };
    let batch = decision.batch_authorize(batch).await.unwrap().into_inner().answers;
    let streamed: Vec<_> = (0..)
        .zip(questions)
        .map(|(number, question): (usize, _)| AuthorizeStreamRequest {
            id: number.to_string(),
            question: Some(question.authorize(subject.clone())),
        })
        .collect();
    let answers = decision.authorize_stream(tokio_stream::iter(streamed)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut by_stream = vec![0; questions.len()];
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let Some(Outcome::Answer(decided)) = answer.result else { continue };
        let number: usize = answer.id.parse().unwrap();
        *by_stream.get_mut(number).unwrap() = decided.decision;
    }
    [alone, batch.into_iter().map(|answer| answer.decision).collect(), by_stream]
}

/// As Authorize says it.
fn simulated(decision: PolicyEvaluationDecisionType) -> i32 {
    match decision {
        PolicyEvaluationDecisionType::Allowed => Decision::Allow.into(),
        PolicyEvaluationDecisionType::ExplicitDeny => Decision::ExplicitDeny.into(),
        PolicyEvaluationDecisionType::ImplicitDeny => Decision::ImplicitDeny.into(),
        PolicyEvaluationDecisionType::Unspecified => Decision::Unspecified.into(),
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test]
async fn f7_whichever_way_it_is_asked_the_answer_is_the_same() {
    let cases = usize::try_from(number("COUNTERSIGN_RPC_CASES", 1_200)).unwrap();
    let seed = number("COUNTERSIGN_SEED", 7);
    let folder = tempfile::tempdir().unwrap();
    let mapping = folder.path().join("mapping.toml");
    std::fs::write(&mapping, MAPPING).unwrap();
    let system = System::with(|options| options.envoy_mapping = Some(mapping)).await;
    assert_eq!(system.running.account.to_string(), ACCOUNT);
    let mut rng = Rng(seed);
    let mut managed = Vec::new();
    for policy in 0..8 {
        let request = CreatePolicyRequest {
            policy_name: format!("managed{policy}"),
            policy_document: rng.policy(),
            ..Default::default()
        };
        let made = system.policy_store().create_policy(request).await.unwrap().into_inner();
        managed.push(made.policy.unwrap().arn);
    }
    let mut envoy = AuthorizationClient::with_interceptor(
        countersign_serve::grpc::channel(&system.running.endpoints.decision).unwrap(),
        system.admin.clone(),
    );
    let mut seen = [0_usize; 3];
    for world in 0..cases.div_ceil(QUESTIONS) {
        let Role { arn, token, revision } = role(&system, &managed, world, &mut rng).await;
        system.reached(&revision).await;
        let questions: Vec<Question> = (0..QUESTIONS).map(|_| rng.question()).collect();
        let by_arn = asked(&system, &Subject::PrincipalArn(arn.clone()), &questions).await;
        let by_token = asked(&system, &Subject::Token(token.clone()), &questions).await;
        let [expected, ..] = by_arn.clone();
        for (way, answers) in by_arn.iter().chain(&by_token).enumerate() {
            assert_eq!(*answers, expected, "seed {seed}, {arn}, way {way}: {questions:#?}");
        }
        for (question, expected) in questions.iter().zip(expected) {
            let said = format!("seed {seed}, {arn}: {question:?}");
            let mut store = system.policy_store();
            let answer = store.simulate_principal_policy(question.simulate(&arn)).await;
            let results = answer.unwrap().into_inner().evaluation_results;
            let result = results.first().unwrap();
            assert_eq!(simulated(result.eval_decision()), expected, "simulated: {said}");
            let answer = envoy.check(question.envoy(&token)).await.unwrap().into_inner();
            let passes = answer.status.unwrap().code == 0;
            assert_eq!(passes, expected == i32::from(Decision::Allow), "Envoy: {said}");
            let kinds = [Decision::Allow, Decision::ImplicitDeny, Decision::ExplicitDeny];
            for (count, kind) in seen.iter_mut().zip(kinds) {
                *count += usize::from(expected == i32::from(kind));
            }
        }
    }
    let [allowed, implicit, explicit] = seen;
    println!(
        "F7: {} questions ({allowed} allowed, {implicit} denied by nothing, {explicit} by a statement), each in eight ways: 0 differences",
        allowed + implicit + explicit
    );
    assert!(seen.iter().all(|count| *count * 20 > allowed + implicit + explicit), "{seen:?}");
}
