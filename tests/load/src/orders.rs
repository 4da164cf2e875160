//! Workload "orders" as a policy store holds it, and as services ask about it.
//!
//! Its N policies are managed ones, and each principal has those of one shard: nine or ten. Where there are more principals than
//! shards, some share theirs, as principals do; the policies stay the same however many principals there are.

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeStreamRequest, BatchAuthorizeRequest, Check, ContextValue,
        authorize_request, batch_authorize_request, context_value,
    },
    policy::v1::{
        AccountRecord, InlinePolicy, ManagedPolicyRecord, Record, RoleRecord, SigningKeyRecord,
        UserRecord, record::Record as Kind,
    },
};
use countersign_token::{Caller, Claims, Realm, Session, SigningKey, mint};

use crate::{
    Failed,
    rng::SplitMix64,
    workload::{ACTIONS, Policy, Query, Shape, Workload},
};

pub const ACCOUNT: &str = "111122223333";
pub const ISSUER: &str = "http://127.0.0.1:7400";
/// The service that asks.
pub const AUDIENCE: &str = "orders";
/// Of the stand-in's store, at which everything was written.
pub const REVISION: &str = "load:1";
/// More policies than this a principal's shard is not found in.
const MOST_POLICIES: usize = 10_000;
const CHECKER: &str = "Checker";
const HOUR: i64 = 3600;

/// The policies, the principals, and the questions.
pub struct Orders {
    workload: Workload,
    principals: usize,
    key: SigningKey,
    began: i64,
}

/// How a question names its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A user's ARN.
    Arn,
    /// A session's token.
    Token,
}

impl Orders {
    /// For so many users, at least two. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When there is no randomness for a key.
    pub fn new(principals: usize, now: i64) -> Result<Self, Failed> {
        let policies = MOST_POLICIES.min(principals.saturating_sub(1).max(1) * 10);
        Ok(Self {
            workload: Workload::new(Shape::Sharded, policies),
            principals,
            key: SigningKey::generate().map_err(Failed::of("a signing key"))?,
            began: now,
        })
    }

    pub(crate) fn workload(&self) -> &Workload {
        &self.workload
    }

    fn shards(&self) -> usize {
        self.workload.principals
    }

    /// Everything that a follower is told, one by one, in the order of the keys, as a store does: a million of them need not stand in
    /// memory.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let account = Kind::Account(AccountRecord {
            account_id: ACCOUNT.to_owned(),
            operator: true,
            ..Default::default()
        });
        let account = record(format!("account/{ACCOUNT}"), account);
        let checker = record(format!("role/{ACCOUNT}/checker"), Kind::Role(checker()));
        let policies = &self.workload.policies;
        let policies = in_order_of_digits(policies.len())
            .filter_map(|number| Some(managed((number, policies.get(number)?))));
        let by_shard = std::rc::Rc::new(self.policies_of_shards());
        let of_roles = std::rc::Rc::clone(&by_shard);
        let shards = self.shards();
        let roles =
            in_order_of_digits(shards).map(move |shard| role(shard, attached(&of_roles, shard)));
        let users = in_order_of_digits(self.principals)
            .map(move |number| user(number, attached(&by_shard, number % shards)));
        [account]
            .into_iter()
            .chain(policies)
            .chain([checker])
            .chain(roles)
            .chain([self.signing_key()])
            .chain(users)
    }

    fn policies_of_shards(&self) -> Vec<Vec<usize>> {
        let mut lists = vec![Vec::new(); self.shards()];
        for (number, policy) in self.workload.policies.iter().enumerate() {
            if let Some(list) = lists.get_mut(policy.principal) {
                list.push(number);
            }
        }
        lists
    }

    fn signing_key(&self) -> Record {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let kind = SigningKeyRecord {
            kid: self.key.kid().to_owned(),
            jwk: self.key.public().to_jwk(),
            publisher: "load".to_owned(),
            publish_date: at(self.began),
            signs_until: at(self.began + 12 * HOUR),
            accept_until: at(self.began + 24 * HOUR),
            revoked: false,
        };
        record(format!("signing-key/{}", self.key.kid()), Kind::SigningKey(kind))
    }

    /// The asking service's own token.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn checker(&self) -> Result<String, Failed> {
        self.token(CHECKER, "AROACHECKER", "countersign")
    }

    fn token(&self, role: &str, role_id: &str, audience: &str) -> Result<String, Failed> {
        let session = Session {
            account: ACCOUNT.to_owned(),
            partition: "aws".to_owned(),
            role_name: role.to_owned(),
            role_id: role_id.to_owned(),
            session_name: "load".to_owned(),
            source_identity: None,
            session_tags: Default::default(),
            transitive_tag_keys: Default::default(),
            session_policies: Vec::new(),
            narrowings: Vec::new(),
            parents: Vec::new(),
            proof_type: "urn:countersign:proof:sts-get-caller-identity".to_owned(),
            caller: Caller {
                realm: Realm::Countersign,
                account: ACCOUNT.to_owned(),
                unique_id: "AIDA00000000000000000".to_owned(),
                arn: format!("arn:aws:iam::{ACCOUNT}:user/u0"),
            },
            revision: REVISION.to_owned(),
        };
        let (now, end) = (self.began, self.began + HOUR);
        let claims = Claims::for_session(ISSUER.to_owned(), audience.to_owned(), now, end, session)
            .map_err(Failed::of("a token"))?;
        mint(&claims, &self.key).map_err(Failed::of("a token"))
    }

    /// The workload's questions, and whether each is allowed.
    ///
    /// # Errors
    /// When a token cannot be signed.
    pub fn questions(&self, by: By) -> Result<Vec<(AuthorizeRequest, bool)>, Failed> {
        // One of those that share the shard's policies, the same at each run.
        let mut rng = SplitMix64::new(0xC0DE);
        let mut tokens = vec![None; self.shards()];
        let mut questions = Vec::new();
        for query in &self.workload.queries {
            let shard: usize = query.principal.trim_start_matches('u').parse().unwrap_or_default();
            let subject = match by {
                By::Arn => {
                    let sharing = (self.principals - shard).div_ceil(self.shards());
                    let number = shard + self.shards() * rng.below(sharing);
                    authorize_request::Subject::PrincipalArn(format!(
                        "arn:aws:iam::{ACCOUNT}:user/{}",
                        user_name(number)
                    ))
                }
                By::Token => authorize_request::Subject::Token(self.session(shard, &mut tokens)?),
            };
            questions.push((question(query, subject, by), query.is_allowed));
        }
        Ok(questions)
    }

    /// A session of a shard's role: one a role.
    fn session(&self, shard: usize, tokens: &mut [Option<String>]) -> Result<String, Failed> {
        if let Some(Some(token)) = tokens.get(shard) {
            return Ok(token.clone());
        }
        let token = self.token(&role_name(shard), &role_id(shard), AUDIENCE)?;
        if let Some(slot) = tokens.get_mut(shard) {
            *slot = Some(token.clone());
        }
        Ok(token)
    }
}

