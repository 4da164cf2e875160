use super::*;

#[test]
fn the_sealing_key_may_come_from_the_environment() {
    let good = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let given = |text: &str| text.parse::<SealingKey>().unwrap();
    let check = |key: Option<&str>, previous: Option<&str>, expected: Result<SealingKeys, &str>| {
        let variable = |name: &str| {
            let value = if name == SEALING_KEY { key } else { previous };
            value.map(OsString::from)
        };
        match (sealing_keys(variable), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(part)) => {
                assert!(found.contains(part) && !found.contains(good), "{found}")
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    };
    check(None, None, Ok(SealingKeys::DataFolder));
    let current = given(good);
    check(Some(good), None, Ok(SealingKeys::Given { current: current.clone(), previous: None }));
    let both = SealingKeys::Given { current: current.clone(), previous: Some(current) };
    check(Some(good), Some(good), Ok(both));
    check(Some(""), None, Err("COUNTERSIGN_SEALING_KEY: "));
    check(Some("BwcH"), None, Err("32 bytes"));
    check(Some(good), Some("x"), Err("COUNTERSIGN_SEALING_KEY_PREVIOUS: "));
    check(None, Some(good), Err("give both"));
}

#[tokio::test]
async fn beyond_loopback_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut options =
        UpOptions::on_free_ports("123456789012".parse().unwrap(), folder.path().join("data"));
    options.listen = "0.0.0.0".parse().unwrap();
    let error = start(options).await.err().unwrap();
    assert!(matches!(error, UpError::Bind(BindError::NotLoopback { .. })), "{error}");
    assert!(!folder.path().join("data").exists());
}
