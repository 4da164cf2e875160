//! The settings of `countersign-policy-store`, and the configuration that they make.

use countersign_serve::{
    ServiceIdentities, ServiceName,
    program::{Common, Ended},
    settings::{Setting, Settings, SettingsError},
};

use crate::{Config, EtcdPlace, Place, QuotaSetting, Quotas, SealingKeys, Seeding};

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
        sealing: SealingKeys::DataFolder,
        metrics: common.metrics.clone(),
        secrets_dir: settings.path("secrets-dir"),
    })
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
