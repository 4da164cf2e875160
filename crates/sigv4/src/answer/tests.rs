//! ATTACKS.md section E: each row names its line.

use proptest::prelude::*;

use super::*;

const ROLE_ARN: &str = "arn:aws:sts::123456789012:assumed-role/Deploy/i-0abc";
const ROLE_ID: &str = "AROA123456789EXAMPLE:i-0abc";
const ACCOUNT: &str = "123456789012";

fn xml_of(arn: &str, user_id: &str, account: &str) -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <GetCallerIdentityResult>\n    \
         <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  \
         </GetCallerIdentityResult>\n  <ResponseMetadata>\n    <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n  \
         </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
    )
}

fn good() -> String {
    xml_of(ROLE_ARN, ROLE_ID, ACCOUNT)
}

fn good_json() -> String {
    format!(
        r#"{{"GetCallerIdentityResponse":{{"GetCallerIdentityResult":{{"Account":"{ACCOUNT}","Arn":"{ROLE_ARN}","UserId":"{ROLE_ID}"}},"ResponseMetadata":{{"RequestId":"x"}}}}}}"#
    )
}

fn code(status: u16, content_type: &str, body: &str, format: AnswerFormat) -> &'static str {
    parse_answer(status, content_type, body.as_bytes(), format, UniqueIds::Aws)
        .map_or_else(|error| error.code(), |_| "ok")
}

fn check(attack: u8, body: &str, expected: &str) {
    assert_eq!(code(200, "text/xml", body, AnswerFormat::Xml), expected, "attack {attack}: {body}");
}

fn check_json(attack: u8, body: &str, expected: &str) {
    assert_eq!(
        code(200, "application/json", body, AnswerFormat::Json),
        expected,
        "attack {attack}: {body}"
    );
}

