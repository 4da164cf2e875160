//! Questions, read from the bytes that they come in, without a copy.
//!
//! It reads the plain form alone: every field at most once, nothing unknown, single-valued keys, no tags, no policy of the resource's, no
//! revision to wait for. Whatever is not of that form, or not well formed, is nobody's error here: it is read again by the general way,
//! which says what is wrong.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>, and `decision.proto` for the numbers.

use countersign_evaluator::compiled::Value;

/// Keys of one question, shared ones among them; more are not plain.
const MAX_KEYS: usize = 16;
/// Of all keys and values of a question, shared ones among them: less than the general way takes.
const MOST_BYTES: usize = 8 * 1024;
/// Of one text, and so of one value.
const MAX_TEXT: usize = 1024;
/// As the general way has it.
const MAX_ACTION: usize = 256;

/// Who wants to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    Token(&'a str),
    Principal(&'a str),
}

/// A question of Authorize, or one of a batch without its subject.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    pub action: &'a str,
    pub resource: &'a str,
    pub context: Pairs<'a>,
}

/// Of whom a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub subject: Subject<'a>,
    pub audience: &'a str,
}

/// Condition keys and their single values, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    pairs: [(&'a str, &'a str); MAX_KEYS],
    count: usize,
    bytes: usize,
}

impl<'a> Pairs<'a> {
    const NONE: Self = Self { pairs: [("", ""); MAX_KEYS], count: 0, bytes: 0 };

    fn push(&mut self, pair: (&'a str, &'a str)) -> Option<()> {
        *self.pairs.get_mut(self.count)? = pair;
        self.count += 1;
        self.bytes += pair.0.len() + pair.1.len();
        (self.bytes <= MOST_BYTES).then_some(())
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().take(self.count).copied()
    }

    /// As the evaluator takes them.
    pub fn values(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.iter().map(|(key, value)| (key, Value::One(value)))
    }
}

/// Reads an AuthorizeRequest.
pub fn question(bytes: &[u8]) -> Option<(Asked<'_>, Check<'_>)> {
    let (mut subject, mut audience, mut action, mut resource) = (None, None, None, None);
    let mut context = Pairs::NONE;
    for field in Fields(bytes) {
        let (number, payload) = field?;
        match number {
            1 => once(&mut subject, Subject::Token(text(payload, usize::MAX)?))?,
            2 => once(&mut subject, Subject::Principal(text(payload, MAX_TEXT)?))?,
            3 => once(&mut audience, text(payload, MAX_ACTION)?)?,
            5 => once(&mut action, text(payload, MAX_ACTION)?)?,
            6 => once(&mut resource, text(payload, MAX_TEXT)?)?,
            8 => context.push(pair(payload)?)?,
            _ => return None,
        }
    }
    let check = Check { action: action?, resource: resource?, context };
    Some((asked(subject?, audience)?, check))
}

/// A token is asked about by whom it is for; without that it is refused, and not here.
fn asked<'a>(subject: Subject<'a>, audience: Option<&'a str>) -> Option<Asked<'a>> {
    let audience = audience.unwrap_or_default();
    let is_whole = matches!(subject, Subject::Principal(_)) || !audience.is_empty();
    is_whole.then_some(Asked { subject, audience })
}

/// A batch: whom it is about, and its checks, each with the shared keys.
pub struct Batch<'a> {
    pub asked: Asked<'a>,
    shared: Pairs<'a>,
    bytes: &'a [u8],
}

/// Reads a BatchAuthorizeRequest, but for its checks.
pub fn batch(bytes: &[u8]) -> Option<Batch<'_>> {
    let (mut subject, mut audience) = (None, None);
    let mut shared = Pairs::NONE;
    for field in Fields(bytes) {
        let (number, payload) = field?;
        match number {
            1 => once(&mut subject, Subject::Token(text(payload, usize::MAX)?))?,
            2 => once(&mut subject, Subject::Principal(text(payload, MAX_TEXT)?))?,
            3 => once(&mut audience, text(payload, MAX_ACTION)?)?,
            4 => shared.push(pair(payload)?)?,
            5 => {}
            _ => return None,
        }
    }
    Some(Batch { asked: asked(subject?, audience)?, shared, bytes })
}

impl<'a> Batch<'a> {
    /// The checks, in order; `None` for one that is not plain.
    pub fn checks(&self) -> impl Iterator<Item = Option<Check<'a>>> {
        let shared = self.shared;
        let fields = Fields(self.bytes).flatten();
        fields.filter(|(number, _)| *number == 5).map(move |(_, payload)| check(payload, shared))
    }
}

fn check<'a>(bytes: &'a [u8], shared: Pairs<'a>) -> Option<Check<'a>> {
    let (mut action, mut resource, mut context) = (None, None, shared);
    for field in Fields(bytes) {
        let (number, payload) = field?;
        match number {
            1 => once(&mut action, text(payload, MAX_ACTION)?)?,
            2 => once(&mut resource, text(payload, MAX_TEXT)?)?,
            4 => context.push(pair(payload)?)?,
            _ => return None,
        }
    }
    Some(Check { action: action?, resource: resource?, context })
}

