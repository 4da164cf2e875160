//! The settings of `countersign-policy-store`, and the configuration that they make.

use countersign_serve::{
    ServiceIdentities, ServiceName,
    program::{Common, Ended},
    settings::{Setting, Settings, SettingsError},
};

use crate::{
    Config, EtcdPlace, NoSealingKey, Place, QuotaSetting, Quotas, SealingKey, SealingKeys, Seeding,
};

/// Makes the first account instead of serving.
pub const INIT: (&str, &str) = (
    "init",
    "Make the sealing key, the first account and root-credentials.json where they are not there yet, and end; once, before processes \
     on one etcd serve",
);

/// The settings besides those that every service has.
pub const TABLE: &[Setting] = &[
    Setting::one("listen", "ADDRESS:PORT", "Where gRPC is spoken").or("127.0.0.1:7401"),
    Setting::one("account", "12-DIGITS", "The first account, whose administrator is the operator; fixed at the first start"),
    Setting::one("issuer", "URL", "The issuer of tokens: the gateways' HTTP origin, without a slash at the end"),
    Setting::one("region", "REGION", "The region of Countersign's own STS").or("us-east-1"),
    Setting::one("data-dir", "FOLDER", "Where this process keeps what is its own: the audit trail's files, and the store, unless it is elsewhere").or("/var/lib/countersign"),
    Setting::one("secrets-dir", "FOLDER", "Where sealing.key and, for --init, root-credentials.json are, if not in the data folder; the same for all processes on one store"),
    Setting::secret("sealing-key", "The key that secrets are sealed under, 32 bytes in base64, in place of the file sealing.key"),
    Setting::secret("sealing-key-previous", "The one before it, in the same form, until everything is sealed again"),
    Setting::one("sealing-key-file", "FILE", "The key that secrets are sealed under, 32 bytes or their base64, in place of sealing.key; or COUNTERSIGN_SEALING_KEY holds it"),
    Setting::one("sealing-key-previous-file", "FILE", "The one before it, in the same form, until everything is sealed again; or COUNTERSIGN_SEALING_KEY_PREVIOUS"),
    Setting::one("store", "STORE", "`sled:FOLDER`, or `etcd:https://HOST:2379[,...]` for more than one process; without, a folder of the data folder"),
    Setting::one("etcd-prefix", "PREFIX", "What every key in etcd begins with; without, `countersign/`"),
    Setting::one("etcd-user", "NAME", "The user that this is to etcd"),
    Setting::one("etcd-password-file", "FILE", "A file that holds the user's password"),
    Setting::one("etcd-ca", "FILE", "The authority of etcd's certificates, PEM"),
    Setting::one("etcd-cert", "FILE", "The certificate that this shows to etcd, PEM"),
    Setting::one("etcd-key", "FILE", "The certificate's key, PEM"),
    Setting::one("etcd-keep-revisions", "REVISIONS", "Revisions that etcd keeps; 0 leaves compaction to the cluster; without, 100000"),
    Setting::many("quota", "NAME=NUMBER", "How much an account may hold, where IAM's own quota does not do: `users=20000`"),
];

/// The configuration that `settings` make.
///
/// # Errors
/// When one is missing or wrong, or contradicts another.
pub fn configure(settings: &Settings, common: &Common) -> Result<Config, Ended> {
    let place = place(settings)?;
    place.check().map_err(|error| settings.wrong("store", error))?;
    let quotas: Vec<QuotaSetting> = settings.all_parsed("quota")?;
    let domain = &common.trust_domain;
    Ok(Config {
        data_dir: settings.required("data-dir")?.into(),
        seeding: if place.shared() { Seeding::Elsewhere } else { Seeding::Here },
        place,
        account: settings.required_parsed("account")?,
        issuer: settings.required("issuer")?.to_owned(),
        region: settings.required("region")?.to_owned(),
        identities: ServiceIdentities::default()
            .accept_certificate(ServiceName::Decision, domain)
            .accept_certificate(ServiceName::Gateway, domain),
        process: "policy-store".to_owned(),
        quotas: quotas.into_iter().fold(Quotas::default(), Quotas::with),
        sealing: sealing_keys(settings)?,
        metrics: common.metrics.clone(),
        secrets_dir: settings.path("secrets-dir"),
    })
}

/// The sealing keys of the environment or of files that were named, or those of the secrets' folder.
fn sealing_keys(settings: &Settings) -> Result<SealingKeys, SettingsError> {
    let current = sealing_key(settings, "sealing-key", "sealing-key-file")?;
    let previous = sealing_key(settings, "sealing-key-previous", "sealing-key-previous-file")?;
    match (current, previous) {
        (Some(current), previous) => Ok(SealingKeys::Given { current, previous }),
        (None, None) => Ok(SealingKeys::DataFolder),
        (None, Some(_)) => Err(SettingsError::Together(
            "the sealing key before this one is given, and this one is not: give COUNTERSIGN_SEALING_KEY or --sealing-key-file too"
                .to_owned(),
        )),
    }
}