/// Batches of `size` checks: each the questions of the workload that stand together, all about the first one's subject.
#[must_use]
pub fn batches(questions: &[(AuthorizeRequest, bool)], size: usize) -> Vec<BatchAuthorizeRequest> {
    let batch = |own: &[(AuthorizeRequest, bool)]| BatchAuthorizeRequest {
        subject: own.first().and_then(|(first, _)| first.subject.clone()).map(|subject| {
            match subject {
                authorize_request::Subject::Token(token) => {
                    batch_authorize_request::Subject::Token(token)
                }
                authorize_request::Subject::PrincipalArn(arn) => {
                    batch_authorize_request::Subject::PrincipalArn(arn)
                }
            }
        }),
        audience: own.first().map(|(first, _)| first.audience.clone()).unwrap_or_default(),
        checks: own.iter().map(|(question, _)| check(question)).collect(),
        ..Default::default()
    };
    questions.chunks_exact(size).map(batch).collect()
}

fn check(question: &AuthorizeRequest) -> Check {
    Check {
        action: question.action.clone(),
        resource: question.resource.clone(),
        context: question.context.clone(),
        ..Default::default()
    }
}

/// The same questions for a stream.
#[must_use]
pub fn streamed(questions: &[(AuthorizeRequest, bool)]) -> Vec<AuthorizeStreamRequest> {
    let one = |(number, (question, _)): (usize, &(AuthorizeRequest, bool))| {
        AuthorizeStreamRequest { id: number.to_string(), question: Some(question.clone()) }
    };
    questions.iter().enumerate().map(one).collect()
}

fn question(query: &Query, subject: authorize_request::Subject, by: By) -> AuthorizeRequest {
    let value =
        |text: &str| ContextValue { kind: Some(context_value::Kind::Value(text.to_owned())) };
    let context =
        [("aws:SourceIp", &query.ip), ("order:team", &query.team), ("order:hold", &query.hold)];
    AuthorizeRequest {
        subject: Some(subject),
        audience: match by {
            By::Arn => String::new(),
            By::Token => AUDIENCE.to_owned(),
        },
        action: format!("order:{}", query.action),
        resource: resource(&query.resource),
        context: context.map(|(key, text)| (key.to_owned(), value(text))).into_iter().collect(),
        ..Default::default()
    }
}

