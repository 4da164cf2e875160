use countersign_serve::Fault;

use super::*;

#[test]
fn the_later_revision() {
    let check = |key: &str, decision: &str, expected: Option<&str>| {
        let found =
            later(&key.parse().unwrap(), &decision.parse().unwrap()).map(ToString::to_string);
        assert_eq!(found.ok().as_deref(), expected, "{key} {decision}");
    };
    check("s:1", "s:2", Some("s:2"));
    check("s:2", "s:1", Some("s:2"));
    check("s:2", "s:2", Some("s:2"));
    check("s:1", "t:2", None);
}

#[test]
fn m4_an_exchange_from_nowhere_is_refused() {
    let fault = Fault::from(&known(None).unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::PermissionDenied, "NoSourceAddress"));
    assert_eq!(known("10.0.0.1".parse().ok()).unwrap(), "10.0.0.1");
}

#[test]
fn m5_an_answer_from_before_the_floor_is_none() {
    let check = |have: &str, floor: &str, expected: Option<&str>| {
        let outcome = reached(&have.parse().unwrap(), &floor.parse().unwrap());
        let reason = outcome.err().map(|refusal| Fault::from(&refusal).reason().to_owned());
        assert_eq!(reason.as_deref(), expected, "{have} {floor}");
    };
    check("s:2", "s:2", None);
    check("s:3", "s:2", None);
    check("s:1", "s:2", Some("ServiceFailure"));
    check("t:3", "s:2", Some("OtherStore"));
}