/// A key that is said, or the one of a file that is named. A variable that is empty is a mistake, and no key.
fn sealing_key(
    settings: &Settings,
    name: &'static str,
    file: &'static str,
) -> Result<Option<SealingKey>, SettingsError> {
    let wrong = |error: NoSealingKey| settings.wrong(name, error);
    let said = settings.all(name).first().map(|text| text.parse::<SealingKey>());
    match (said.transpose().map_err(wrong)?, settings.path(file)) {
        (Some(_), Some(_)) => Err(SettingsError::Together(format!(
            "`{name}` and `{file}` are both given: leave one of them out"
        ))),
        (None, Some(path)) => {
            SealingKey::read(&path).map(Some).map_err(|error| settings.wrong(file, error))
        }
        (said, None) => Ok(said),
    }
}

fn place(settings: &Settings) -> Result<Place, SettingsError> {
    let both =
        |one: &'static str, other: &'static str| match (settings.path(one), settings.path(other)) {
            (Some(one), Some(other)) => Ok(Some((one, other))),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(SettingsError::Together(format!(
                "`{one}` and `{other}` belong together: give both, or neither"
            ))),
        };
    let etcd = EtcdPlace {
        endpoints: Vec::new(),
        prefix: settings.text("etcd-prefix").map(str::to_owned),
        user: both("etcd-user", "etcd-password-file")?
            .map(|(user, file)| (user.display().to_string(), file)),
        ca: settings.path("etcd-ca"),
        identity: both("etcd-cert", "etcd-key")?,
        keep_revisions: settings.parsed("etcd-keep-revisions")?,
    };
    match settings.parsed("store")?.unwrap_or(Place::DataFolder) {
        Place::Etcd(EtcdPlace { endpoints, .. }) => Ok(Place::Etcd(EtcdPlace { endpoints, ..etcd })),
        place @ (Place::DataFolder | Place::Sled(_)) if etcd == EtcdPlace::default() => Ok(place),
        Place::DataFolder | Place::Sled(_) => Err(SettingsError::Together(
            "the settings that begin with `etcd-` are for a `store` of the form `etcd:https://HOST:2379`".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use countersign_serve::settings::command;

    use super::*;

    const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

    fn read(environment: &[(&str, &str)], flags: &[&str]) -> Settings {
        let arguments = ["program"].iter().chain(flags);
        let flags = command("program", "", TABLE).try_get_matches_from(arguments).unwrap();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Settings::read(TABLE.to_vec(), &flags, environment).unwrap()
    }

    #[test]
    fn the_sealing_key_is_in_the_environment_or_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let (raw, text) = (file("raw", &[7; 32]), file("text", format!("{KEY}\n").as_bytes()));
        let (short, nowhere) = (file("short", &[7; 31]), "/nowhere".to_owned());
        let key = || KEY.parse::<SealingKey>().unwrap();
        let check = |environment: &[(&str, &str)], flags: &[&str], expected: Result<bool, &str>| {
            let found = sealing_keys(&read(environment, flags));
            match (found, expected) {
                (Ok(found), Ok(with_previous)) => {
                    let previous = with_previous.then(key);
                    assert_eq!(found, SealingKeys::Given { current: key(), previous });
                }
                (Err(found), Err(part)) => {
                    let found = found.to_string();
                    assert!(found.contains(part) && !found.contains(KEY), "{found}");
                }
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        };
        assert_eq!(sealing_keys(&read(&[], &[])).unwrap(), SealingKeys::DataFolder);
        let (current, previous) = ("COUNTERSIGN_SEALING_KEY", "COUNTERSIGN_SEALING_KEY_PREVIOUS");
        check(&[(current, KEY)], &[], Ok(false));
        check(&[(current, KEY), (previous, KEY)], &[], Ok(true));
        check(&[], &["--sealing-key-file", &raw], Ok(false));
        check(&[("COUNTERSIGN_SEALING_KEY_FILE", &text)], &[], Ok(false));
        check(&[(previous, KEY)], &["--sealing-key-file", &text], Ok(true));
        check(&[(current, KEY)], &["--sealing-key-previous-file", &raw], Ok(true));
        check(&[(current, KEY)], &["--sealing-key-file", &raw], Err("leave one of them out"));
        check(&[(current, "")], &[], Err("COUNTERSIGN_SEALING_KEY: `***`: a sealing key is 32"));
        check(&[(current, "BwcH")], &[], Err("32 bytes"));
        check(&[(current, KEY), (previous, "x")], &[], Err("COUNTERSIGN_SEALING_KEY_PREVIOUS: "));
        check(&[(previous, KEY)], &[], Err("give COUNTERSIGN_SEALING_KEY or"));
        check(&[], &["--sealing-key-previous-file", &raw], Err("--sealing-key-file too"));
        check(&[], &["--sealing-key-file", &short], Err("holds 31 bytes"));
        check(&[], &["--sealing-key-file", &nowhere], Err("`/nowhere`"));
    }
}