/// The numbers below `end`, in the order of their decimal texts: 0, 1, 10, 100, 101, … 2, 20, …
fn in_order_of_digits(end: usize) -> impl Iterator<Item = usize> {
    let after = move |number: &usize| {
        let mut next = *number;
        if next > 0 && next * 10 < end {
            return Some(next * 10);
        }
        // The last with these first digits goes on with the digit before.
        while next % 10 == 9 || next + 1 >= end {
            next /= 10;
            if next == 0 {
                return None;
            }
        }
        Some(next + 1)
    };
    let zero = (end > 0).then_some(0);
    let rest = std::iter::successors((end > 1).then_some(1), after);
    zero.into_iter().chain(rest)
}

fn resource(path: &str) -> String {
    format!("arn:aws:order:eu-west-1:{ACCOUNT}:{path}")
}

fn record(key: String, kind: Kind) -> Record {
    Record { key, record: Some(kind), format: 1, version: 1 }
}

fn policy_arn(number: usize) -> String {
    format!("arn:aws:iam::{ACCOUNT}:policy/orders-{number}")
}

fn attached(by_shard: &[Vec<usize>], shard: usize) -> Vec<String> {
    let own = by_shard.get(shard).map(Vec::as_slice).unwrap_or_default();
    own.iter().map(|number| policy_arn(*number)).collect()
}

fn managed((number, policy): (usize, &Policy)) -> Record {
    let kind = ManagedPolicyRecord {
        account_id: ACCOUNT.to_owned(),
        path: "/".to_owned(),
        policy_name: format!("orders-{number}"),
        policy_id: format!("ANPA{number:017}"),
        arn: policy_arn(number),
        default_version_id: "v1".to_owned(),
        document: document(policy),
        ..Default::default()
    };
    record(format!("policy/{ACCOUNT}/orders-{number}"), Kind::ManagedPolicy(kind))
}

fn document(policy: &Policy) -> String {
    let effect = if policy.allows { "Allow" } else { "Deny" };
    let name = |action: &usize| ACTIONS.get(*action).copied().unwrap_or_default();
    let actions: Vec<String> =
        policy.actions.iter().map(|action| format!("\"order:{}\"", name(action))).collect();
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":[{}],"Resource":"{}","Condition":{{"IpAddress":{{"aws:SourceIp":"{}"}},"StringEquals":{{"order:{}":"{}"}}}}}}]}}"#,
        actions.join(","),
        resource(&policy.pattern),
        policy.cidr,
        policy.key,
        policy.value
    )
}

fn user_name(number: usize) -> String {
    format!("u{number}")
}

fn user(number: usize, attached_policy_arns: Vec<String>) -> Record {
    let kind = UserRecord {
        account_id: ACCOUNT.to_owned(),
        path: "/".to_owned(),
        user_name: user_name(number),
        user_id: format!("AIDA{number:017}"),
        attached_policy_arns,
        ..Default::default()
    };
    record(format!("user/{ACCOUNT}/{}", user_name(number)), Kind::User(kind))
}

fn role_name(shard: usize) -> String {
    format!("r{shard}")
}

fn role_id(shard: usize) -> String {
    format!("AROA{shard:017}")
}

fn role(shard: usize, attached_policy_arns: Vec<String>) -> Record {
    let kind = RoleRecord { attached_policy_arns, ..plain_role(role_name(shard), role_id(shard)) };
    record(format!("role/{ACCOUNT}/{}", role_name(shard)), Kind::Role(kind))
}

/// The service that asks: it may ask everything, and nothing else.
fn checker() -> RoleRecord {
    let policy = InlinePolicy {
        policy_name: "ask".to_owned(),
        policy_document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["countersign:Authorize","countersign:AuthorizePrincipal"],"Resource":"*"}]}"#.to_owned(),
    };
    RoleRecord {
        inline_policies: vec![policy],
        ..plain_role(CHECKER.to_owned(), "AROACHECKER".to_owned())
    }
}

fn plain_role(role_name: String, role_id: String) -> RoleRecord {
    RoleRecord {
        account_id: ACCOUNT.to_owned(),
        path: "/".to_owned(),
        role_name,
        role_id,
        assume_role_policy_document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#.to_owned(),
        max_session_duration: 3600,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_the_order_of_their_keys() {
        for end in [0, 1, 2, 9, 10, 11, 100, 101, 999, 1234] {
            let mut expected: Vec<usize> = (0..end).collect();
            expected.sort_by_key(ToString::to_string);
            assert_eq!(in_order_of_digits(end).collect::<Vec<_>>(), expected);
        }
        let orders = Orders::new(1234, 0).expect("a key");
        let keys: Vec<String> = orders.records().map(|record| record.key).collect();
        assert!(keys.is_sorted() && keys.len() > 1234);
    }
}
