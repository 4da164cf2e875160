//! The call: action, version and parameters, from the body of a POST or the query of a GET, never from both.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::Fault;

/// A call as it was made. Parameters are in order of name, each once. Values may be secrets, so they are not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    pub action: String,
    pub version: String,
    pub parameters: BTreeMap<String, String>,
}

impl Call {
    /// Reads `query` (the wire's text, no `?`) or `body`, one of which must be empty but for the signature's parameters.
    ///
    /// Strict: a repeated name, a broken escape, text that is not UTF-8, NUL and raw characters that parsers read
    /// differently are refused. In the body `+` is a space, as in any form; in the query it is refused, since readers differ.
    pub fn parse(query: &str, body: &str) -> Result<Call, Fault> {
        let mut parameters = pairs(query, Plus::Refused)?;
        drop_signature(&mut parameters)?;
        let in_body = pairs(body, Plus::Space)?;
        // Action in the query and another in the body: one reader would check what the other does not do.
        if !parameters.is_empty() && !in_body.is_empty() {
            return Err(Fault::malformed(
                "parameters must be in the query or in the body, not in both",
            ));
        }
        parameters.extend(in_body);
        let action = parameters.remove("Action").filter(|action| !action.is_empty());
        let action =
            action.ok_or_else(|| Fault::sender("MissingAction", "the call names no `Action`"))?;
        let version = parameters.remove("Version").filter(|version| !version.is_empty());
        let version = version.ok_or_else(|| Fault::missing("Version"))?;
        Ok(Call { action, version, parameters })
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// `MissingParameter`, as AWS has it, if it is not there or empty.
    pub fn required(&self, name: &str) -> Result<&str, Fault> {
        self.parameter(name).filter(|value| !value.is_empty()).ok_or_else(|| Fault::missing(name))
    }

    /// A whole number in plain digits.
    pub fn integer(&self, name: &str) -> Result<Option<u32>, Fault> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = if plain { text.parse().ok() } else { None };
        parsed
            .map(Some)
            .ok_or_else(|| Fault::invalid(&format!("`{}` must be a whole number", shown(name))))
    }

    /// Refuses a parameter that the action does not know, by name: nothing is ignored.
    pub fn allow_only(&self, names: &[&str]) -> Result<(), Fault> {
        match self.parameters.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => {
                let message = format!(
                    "parameter `{}` is not supported by `{}`",
                    shown(name),
                    shown(&self.action)
                );
                Err(Fault::sender("InvalidQueryParameter", &message))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Call({} {}, {:?})",
            self.action,
            self.version,
            self.parameters.keys().collect::<Vec<_>>()
        )
    }
}

/// What a raw `+` means.
#[derive(Clone, Copy)]
enum Plus {
    Space,
    Refused,
}