/// Reads an AuthorizeStreamRequest: the question's id, and the question.
pub fn streamed(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (mut id, mut question) = (None, None);
    for field in Fields(bytes) {
        let (number, payload) = field?;
        match number {
            1 => once(&mut id, text(payload, 128)?)?,
            2 => once(&mut question, payload)?,
            _ => return None,
        }
    }
    Some((id.unwrap_or_default(), question?))
}

/// The first subject that a question of a stream names, read no further than to it.
pub fn whom(bytes: &[u8]) -> Option<Subject<'_>> {
    let is_question = |field: &Option<(u64, &[u8])>| matches!(field, None | Some((2, _)));
    let (_, question) = Fields(bytes).find(is_question)??;
    let is_subject = |field: &Option<(u64, &[u8])>| matches!(field, None | Some((1 | 2, _)));
    match Fields(question).find(is_subject)?? {
        (1, payload) => text(payload, usize::MAX).map(Subject::Token),
        (_, payload) => text(payload, MAX_TEXT).map(Subject::Principal),
    }
}

/// An entry of a `map<string, ContextValue>` with a single value.
fn pair(bytes: &[u8]) -> Option<(&str, &str)> {
    let (mut key, mut value) = (None, None);
    for field in Fields(bytes) {
        let (number, payload) = field?;
        match number {
            1 => once(&mut key, text(payload, 256)?)?,
            2 => once(&mut value, single(payload)?)?,
            _ => return None,
        }
    }
    Some((key?, value?))
}

/// A ContextValue that is one value.
fn single(bytes: &[u8]) -> Option<&str> {
    let mut fields = Fields(bytes);
    let (number, payload) = fields.next()??;
    let value = text(payload, MAX_TEXT)?;
    (number == 1 && fields.0.is_empty()).then_some(value)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(value);
    Some(())
}

fn text(bytes: &[u8], most: usize) -> Option<&str> {
    if bytes.len() > most {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// The fields of a message that have a length, by number; `None` once for anything else, and then no more.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u64, &'a [u8])> {
        let tag = self.number()?;
        // Wire type 2: it has a length.
        if tag & 7 != 2 {
            return None;
        }
        let length = usize::try_from(self.number()?).ok()?;
        let (payload, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((tag >> 3, payload))
    }

    /// A number of at most four bytes, seven bits in each.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..4 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use countersign_proto::decision::v1::{
        AuthorizeRequest, ContextValue, StringSet, authorize_request, context_value::Kind,
    };
    use prost::Message;

    use super::*;

    fn value(text: &str) -> ContextValue {
        ContextValue { kind: Some(Kind::Value(text.into())) }
    }

    fn request() -> AuthorizeRequest {
        AuthorizeRequest {
            subject: Some(authorize_request::Subject::PrincipalArn("arn".into())),
            action: "a:B".into(),
            resource: "r".into(),
            context: [("k:a".to_owned(), value("x")), ("k:b".to_owned(), value(""))].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_plain_question_is_read_as_it_was_written() {
        let bytes = request().encode_to_vec();
        let (asked, check) = question(&bytes).unwrap();
        assert_eq!(asked, Asked { subject: Subject::Principal("arn"), audience: "" });
        assert_eq!((check.action, check.resource), ("a:B", "r"));
        let mut pairs: Vec<_> = check.context.iter().collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [("k:a", "x"), ("k:b", "")]);
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_way() {
        fn check(change: impl FnOnce(&mut AuthorizeRequest)) {
            let mut request = request();
            change(&mut request);
            assert!(question(&request.encode_to_vec()).is_none(), "{:?}", request.context);
        }
        check(|r| r.subject = None);
        check(|r| r.resource_account = "1".into());
        check(|r| r.resource_policy_document = "{}".into());
        check(|r| r.at_least_revision = "a:1".into());
        check(|r| r.proof_of_possession = Some(Default::default()));
        check(|r| drop(r.resource_tags.insert("a".into(), "b".into())));
        check(|r| r.subject = Some(authorize_request::Subject::Token("t".into())));
        check(|r| {
            let long = |n: u8| (format!("k:{n}{}", "k".repeat(200)), value(&"v".repeat(1000)));
            r.context = (0..8).map(long).collect();
        });
        check(|r| r.action = "a".repeat(257));
        check(|r| r.resource = "a".repeat(2000));
        check(|r| {
            let kind = Some(Kind::Values(StringSet { items: vec!["x".into()] }));
            r.context.insert("k:c".into(), ContextValue { kind });
        });
        check(|r| drop(r.context.insert("k:c".into(), ContextValue { kind: None })));
        check(|r| r.context.extend((0..20).map(|n| (format!("k:{n}"), value("x")))));
        // A field twice, a field that nobody knows, and a message that ends too early.
        let twice = [request().encode_to_vec(), vec![0x2a, 1, b'x']].concat();
        assert!(question(&twice).is_none());
        let unknown = [request().encode_to_vec(), vec![0xfa, 1, 1, b'x']].concat();
        assert!(question(&unknown).is_none());
        let number = [request().encode_to_vec(), vec![0x60, 1]].concat();
        assert!(question(&number).is_none());
        let bytes = request().encode_to_vec();
        for end in 0..bytes.len() {
            if let Some((_, check)) = bytes.get(..end).and_then(question) {
                // Cut between two fields, it is a question with fewer keys.
                assert!(check.context.iter().count() < 2);
            }
        }
    }
}
