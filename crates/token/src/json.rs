//! JSON read strictly: one value, no member named twice, containers nested at most eight deep.
//!
//! Knows syntax alone. What the members mean, and which of them may be there, is the reader's business.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest; the outermost counts as one.
const MAX_DEPTH: usize = 8;

/// Why a text is not a JSON object that this crate reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonFault {
    Syntax,
    NotAnObject,
    DuplicateMember(String),
    TooDeep,
}

/// The members of the one object that `text` holds.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    let fault = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let seed = Strict { depth: 1, fault: &fault };
    let value = seed
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|_| fault.take().unwrap_or(JsonFault::Syntax))?;
    match value {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonFault::NotAnObject)
        }
    }
}

/// Reads one value at a depth. serde's errors are text, so the fault that has a name is left beside it.
#[derive(Clone, Copy)]
struct Strict<'f> {
    depth: usize,
    fault: &'f RefCell<Option<JsonFault>>,
}

impl Strict<'_> {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        if self.depth > MAX_DEPTH {
            return Err(self.refuse(JsonFault::TooDeep));
        }
        Ok(Strict { depth: self.depth + 1, ..self })
    }

    fn refuse<E: de::Error>(self, fault: JsonFault) -> E {
        self.fault.replace(Some(fault));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| self.refuse(JsonFault::Syntax))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            // Names are compared unescaped, so `"a"` and `"\u0061"` are one member.
            if object.contains_key(&name) {
                return Err(self.refuse(JsonFault::DuplicateMember(name)));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn strict_object() {
        fn check(text: &str, expected: Result<usize, JsonFault>) {
            assert_eq!(object(text.as_bytes()).map(|members| members.len()), expected, "{text}");
        }
        let twice = |name: &str| Err(JsonFault::DuplicateMember(name.to_owned()));
        check("{}", Ok(0));
        check(r#" {"a":1,"b":[true,null,"x",-2,1.5]} "#, Ok(2));
        check(&nested(8), Ok(1));
        check(&nested(9), Err(JsonFault::TooDeep));
        check(&nested(4000), Err(JsonFault::TooDeep));
        check(r#"{"a":1,"a":1}"#, twice("a"));
        check(r#"{"a":1,"\u0061":1}"#, twice("a"));
        check(r#"{"b":[{"c":{"d":1,"d":2}}]}"#, twice("d"));
        check("[]", Err(JsonFault::NotAnObject));
        check("\"a\"", Err(JsonFault::NotAnObject));
        check("null", Err(JsonFault::NotAnObject));
        check("", Err(JsonFault::Syntax));
        check("{} {}", Err(JsonFault::Syntax));
        check("{\"a\":1,}", Err(JsonFault::Syntax));
        check("{\"a\":NaN}", Err(JsonFault::Syntax));
        check("{\"a\":1e999}", Err(JsonFault::Syntax));
        check("{\"a\":\"\\ud800\"}", Err(JsonFault::Syntax));
        check("\u{feff}{}", Err(JsonFault::Syntax));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused() {
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(JsonFault::Syntax));
    }
}
