//! The vectors of `tests/conformance/binding.json`, which `binding.py` beside them computes without this crate.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail loudly")]

use countersign_token::{Binding, BoundRequest, BoundTag};
use proptest::{collection::vec, prelude::*};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    #[serde(default)]
    proof: Proof,
    request: Map<String, Value>,
    canonical: String,
    binding: String,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Proof {
    #[default]
    Subject,
    Actor,
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/binding.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The request, and the subject token that it came with.
fn split(vector: &Vector) -> (BoundRequest, String) {
    let mut fields = match vector.request.get("form") {
        Some(form) => fields_of_form(form.as_str().unwrap()),
        None => vector.request.clone(),
    };
    let subject_token = fields.remove("subject_token");
    fields.remove("actor_token");
    let request = serde_json::from_value(Value::Object(fields)).unwrap();
    (request, subject_token.map(|token| token.as_str().unwrap().to_owned()).unwrap_or_default())
}

fn fields_of_form(form: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    for pair in form.split('&') {
        let (name, value) = pair.split_once('=').unwrap();
        let value = form_decoded(value);
        match name {
            "grant_type" => assert_eq!(value, "urn:ietf:params:oauth:grant-type:token-exchange"),
            "duration_seconds" => {
                drop(fields.insert(name.into(), value.parse::<i32>().unwrap().into()))
            }
            "policy_arns" | "transitive_tag_keys" => {
                let list = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut().unwrap().push(value.into());
            }
            "tags" => drop(fields.insert(name.into(), serde_json::from_str(&value).unwrap())),
            _ => assert_eq!(
                fields.insert(name.into(), value.into()),
                None,
                "`{name}` is there twice"
            ),
        }
    }
    fields
}

fn form_decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            plain => plain,
        });
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn the_vectors_hold() {
    let vectors = vectors();
    assert!(vectors.len() >= 20, "{} vectors", vectors.len());
    for vector in &vectors {
        let (request, subject_token) = split(vector);
        let (canonical, binding) = match vector.proof {
            Proof::Subject => (request.canonical(), Binding::of_subject(&request)),
            Proof::Actor => (
                request.canonical_for_actor(&subject_token),
                Binding::of_actor(&request, &subject_token),
            ),
        };
        assert_eq!(canonical, vector.canonical, "{}", vector.name);
        assert_eq!(binding.as_str(), vector.binding, "{}", vector.name);
    }
}

#[test]
fn the_form_has_the_binding_of_its_fields() {
    let vectors = vectors();
    let binding = |name: &str| {
        vectors.iter().find(|vector| vector.name == name).map(|vector| &vector.binding).unwrap()
    };
    let plain = binding("the fields of the form below");
    assert_eq!(binding("form-encoded, spaces as plus"), plain);
    assert_eq!(binding("form-encoded, spaces as %20"), plain);
    assert_ne!(binding("an actor's proof"), binding("every field, the tokens themselves left out"));
}

/// Any request: short texts of few letters, so that two of them are often almost the same. No field is left out: a new one does not compile.
fn any_request() -> impl Strategy<Value = BoundRequest> {
    let texts = vec("[ab,{}\":é]{0,2}", 13);
    let lists = vec(vec("[ab,]{0,2}", 0..3), 2);
    let tags = vec(("[ab]{0,2}", "[ab]{0,2}"), 0..3);
    (texts, lists, tags, 0..3_i32).prop_map(|(mut texts, mut lists, tags, duration_seconds)| {
        let mut text = || texts.pop().unwrap();
        let mut list = || lists.pop().unwrap();
        let tags = tags.into_iter().map(|(key, value)| BoundTag { key, value }).collect();
        BoundRequest {
            subject_token_type: text(),
            actor_token_type: text(),
            role_arn: text(),
            role_session_name: text(),
            audience: text(),
            scope: text(),
            duration_seconds,
            policy: text(),
            policy_arns: list(),
            tags,
            transitive_tag_keys: list(),
            external_id: text(),
            source_identity: text(),
            requested_token_type: text(),
            client_key_thumbprint: text(),
            may_act: text(),
        }
    })
}

/// One field of `from` in the place of that of `to`.
fn graft(to: &mut BoundRequest, from: &BoundRequest, field: usize) {
    match field {
        0 => to.subject_token_type.clone_from(&from.subject_token_type),
        1 => to.actor_token_type.clone_from(&from.actor_token_type),
        2 => to.role_arn.clone_from(&from.role_arn),
        3 => to.role_session_name.clone_from(&from.role_session_name),
        4 => to.audience.clone_from(&from.audience),
        5 => to.scope.clone_from(&from.scope),
        6 => to.duration_seconds = from.duration_seconds,
        7 => to.policy.clone_from(&from.policy),
        8 => to.policy_arns.clone_from(&from.policy_arns),
        9 => to.tags.clone_from(&from.tags),
        10 => to.transitive_tag_keys.clone_from(&from.transitive_tag_keys),
        11 => to.external_id.clone_from(&from.external_id),
        12 => to.source_identity.clone_from(&from.source_identity),
        13 => to.requested_token_type.clone_from(&from.requested_token_type),
        14 => to.client_key_thumbprint.clone_from(&from.client_key_thumbprint),
        _ => to.may_act.clone_from(&from.may_act),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// ATTACKS 30: a proof that was stolen is good for the request that it was made for, and for no other, whichever field differs.
    #[test]
    fn two_requests_have_one_binding_only_if_they_are_one(
        request in any_request(),
        other in any_request(),
        field in 0..16_usize,
    ) {
        let one = Binding::of_subject(&request);
        prop_assert_eq!(one == Binding::of_subject(&other), request == other);
        let mut altered = request.clone();
        graft(&mut altered, &other, field);
        prop_assert_eq!(one == Binding::of_subject(&altered), request == altered);
        // Nor does an actor's proof stand for a subject's, or for that of another subject.
        let acting = Binding::of_actor(&request, "a");
        prop_assert!(acting != one && acting != Binding::of_actor(&request, "b"));
    }
}
