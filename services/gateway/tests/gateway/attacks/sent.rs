//! What is sent.

use serde_json::{Value, json};

use countersign_proto::token::v1::ExchangeRequest;

use crate::{
    ec2::{self, Ec2},
    forged::{DSA_OID, SHA1_OID, algorithm, document, open, tlv},
    idp::Idp,
    proofs::Workload,
    sts::{self, Answer, raw},
    system::System,
};

/// What is spoilt, and how. All else about it is good.
pub enum Shape {
    /// The JSON of a header-signed proof.
    Post(fn(&mut Value)),
    /// The JSON of a presigned one.
    Presigned(fn(&mut Value)),
    /// What the workload signs.
    Signed(fn(&mut Workload)),
    /// The request, after signing.
    Altered(fn(&mut ExchangeRequest)),
    /// STS's answer.
    Answer(fn(&System) -> Answer),
    /// The header and the claims of a JWT, signed by its issuer's key.
    Jwt(fn(&mut Value, &mut Value)),
    /// A JWT's text.
    JwtText(fn(&Idp, &Value, &str) -> String),
    /// An instance's envelope.
    Envelope(fn(&Ec2) -> String),
}

pub struct Row {
    pub line: u8,
    pub sent: &'static str,
    pub shape: Shape,
}

fn row(line: u8, sent: &'static str, shape: Shape) -> Row {
    Row { line, sent, shape }
}

fn post(line: u8, sent: &'static str, change: fn(&mut Value)) -> Row {
    row(line, sent, Shape::Post(change))
}

fn url(line: u8, sent: &'static str, change: fn(&mut Value)) -> Row {
    row(line, sent, Shape::Presigned(change))
}

fn jwt(line: u8, sent: &'static str, change: fn(&mut Value, &mut Value)) -> Row {
    row(line, sent, Shape::Jwt(change))
}

fn edit(value: &mut Value, from: &str, to: &str) {
    let text = value.as_str().unwrap();
    assert!(text.contains(from), "{text} has no {from}");
    *value = text.replacen(from, to, 1).into();
}

fn header(proof: &mut Value, name: &str, value: &str) {
    proof["headers"][name] = value.into();
}

fn without(proof: &mut Value, name: &str) {
    proof["headers"].as_object_mut().unwrap().remove(name).unwrap();
}

const AUDIENCE: &str = "x-countersign-audience";
const NAMESPACE: &str = "https://sts.amazonaws.com/";

pub fn rows() -> Vec<Row> {
    let mut rows = where_it_is_sent();
    rows.extend(what_is_asked());
    rows.extend(what_is_signed());
    rows.extend(time());
    rows.extend(answers());
    rows.extend(documents());
    rows.extend(instances());
    rows.extend(jwts());
    rows.extend(the_rest());
    rows
}

