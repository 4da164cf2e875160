//! The vectors of `tests/conformance/binding.json`, which `binding.py` beside them computes without this crate.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail loudly")]

use countersign_token::{Binding, BoundRequest};
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
