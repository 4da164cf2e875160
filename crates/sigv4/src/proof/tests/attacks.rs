//! ATTACKS.md sections A to D, as far as a parser can refuse them: each row names its line.

use super::*;

fn replace(value: &mut Value, old: &str, new: &str) {
    let text = value.as_str().unwrap();
    assert!(text.contains(old), "{text} has no {old}");
    *value = text.replace(old, new).into();
}

/// Spoils the presigned url.
fn check_url(attack: u8, old: &str, new: &str, expected: &str) {
    check(attack, get, |it| replace(&mut it["url"], old, new), expected);
}

/// Spoils a header of the post, the authorization most often.
fn check_header(attack: u8, name: &str, old: &str, new: &str, expected: &str) {
    check(attack, post, |it| replace(&mut it["headers"][name], old, new), expected);
}

/// A presigned proof of another life than sixty seconds.
fn presigned_for(expires: u32) -> String {
    let headers = [(AUDIENCE, US), (BINDING, BOUND)];
    let url = format!("{ORIGIN}/?{BODY}");
    let request = UnsignedRequest { method: "GET", url: &url, headers: &headers, body: b"" };
    let url = presign(&request, &credentials(), REGION, "sts", NOW, expires).unwrap();
    seal(
        &json!({"method": "GET", "url": url, "headers": {AUDIENCE: US, BINDING: BOUND}})
            .to_string(),
    )
}

#[test]
fn a_where_the_proof_is_sent() {
    for (attack, url, expected) in [
        (1, "https://attacker.example/", "HostNotAllowed"),
        (2, "https://sts.eu-west-1.amazonaws.com.evil.com/", "HostNotAllowed"),
        (2, "https://sts.eu-west-1.amazonaws.com./", "HostMalformed"),
        (2, "https://xsts.eu-west-1.amazonaws.com/", "HostNotAllowed"),
        (2, "https://sts.eu-west-1.amazonaws.com%2eevil.com/", "HostMalformed"),
        (2, "https://xn--sts-0ia.eu-west-1.amazonaws.com/", "HostNotAllowed"),
        (2, "https://stѕ.eu-west-1.amazonaws.com/", "UrlCharacterNotAllowed"),
        (2, "https://STS.eu-west-1.amazonaws.com/", "HostMalformed"),
        (3, "https://sts.eu-west-1.amazonaws.com@evil.com/", "UserinfoNotAllowed"),
        (3, "https://u:p@sts.eu-west-1.amazonaws.com/", "UserinfoNotAllowed"),
        (3, "https://evil.com#@sts.eu-west-1.amazonaws.com/", "FragmentNotAllowed"),
        (3, "https://sts.eu-west-1.amazonaws.com/#", "FragmentNotAllowed"),
        (3, "https://sts.eu-west-1.amazonaws.com\\@evil.com/", "UrlCharacterNotAllowed"),
        (3, "https://sts.eu-west-1.amazonaws.com/ ", "UrlCharacterNotAllowed"),
        (3, "https://sts.eu-west-1.amazonaws.com/\r\n", "UrlCharacterNotAllowed"),
        (3, "https://sts.eu-west-1.amazonaws.com\t/", "UrlCharacterNotAllowed"),
        (4, "https://sts.eu-west-1.amazonaws.com:8443/", "HostNotAllowed"),
        (4, "https://sts.eu-west-1.amazonaws.com:443/", "PortNotAllowed"),
        (5, "http://sts.eu-west-1.amazonaws.com/", "HostNotAllowed"),
        (5, "file:///etc/passwd", "SchemeNotAllowed"),
        (5, "HTTPS+x://sts.eu-west-1.amazonaws.com/", "SchemeNotAllowed"),
        (5, "HTTPS://sts.eu-west-1.amazonaws.com/", "SchemeNotAllowed"),
        (6, "https://sts.eu-west-1.amazonaws.com/abc", "PathNotAllowed"),
        (6, "https://sts.eu-west-1.amazonaws.com//", "PathNotAllowed"),
        (6, "https://sts.eu-west-1.amazonaws.com/%2e%2e/", "PathNotAllowed"),
        (6, "https://sts.eu-west-1.amazonaws.com/;x", "PathNotAllowed"),
        (6, "https://sts.eu-west-1.amazonaws.com/./", "PathNotAllowed"),
        (6, "https://sts.eu-west-1.amazonaws.com", "PathNotAllowed"),
        (8, "https://169.254.169.254/", "HostNotAllowed"),
        (8, "https://[fd00:ec2::254]/", "HostNotAllowed"),
        (8, "https://0x7f.1/", "HostNotAllowed"),
        (8, "https://127.0.0.1/", "HostNotAllowed"),
        // Another partition's host never takes a proof signed for this region (10, 11).
        (10, "https://sts.cn-north-1.amazonaws.com.cn/", "RegionMismatch"),
        (10, "https://sts.us-gov-west-1.amazonaws.com/", "RegionMismatch"),
        (11, "https://sts.us-east-1.amazonaws.com/", "RegionMismatch"),
        (11, "https://sts.amazonaws.com/", "RegionMismatch"),
    ] {
        check(attack, post, |it| it["url"] = url.into(), expected);
        // The same url before the presigned query.
        if !expected.starts_with("Fragment") {
            let whole = |it: &mut Value| {
                let query = it["url"].as_str().unwrap().split_once('?').unwrap().1.to_owned();
                it["url"] = format!("{url}?{query}").into();
            };
            check(attack, get, whole, expected);
        }
    }
    // An operator's own endpoint is the caller's to compare, byte for byte.
    let mut own = post();
    own["url"] = "http://127.0.0.1:4566/".into();
    assert_eq!(StsProof::parse(&seal(&own.to_string())).unwrap().origin(), "http://127.0.0.1:4566");
    // 11
    for region in ["evil.com/x", "evil.com", "eu-west-10", "EU-west-1", "eu_west_1", ""] {
        let spoil = |it: &mut Value| {
            replace(&mut it["headers"]["authorization"], "/eu-west-1/", &format!("/{region}/"))
        };
        let expected =
            if region == "eu-west-10" { "RegionMalformed" } else { "CredentialMalformed" };
        check(11, post, spoil, expected);
    }
    check_header(11, "authorization", "/eu-west-1/", "/us-east-1/", "RegionMismatch");
    check_header(11, "authorization", "/sts/", "/iam/", "ServiceNotAllowed");
    check_header(11, "authorization", "aws4_request", "aws5_request", "CredentialMalformed");
}