#[test]
fn awss_own_answers_are_read() {
    // STS API Reference, GetCallerIdentity, examples.
    let role = parse_answer(200, "text/xml", good().as_bytes(), AnswerFormat::Xml, UniqueIds::Aws)
        .unwrap();
    assert_eq!((role.partition(), role.account(), role.arn()), ("aws", ACCOUNT, ROLE_ARN));
    assert_eq!((role.unique_id(), role.session_name()), ("AROA123456789EXAMPLE", Some("i-0abc")));
    let kind =
        CallerKind::AssumedRole { role_name: "Deploy".into(), session_name: "i-0abc".into() };
    assert_eq!(role.kind(), &kind);
    assert_eq!(
        parse_answer(
            200,
            "application/json",
            good_json().as_bytes(),
            AnswerFormat::Json,
            UniqueIds::Aws
        )
        .as_ref(),
        Ok(&role)
    );
    let body = xml_of("arn:aws:iam::123456789012:user/Alice", "AIDACKCEVSQ6C2EXAMPLE", ACCOUNT);
    let user = parse_answer(
        200,
        "text/xml;charset=UTF-8",
        body.as_bytes(),
        AnswerFormat::Xml,
        UniqueIds::Aws,
    )
    .unwrap();
    assert_eq!((user.unique_id(), user.session_name()), ("AIDACKCEVSQ6C2EXAMPLE", None));
    let body =
        xml_of("arn:aws:iam::123456789012:user/t&amp;&lt;/Alice", "AIDACKCEVSQ6C2EXAMPLE", ACCOUNT);
    let user =
        parse_answer(200, "text/xml", body.as_bytes(), AnswerFormat::Xml, UniqueIds::Aws).unwrap();
    assert_eq!(user.kind(), &CallerKind::User { path_and_name: "t&</Alice".into() });
    let body = xml_of("arn:aws:iam::123456789012:root", ACCOUNT, ACCOUNT);
    let root =
        parse_answer(200, "text/xml", body.as_bytes(), AnswerFormat::Xml, UniqueIds::Aws).unwrap();
    assert_eq!((root.kind(), root.unique_id()), (&CallerKind::Root, ACCOUNT));
    let body = xml_of("arn:aws:sts::123456789012:federated-user/Bob", "123456789012:Bob", ACCOUNT);
    let federated =
        parse_answer(200, "text/xml", body.as_bytes(), AnswerFormat::Xml, UniqueIds::Aws).unwrap();
    assert_eq!(federated.unique_id(), "123456789012:Bob");
    // moto 5.2.5: one line, other order.
    check(
        41,
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><UserId>\
         AIDACKCEVSQ6C2EXAMPLE</UserId><Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/Alice</Arn>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>x</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>",
        "ok",
    );
    check(41, &format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{}", good()), "ok");
}

#[test]
fn the_grammar_is_strict() {
    let good = good();
    let edit = |old: &str, new: &str| {
        assert!(good.contains(old), "{old}");
        good.replacen(old, new, 1)
    };
    let result = "<GetCallerIdentityResult>";
    let whole_result = &good[good.find(result).unwrap()..good.find("<ResponseMetadata>").unwrap()];
    let sections = [
        format!("junk{good}"),
        format!("{good}junk"),
        format!("{good}{good}"),
        format!("{good}<!-- c -->"),
        format!("\u{feff}{good}"),
        format!("<?xml version=\"1.1\"?>{good}"),
        format!(" <?xml version=\"1.0\"?>{good}"),
        format!("<!DOCTYPE a>{good}"),
        format!("<!DOCTYPE a [<!ENTITY x \"y\">]>{good}"),
        format!("<?pi x?>{good}"),
        format!("{{\"a\":\"{good}\"}}"),
        edit("/doc/2011-06-15/", "/doc/2010-05-08/"),
        edit(" xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"", ""),
        edit(" xmlns=", " a=\"b\" xmlns="),
        edit("15/\">", "15/\" a=\"b\">"),
        edit(result, "<GetCallerIdentityResult xmlns=\"urn:x\">"),
        edit(result, "<x:GetCallerIdentityResult>"),
        edit(result, &format!("{whole_result}{result}")),
        edit(whole_result, ""),
        edit(whole_result, "<Nested></Nested>"),
        edit(whole_result, &format!("<Nested>{whole_result}</Nested>")),
        edit(whole_result, "<GetCallerIdentityResult/>"),
        edit("<ResponseMetadata>", "<ResponseMetadata></ResponseMetadata><ResponseMetadata>"),
        edit("<RequestId>", "<Other>x</Other><RequestId>"),
        edit("<Arn>", "<Arn>x</Arn><Arn>"),
        edit("<Arn>", "<Extra>x</Extra><Arn>"),
        edit("<Arn>", "text<Arn>"),
        edit("<Arn>", "<Arn><b/>"),
        edit("<Arn>", "<arn>"),
        edit("<Arn>", "<Arn >x</Arn><Arn>"),
        edit("</Arn>", "</Brn>"),
        edit("</Arn>", ""),
        edit("<Arn>", "<Arn a=\"b\">"),
        edit("<Arn>", "<Arn><!-- c -->"),
        edit("<Arn>", "<Arn><![CDATA[x]]>"),
        edit("<Arn>", "<Arn>&#97;"),
        edit("<Arn>", "<Arn>&x;"),
        edit("<Arn>", "<Arn>&"),
        edit("<Arn>", "<Arn>]]>"),
        edit("<Arn>", "<Arn>\u{1}"),
        edit("GetCallerIdentityResponse ", "GetSessionTokenResponse "),
        good.replace("GetCallerIdentityResponse", "AssumeRoleResponse"),
        good.trim_end().trim_end_matches('>').to_owned(),
        "<a>".repeat(10_000),
        format!("<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">{}", "<a/>".repeat(40)),
        String::new(),
        good_json(),
    ];
    for body in sections {
        check(41, &body, "AnswerMalformed");
    }
    // A value may hold what looks like markup, escaped: it stays a value.
    let spoof = "&lt;Arn&gt;arn:aws:iam::123456789012:root&lt;/Arn&gt;";
    check(41, &xml_of(spoof, ROLE_ID, ACCOUNT), "ArnMalformed");
    check(41, &xml_of(&format!(" {ROLE_ARN}"), ROLE_ID, ACCOUNT), "ArnMalformed");
    let latin = [good.as_bytes(), &[0xff]].concat();
    assert_eq!(
        parse_answer(200, "text/xml", &latin, AnswerFormat::Xml, UniqueIds::Aws),
        Err(AnswerError::AnswerMalformed)
    );
}

#[test]
fn the_json_is_strict() {
    let good = good_json();
    check_json(41, &good, "ok");
    let edit = |old: &str, new: &str| {
        assert!(good.contains(old), "{old}");
        good.replacen(old, new, 1)
    };
    for body in [
        edit("\"Account\":", "\"Account\":\"x\",\"Account\":"),
        edit("\"Account\":", "\"account\":\"x\",\"Account\":"),
        edit(&format!("\"{ACCOUNT}\""), ACCOUNT),
        edit("{\"GetCallerIdentityResponse\"", "{\"x\":\"y\",\"GetCallerIdentityResponse\""),
        edit(
            "\"GetCallerIdentityResult\":",
            "\"GetCallerIdentityResult\":{},\"GetCallerIdentityResult\":",
        ),
        edit("\"x\"", "null"),
        edit("\"x\"", "{\"a\":{\"b\":{\"c\":\"d\"}}}"),
        edit("GetCallerIdentityResponse", "AssumeRoleResponse"),
        format!("{good}{good}"),
        format!("[{good}]"),
        "{}".to_owned(),
        "\"x\"".to_owned(),
        "{\"a\":".repeat(5000),
        String::new(),
        self::good(),
    ] {
        check_json(41, &body, "AnswerMalformed");
    }
}

#[test]
fn status_size_and_type_come_first() {
    let (xml, json) = (good(), good_json());
    for (attack, status, content_type, body, format, expected) in [
        (42, 400, "text/xml", &xml, AnswerFormat::Xml, "StsRefused"),
        (42, 403, "text/xml", &xml, AnswerFormat::Xml, "StsRefused"),
        (42, 201, "text/xml", &xml, AnswerFormat::Xml, "UnexpectedStatus"),
        (42, 204, "text/xml", &xml, AnswerFormat::Xml, "UnexpectedStatus"),
        (42, 0, "text/xml", &xml, AnswerFormat::Xml, "UnexpectedStatus"),
        (7, 302, "text/xml", &xml, AnswerFormat::Xml, "AnswerRedirected"),
        (7, 307, "text/xml", &xml, AnswerFormat::Xml, "AnswerRedirected"),
        (44, 500, "text/xml", &xml, AnswerFormat::Xml, "StsUnavailable"),
        (44, 503, "text/html", &xml, AnswerFormat::Xml, "StsUnavailable"),
        (44, 429, "", &xml, AnswerFormat::Xml, "StsUnavailable"),
        (27, 200, "application/json", &json, AnswerFormat::Xml, "AnswerTypeMismatch"),
        (27, 200, "text/xml", &xml, AnswerFormat::Json, "AnswerTypeMismatch"),
        (27, 200, "text/html", &xml, AnswerFormat::Xml, "AnswerTypeMismatch"),
        (27, 200, "application/xml", &xml, AnswerFormat::Xml, "AnswerTypeMismatch"),
        (27, 200, "", &xml, AnswerFormat::Xml, "AnswerTypeMismatch"),
        (27, 200, "text/xml; charset=utf-7", &xml, AnswerFormat::Xml, "AnswerTypeMismatch"),
        (27, 200, "text/xmlx", &xml, AnswerFormat::Xml, "AnswerTypeMismatch"),
        (27, 200, "Text/XML; Charset=\"UTF-8\"", &xml, AnswerFormat::Xml, "ok"),
        (43, 200, "text/xml", &" ".repeat(MAX_ANSWER + 1), AnswerFormat::Xml, "AnswerTooLarge"),
    ] {
        assert_eq!(
            code(status, content_type, body, format),
            expected,
            "attack {attack}: {status} {content_type}"
        );
    }
    let padded = format!("{xml}{}", " ".repeat(MAX_ANSWER - xml.len()));
    check(43, &padded, "ok");
}

#[test]
fn refusals_carry_stss_code() {
    let xml = |code: &str, message: &str| {
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
             <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  <RequestId>x</RequestId>\n</ErrorResponse>\n"
        )
    };
    let json = |code: &str| {
        format!(r#"{{"Error":{{"Code":"{code}","Message":"m","Type":"Sender"}},"RequestId":"x"}}"#)
    };
    let check = |status, content_type: &str, body: &str, format, expected: AnswerError| {
        assert_eq!(
            parse_answer(status, content_type, body.as_bytes(), format, UniqueIds::Aws),
            Err(expected),
            "{body}"
        );
    };
    let refused = |code: &str, message: &str| AnswerError::Refused {
        code: code.into(),
        message: message.into(),
    };
    let away = |status, code: Option<&str>| AnswerError::Unavailable {
        status,
        code: code.map(str::to_owned),
    };
    for code in ["SignatureDoesNotMatch", "ExpiredToken", "InvalidClientTokenId", "AccessDenied"] {
        check(403, "text/xml", &xml(code, "m\n\u{85}x"), AnswerFormat::Xml, refused("Unknown", ""));
        check(403, "text/xml", &xml(code, "m\nx"), AnswerFormat::Xml, refused(code, "mx"));
        check(403, "application/json", &json(code), AnswerFormat::Json, refused(code, "m"));
    }
    check(
        403,
        "text/xml",
        &xml("X", &"m".repeat(999)),
        AnswerFormat::Xml,
        refused("X", &"m".repeat(256)),
    );
    check(
        400,
        "text/xml",
        &xml("Throttling", "m"),
        AnswerFormat::Xml,
        away(400, Some("Throttling")),
    );
    check(
        400,
        "application/json",
        &json("Throttling"),
        AnswerFormat::Json,
        away(400, Some("Throttling")),
    );
    check(
        503,
        "text/xml",
        &xml("ServiceUnavailable", "m"),
        AnswerFormat::Xml,
        away(503, Some("ServiceUnavailable")),
    );
    check(502, "text/html", "<html>", AnswerFormat::Xml, away(502, None));
    check(403, "text/html", "<html>", AnswerFormat::Xml, refused("Unknown", ""));
    check(403, "text/xml", &xml("a b", "m"), AnswerFormat::Xml, refused("Unknown", ""));
    check(403, "text/xml", &xml("", "m"), AnswerFormat::Xml, refused("Unknown", ""));
    check(403, "application/json", "[1]", AnswerFormat::Json, refused("Unknown", ""));
}

#[test]
fn account_arn_and_user_id_agree() {
    let user = "arn:aws:iam::123456789012:user/Alice";
    let root = "arn:aws:iam::123456789012:root";
    let federated = "arn:aws:sts::123456789012:federated-user/Bob";
    for (attack, arn, user_id, account, expected) in [
        (
            48,
            "arn:aws:sts::123456789012:assumed-role/Deploy/a@b.c",
            "AROA123456789EXAMPLE:a@b.c",
            ACCOUNT,
            "ok",
        ),
        (49, "arn:aws:sts::123456789012:assumed-role/x", ROLE_ID, ACCOUNT, "ArnMalformed"),
        (
            49,
            "arn:aws:sts::123456789012:user/moto",
            "AKIAIOSFODNN7EXAMPLE",
            ACCOUNT,
            "ArnMalformed",
        ),
        (49, user, ROLE_ID, ACCOUNT, "UserIdMismatch"),
        (49, user, "AROA123456789EXAMPLE", ACCOUNT, "UserIdMismatch"),
        (49, user, "AKIAIOSFODNN7EXAMPLE", ACCOUNT, "UserIdMismatch"),
        (49, user, "AIDA", ACCOUNT, "UserIdMismatch"),
        (49, user, "AIDAckcevsq6c2example", ACCOUNT, "UserIdMismatch"),
        (49, user, "AIDACKCEVSQ6C2EXAMPLE:x", ACCOUNT, "UserIdMismatch"),
        (49, ROLE_ARN, "AIDACKCEVSQ6C2EXAMPLE", ACCOUNT, "UserIdMismatch"),
        (49, ROLE_ARN, "AIDACKCEVSQ6C2EXAMPLE:i-0abc", ACCOUNT, "UserIdMismatch"),
        (49, ROLE_ARN, "AROA123456789EXAMPLE", ACCOUNT, "UserIdMismatch"),
        (50, ROLE_ARN, "AROA123456789EXAMPLE:i-0abd", ACCOUNT, "UserIdMismatch"),
        (50, ROLE_ARN, "AROA123456789EXAMPLE:i-0abc:x", ACCOUNT, "UserIdMismatch"),
        (50, ROLE_ARN, ROLE_ID, "210987654321", "AccountMismatch"),
        (50, ROLE_ARN, ROLE_ID, "", "AccountMismatch"),
        (50, ROLE_ARN, ROLE_ID, " 123456789012", "AccountMismatch"),
        (50, root, "210987654321", ACCOUNT, "UserIdMismatch"),
        (50, root, "AIDACKCEVSQ6C2EXAMPLE", ACCOUNT, "UserIdMismatch"),
        (50, federated, "210987654321:Bob", ACCOUNT, "UserIdMismatch"),
        (50, federated, "123456789012:Eve", ACCOUNT, "UserIdMismatch"),
    ] {
        check(attack, &xml_of(arn, user_id, account), expected);
    }
    let role = parse_answer(200, "text/xml", good().as_bytes(), AnswerFormat::Xml, UniqueIds::Aws)
        .unwrap();
    assert_eq!(role.require_partition("aws"), Ok(()));
    assert_eq!(role.require_partition("aws-cn"), Err(AnswerError::PartitionMismatch)); // 10
}

proptest! {
    #[test]
    fn parsing_never_panics(status in 0_u16..700, body in "[ -~é<>&;/\"]{0,80}") {
        for format in [AnswerFormat::Xml, AnswerFormat::Json] {
            prop_assert!(parse_answer(status, format.content_type(), body.as_bytes(), format, UniqueIds::Aws).is_err());
        }
    }

    #[test]
    fn no_altered_answer_names_another_caller(position: usize, replacement in "[ -~]") {
        let expected = parse_answer(200, "text/xml", good().as_bytes(), AnswerFormat::Xml, UniqueIds::Aws).unwrap();
        let mut body = good().into_bytes();
        let position = position % body.len();
        body[position] = replacement.as_bytes()[0];
        if let Ok(found) = parse_answer(200, "text/xml", &body, AnswerFormat::Xml, UniqueIds::Aws) {
            // One character cannot change the account, nor the session in two places.
            prop_assert_eq!(found.account(), expected.account());
            prop_assert_eq!(found.session_name(), expected.session_name());
        }
    }
}

#[test]
fn a_private_sts_makes_ids_of_its_own_but_never_those_of_the_other_kind() {
    let answer = |arn: &str, user_id: &str| {
        format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{arn}</Arn>\
             <UserId>{user_id}</UserId><Account>123456789012</Account></GetCallerIdentityResult>\
             </GetCallerIdentityResponse>"
        )
    };
    let user = "arn:aws:iam::123456789012:user/u";
    let role = "arn:aws:sts::123456789012:assumed-role/R/s";
    let check = |arn: &str, user_id: &str, aws: bool, private: bool| {
        let body = answer(arn, user_id);
        for (unique_ids, expected) in [(UniqueIds::Aws, aws), (UniqueIds::Private, private)] {
            let found =
                parse_answer(200, "text/xml", body.as_bytes(), AnswerFormat::Xml, unique_ids);
            assert_eq!(found.is_ok(), expected, "{arn} {user_id} {unique_ids:?}: {found:?}");
        }
    };
    check(user, "AIDAEXAMPLEEXAMPLE01", true, true);
    check(user, "abcdefgh12345678ijkl", false, true);
    check(user, "AROAEXAMPLEEXAMPLE01", false, false);
    check(user, "abcdefgh12345678ijkl:s", false, false);
    check(user, "short", false, false);
    check(role, "AROAEXAMPLEEXAMPLE01:s", true, true);
    check(role, "abcdefgh12345678ijkl:s", false, true);
    check(role, "AIDAEXAMPLEEXAMPLE01:s", false, false);
    check(role, "abcdefgh12345678ijkl:other", false, false);
}

#[test]
fn a_refusal_in_a_private_stss_own_form_keeps_its_code() {
    let body = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<ErrorResponse><Errors><Error>\
                <Code>SignatureDoesNotMatch</Code><Message>no</Message></Error></Errors></ErrorResponse>";
    let found = parse_answer(
        403,
        "application/xml",
        body.as_bytes(),
        AnswerFormat::Xml,
        UniqueIds::Private,
    );
    let code = "SignatureDoesNotMatch".to_owned();
    assert_eq!(found, Err(AnswerError::Refused { code, message: "no".to_owned() }));
}
