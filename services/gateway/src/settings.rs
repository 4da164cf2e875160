//! The settings of `countersign-gateway`, and the configuration that they make.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use countersign_policy::arn::AccountId;
use countersign_serve::{
    ServiceIdentities, ServiceName,
    program::{Common, Ended},
    settings::{Setting, Settings, SettingsError},
    tls::Part,
};

use crate::{Config, Instances, JwtIssuers, RateLimits, Rates, Rotation};

/// The settings besides those that every service has.
pub const TABLE: &[Setting] = &[
    Setting::one("listen", "ADDRESS:PORT", "Where gRPC is spoken").or("127.0.0.1:7403"),
    Setting::one(
        "http-listen",
        "ADDRESS:PORT",
        "Where HTTP is spoken: the public keys, and AWS's STS",
    )
    .or("127.0.0.1:7400"),
    Setting::one(
        "issuer",
        "URL",
        "The issuer of tokens and the audience of proofs: the origin at which the HTTP ports of all gateways are reached, without a slash at the end",
    ),
    Setting::one("region", "REGION", "The region of Countersign's own STS").or("us-east-1"),
    Setting::one("partition", "PARTITION", "The one AWS partition that is spoken to").or("aws"),
    Setting::one(
        "policy-store",
        "URL[,URL...]",
        "The addresses of the policy store, any of which may be used",
    ),
    Setting::one(
        "decision",
        "URL[,URL...]",
        "The addresses of decision services, any of which may be used",
    ),
    Setting::many(
        "sts-endpoint",
        "ENDPOINT",
        "An STS besides AWS's own, which speaks for the listed accounts alone: `us-east-1=https://HOST/;accounts=123456789012`",
    ),
    Setting::one(
        "jwt-issuers",
        "FILE",
        "Whose JWTs are proofs: AWS STS's, EKS clusters', other OIDC issuers', as TOML or JSON (deploy/WEB_IDENTITY.md)",
    ),
    Setting::one(
        "ec2-instances",
        "FILE",
        "Whose EC2 instances are believed, by their identity documents: a TOML file (deploy/EC2.md)",
    ),
    Setting::one(
        "exchange-rate",
        "RATE[:BURST]",
        "How many exchanges one source address may ask for, a second and at once",
    )
    .or("500:1000"),
    Setting::one("exchange-rate-total", "RATE[:BURST]", "The same of all sources together")
        .or("2000:4000"),
    Setting::one(
        "rotate-every",
        "SECONDS",
        "How often another signing key takes the place of the one before; on SIGUSR1 it does so at once; at least 2",
    )
    .or("86400"),
    Setting::one(
        "operator-account",
        "ACCOUNT",
        "The policy store's first account: who of it has countersign:RotateSigningKey may ask for another signing key by RPC; without it nobody may",
    ),
    Setting::one(
        "audit-dir",
        "FOLDER",
        "Write each exchange down here before it is answered; `countersign audit verify` reads it. Each gateway has a folder of its own",
    ),
    Setting::one("name", "NAME", "What the store's log calls this gateway").or("gateway"),
];

/// The configuration that `settings` make, and where HTTP is spoken.
///
/// # Errors
/// When one is missing or wrong, or contradicts another.
pub fn configure(settings: &Settings, common: &Common) -> Result<(Config, SocketAddr), Ended> {
    let credential = common.credential();
    let service = |name: &'static str, part: Part| {
        let origins = settings.required(name)?;
        let good = credential.channel_is_good(part, origins);
        good.map(|()| origins.to_owned()).map_err(|error| settings.wrong(name, error))
    };
    let config = Config {
        issuer: settings.required("issuer")?.to_owned(),
        region: settings.required("region")?.to_owned(),
        partition: settings.required("partition")?.to_owned(),
        policy_store: service("policy-store", Part::PolicyStore)?,
        decision: service("decision", Part::Decision)?,
        identities: ServiceIdentities::default()
            .accept_certificate(ServiceName::Decision, &common.trust_domain),
        sts_endpoints: settings.all_parsed("sts-endpoint")?,
        jwt_issuers: jwt_issuers(settings)?,
        instances: instances(settings)?,
        audit_dir: settings.path("audit-dir"),
        rotation: rotation(settings)?,
        operator_account: settings
            .parsed::<AccountId>("operator-account")?
            .map(|account| account.to_string()),
        limits: RateLimits {
            exchanges: Rates {
                each: settings.required_parsed("exchange-rate")?,
                all: settings.required_parsed("exchange-rate-total")?,
            },
            ..RateLimits::default()
        },
        name: settings.required("name")?.to_owned(),
        metrics: common.metrics.clone(),
        credential,
    };
    config.allow_list().map_err(|error| settings.wrong("issuer", error))?;
    Ok((config, settings.required_parsed("http-listen")?))
}

fn jwt_issuers(settings: &Settings) -> Result<JwtIssuers, SettingsError> {
    let Some(file) = settings.path("jwt-issuers") else { return Ok(JwtIssuers::default()) };
    JwtIssuers::read(&file, settings.required("partition")?)
        .map_err(|error| settings.wrong("jwt-issuers", error))
}

fn instances(settings: &Settings) -> Result<Instances, SettingsError> {
    let Some(file) = settings.path("ec2-instances") else { return Ok(Instances::default()) };
    Instances::read(&file, settings.required("partition")?)
        .map_err(|error| settings.wrong("ec2-instances", error))
}

fn rotation(settings: &Settings) -> Result<Rotation, SettingsError> {
    match settings.required_parsed("rotate-every")? {
        seconds @ 0..2 => Err(settings
            .wrong("rotate-every", format_args!("`{seconds}` is too often; give at least 2"))),
        seconds => Ok(Rotation::every(Duration::from_secs(seconds), Arc::default())),
    }
}