fn where_it_is_sent() -> Vec<Row> {
    vec![
        post(1, "`https://attacker.example/`", |p| p["url"] = "https://attacker.example/".into()),
        post(1, "the metadata service's name", |p| {
            p["url"] = "http://metadata.google.internal/".into()
        }),
        post(2, "`sts.amazonaws.com.evil.com`", |p| {
            p["url"] = "https://sts.amazonaws.com.evil.com/".into()
        }),
        post(2, "a dot at the end", |p| p["url"] = "https://sts.us-east-1.amazonaws.com./".into()),
        post(2, "`xsts.amazonaws.com`", |p| p["url"] = "https://xsts.amazonaws.com/".into()),
        post(2, "a Cyrillic letter", |p| p["url"] = "https://stѕ.us-east-1.amazonaws.com/".into()),
        post(2, "punycode", |p| p["url"] = "https://xn--sts-0ia.us-east-1.amazonaws.com/".into()),
        post(3, "a user in the URL", |p| p["url"] = "https://sts.amazonaws.com@evil.com/".into()),
        post(3, "a fragment", |p| p["url"] = "https://evil.com#@sts.amazonaws.com/".into()),
        post(3, "a backslash", |p| p["url"] = "https://sts.amazonaws.com\\@evil.com/".into()),
        post(3, "white space", |p| p["url"] = "https://sts.amazonaws.com /".into()),
        post(4, "another port", |p| p["url"] = "https://sts.amazonaws.com:8443/".into()),
        post(4, "the scheme's own port", |p| p["url"] = "https://sts.amazonaws.com:443/".into()),
        post(4, "the operator's endpoint at another port", |p| {
            p["url"] = "http://127.0.0.1:1/".into();
        }),
        post(5, "AWS in the clear", |p| p["url"] = "http://sts.us-east-1.amazonaws.com/".into()),
        post(5, "a file", |p| p["url"] = "file:///etc/passwd".into()),
        post(5, "`HTTPS+x`", |p| p["url"] = "HTTPS+x://sts.us-east-1.amazonaws.com/".into()),
        post(6, "`/abc`", |p| p["url"] = format!("{}abc", p["url"].as_str().unwrap()).into()),
        post(6, "`//`", |p| p["url"] = format!("{}/", p["url"].as_str().unwrap()).into()),
        post(6, "`/%2e%2e/`", |p| {
            p["url"] = format!("{}%2e%2e/", p["url"].as_str().unwrap()).into()
        }),
        post(6, "`/;x`", |p| p["url"] = format!("{};x", p["url"].as_str().unwrap()).into()),
        post(6, "no path", |p| p["url"] = p["url"].as_str().unwrap().trim_end_matches('/').into()),
        row(
            7,
            "STS redirects to the attacker",
            Shape::Answer(|_| Answer::Redirect("https://attacker.example/".into())),
        ),
        row(
            7,
            "STS redirects to link-local",
            Shape::Answer(|_| Answer::Redirect("http://169.254.169.254/".into())),
        ),
        post(8, "`169.254.169.254`", |p| p["url"] = "http://169.254.169.254/".into()),
        post(8, "`[fd00:ec2::254]`", |p| p["url"] = "https://[fd00:ec2::254]/".into()),
        post(8, "`0x7f.1`", |p| p["url"] = "http://0x7f.1/".into()),
        row(
            10,
            "another partition's STS",
            Shape::Signed(|w| {
                w.origin = "https://sts.cn-north-1.amazonaws.com.cn".into();
                w.region = "cn-north-1".into();
            }),
        ),
        row(
            10,
            "an ARN of another partition",
            Shape::Answer(|_| {
                sts::identity(&sts::ARN.replace("arn:aws:", "arn:aws-cn:"), sts::USER_ID)
            }),
        ),
        row(
            11,
            "a region that the host is not of",
            Shape::Signed(|w| w.region = "eu-west-1".into()),
        ),
        post(11, "a host as region", |p| {
            edit(&mut p["headers"]["authorization"], "us-east-1", "evil.com/x")
        }),
        post(11, "another service", |p| edit(&mut p["headers"]["authorization"], "/sts/", "/iam/")),
        post(11, "another terminator", |p| {
            edit(&mut p["headers"]["authorization"], "aws4_request", "aws5_request")
        }),
    ]
}