#[test]
fn b_what_is_asked() {
    for body in [
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15",
        "Action=GetSessionToken&Version=2011-06-15",
        "Action=GetAccessKeyInfo&Version=2011-06-15",
        "Version=2011-06-15&Action=GetCallerIdentity",
        "Action=GetCallerIdentity&Version=2011-06-15&Action=X", // 14
        "Action=GetCallerIdentity&Version=2010-05-08",          // 19
        "%41ction=GetCallerIdentity&Version=2011-06-15",        // 18
        "Action=GetCallerIdentity&Version=2011-06-15\n",
        " Action=GetCallerIdentity&Version=2011-06-15",
        "",
    ] {
        check(12, post, |it| it["body"] = body.into(), "ActionNotAllowed");
    }
    check(12, post, |it| drop(it.as_object_mut().unwrap().remove("body")), "MissingMember");
    check_url(12, "GetCallerIdentity", "GetSessionToken", "ActionNotAllowed");
    check_url(12, "Action=GetCallerIdentity&", "", "MissingParameter");
    // 13
    check(13, post, |it| it["url"] = format!("{ORIGIN}/?{BODY}").into(), "QueryNotAllowed");
    check(13, post, |it| it["url"] = format!("{ORIGIN}/?").into(), "QueryNotAllowed");
    check(13, get, |it| it["body"] = BODY.into(), "BodyNotAllowed");
    check(13, get, |it| it["body"] = "".into(), "ok");
    // 14
    check_url(
        14,
        "Action=GetCallerIdentity",
        "Action=GetCallerIdentity&Action=X",
        "RepeatedParameter",
    );
    check_url(14, "X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=60", "RepeatedParameter");
    check_url(14, "X-Amz-Expires=60", "X-Amz-Expires=60&%58-Amz-Expires=60", "RepeatedParameter");
    // 15
    check_url(
        15,
        "X-Amz-Credential=",
        "x-amz-credential=victim&X-Amz-Credential=",
        "ParameterNotAllowed",
    );
    check_url(15, "X-Amz-Credential=", "x-amz-credential=", "ParameterNotAllowed");
    check_url(15, "Action=", "action=", "ParameterNotAllowed");
    // 17
    for parameter in
        ["X-Amz-Foo=1", "AWSAccessKeyId=AKIA", "SignatureVersion=2", "Expires=1", "Signature=x"]
    {
        check_url(17, "Action=", &format!("{parameter}&Action="), "ParameterNotAllowed");
    }
    // 18
    check_url(18, "Action=", "%41ction=", "QueryNotCanonical");
    check_url(18, "GetCallerIdentity", "Get%43allerIdentity", "QueryNotCanonical");
    check_url(18, "%2F20231114", "/20231114", "QueryNotCanonical");
    check_url(18, "%2F20231114", "%2f20231114", "QueryNotCanonical");
    check_url(18, "GetCallerIdentity", "GetCaller+Identity", "QueryNotCanonical");
    check_url(18, "GetCallerIdentity", "GetCallerIdentity%00", "QueryNotCanonical");
    check_url(18, "GetCallerIdentity", "GetCallerIdentity%C0%AF", "QueryNotCanonical");
    check_url(18, "GetCallerIdentity&", "GetCallerIdentity;", "QueryNotCanonical");
    check_url(18, "GetCallerIdentity&", "GetCallerIdentity&&", "QueryNotCanonical");
    check_url(18, "/?", "/?&", "QueryNotCanonical");
    check_url(18, "Version=2011-06-15", "Version", "QueryNotCanonical");
    check_url(18, "Version=2011-06-15", "Version=%32011-06-15", "QueryNotCanonical");
    // 19, 20
    check_url(19, "2011-06-15", "2010-05-08", "VersionNotAllowed");
    for algorithm in ["AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA1", "aws4-hmac-sha256"] {
        check_url(20, "AWS4-HMAC-SHA256", algorithm, "AlgorithmNotAllowed");
        check_header(20, "authorization", "AWS4-HMAC-SHA256", algorithm, "AlgorithmNotAllowed");
    }
    check_url(20, "Action=", "X-Amz-Region-Set=%2A&Action=", "ParameterNotAllowed");
    // 21
    for method in ["HEAD", "PUT", "post", "get", "POST ", ""] {
        check(21, post, |it| it["method"] = method.into(), "MethodNotAllowed");
    }
    check(21, get, |it| it["method"] = "POST".into(), "QueryNotAllowed");
    check(21, post, |it| it["method"] = "GET".into(), "BodyNotAllowed");
    check(
        21,
        post,
        |it| it["headers"]["x-http-method-override"] = "GET".into(),
        "HeaderNotAllowed",
    );
}

