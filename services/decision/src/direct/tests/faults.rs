//! Overload, a clock that jumps, and names that look alike (FAULTS.md F23, F12, F8).

use super::*;

/// F23: what comes while too much waits is told so at once, and nobody else hears of it; health is always answered.
#[tokio::test]
async fn more_than_can_wait_is_told_so_at_once() {
    use tonic_types::StatusExt;

    let both = Both::new();
    let called = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&called);
    let general = tower::service_fn(move |_: Request<Body>| {
        own.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    let mut short = ShortWay::new(both.decider.clone(), &Metrics::default()).layer(general);
    let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
    let waiting: Vec<_> = (0..WAITING).map(|_| short.call(request("/x/Y"))).collect();
    let refused = short.call(request("/x/Y")).await.unwrap();
    let status = Status::from_header_map(refused.headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(AGAIN));
    assert_eq!(called.load(Ordering::Relaxed), 0);
    short.call(request("/grpc.health.v1.Health/Check")).await.unwrap();
    assert_eq!(called.load(Ordering::Relaxed), 1);
    // One that was looked at, and one that was given up, wait no more.
    let mut waiting = waiting.into_iter();
    waiting.next().unwrap().await.unwrap();
    drop(waiting.next());
    let more: Vec<_> = (0..2).map(|_| short.call(request("/x/Y"))).collect();
    let refused = short.call(request("/x/Y")).await.unwrap();
    assert!(Status::from_header_map(refused.headers()).is_some());
    drop(more);
    drop(waiting);
    short.call(request("/x/Y")).await.unwrap();
    assert_eq!(called.load(Ordering::Relaxed), 3);
}

/// F12: whatever the clock says, a token is good exactly when its own times say so.
#[test]
fn the_clock_may_jump() {
    let both = Both::new();
    let now = decider::now();
    let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
    let subject = both.token(OURS, "App", "orders", &[]);
    let view = both.decider.replica().held().unwrap();
    let keys = view.world().keys();
    for token in [&caller, &subject] {
        let signed = countersign_token::check_signature(token, keys).unwrap();
        both.decider.signatures().remember(token, signed);
    }
    let mut memory = memory::Memory::default();
    // It jumps ahead, back, and ahead again; a token has fifteen minutes, and five seconds before its time.
    for (ahead, expected) in [
        (0, true),
        (899, true),
        (900, false),
        (3600, false),
        (0, true),
        (-5, true),
        (-6, false),
        (-3600, false),
        (899, true),
        (900, false),
    ] {
        let moment = memory::Moment { view: &view, now: now + ahead };
        // Asked twice: the second time by what the first remembered.
        for _ in 0..2 {
            let whom = memory.seek(message::Subject::Token(&subject));
            let memory::Whom::Token(sought) = whom else { panic!("a token is sought as one") };
            let known = memory.session(&both.decider, sought, "orders", moment).is_some();
            assert_eq!(known, expected, "{ahead}");
            let known = memory.caller(&both.decider, &headers(&caller), moment).is_some();
            assert_eq!(known, expected, "{ahead}");
        }
    }
}

/// F8: names and values that look alike once they are put together are told apart, the first time and from memory.
#[tokio::test]
async fn what_looks_alike_is_told_apart() {
    let mut both = Both::new();
    let reads = r#"{"Effect":"Allow","Action":"orders:Get*","Resource":"*"}"#;
    let team = r#"{"Effect":"Allow","Action":"orders:Get*","Resource":"*","Condition":{"StringEquals":{"a:b":"c"}}}"#;
    for (path, name, statement) in [
        ("/", "x", reads),
        ("/x/", "x", team),
        ("/a|b#c/", "y", reads),
        ("/a|b/#c/", "y.1", team),
        ("/", "y+1", reads),
        ("/", "y-1", team),
        ("/", "y,1", reads),
    ] {
        // Of two of one name the last is there: a name is unique, whatever its path.
        let user =
            UserRecord { path: path.into(), ..samples::user(OURS, name, &[("own", statement)]) };
        samples::put(&mut both.world, &format!("u/{name}"), Record::User(user));
    }
    both.show();
    let caller = both.token(OURS, "Service", OWN_AUDIENCE, &[]);
    let value = |text: &str| ContextValue { kind: Some(Kind::Value(text.into())) };
    let mut short = 0;
    for _ in 0..2 {
        for name in [
            "x",
            "X",
            "x/x",
            "x/X",
            "a|b#c/y",
            "a|b#c/Y",
            "a|b/#c/y",
            "a|b/#c/y.1",
            "y+1",
            "y-1",
            "y,1",
            "y 1",
            "y:1",
            "y|1",
            "",
            "y\0",
            "/x",
            "x/",
        ] {
            for keys in [
                &[][..],
                &[("a:b", "c")],
                &[("a", "b:c")],
                &[("a:b:", "c")],
                &[("a:", "b:c")],
                &[("a:b", ""), ("a:c", "c")],
                &[("a:b", "c"), ("A:B", "c")],
                &[("a:b", "C")],
                &[("A:b", "c")],
            ] {
                let context = keys.iter().map(|(key, text)| ((*key).to_owned(), value(text)));
                let request = AuthorizeRequest {
                    subject: Some(Subject::PrincipalArn(format!(
                        "arn:aws:iam::{OURS}:user/{name}"
                    ))),
                    action: "orders:GetOrder".into(),
                    resource: format!("arn:aws:orders:eu-west-1:{OURS}:order/42"),
                    context: context.collect(),
                    ..Default::default()
                };
                short += usize::from(both.check(&caller, request).await);
            }
        }
    }
    assert!(short > 60, "{short}");
}