fn what_is_asked() -> Vec<Row> {
    vec![
        post(12, "`AssumeRoleWithWebIdentity`", |p| {
            edit(&mut p["body"], "GetCallerIdentity", "AssumeRoleWithWebIdentity")
        }),
        post(12, "`GetSessionToken`", |p| {
            edit(&mut p["body"], "GetCallerIdentity", "GetSessionToken")
        }),
        url(12, "`GetAccessKeyInfo`, presigned", |p| {
            edit(&mut p["url"], "GetCallerIdentity", "GetAccessKeyInfo")
        }),
        post(13, "one action in the query, one in the body", |p| {
            p["url"] = format!("{}?Action=GetSessionToken", p["url"].as_str().unwrap()).into();
        }),
        url(13, "a presigned request with a body", |p| p["body"] = "Action=GetSessionToken".into()),
        post(14, "a parameter twice, in the body", |p| {
            edit(&mut p["body"], "&Version", "&Action=X&Version")
        }),
        url(14, "a parameter twice, in the query", |p| {
            p["url"] = format!("{}&Action=X", p["url"].as_str().unwrap()).into()
        }),
        url(15, "`x-amz-credential` beside `X-Amz-Credential`", |p| {
            p["url"] = format!("{}&x-amz-credential=victim", p["url"].as_str().unwrap()).into();
        }),
        url(17, "`X-Amz-Foo`", |p| {
            p["url"] = format!("{}&X-Amz-Foo=1", p["url"].as_str().unwrap()).into()
        }),
        url(17, "`AWSAccessKeyId`", |p| {
            p["url"] = format!("{}&AWSAccessKeyId=AKIAX", p["url"].as_str().unwrap()).into()
        }),
        url(17, "`SignatureVersion=2`", |p| {
            p["url"] = format!("{}&SignatureVersion=2", p["url"].as_str().unwrap()).into()
        }),
        url(18, "`%41ction`", |p| edit(&mut p["url"], "Action=", "%41ction=")),
        url(18, "`%00`", |p| edit(&mut p["url"], "GetCallerIdentity", "GetCallerIdentity%00")),
        url(18, "overlong UTF-8", |p| {
            edit(&mut p["url"], "GetCallerIdentity", "GetCallerIdentity%C0%AF")
        }),
        url(18, "`;` for `&`", |p| edit(&mut p["url"], "&Version", ";Version")),
        post(18, "`+` in the body", |p| {
            edit(&mut p["body"], "GetCallerIdentity", "Get+CallerIdentity")
        }),
        post(19, "another version", |p| edit(&mut p["body"], "2011-06-15", "2010-05-08")),
        url(19, "another version, presigned", |p| edit(&mut p["url"], "2011-06-15", "2010-05-08")),
        url(20, "`AWS4-HMAC-SHA1`", |p| edit(&mut p["url"], "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")),
        post(20, "`AWS4-ECDSA-P256-SHA256`", |p| {
            edit(&mut p["headers"]["authorization"], "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
        }),
        post(21, "`PUT`", |p| p["method"] = "PUT".into()),
        post(21, "`HEAD`", |p| p["method"] = "HEAD".into()),
        post(21, "`post`", |p| p["method"] = "post".into()),
        post(21, "`GET` with a body", |p| p["method"] = "GET".into()),
        post(21, "`X-HTTP-Method-Override`", |p| header(p, "x-http-method-override", "GET")),
    ]
}

fn what_is_signed() -> Vec<Row> {
    vec![
        post(22, "no audience", |p| without(p, AUDIENCE)),
        row(
            22,
            "a proof for another service",
            Shape::Signed(|w| w.audience = "https://vault.example.com".into()),
        ),
        row(22, "our name and a slash", Shape::Signed(|w| w.audience.push('/'))),
        post(23, "an audience that is not signed", |p| {
            edit(&mut p["headers"]["authorization"], "x-countersign-audience;", "");
        }),
        url(23, "the same, presigned", |p| edit(&mut p["url"], "x-countersign-audience%3B", "")),
        post(23, "a binding that is not signed", |p| {
            edit(&mut p["headers"]["authorization"], ";x-countersign-binding", "");
        }),
        post(24, "`x-countersign-audience2` signed in its place", |p| {
            edit(
                &mut p["headers"]["authorization"],
                "x-countersign-audience;",
                "x-countersign-audience2;",
            );
        }),
        post(24, "two `SignedHeaders`", |p| {
            edit(
                &mut p["headers"]["authorization"],
                "SignedHeaders=",
                "SignedHeaders=host, SignedHeaders=",
            );
        }),
        post(24, "a name in capitals", |p| {
            edit(
                &mut p["headers"]["authorization"],
                "x-countersign-audience;",
                "X-Countersign-Audience;",
            );
        }),
        post(25, "two audiences, joined", |p| {
            let ours = p["headers"][AUDIENCE].as_str().unwrap().to_owned();
            header(p, AUDIENCE, &format!("{ours}, https://vault.example.com"));
        }),
        post(25, "a space before it", |p| {
            let ours = p["headers"][AUDIENCE].as_str().unwrap().to_owned();
            header(p, AUDIENCE, &format!(" {ours}"));
        }),
        post(25, "a folded line", |p| {
            let ours = p["headers"][AUDIENCE].as_str().unwrap().to_owned();
            header(p, AUDIENCE, &format!("{ours}\r\n x"));
        }),
        post(25, "a second one in capitals", |p| {
            header(p, "X-Countersign-Audience", "https://other.example")
        }),
        post(26, "`host`", |p| header(p, "host", "sts.amazonaws.com")),
        post(26, "`transfer-encoding`", |p| header(p, "transfer-encoding", "chunked")),
        post(26, "`content-length`", |p| header(p, "content-length", "0")),
        post(26, "`x-forwarded-for`", |p| header(p, "x-forwarded-for", "10.0.0.1")),
        post(26, "`proxy-authorization`", |p| header(p, "proxy-authorization", "x")),
        post(26, "CR and LF in a name", |p| header(p, "a\r\nb", "x")),
        post(26, "CR and LF in a value", |p| {
            header(p, "x-amz-security-token", "a\r\nHost: evil.com")
        }),
        post(27, "`accept`", |p| header(p, "accept", "application/json")),
        row(
            27,
            "JSON where XML was asked for",
            Shape::Answer(|_| raw(200, "application/json", "{}")),
        ),
        row(
            27,
            "HTML with an identity in it",
            Shape::Answer(|_| {
                raw(200, "text/html", sts::xml(sts::ARN, sts::USER_ID, sts::ACCOUNT))
            }),
        ),
        post(28, "a header that is not signed", |p| header(p, "x-amz-meta", "x")),
        post(29, "a signed header that STS would not get", |p| {
            edit(
                &mut p["headers"]["authorization"],
                "SignedHeaders=",
                "SignedHeaders=accept-encoding;",
            );
        }),
        post(29, "`x-amz-user-agent`", |p| header(p, "x-amz-user-agent", "aws-sdk-rust")),
        row(30, "a wider scope", Shape::Altered(|r| r.scope = "orders:*".into())),
        row(30, "another audience", Shape::Altered(|r| r.audience = "payments".into())),
        row(
            30,
            "another role",
            Shape::Altered(|r| r.role_arn = "arn:aws:iam::000000000000:role/Admin".into()),
        ),
        row(30, "a longer session", Shape::Altered(|r| r.duration_seconds = 43_200)),
        post(30, "no binding", |p| without(p, "x-countersign-binding")),
    ]
}

fn time() -> Vec<Row> {
    vec![
        url(31, "`X-Amz-Expires=604800`", |p| {
            edit(&mut p["url"], "X-Amz-Expires=60", "X-Amz-Expires=604800")
        }),
        url(31, "`-1`", |p| edit(&mut p["url"], "X-Amz-Expires=60", "X-Amz-Expires=-1")),
        url(31, "`60.0`", |p| edit(&mut p["url"], "X-Amz-Expires=60", "X-Amz-Expires=60.0")),
        url(31, "`+60`", |p| edit(&mut p["url"], "X-Amz-Expires=60", "X-Amz-Expires=%2B60")),
        url(31, "none", |p| edit(&mut p["url"], "X-Amz-Expires=60&", "")),
        row(32, "two minutes old", Shape::Signed(|w| w.now -= 120)),
        row(32, "of 2020", Shape::Signed(|w| w.now = 1_577_836_800)),
        row(33, "two minutes ahead", Shape::Signed(|w| w.now += 120)),
        row(33, "of next year", Shape::Signed(|w| w.now += 31_536_000)),
        post(34, "a day that the scope is not of", |p| header(p, "x-amz-date", "20200101T000000Z")),
        post(34, "`Date` as well", |p| header(p, "date", "Tue, 14 Nov 2023 22:13:20 GMT")),
        post(34, "another format", |p| header(p, "x-amz-date", "2026-11-24T00:00:00Z")),
        post(37, "the signature in capitals", |p| {
            let text = p["headers"]["authorization"].as_str().unwrap();
            let (head, signature) = text.rsplit_once('=').unwrap();
            p["headers"]["authorization"] = format!("{head}={}", signature.to_uppercase()).into();
        }),
        url(37, "another escape of the same query", |p| edit(&mut p["url"], "%2F", "%2f")),
        post(38, "a challenge that nobody gave", |p| header(p, "x-countersign-challenge", "nonce")),
        row(38, "the same, signed", Shape::Signed(|w| w.challenge = Some("nonce".into()))),
    ]
}

fn answers() -> Vec<Row> {
    fn good() -> String {
        sts::xml(sts::ARN, sts::USER_ID, sts::ACCOUNT)
    }
    let answer = |line, sent, make: fn(&System) -> Answer| row(line, sent, Shape::Answer(make));
    vec![
        answer(41, "junk before", |_| raw(200, "text/xml", format!("x{}", good()))),
        answer(41, "junk after", |_| raw(200, "text/xml", format!("{}<x/>", good()))),
        answer(41, "two results", |_| {
            let close = "</GetCallerIdentityResponse>";
            raw(
                200,
                "text/xml",
                good().replace(close, &format!("<GetCallerIdentityResult/>{close}")),
            )
        }),
        answer(41, "an entity", |_| {
            raw(200, "text/xml", format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{}", good()))
        }),
        answer(41, "another namespace", |_| {
            raw(200, "text/xml", good().replace("2011-06-15", "2010-05-08"))
        }),
        answer(41, "an element inside the ARN", |_| {
            raw(200, "text/xml", good().replace("App/", "App/<b/>"))
        }),
        answer(42, "404 with an identity", |_| raw(404, "text/xml", good())),
        answer(42, "201 with an identity", |_| raw(201, "text/xml", good())),
        answer(43, "a megabyte", |_| {
            raw(200, "text/xml", format!("{}{}", good(), " ".repeat(1 << 20)))
        }),
        answer(44, "`Throttling`", |_| sts::error(400, "Throttling")),
        answer(44, "503 with an identity", |_| raw(503, "text/xml", good())),
        answer(47, "the same role's name in another account", |_| {
            sts::identity(&sts::ARN.replace(sts::ACCOUNT, "210987654321"), sts::USER_ID)
        }),
        answer(48, "a session's name with a slash", |_| {
            sts::identity(
                "arn:aws:sts::123456789012:assumed-role/App/i-0abc/x",
                "AROAEXTERNAL123456789:i-0abc/x",
            )
        }),
        answer(49, "the root", |_| sts::identity("arn:aws:iam::123456789012:root", "123456789012")),
        answer(49, "a federated user", |_| {
            sts::identity("arn:aws:sts::123456789012:federated-user/bob", "123456789012:bob")
        }),
        answer(49, "two parts", |_| {
            sts::identity("arn:aws:sts::123456789012:assumed-role/x", sts::USER_ID)
        }),
        answer(49, "a user with a role's id", |_| {
            sts::identity("arn:aws:iam::123456789012:user/a", "AROAEXTERNAL123456789")
        }),
        answer(50, "another account than the ARN's", |_| {
            raw(200, "text/xml", sts::xml(sts::ARN, sts::USER_ID, "210987654321"))
        }),
        answer(50, "another session than the ARN's", |_| {
            raw(200, "text/xml", sts::xml(sts::ARN, "AROAEXTERNAL123456789:other", sts::ACCOUNT))
        }),
    ]
}

fn documents() -> Vec<Row> {
    vec![row(
        54,
        "a document of a form that is not taken",
        Shape::Altered(|r| {
            r.subject_token_type = "urn:countersign:proof:ec2-instance-identity-pkcs7".into();
        }),
    )]
}

fn jwts() -> Vec<Row> {
    vec![
        jwt(58, "`none`", |h, _| h["alg"] = "none".into()),
        jwt(58, "`HS256`", |h, _| h["alg"] = "HS256".into()),
        jwt(58, "an algorithm of another key", |h, _| h["alg"] = "ES384".into()),
        row(
            58,
            "no signature",
            Shape::JwtText(|idp, header, claims| {
                let token = idp.sign_as(header, claims);
                format!("{}.", token.rsplit_once('.').unwrap().0)
            }),
        ),
        jwt(59, "`jwk`", |h, _| h["jwk"] = json!({"kty": "EC"})),
        jwt(59, "`jku`", |h, _| h["jku"] = "https://evil.com/keys".into()),
        jwt(59, "`x5u`", |h, _| h["x5u"] = "https://evil.com/cert".into()),
        jwt(59, "`x5c`", |h, _| h["x5c"] = json!(["AA"])),
        jwt(60, "`../../dev/null`", |h, _| h["kid"] = "../../dev/null".into()),
        jwt(60, "SQL", |h, _| h["kid"] = "' or 1=1 --".into()),
        jwt(60, "a kilobyte", |h, _| h["kid"] = "k".repeat(1024).into()),
        jwt(60, "unknown", |h, _| h["kid"] = "unknown".into()),
        jwt(61, "`crit`", |h, _| h["crit"] = json!(["exp"])),
        jwt(61, "`b64`", |h, _| h["b64"] = false.into()),
        jwt(62, "`at+jwt`", |h, _| h["typ"] = "at+jwt".into()),
        jwt(62, "`logout+jwt`", |h, _| h["typ"] = "logout+jwt".into()),
        jwt(62, "none", |h, _| drop(h.as_object_mut().unwrap().remove("typ"))),
        jwt(63, "no `aud`", |_, c| drop(c.as_object_mut().unwrap().remove("aud"))),
        jwt(63, "no `iss`", |_, c| drop(c.as_object_mut().unwrap().remove("iss"))),
        jwt(63, "no `sub`", |_, c| drop(c.as_object_mut().unwrap().remove("sub"))),
        jwt(63, "no `iat`", |_, c| drop(c.as_object_mut().unwrap().remove("iat"))),
        jwt(63, "no `jti`", |_, c| drop(c.as_object_mut().unwrap().remove("jti"))),
        jwt(64, "two audiences", |_, c| {
            let ours = c["aud"][0].clone();
            c["aud"] = json!([ours, "https://other.example.com"]);
        }),
        jwt(65, "an issuer that is not configured", |_, c| {
            c["iss"] = "https://99999999.tokens.sts.global.api.aws".into();
        }),
        jwt(65, "another account", |_, c| c[NAMESPACE]["aws_account"] = "210987654321".into()),
        jwt(65, "an ARN of another account", |_, c| {
            c["sub"] = "arn:aws:iam::210987654321:role/App".into()
        }),
        jwt(66, "`iss` is the metadata service", |_, c| {
            c["iss"] = "http://169.254.169.254/".into()
        }),
        jwt(68, "`sts.amazonaws.com`", |_, c| c["aud"] = json!(["sts.amazonaws.com"])),
        jwt(69, "no `exp`", |_, c| drop(c.as_object_mut().unwrap().remove("exp"))),
        jwt(69, "`exp` in 2100", |_, c| c["exp"] = 4_102_444_800_i64.into()),
        jwt(69, "`exp` as text", |_, c| c["exp"] = c["exp"].to_string().into()),
        jwt(69, "`exp` as a float", |_, c| c["exp"] = json!(c["exp"].as_f64().unwrap())),
        jwt(69, "`nbf` ahead", |_, c| c["nbf"] = json!(c["iat"].as_i64().unwrap() + 300)),
        jwt(69, "`iat` ahead", |_, c| c["iat"] = json!(c["iat"].as_i64().unwrap() + 300)),
        jwt(69, "over", |_, c| c["exp"] = json!(c["iat"].as_i64().unwrap() + 1)),
        row(
            71,
            "a claim twice",
            Shape::JwtText(|idp, header, claims| {
                let claims = claims.strip_suffix('}').unwrap();
                idp.sign_as(header, &format!("{claims},\"sub\":\"x\"}}"))
            }),
        ),
        row(
            71,
            "nine deep",
            Shape::JwtText(|idp, header, claims| {
                let claims = claims.strip_suffix('}').unwrap();
                idp.sign_as(header, &format!("{claims},\"x\":{}{}}}", "[".repeat(8), "]".repeat(8)))
            }),
        ),
        row(71, "17 KiB", Shape::JwtText(|_, _, _| "a".repeat(17 * 1024))),
    ]
}

fn the_rest() -> Vec<Row> {
    vec![
        row(
            78,
            "an STS proof called a token",
            Shape::Altered(|r| {
                r.subject_token_type = "urn:ietf:params:oauth:token-type:access_token".into();
            }),
        ),
        row(
            78,
            "an STS proof called a JWT",
            Shape::Altered(|r| r.subject_token_type = super::JWT.into()),
        ),
        row(
            78,
            "a type that there is not",
            Shape::Altered(|r| {
                r.subject_token_type = "urn:ietf:params:oauth:token-type:saml2".into();
            }),
        ),
        row(84, "a proof of 17 KiB", Shape::Altered(|r| r.subject_token = "A".repeat(17 * 1024))),
        post(84, "a session token of 9 KiB", |p| {
            header(p, "x-amz-security-token", &"x".repeat(9 * 1024))
        }),
        post(84, "forty headers", |p| {
            for number in 0..40 {
                header(p, &format!("x-{number}"), "x");
            }
        }),
        row(
            85,
            "an STS that may not speak for the account",
            Shape::Answer(|_| {
                sts::identity("arn:aws:iam::000000000000:user/team/alice", "AIDALOCAL123456789012")
            }),
        ),
    ]
}

fn instances() -> Vec<Row> {
    fn envelope(line: u8, sent: &'static str, make: fn(&Ec2) -> String) -> Row {
        row(line, sent, Shape::Envelope(make))
    }
    fn other() -> String {
        document(ec2::ACCOUNT, ec2::REGION, "i-1234abcd", &ec2::launched(60))
    }
    fn of(account: &str, region: &str) -> String {
        document(account, region, ec2::ID, &ec2::launched(60))
    }
    vec![
        envelope(52, "another document in the envelope", |aws| {
            aws.spoilt(|p| p.content = open(0xa0, &open(0x24, &tlv(4, other().as_bytes()))))
        }),
        envelope(52, "a second document behind the first", |aws| {
            let both = [tlv(4, ec2::good().as_bytes()), tlv(4, other().as_bytes())].concat();
            aws.spoilt(|p| p.content = open(0xa0, &open(0x24, &both)))
        }),
        envelope(52, "a signature without its document", |aws| aws.spoilt(|p| p.content.clear())),
        envelope(52, "the document without its signature", |_| ec2::good()),
        envelope(53, "the region's certificate in the bag, another's signature", |aws| {
            aws.spoilt(|p| {
                p.certificates = tlv(0xa0, &aws.west.certificate());
                p.sign(&aws.stranger);
            })
        }),
        envelope(53, "the signer's own certificate in the bag", |aws| {
            aws.spoilt(|p| {
                p.certificates = tlv(0xa0, &aws.stranger.certificate());
                p.sign(&aws.stranger);
            })
        }),
        envelope(53, "a signer of another name", |aws| aws.spoilt(|p| p.serial = tlv(2, &[9]))),
        envelope(54, "SHA-1", |aws| aws.spoilt(|p| p.digest_algorithm = algorithm(SHA1_OID))),
        envelope(54, "DSA", |aws| aws.spoilt(|p| p.signature_algorithm = algorithm(DSA_OID))),
        envelope(54, "two signers", |aws| aws.spoilt(|p| p.signers = 2)),
        envelope(54, "no signed attributes", |aws| {
            aws.spoilt(|p| {
                p.attributes = None;
                p.signature = aws.west.sign(ec2::good().as_bytes());
            })
        }),
        envelope(54, "the bare signature", |aws| {
            use base64::Engine;
            let signature = aws.west.sign(ec2::good().as_bytes());
            base64::engine::general_purpose::STANDARD.encode(signature)
        }),
        envelope(55, "another region's certificate", |aws| {
            aws.signed(&aws.east, &of(ec2::ACCOUNT, ec2::REGION))
        }),
        envelope(55, "a path for a region", |aws| {
            aws.signed(&aws.west, &of(ec2::ACCOUNT, "../us-west-2"))
        }),
        envelope(55, "an account that is not listed", |aws| {
            aws.signed(&aws.west, &of("210987654321", ec2::REGION))
        }),
        envelope(55, "the account twice", |aws| {
            let twice = ec2::good()
                .replace("\"kernelId\"", "\"account\\u0049d\" : \"210987654321\", \"kernelId\"");
            aws.signed(&aws.west, &twice)
        }),
        envelope(56, "started in the future", |aws| {
            let text = document(ec2::ACCOUNT, ec2::REGION, ec2::ID, &ec2::launched(-600));
            aws.signed(&aws.west, &text)
        }),
    ]
}