#[test]
fn c_what_is_signed() {
    let remove =
        |it: &mut Value, name: &str| drop(it["headers"].as_object_mut().unwrap().remove(name));
    for make in [post, get] {
        check(22, make, |it| remove(it, AUDIENCE), "MissingAudienceHeader");
        check(30, make, |it| remove(it, BINDING), "MissingBindingHeader");
        check(
            22,
            make,
            |it| it["headers"][AUDIENCE] = "https://vault.example".into(),
            "AudienceMismatch",
        );
        check(22, make, |it| it["headers"][AUDIENCE] = format!("{US}/").into(), "AudienceMismatch");
        check(30, make, |it| it["headers"][BINDING] = "other".into(), "BindingMismatch");
        check(38, make, |it| it["headers"][CHALLENGE] = "nonce".into(), "UnsignedHeader");
        // 25: nothing that signing would trim or fold
        for value in [
            format!(" {US}"),
            format!("{US} "),
            format!("a  {US}"),
            format!("{US}\r\n x"),
            format!("{US}\tx"),
            format!("{US}\u{7f}"),
            "é".to_owned(),
            String::new(),
        ] {
            check(
                25,
                make,
                |it| it["headers"][AUDIENCE] = value.clone().into(),
                "HeaderValueNotAllowed",
            );
        }
        check(
            25,
            make,
            |it| it["headers"][AUDIENCE] = format!("{US}, {US}").into(),
            "AudienceMismatch",
        );
        check(
            25,
            make,
            |it| it["headers"]["X-Countersign-Audience"] = US.into(),
            "HeaderNotAllowed",
        );
        // 26, 27, 28
        for name in [
            "Host",
            "host",
            "x-forwarded-for",
            "transfer-encoding",
            "content-length",
            "connection",
            "expect",
            "te",
            "proxy-authorization",
            "accept",
            "accept-encoding",
            "user-agent",
            "x-amz-user-agent",
            "x-amz-content-sha256",
            "cookie",
            "Authorization",
            "X-Amz-Date",
            "",
            "a\r\nb",
        ] {
            check(26, make, |it| it["headers"][name] = "x".into(), "HeaderNotAllowed");
        }
    }
    for (name, value) in
        [("authorization", "x"), ("x-amz-date", "x"), ("x-amz-security-token", "x")]
    {
        check(26, get, |it| it["headers"][name] = value.into(), "HeaderNotAllowed");
    }
    check(26, get, |it| it["headers"]["content-type"] = "text/plain".into(), "HeaderNotAllowed");
    check(26, post, |it| remove(it, "authorization"), "MissingHeader");
    check(26, post, |it| remove(it, "x-amz-date"), "MissingHeader");
    check(
        27,
        post,
        |it| it["headers"]["content-type"] = "application/json".into(),
        "ContentTypeNotAllowed",
    );
    check(
        27,
        post,
        |it| it["headers"]["content-type"] = "Application/x-www-form-urlencoded".into(),
        "ContentTypeNotAllowed",
    );
    check(28, post, |it| remove(it, "content-type"), "SignedHeaderAbsent");
    check(28, post, |it| remove(it, "x-amz-security-token"), "SignedHeaderAbsent");
    // 23, 24
    let list = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-countersign-audience;x-countersign-binding";
    for (attack, signed, expected) in [
        (
            23,
            "content-type;host;x-amz-date;x-amz-security-token;x-countersign-binding",
            "UnsignedAudienceHeader",
        ),
        (
            23,
            "content-type;host;x-amz-date;x-amz-security-token;x-countersign-audience",
            "UnsignedBindingHeader",
        ),
        (
            23,
            "content-type;x-amz-date;x-amz-security-token;x-countersign-audience;x-countersign-binding",
            "UnsignedHeader",
        ),
        (
            23,
            "host;x-amz-security-token;x-countersign-audience;x-countersign-binding",
            "UnsignedHeader",
        ),
        (23, "host;x-amz-date;x-countersign-audience;x-countersign-binding", "UnsignedHeader"),
        (
            24,
            "host;x-amz-date;x-amz-security-token;x-countersign-audience2;x-countersign-binding",
            "UnsignedAudienceHeader",
        ),
        (24, "abc;X-Countersign-Audience", "SignedHeadersMalformed"),
        (24, "host;host;x-countersign-audience", "SignedHeadersMalformed"),
        (24, "x-countersign-audience;host", "SignedHeadersMalformed"),
        (24, "x, SignedHeaders=host", "AuthorizationMalformed"),
        (
            29,
            "host;user-agent;x-amz-date;x-amz-security-token;x-countersign-audience;x-countersign-binding",
            "SignedHeaderNotAllowed",
        ),
        (
            29,
            "host;x-amz-date;x-amz-security-token;x-amz-user-agent;x-countersign-audience;x-countersign-binding",
            "SignedHeaderNotAllowed",
        ),
        (
            29,
            "accept-encoding;host;x-amz-date;x-amz-security-token;x-countersign-audience;x-countersign-binding",
            "SignedHeaderNotAllowed",
        ),
        (
            29,
            "host;x-amz-date;x-amz-security-token;x-countersign-audience;x-countersign-binding;x-countersign-challenge",
            "SignedHeaderAbsent",
        ),
        (
            29,
            "host;x-amz-date;x-amz-security-token;x-countersign-audience;x-countersign-binding",
            "SignatureDoesNotMatch",
        ),
    ] {
        check_header(attack, "authorization", list, &format!("SignedHeaders={signed}"), expected);
    }
    let list = "host%3Bx-countersign-audience%3Bx-countersign-binding";
    for (attack, signed, expected) in [
        (23, "host%3Bx-countersign-binding", "UnsignedAudienceHeader"),
        (23, "host%3Bx-countersign-audience", "UnsignedBindingHeader"),
        (23, "x-countersign-audience%3Bx-countersign-binding", "UnsignedHeader"),
        (24, "host%3Bhost%3Bx-countersign-audience", "SignedHeadersMalformed"),
        (
            29,
            "content-length%3Bhost%3Bx-countersign-audience%3Bx-countersign-binding",
            "SignedHeaderNotAllowed",
        ),
        (
            29,
            "host%3Bx-amz-user-agent%3Bx-countersign-audience%3Bx-countersign-binding",
            "SignedHeaderNotAllowed",
        ),
    ] {
        check_url(attack, list, signed, expected);
    }
    // The error names the header to strip.
    let mut spoiled = post();
    replace(&mut spoiled["headers"]["authorization"], "host;", "host;user-agent;");
    let error = StsProof::parse(&seal(&spoiled.to_string())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "header `user-agent` is signed, but Countersign does not send it: strip it before signing"
    );
}

