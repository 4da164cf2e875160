use super::*;

fn table() -> Vec<Setting> {
    vec![
        Setting::one("policy-store", "URL", "Where the store is"),
        Setting::one("drain-seconds", "SECONDS", "How long").or("5"),
        Setting::many("name", "NAME", "Names"),
        Setting::switch("insecure-plaintext", "In clear"),
        Setting::secret("sealing-key", "What secrets are sealed under"),
    ]
}

/// `file` is the file's text, if there is one.
fn read(
    flags: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countersign.toml");
    let mut arguments = vec!["program".to_owned()];
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
        arguments.extend(["--config".to_owned(), path.display().to_string()]);
    }
    let flags = command("program", "", &table()).try_get_matches_from(arguments).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    Settings::read(table(), &flags, environment)
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let check = |flag: bool, variable: bool, file: bool, expected: &str| {
        let flags: &[&str] = if flag { &["--drain-seconds", "1"] } else { &[] };
        let environment: &[_] =
            if variable { &[("COUNTERSIGN_DRAIN_SECONDS", "2"), ("PATH", "x")] } else { &[] };
        let settings = read(flags, environment, file.then_some("drain_seconds = 3")).unwrap();
        assert_eq!(settings.text("drain-seconds"), Some(expected));
        assert_eq!(settings.required_parsed::<u64>("drain-seconds").unwrap().to_string(), expected);
    };
    check(true, true, true, "1");
    check(true, false, false, "1");
    check(false, true, true, "2");
    check(false, false, true, "3");
    check(false, false, false, "5");
}

#[test]
fn lists_and_switches() {
    let check = |settings: Result<Settings, SettingsError>, names: &[&str], on: bool| {
        let settings = settings.unwrap();
        assert_eq!(settings.all("name"), names);
        assert_eq!(settings.is_on("insecure-plaintext"), on);
    };
    check(read(&[], &[], None), &[], false);
    check(
        read(&["--name", "a", "--name", "b", "--insecure-plaintext"], &[], None),
        &["a", "b"],
        true,
    );
    check(
        read(&[], &[("COUNTERSIGN_NAME", "a b"), ("COUNTERSIGN_INSECURE_PLAINTEXT", "true")], None),
        &["a", "b"],
        true,
    );
    check(
        read(&[], &[], Some("name = [\"a\", \"b\"]\ninsecure_plaintext = true")),
        &["a", "b"],
        true,
    );
    check(
        read(
            &["--name", "c"],
            &[("COUNTERSIGN_INSECURE_PLAINTEXT", "false")],
            Some("name = [\"a\"]\ninsecure_plaintext = true"),
        ),
        &["c"],
        false,
    );
}

#[test]
fn what_is_wrong_is_said() {
    let check = |settings: Result<Settings, SettingsError>, expected: &str| {
        let error = settings.unwrap_err().to_string();
        assert!(error.contains(expected), "{error} / {expected}");
    };
    check(
        read(&[], &[], Some("polcy_store = \"x\"")),
        "has `polcy_store`, which is no setting; did you mean `policy_store`?",
    );
    check(read(&[], &[], Some("policy-store = \"x\"")), "did you mean `policy_store`?");
    check(read(&[], &[], Some("colour = 1")), "has `colour`, which is no setting");
    check(
        read(&[], &[("COUNTERSIGN_POLICYSTORE", "x")], None),
        "did you mean `COUNTERSIGN_POLICY_STORE`?",
    );
    check(read(&[], &[("COUNTERSIGN_INSECURE_PLAINTEXT", "yes")], None), "give `true` or `false`");
    check(read(&[], &[], Some("insecure_plaintext = \"true\"")), "give true or false");
    check(read(&[], &[], Some("name = \"a\"")), "give a list of texts");
    check(read(&[], &[], Some("policy_store = true")), "give a text");
    check(read(&[], &[], Some("[policy_store]")), "give a text");
    check(read(&[], &[], Some("policy_store = ")), "is no TOML");
    check(read(&["--config", "/nowhere"], &[], None), "cannot read the configuration `/nowhere`");
    let settings = read(&[], &[("COUNTERSIGN_DRAIN_SECONDS", "soon")], None).unwrap();
    let error = settings.parsed::<u64>("drain-seconds").unwrap_err().to_string();
    assert!(error.starts_with("COUNTERSIGN_DRAIN_SECONDS: `soon`"), "{error}");
    let error = settings.required("policy-store").unwrap_err().to_string();
    assert!(
        error.contains("--policy-store, COUNTERSIGN_POLICY_STORE, or `policy_store`"),
        "{error}"
    );
}

#[test]
fn a_secret_is_said_by_the_environment_and_shown_to_nobody() {
    let settings = read(&[], &[("COUNTERSIGN_SEALING_KEY", "hunter2")], None).unwrap();
    assert_eq!(settings.text("sealing-key"), Some("hunter2"));
    let wrong = settings.parsed::<u64>("sealing-key").unwrap_err();
    assert!(wrong.to_string().starts_with("COUNTERSIGN_SEALING_KEY: `***`: "), "{wrong}");
    for shown in [settings.print(), format!("{settings:?}"), format!("{wrong:?}")] {
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
    assert!(read(&[], &[], Some(&settings.print())).unwrap().text("sealing-key").is_none());
    let refused = read(&[], &[], Some("sealing_key = \"hunter2\"")).unwrap_err().to_string();
    assert!(refused.contains("give it in the environment") && !refused.contains("hunter2"));
    let flags = command("program", "", &table()).try_get_matches_from(["program", "--sealing-key"]);
    assert!(flags.is_err());
    let help = command("program", "", &table()).render_long_help().to_string();
    assert!(help.contains("COUNTERSIGN_SEALING_KEY  What secrets"), "{help}");
}

#[test]
fn links_of_kubernetes_are_no_settings() {
    let links = [
        ("COUNTERSIGN_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("COUNTERSIGN_GATEWAY_SERVICE_PORT", "7403"),
        ("COUNTERSIGN_GATEWAY_SERVICE_PORT_GRPC", "7403"),
        ("COUNTERSIGN_GATEWAY_PORT", "tcp://10.0.0.1:7403"),
        ("COUNTERSIGN_GATEWAY_PORT_7403_TCP", "tcp://10.0.0.1:7403"),
        ("COUNTERSIGN_GATEWAY_PORT_7403_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(read(&[], &links, None).is_ok());
    assert!(read(&[], &[("COUNTERSIGN_IMPORT", "x")], None).is_err());
}

#[test]
fn printed_settings_read_back_and_show_no_password() {
    let settings = read(
        &["--policy-store", "https://me:secret@a:1,https://b:2", "--name", "a\"b"],
        &[("COUNTERSIGN_INSECURE_PLAINTEXT", "true")],
        None,
    );
    let printed = settings.unwrap().print();
    assert!(!printed.contains("secret"), "{printed}");
    let again = read(&[], &[], Some(&printed)).unwrap();
    assert_eq!(again.text("policy-store"), Some("https://***@a:1,https://b:2"));
    assert_eq!(again.all("name"), ["a\"b"]);
    assert!(again.is_on("insecure-plaintext"));
    assert!(printed.contains("drain_seconds = \"5\"  # default"), "{printed}");
}
