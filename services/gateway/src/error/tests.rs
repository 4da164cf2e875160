use super::*;

#[test]
fn only_what_nobody_could_judge_may_be_sent_again() {
    let check = |refusal: Refusal, again: bool| {
        assert_eq!(refusal.is_no_verdict(), again, "{refusal:?}");
    };
    let cause = || "c".to_owned();
    let origin = || "https://sts.example.com".to_owned();
    check(Refusal::StsUnavailable { origin: origin(), cause: cause() }, true);
    check(Refusal::ServiceUnavailable { service: "the policy store", cause: cause() }, true);
    check(Refusal::KeyLeaseExpired, true);
    check(Refusal::Busy, true);
    check(Refusal::StsRefused { code: "ExpiredToken".into(), message: cause() }, false);
    check(Refusal::StsAnswer { origin: origin(), code: "AnswerMalformed", cause: cause() }, false);
    check(Refusal::ServiceBroken { service: "the policy store", cause: cause() }, false);
    check(Refusal::ProofAlreadyUsed, false);
    check(Refusal::TimedOut, false);
}

#[test]
fn the_cause_is_for_the_log_alone() {
    let refusal = Refusal::Denied {
        caller: "arn:aws:sts::123456789012:assumed-role/App/s".into(),
        action: "sts:AssumeRole",
        role: "arn:aws:iam::000000000000:role/R".into(),
        detail: "decision d-1".into(),
        cause: "the-cause".into(),
    };
    assert_eq!(refusal.cause(), Some("the-cause"));
    let fault = Fault::from(&refusal);
    assert!(!fault.message().contains("the-cause"), "{}", fault.message());
}