#[test]
fn d_time_and_replay() {
    for expires in ["604800", "61", "0", "-1", "60.0", "060", "6e1", "0x3c"] {
        check_url(31, "X-Amz-Expires=60", &format!("X-Amz-Expires={expires}"), "ExpiresNotAllowed");
    }
    check_url(31, "X-Amz-Expires=60", "X-Amz-Expires=%2B60", "ExpiresNotAllowed");
    check_url(31, "X-Amz-Expires=60", "X-Amz-Expires=", "QueryNotCanonical");
    check_url(31, "X-Amz-Expires=60&", "", "MissingParameter");
    check_url(31, "X-Amz-Expires=60", "X-Amz-Expires=59", "SignatureDoesNotMatch");
    // 32, 33
    for (age, expected) in [
        (0, "ok"),
        (60, "ok"),
        (61, "ProofExpired"),
        (900, "ProofExpired"),
        (120_000_000, "ProofExpired"),
        (-5, "ok"),
        (-6, "ProofNotYetValid"),
        (-3600, "ProofNotYetValid"),
    ] {
        for make in [post, get] {
            let proof = StsProof::parse(&seal(&make().to_string())).unwrap();
            let code = proof.check_time(NOW + age).map_or_else(|error| error.code(), |()| "ok");
            assert_eq!(code, expected, "attack 32/33: {age}");
        }
    }
    let proof = StsProof::parse(&presigned_for(10)).unwrap();
    assert_eq!(proof.check_time(NOW + 10), Ok(()));
    assert_eq!(proof.check_time(NOW + 11), Err(ProofError::ProofExpired));
    assert_eq!(proof.check_time(i64::MAX), Err(ProofError::ProofExpired));
    assert_eq!(proof.check_time(i64::MIN), Err(ProofError::ProofNotYetValid));
    // 34
    check(
        34,
        post,
        |it| it["headers"]["x-amz-date"] = "20231115T000000Z".into(),
        "ScopeDayMismatch",
    );
    check_header(34, "authorization", "/20231114/", "/20231113/", "ScopeDayMismatch");
    check_url(34, "%2F20231114%2F", "%2F20231113%2F", "ScopeDayMismatch");
    for date in [
        "2023-11-14T22:13:20Z",
        "Tue, 14 Nov 2023 22:13:20 GMT",
        "20231114",
        "20231114T221320",
        "20231114T221360Z",
    ] {
        check(34, post, |it| it["headers"]["x-amz-date"] = date.into(), "DateMalformed");
    }
    check(
        34,
        post,
        |it| it["headers"]["date"] = "Tue, 14 Nov 2023 22:13:20 GMT".into(),
        "HeaderNotAllowed",
    );
    // 37
    let proof = StsProof::parse(&seal(&post().to_string())).unwrap();
    let upper = proof.signature().to_uppercase();
    check_header(37, "authorization", &proof.signature(), &upper, "SignatureMalformed");
    check_header(
        37,
        "authorization",
        &proof.signature(),
        &format!("{}0", proof.signature()),
        "SignatureMalformed",
    );
    let proof = StsProof::parse(&seal(&get().to_string())).unwrap();
    check_url(37, &proof.signature(), &proof.signature().to_uppercase(), "SignatureMalformed");
    check_url(37, "%2F%2F%2F", "%2f%2F%2F", "QueryNotCanonical");
    // 38: a challenge only where one was given, and that one
    let challenged = request(Some("nonce")).sign_post(&credentials(), NOW).unwrap();
    assert_eq!(accept(&challenged), Err("ChallengeNotExpected"));
    let proof = StsProof::parse(&challenged).unwrap();
    assert_eq!(proof.check_claims(US, BOUND, Some("nonce")), Ok(()));
    assert_eq!(proof.check_claims(US, BOUND, Some("other")), Err(ProofError::ChallengeMismatch));
    let plain = StsProof::parse(&seal(&post().to_string())).unwrap();
    assert_eq!(
        plain.check_claims(US, BOUND, Some("nonce")),
        Err(ProofError::MissingChallengeHeader)
    );
}