fn pairs(text: &str, plus: Plus) -> Result<BTreeMap<String, String>, Fault> {
    let mut parameters = BTreeMap::new();
    if text.is_empty() {
        return Ok(parameters);
    }
    for piece in text.split('&') {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let name = decode(name, plus).filter(|name| !name.is_empty());
        let (Some(name), Some(value)) = (name, decode(value, plus)) else {
            return Err(Fault::malformed("the parameters are not form-encoded"));
        };
        if parameters.contains_key(&name) {
            return Err(Fault::malformed(&format!("parameter `{}` is repeated", shown(&name))));
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// A presigned call carries its signature among its parameters. The verifier has read it; it is no parameter of the action.
fn drop_signature(parameters: &mut BTreeMap<String, String>) -> Result<(), Fault> {
    const SIGNATURE: [&str; 7] = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    ];
    parameters.retain(|name, _| !SIGNATURE.contains(&name.as_str()));
    match parameters.keys().find(|name| name.to_ascii_lowercase().starts_with("x-amz-")) {
        Some(name) => Err(Fault::malformed(&format!("parameter `{}` is not known", shown(name)))),
        None => Ok(()),
    }
}

fn decode(text: &str, plus: Plus) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let value = match (byte, plus) {
            (b'%', _) => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            (b'+', Plus::Space) => b' ',
            (b'+', Plus::Refused) => return None,
            (b';' | b'#', _) => return None,
            (0x21..=0x7e, _) => byte,
            _ => return None,
        };
        if value == 0 {
            return None;
        }
        decoded.push(value);
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A caller's name as a message may show it.
fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(query: &str, body: &str, expected: Result<&[(&str, &str)], &str>) {
        let parsed = Call::parse(query, body);
        let found = parsed.as_ref().map(|call| {
            let mut all =
                vec![("Action", call.action.as_str()), ("Version", call.version.as_str())];
            all.extend(call.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            all
        });
        let found = found.map_err(|fault| fault.code.as_str());
        assert_eq!(found, expected.map(<[_]>::to_vec), "{query:?} {body:?}");
    }

    #[test]
    fn reads_a_call_strictly() {
        let who = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")];
        check("", "Action=GetCallerIdentity&Version=2011-06-15", Ok(&who));
        check("Action=GetCallerIdentity&Version=2011-06-15", "", Ok(&who));
        check("", "Version=2011-06-15&Action=GetCallerIdentity", Ok(&who));
        let signed = "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Date=20150830T123600Z&X-Amz-Signature=00";
        check(signed, "", Ok(&who));
        let spaced = [("Action", "A"), ("Version", "V"), ("Note", "a b&c=d ሴ"), ("Other", "")];
        check("", "Action=A&Version=V&Note=a+b%26c=d%20%E1%88%B4&Other=", Ok(&spaced));
        check("", "Action=A&Version=V&Note=a+b%26c%3Dd+%e1%88%b4&Other", Ok(&spaced));
        check("", "", Err("MissingAction"));
        check("", "Version=V", Err("MissingAction"));
        check("", "Action=&Version=V", Err("MissingAction"));
        check("", "Action=A", Err("MissingParameter"));
        check("", "action=A&Version=V", Err("MissingAction"));
        // One action checked and another done
        check("Action=A&Version=V", "Action=B&Version=V", Err("MalformedQueryString"));
        check("Action=A", "Version=V", Err("MalformedQueryString"));
        // Duplicates, also under another spelling
        check("", "Action=A&Action=B&Version=V", Err("MalformedQueryString"));
        check("", "Action=A&%41ction=B&Version=V", Err("MalformedQueryString"));
        check("", "Action=A&Version=V&Note=1&Note=1", Err("MalformedQueryString"));
        // Encodings that readers take differently
        for note in ["%", "%4", "%zz", "%00", "%C0%AF", "%ff", "a;b", "a#b", "a b", "a\nb", "ሴ"] {
            check("", &format!("Action=A&Version=V&Note={note}"), Err("MalformedQueryString"));
        }
        check("Action=A&Version=V&Note=a+b", "", Err("MalformedQueryString"));
        check("", "Action=A&&Version=V", Err("MalformedQueryString"));
        check("", "Action=A&Version=V&=x", Err("MalformedQueryString"));
        check("Action=A&Version=V&x-amz-credential=victim", "", Err("MalformedQueryString"));
        check("Action=A&Version=V&X-Amz-Foo=1", "", Err("MalformedQueryString"));
    }

    #[test]
    fn parameters_are_asked_for_by_name() {
        let call = Call::parse(
            "",
            "Action=AssumeRole&Version=V&RoleArn=r&Empty=&DurationSeconds=900&Bad=%2B9",
        )
        .unwrap();
        assert_eq!(call.required("RoleArn"), Ok("r"));
        assert_eq!(call.required("Empty").unwrap_err().code, "MissingParameter");
        assert_eq!(call.required("Absent").unwrap_err().code, "MissingParameter");
        assert_eq!(call.integer("DurationSeconds"), Ok(Some(900)));
        assert_eq!(call.integer("Absent"), Ok(None));
        assert_eq!(call.integer("Bad").unwrap_err().code, "ValidationError");
        assert_eq!(call.integer("Empty").unwrap_err().code, "ValidationError");
        assert_eq!(call.allow_only(&["RoleArn", "Empty", "DurationSeconds", "Bad"]), Ok(()));
        let fault = call.allow_only(&["RoleArn", "Empty", "Bad"]).unwrap_err();
        assert!(fault.message.contains("`DurationSeconds`"), "{fault:?}");
    }

    #[test]
    fn values_are_not_printed() {
        let call = Call::parse("", "Action=A&Version=V&Password=hush").unwrap();
        assert_eq!(format!("{call:?}"), r#"Call(A V, ["Password"])"#);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(query in "[ -~é]{0,40}", body in "[ -~é]{0,40}") {
            let _ = Call::parse(&query, &body);
        }

        #[test]
        fn what_is_encoded_is_read_back(value in "[^\0]{0,20}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let call = Call::parse("", &format!("Action=A&Version=V&Note={encoded}")).unwrap();
            prop_assert_eq!(call.parameter("Note"), Some(value.as_str()));
        }
    }
}
