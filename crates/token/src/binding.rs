//! The binding of a proof to the exchange it was made for: one hash over every field of the request.
//!
//! A proof carries it under a signature, so that whoever stands in the middle cannot change what is asked with it. The
//! gateway computes it from the request that it received; what the client sent is only compared.

use std::fmt;

use serde::Deserialize;

use crate::canonical::{Node, canonical, sha256_base64url};

/// The fields of an `ExchangeRequest` that a binding covers: all but `subject_token` and `actor_token`, under their proto
/// names. Empty and zero mean absent, as in proto3.
///
/// INVARIANT: `BoundRequest::node` takes the struct apart by name, so that a field added here and not there does not compile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoundRequest {
    pub subject_token_type: String,
    pub actor_token_type: String,
    pub role_arn: String,
    pub role_session_name: String,
    pub audience: String,
    pub scope: String,
    pub duration_seconds: i32,
    pub policy: String,
    /// Managed policies' ARNs, in the request's order.
    pub policy_arns: Vec<String>,
    /// In the request's order.
    pub tags: Vec<BoundTag>,
    pub transitive_tag_keys: Vec<String>,
    pub external_id: String,
    pub source_identity: String,
    pub requested_token_type: String,
    pub client_key_thumbprint: String,
    pub may_act: String,
}

/// A session tag. Its value is part of the binding even if empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundTag {
    pub key: String,
    pub value: String,
}

/// Base64url without padding of the SHA-256 of a request's canonical JSON: 43 characters. Not a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding(String);

impl Binding {
    /// What the proof in `subject_token` must carry.
    pub fn of_subject(request: &BoundRequest) -> Binding {
        Binding(sha256_base64url(request.canonical().as_bytes()))
    }

    /// What the proof in `actor_token` must carry: the subject's token is covered too, so that an actor's consent to act for
    /// one subject is not consent to act for another.
    pub fn of_actor(request: &BoundRequest, subject_token: &str) -> Binding {
        Binding(sha256_base64url(request.canonical_for_actor(subject_token).as_bytes()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl BoundRequest {
    /// The RFC 8785 canonical JSON that a subject's binding hashes.
    pub fn canonical(&self) -> String {
        canonical(&Node::Object(self.members()))
    }

    /// The same for an actor's proof: with `subject_token_sha256`, base64url without padding of the SHA-256 of the subject
    /// token's text.
    pub fn canonical_for_actor(&self, subject_token: &str) -> String {
        let hash = sha256_base64url(subject_token.as_bytes());
        let mut members = self.members();
        members.push(("subject_token_sha256", Node::Text(&hash)));
        canonical(&Node::Object(members))
    }

    fn members(&self) -> Vec<(&'static str, Node<'_>)> {
        let BoundRequest {
            subject_token_type,
            actor_token_type,
            role_arn,
            role_session_name,
            audience,
            scope,
            duration_seconds,
            policy,
            policy_arns,
            tags,
            transitive_tag_keys,
            external_id,
            source_identity,
            requested_token_type,
            client_key_thumbprint,
            may_act,
        } = self;
        let fields = [
            ("subject_token_type", text(subject_token_type)),
            ("actor_token_type", text(actor_token_type)),
            ("role_arn", text(role_arn)),
            ("role_session_name", text(role_session_name)),
            ("audience", text(audience)),
            ("scope", text(scope)),
            (
                "duration_seconds",
                (*duration_seconds != 0).then_some(Node::Integer(*duration_seconds)),
            ),
            ("policy", text(policy)),
            ("policy_arns", list(policy_arns, |arn| Node::Text(arn))),
            ("tags", list(tags, tag)),
            ("transitive_tag_keys", list(transitive_tag_keys, |key| Node::Text(key))),
            ("external_id", text(external_id)),
            ("source_identity", text(source_identity)),
            ("requested_token_type", text(requested_token_type)),
            ("client_key_thumbprint", text(client_key_thumbprint)),
            ("may_act", text(may_act)),
        ];
        fields.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
    }
}

fn text(value: &str) -> Option<Node<'_>> {
    (!value.is_empty()).then_some(Node::Text(value))
}

fn list<'a, T>(items: &'a [T], node: impl Fn(&'a T) -> Node<'a>) -> Option<Node<'a>> {
    (!items.is_empty()).then(|| Node::List(items.iter().map(node).collect()))
}

fn tag(tag: &BoundTag) -> Node<'_> {
    Node::Object(vec![("key", Node::Text(&tag.key)), ("value", Node::Text(&tag.value))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> BoundRequest {
        BoundRequest {
            audience: "orders".into(),
            duration_seconds: 900,
            role_arn: "arn:aws:iam::000000000000:role/R".into(),
            role_session_name: "s".into(),
            subject_token_type: "urn:countersign:proof:sts-get-caller-identity".into(),
            ..BoundRequest::default()
        }
    }

    // The example of the binding's definition.
    #[test]
    fn the_example_of_the_design() {
        assert_eq!(
            Binding::of_subject(&example()).as_str(),
            "opp2PDZFHzmH9OVKG_LCZKNIRdU6pOq3R6Gw3w6zIOo"
        );
    }

    #[test]
    fn empty_and_zero_fields_are_left_out() {
        assert_eq!(BoundRequest::default().canonical(), "{}");
    }

    #[test]
    fn every_field_changes_the_binding() {
        let changes: [fn(&mut BoundRequest); 21] = [
            |r| r.subject_token_type.push('x'),
            |r| r.actor_token_type.push('x'),
            |r| r.role_arn.push('x'),
            |r| r.role_session_name.push('x'),
            |r| r.audience.push('x'),
            |r| r.scope.push('x'),
            |r| r.duration_seconds = 901,
            |r| r.duration_seconds = -900,
            |r| r.policy.push('x'),
            |r| r.policy_arns = vec!["a".into(), "b".into()],
            |r| r.policy_arns = vec!["b".into(), "a".into()],
            |r| r.tags = vec![BoundTag { key: "k".into(), value: String::new() }],
            |r| r.tags = vec![BoundTag { key: "k".into(), value: "v".into() }],
            |r| r.transitive_tag_keys = vec!["k".into()],
            |r| r.external_id.push('x'),
            |r| r.source_identity.push('x'),
            |r| r.requested_token_type.push('x'),
            |r| r.client_key_thumbprint.push('x'),
            |r| r.may_act.push('x'),
            |_| {},
            |r| r.transitive_tag_keys = vec![String::new()],
        ];
        let bindings: std::collections::HashSet<_> = changes
            .into_iter()
            .flat_map(|change| {
                let mut request = example();
                change(&mut request);
                [
                    Binding::of_subject(&request).to_string(),
                    Binding::of_actor(&request, "t").to_string(),
                    Binding::of_actor(&request, "").to_string(),
                ]
            })
            .collect();
        assert_eq!(bindings.len(), 3 * changes.len());
    }
}
