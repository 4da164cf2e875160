//! The settings of `countersign-decision`, and the configuration that they make.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use countersign_serve::{
    ServiceIdentities, ServiceName,
    program::{Common, Ended},
    settings::{Setting, Settings, SettingsError},
    tls::Part,
};

use crate::{Config, LogConfig, Mapping};

/// Younger than the store's own heartbeats, no answer could be.
const LEAST_STALENESS: u64 = 3;

/// The settings besides those that every service has.
pub const TABLE: &[Setting] = &[
    Setting::one("listen", "ADDRESS:PORT", "Where gRPC is spoken").or("127.0.0.1:7402"),
    Setting::one(
        "issuer",
        "URL",
        "The issuer of tokens: the gateways' HTTP origin, without a slash at the end",
    ),
    Setting::one(
        "policy-store",
        "URL[,URL...]",
        "The addresses of the policy store, any of which may be used",
    ),
    Setting::one(
        "snapshot-dir",
        "FOLDER",
        "Keep a snapshot of the policies here, for a start while the store is away",
    ),
    Setting::one(
        "max-staleness",
        "SECONDS",
        "Answer UNAVAILABLE once the store was not heard for so long, instead of from what there is; at least 3",
    ),
    Setting::one(
        "decision-log",
        "FILE",
        "Append every decision to this file, one JSON object a line",
    ),
    Setting::switch(
        "decision-log-otlp",
        "Send every decision to the collector of otlp-endpoint too, as a log record",
    ),
    Setting::one("decision-log-one-in", "NUMBER", "Of so many decisions, one is logged").or("1"),
    Setting::one(
        "envoy-mapping",
        "FILE",
        "Let Envoy ask: which action on which resource each HTTP request is, as TOML (deploy/ENVOY.md)",
    ),
    Setting::switch(
        "anonymous-callers",
        "Callers without credentials may ask about the bearers of tokens that they send, and nothing else",
    ),
];

/// The configuration that `settings` make.
///
/// # Errors
/// When one is missing or wrong, or contradicts another.
pub fn configure(settings: &Settings, common: &Common) -> Result<Config, Ended> {
    let stores = settings.required("policy-store")?;
    let credential = common.credential();
    credential
        .channel_is_good(Part::PolicyStore, stores)
        .map_err(|error| settings.wrong("policy-store", error))?;
    let mut stores = stores.split(',').map(str::to_owned);
    let mut config = Config::new(
        settings.required("issuer")?,
        stores.next().unwrap_or_default(),
        credential,
        ServiceIdentities::default().accept_certificate(ServiceName::Gateway, &common.trust_domain),
    );
    config.more_policy_stores = stores.collect();
    config.envoy = envoy(settings)?;
    config.anonymous_callers = settings.is_on("anonymous-callers");
    config.snapshot_dir = settings.path("snapshot-dir");
    config.max_staleness = max_staleness(settings)?;
    let one_in: NonZeroU32 = settings.required_parsed("decision-log-one-in")?;
    config.metrics = common.metrics.clone();
    let collector = match (settings.is_on("decision-log-otlp"), &common.collector) {
        (true, None) => {
            let said = "set `otlp-endpoint` too: it says where the collector is";
            return Err(settings.wrong("decision-log-otlp", said).into());
        }
        (true, Some(collector)) => Some(collector.clone()),
        (false, Some(_) | None) => None,
    };
    config.decision_log = LogConfig::of(settings.path("decision-log"), collector, one_in);
    Ok(config)
}

fn envoy(settings: &Settings) -> Result<Option<Arc<Mapping>>, SettingsError> {
    let mapping = settings.path("envoy-mapping").map(|path| Mapping::read(&path)).transpose();
    Ok(mapping.map_err(|error| settings.wrong("envoy-mapping", error))?.map(Arc::new))
}

fn max_staleness(settings: &Settings) -> Result<Option<Duration>, SettingsError> {
    match settings.parsed("max-staleness")? {
        Some(seconds) if seconds < LEAST_STALENESS => {
            Err(settings.wrong("max-staleness", format_args!("give at least {LEAST_STALENESS}")))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}
